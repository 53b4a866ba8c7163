"""Checkpoints: whole or absent, with the digest of every file."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import CheckpointError, EngineError
from engine.runs.folder import RunFolder

_OPTIMIZER, _STATE, _MANIFEST = "optimizer.safetensors", "state.json", "manifest.json"
_UNFINISHED = ".saving-"


def save_checkpoint(
    run: RunFolder,
    step: int,
    write_model: Callable[[Path], None],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
) -> Path:
    """Writes a checkpoint into a hidden folder, syncs it to the disk and renames it into place.

    Args:
        run: The run it belongs to.
        step: Optimizer steps taken.
        write_model: Writes the model's files into a folder.
        optimizer: The optimizer's tensors by name.
        state: Everything else that a resume needs, as JSON.

    Raises:
        EngineError: The disk is full or refuses; the checkpoints that exist are untouched.
    """
    target = run.checkpoint(step)
    work = run.checkpoints / f"{_UNFINISHED}{target.name}-{os.getpid()}"
    try:
        work.mkdir(parents=True)
        write_model(work)
        save_file({name: tensor.contiguous() for name, tensor in optimizer.items()}, str(work / _OPTIMIZER))
        (work / _STATE).write_text(json.dumps(state), encoding="utf-8")
        files = sorted(path for path in work.rglob("*") if path.is_file())
        manifest = {path.relative_to(work).as_posix(): _entry(path) for path in files}
        (work / _MANIFEST).write_text(json.dumps({"step": step, "files": manifest}, indent=1), encoding="utf-8")
        for path in (*files, work / _MANIFEST, work):
            _sync(path)
        if target.exists():
            shutil.rmtree(target)
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
    return target


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors and the state of a checkpoint, after its digests were checked.

    Raises:
        CheckpointError: A file is missing or differs from the manifest.
    """
    verify_checkpoint(folder)
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
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError("the checkpoint has no readable manifest", where=str(folder)) from error
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"] or _entry(path) != entry:
            raise CheckpointError(
                f"{name} is missing or damaged: it is not what was saved",
                where=str(folder),
                hint="an older checkpoint of the run may be whole: RUN@STEP",
            )


def newest_whole(run: RunFolder) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that passes its digests, and what is wrong with those after it."""
    complaints: list[str] = []
    for step in reversed(run.checkpoint_steps()):
        try:
            verify_checkpoint(run.checkpoint(step))
            return run.checkpoint(step), complaints
        except CheckpointError as error:
            complaints.append(f"checkpoint of step {step}: {error.what}")
    return None, complaints


def tidy_checkpoints(run: RunFolder, keep: int, best: int | None) -> None:
    """Removes all but the newest `keep` checkpoints and the best one, and what an interrupted save left behind."""
    steps = run.checkpoint_steps()
    for step in steps[:-keep]:
        if step != best:
            shutil.rmtree(run.checkpoint(step), ignore_errors=True)
    for path in run.checkpoints.glob(f"{_UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > 60 or path.name.endswith(f"-{os.getpid()}"):
            shutil.rmtree(path, ignore_errors=True)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
