"""The folder of a run: its layout, its lock, and how runs are found by name."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, UserError
from engine.runs.events import Event, Finished
from engine.runs.history import clean_history, read_events
from engine.settings.places import runs_folder
from engine.settings.suggest import nearest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LOCK_TRIES = 20


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run. Nothing is read or made until asked for."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def profile(self) -> Path:
        return self.path / "profile.toml"

    @property
    def resolved(self) -> Path:
        return self.path / "resolved.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def control(self) -> Path:
        return self.path / "control.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def tokenizer(self) -> Path:
        """The run's tokenizer folder: what it trains with, or what a tokenizer run made."""
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def rollouts(self) -> Path:
        """The answers that reinforcement learning made, with their rewards."""
        return self.path / "rollouts.jsonl"

    def companion(self, name: str) -> Path:
        """What the run needs besides the model it trains: `start` (its reference or base), `teacher`, …"""
        return self.path / "companions" / name

    def checkpoint_steps(self) -> list[int]:
        """Steps that have a whole checkpoint, in order."""
        found = (re.fullmatch(r"step-(\d{8})", entry.name) for entry in self.checkpoints.glob("step-*"))
        return sorted(int(match[1]) for match in found if match)

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / f"step-{step:08d}"

    def best_step(self) -> int | None:
        """The step of the best checkpoint, as the newest one knows it; None if it is gone or nothing was measured."""
        steps = self.checkpoint_steps()
        best = self.read_json(self.checkpoint(steps[-1]) / "manifest.json").get("best_step") if steps else None
        return best if best in steps else None

    def select(self, which: str) -> Path:
        """The checkpoint named `newest`, `best` or by a step number.

        Raises:
            CheckpointError: The run has none of that name.
        """
        steps = self.checkpoint_steps()
        if not steps:
            raise CheckpointError(f"run {self.name} has no checkpoint yet", where=str(self.path))
        if which in ("", "newest"):
            return self.checkpoint(steps[-1])
        if which == "best":
            best = self.best_step()
            return self.checkpoint(steps[-1] if best is None else best)
        if which.isdigit() and int(which) in steps:
            return self.checkpoint(int(which))
        have = ", ".join(map(str, steps))
        raise CheckpointError(f"run {self.name} has no checkpoint {which!r}", hint=f"it has newest, best, {have}")

    def history(self) -> list[Event]:
        """All events as one clean line of history: what a resume took back is left out, a torn last line ignored."""
        return clean_history(read_events(self.events))

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path.name} of run {self.name} cannot be read: {error}", where=str(path)) from error
        if not isinstance(data, dict):
            raise CheckpointError(f"{path.name} of run {self.name} is no JSON object", where=str(path))
        return data

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run: one writer at a time.

        Raises:
            UserError: Another process or thread is running it.
        """
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None and not _locked(handle):
                raise UserError(
                    f"run {self.name} is being run already ({_holder(self.lock_file)})",
                    hint="attach to it in the app, or send it a stop first",
                )
            os.ftruncate(handle, 0)
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            os.write(handle, json.dumps(owner).encode())
            yield
        finally:
            os.close(handle)

    def is_running(self) -> bool:
        """Whether some process or thread holds the lock."""
        if fcntl is None or not self.lock_file.exists():
            return False
        handle = os.open(self.lock_file, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def state(self) -> str:
        """`running`, `done`, `stopped`, `failed`, or `interrupted` (it ended without saying so)."""
        if self.is_running():
            return "running"
        ends = [event.status for event in self.history()[-1:] if isinstance(event, Finished)]
        return ends[0] if ends else "interrupted"


def _locked(handle: int) -> bool:
    """Takes the lock; tries for a moment, since `is_running` touches it too."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.01)
    return False


def _holder(lock_file: Path) -> str:
    try:
        return f"by process {json.loads(lock_file.read_text())['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"


def list_runs() -> list[RunFolder]:
    """All runs, the newest first."""
    root = runs_folder()
    paths = root.iterdir() if root.is_dir() else ()
    found = []
    for run in (RunFolder(path) for path in paths if _NAME.fullmatch(path.name)):
        with suppress(OSError):  # no run, or deleted meanwhile
            found.append((run.resolved.stat().st_mtime, run))
    return [run for _, run in sorted(found, key=lambda entry: entry[0], reverse=True)]


def find_run(reference: str) -> RunFolder:
    """A run by name or path.

    Raises:
        CheckpointError: There is none.
    """
    for path in (runs_folder() / reference if _NAME.fullmatch(reference) else None, Path(reference).expanduser()):
        if path is not None and (path / "resolved.json").is_file():
            return RunFolder(path.absolute())
    hint = nearest(reference, [run.name for run in list_runs()]) or "engine runs list shows them"
    raise CheckpointError(f"there is no run {reference!r}", hint=hint)


def check_name(name: str) -> None:
    """Refuses what cannot be a run's name.

    Raises:
        UserError: It is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no run name", hint="letters, digits, '.', '_' and '-', at most 100")


def create_run(name: str, *, overwrite: bool = False) -> RunFolder:
    """Makes the folder of a new run.

    A run that is replaced is kept aside until `forget_replaced`, and comes back with `restore_replaced`.

    Raises:
        UserError: The name is taken (without `overwrite`) or is no plain file name.
    """
    check_name(name)
    run = RunFolder(runs_folder() / name)
    if run.path.exists():
        if not overwrite:
            raise UserError(
                f"run {name} exists already", hint="choose another --name, or add --overwrite to replace it"
            )
        if run.is_running():
            raise UserError(f"run {name} is running", hint="stop it before it is overwritten")
        if _aside(run).exists() and not is_whole(run):  # a replacement that came to nothing
            shutil.rmtree(run.path)
        else:
            forget_replaced(run)
            run.path.rename(_aside(run))
    try:
        run.path.mkdir(parents=True)
        run.checkpoints.mkdir()
    except FileExistsError as error:
        raise UserError(f"run {name} exists already", hint="another one was begun at this moment") from error
    except OSError as error:
        raise UserError(f"the run's folder cannot be made: {error.strerror}", where=str(run.path)) from error
    return run


def is_whole(run: RunFolder) -> bool:
    """Whether something was made of a run: a checkpoint, or all of what it was to make."""
    return bool(run.checkpoint_steps()) or run.state() == "done"


def _aside(run: RunFolder) -> Path:
    return run.path.with_name(f".replaced-{run.name}")


def forget_replaced(run: RunFolder) -> None:
    """Deletes the run that this one replaces."""
    shutil.rmtree(_aside(run), ignore_errors=True)


def restore_replaced(run: RunFolder) -> None:
    """Removes the run, and brings back the one that it would have replaced."""
    shutil.rmtree(run.path, ignore_errors=True)
    if _aside(run).exists():
        _aside(run).rename(run.path)


def free_name(base: str) -> str:
    """`base`, or `base-2`, `base-3` … where runs of that name exist."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-.") or "run"
    names = [plain, *(f"{plain}-{number}" for number in range(2, 100_000))]
    return next(name for name in names if not (runs_folder() / name).exists())
