"""What a checkpoint's folder holds, as its small files tell: a speaker or a judge, a whole model or an adapter."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.runs.folder import RunFolder


@dataclass(frozen=True)
class Base:
    """The model under a checkpoint: the checkpoint itself, or what its adapter was trained on.

    Attributes:
        places: Where it lies, or lay when the adapter was begun.
        fingerprint: Of its weights, as an adapter names it; empty where nobody says.
    """

    places: frozenset[Path]
    fingerprint: str = ""

    def may_be(self, other: "Base") -> bool:
        """Whether both seem to be one; only their weights tell for certain."""
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        return bool(self.places & other.places)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no weights of its own."""
    return (folder / "adapter_config.json").is_file()


def is_judge(folder: Path) -> bool:
    """Whether a folder holds a reward model, which says nothing."""
    kinds = _read(folder / "config.json").get("architectures")
    return isinstance(kinds, list) and any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def base_under(folder: Path) -> Base:
    """The model under a checkpoint; what cannot be read says nothing."""
    if not is_adapter(folder):
        return Base(frozenset({folder}))
    named, run = _read(folder / "base.json"), RunFolder(folder.parent.parent)
    settings = _read(run.resolved).get("settings")
    start = settings.get("from") if isinstance(settings, dict) else None
    places = [
        named.get("path"),
        _read(folder / "adapter_config.json").get("base_model_name_or_path"),
        start.get("value") if isinstance(start, dict) else None,
    ]
    return Base(
        frozenset(Path(place) for place in places if isinstance(place, str) and place),
        str(named.get("fingerprint") or ""),
    )


def same_weights(one: Path, other: Path) -> bool:
    """Whether two folders of whole models share their weights' file, as a run's companions do with their source."""
    try:
        return one == other or (one / "model.safetensors").samefile(other / "model.safetensors")
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
