"""Keeps a run's companions in its folder, so that it can go on, and explain itself, when they are gone elsewhere."""

import os
import shutil
from pathlib import Path

from engine.errors import EngineError
from engine.model.config import num_parameters
from engine.model.families import save_pretrained
from engine.model.hf_config import read_config
from engine.model.loading import is_adapter, load_model
from engine.model.lora import merge
from engine.runs.folder import RunFolder
from engine.session.companions import companions
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from engine.text.tokenizer import Tokenizer

_LEFT_OUT = {"optimizer.safetensors", "state.json", "manifest.json"}
"""What of a checkpoint only its own run needs."""
_REWARD = "reward_python"


def keep(run: RunFolder, settings: Settings) -> None:
    """Puts the companions into the run's folder; of an adapter, the model that it makes of its base.

    Files of other runs are linked where the disk allows it, as they never change; others are copied, and with them the
    user's rewards.

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
                copy = _link if _can_link(source, run) else shutil.copyfile
                shutil.copytree(source, target, copy_function=copy, ignore=_only_model)
        except (OSError, shutil.Error) as error:
            raise EngineError(
                f"the run cannot keep its {name.replace('_', ' ')}: {error}",
                where=str(source),
                hint="free some disk space",
            ) from error
    if written := settings.values().get(_REWARD):
        target = _kept_reward(run, written)
        target.parent.mkdir(parents=True)
        try:
            shutil.copyfile(written, target)
        except OSError as error:
            raise EngineError(f"the run cannot keep its rewards: {error.strerror}", where=written) from error


def kept_settings(run: RunFolder, settings: Settings) -> Settings:
    """The settings with which a run is carried out: the user's rewards are the ones that it keeps."""
    if written := settings.values().get(_REWARD):
        return settings.replace({_REWARD: str(_kept_reward(run, written))}, settings.origins[_REWARD])
    return settings


def bytes_to_copy(run: RunFolder, settings: Settings) -> int:
    """How much disk `keep` will take; 0 once it has run."""
    awaited = [source for name, source in companions(settings).items() if not run.companion(name).is_dir()]
    return sum(_copied_bytes(source) for source in awaited if is_adapter(source) or not _can_link(source, run))


def _copied_bytes(source: Path) -> int:
    if is_adapter(source):  # merged, in fp32
        return 4 * sum(num_parameters(read_config(source)).values())
    names = [path.name for path in source.iterdir()]
    left_out = set(_only_model(str(source), names))
    return sum((source / name).stat().st_size for name in names if name not in left_out)


def _kept_reward(run: RunFolder, written: str) -> Path:
    """Under the name that the user gave it: errors tell the file and the line."""
    return run.companion(_REWARD) / Path(written).name


def _can_link(source: Path, run: RunFolder) -> bool:
    """Whether it is another run's, on the same disk."""
    return source.is_relative_to(runs_folder()) and source.resolve().stat().st_dev == run.path.stat().st_dev


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
