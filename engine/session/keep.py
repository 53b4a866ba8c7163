"""Keeps a run's companions in its folder, so that it can go on, and explain itself, when they are gone elsewhere."""

import os
import shutil
from pathlib import Path

from engine.errors import EngineError
from engine.model.families import save_pretrained
from engine.model.loading import is_adapter, load_model
from engine.model.lora import merge
from engine.runs.folder import RunFolder
from engine.session.companions import companions
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from engine.text.tokenizer import Tokenizer

_LEFT_OUT = {"optimizer.safetensors", "state.json", "manifest.json"}
"""What of a checkpoint only its own run needs."""


def keep(run: RunFolder, settings: Settings) -> None:
    """Puts the companions into the run's folder; of an adapter, the model that it makes of its base.

    Files of other runs are linked where the disk allows it, as they never change; others are copied.

    Raises:
        EngineError: The disk is full.
        CheckpointError: An adapter cannot be read.
    """
    for name, source in companions(settings).items():
        target = run.companion(name)
        try:
            if is_adapter(source):
                _merge(source, target)
            else:
                own = source.is_relative_to(runs_folder())
                shutil.copytree(source, target, copy_function=_link if own else shutil.copyfile, ignore=_only_model)
        except (OSError, shutil.Error) as error:
            raise EngineError(
                f"the run cannot keep its {name.replace('_', ' ')}: {error}",
                where=str(source),
                hint="free some disk space",
            ) from error


def _merge(source: Path, target: Path) -> None:
    model, tokenizer = load_model(source), Tokenizer.load(source)
    merge(model)
    target.mkdir(parents=True)
    tokenizer.save(target)
    save_pretrained(
        target, model, bos_token_id=tokenizer.bos_id, eos_token_id=sorted(tokenizer.stop_ids),
        pad_token_id=tokenizer.pad_id,
    )  # fmt: skip


def _link(source: str, target: str) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _only_model(folder: str, names: list[str]) -> list[str]:
    """For copytree: what is no part of a model; folders inside it hold other things."""
    return [name for name in names if name in _LEFT_OUT or (Path(folder) / name).is_dir()]
