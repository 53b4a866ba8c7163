"""What a run takes on disk, and how it is deleted."""

import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from engine.errors import EngineError, UserError
from engine.runs.folder import RunFolder

_ASIDE = ".deleted-"


def disk_use(run: RunFolder) -> int:
    """Bytes of all files of a run; what vanishes meanwhile, or cannot be looked at, does not count."""
    total = 0
    for folder, _, names in os.walk(run.path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def delete_run(run: RunFolder) -> None:
    """Deletes a run, whole or not at all: it leaves the list in one move before its files are removed.

    Runs that were started from it keep their own checkpoints, but one that has not ended cannot go on without it
    (`engine.runs.lineage.started_from` names them).

    Raises:
        UserError: It is running, or its folder is only a link to another; nothing was deleted.
        EngineError: The folder cannot be moved (nothing was deleted), or some of its files cannot be removed.
    """
    if run.path.is_symlink():
        target = run.path.resolve()
        raise UserError(f"run {run.name} is a link", where=str(run.path), hint=f"delete {target} and then the link")
    try:
        with run.lock():
            aside = next(path for number in count() if not (path := _aside(run, number)).exists())
            run.path.rename(aside)
    except OSError as error:
        raise EngineError(f"run {run.name} cannot be deleted: {error.strerror}", where=str(run.path)) from error
    try:
        shutil.rmtree(aside)
    except OSError as error:
        raise EngineError(
            f"run {run.name} is gone from the list, but not all of its files can be removed: {error.strerror}",
            where=str(aside),
            hint="remove this folder by hand",
        ) from error
    for left in run.path.parent.glob(f"{_ASIDE}*"):  # of a deletion that was killed
        shutil.rmtree(left, ignore_errors=True)


def _aside(run: RunFolder, number: int) -> Path:
    return run.path.with_name(f"{_ASIDE}{run.name}-{number}")
