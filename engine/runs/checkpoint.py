"""Checkpoints: whole or absent, with the digest of every file."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import CheckpointError, EngineError
from engine.runs.events import to_json_value
from engine.runs.folder import RunFolder

_OPTIMIZER, _STATE, _MANIFEST = "optimizer.safetensors", "state.json", "manifest.json"
_UNFINISHED, _REPLACED, _REMOVED = ".saving-", ".replaced-", ".removed-"
_DAMAGED = "damaged-"


def save_checkpoint(
    run: RunFolder,
    step: int,
    write_model: Callable[[Path], None],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    best_step: int | None = None,
) -> Path:
    """Writes a checkpoint into a hidden folder, syncs it to the disk and renames it into place.

    Args:
        run: The run it belongs to; the caller holds its lock.
        step: Optimizer steps taken.
        write_model: Writes the model's files into a folder.
        optimizer: The optimizer's tensors by name.
        state: Everything else that a resume needs, as JSON.
        best_step: Which checkpoint is the best so far.

    Raises:
        EngineError: The disk is full or refuses; the checkpoints that exist are untouched.
    """
    target = run.checkpoint(step)
    work, replaced = (run.checkpoints / f"{kind}{target.name}" for kind in (_UNFINISHED, _REPLACED))
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_model(work)
        save_file({name: tensor.contiguous() for name, tensor in optimizer.items()}, str(work / _OPTIMIZER))
        (work / _STATE).write_text(json.dumps(to_json_value(state), allow_nan=False), encoding="utf-8")
        files = sorted(path for path in work.rglob("*") if path.is_file())
        manifest = {
            "step": step,
            "best_step": best_step,
            "files": {path.relative_to(work).as_posix(): _entry(path) for path in files},
        }
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        folders = [path for path in work.rglob("*") if path.is_dir()]
        for path in (*files, work / _MANIFEST, *folders, work):
            _sync(path)
        if target.exists():
            target.rename(replaced)  # `sweep` puts it back if the next line is never reached
        work.rename(target)
        _sync(run.checkpoints)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        kept = ", ".join(map(str, run.checkpoint_steps())) or "none"
        raise EngineError(
            f"the checkpoint of step {step} cannot be written: {error}",
            where=str(run.checkpoints),
            hint=f"free some disk space, then engine resume {run.name}; checkpoints that exist: {kept}",
        ) from error
    shutil.rmtree(replaced, ignore_errors=True)
    return target


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors and the state of a checkpoint that `newest_whole` found whole.

    Raises:
        CheckpointError: A file cannot be read.
    """
    try:
        return load_file(str(folder / _OPTIMIZER)), json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error}", where=str(folder)) from error


def verify_checkpoint(folder: Path) -> None:
    """Compares every file with the manifest.

    Raises:
        CheckpointError: Which file is missing or damaged.
    """
    try:
        files = dict(json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the checkpoint has no readable manifest", where=str(folder)) from error
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or _entry(path) != entry:
            raise CheckpointError(
                f"{name} is missing or damaged: it is not what was saved",
                where=str(folder),
                hint="an older checkpoint of the run may be whole: RUN@STEP",
            )


def newest_whole(run: RunFolder) -> tuple[int | None, list[str]]:
    """The step of the newest checkpoint that passes its digests, and what is wrong with those after it."""
    complaints: list[str] = []
    for step in reversed(run.checkpoint_steps()):
        try:
            verify_checkpoint(run.checkpoint(step))
            return step, complaints
        except CheckpointError as error:
            complaints.append(f"checkpoint of step {step}: {error.what}")
    return None, complaints


def set_aside(run: RunFolder, after: int) -> None:
    """Renames the checkpoints after a step to `damaged-step-…`: they no longer count, and are there to be looked at."""
    for step in run.checkpoint_steps():
        if step > after:
            aside = run.checkpoints / f"{_DAMAGED}{run.checkpoint(step).name}"
            shutil.rmtree(aside, ignore_errors=True)
            run.checkpoint(step).rename(aside)


def tidy_checkpoints(run: RunFolder, keep: int, best: int | None) -> None:
    """Removes all but the newest `keep` checkpoints and the best one; each vanishes whole."""
    for step in run.checkpoint_steps()[:-keep]:
        if step != best:
            gone = run.checkpoints / f"{_REMOVED}{run.checkpoint(step).name}"
            run.checkpoint(step).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def sweep(run: RunFolder) -> None:
    """Clears away what a killed session left half done; the caller holds the run's lock."""
    for path in run.checkpoints.glob(f"{_REPLACED}*"):
        original = run.checkpoints / path.name.removeprefix(_REPLACED)
        if not original.exists():
            path.rename(original)
    for kind in (_UNFINISHED, _REPLACED, _REMOVED):
        for path in run.checkpoints.glob(f"{kind}*"):
            shutil.rmtree(path, ignore_errors=True)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows keeps folders itself
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
