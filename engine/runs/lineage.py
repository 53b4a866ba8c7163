"""Where a run comes from, and what was made of it."""

import re
from collections.abc import Iterable
from pathlib import Path

from engine.errors import EngineError
from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary

_CHECKPOINT = re.compile(r"step-(\d{8})")
_DEEPEST = 32


def started_from(runs: Iterable[RunSummary], run: RunFolder) -> list[RunSummary]:
    """The runs that were started from a run's checkpoints."""
    root = run.path.resolve()
    return [each for each in runs if each.run != run and each.place("from") and _within(each.place("from"), root)]


def _within(place: str, root: Path) -> bool:
    return Path(place).resolve().is_relative_to(root)


def ancestry(place: str) -> list[str]:
    """The checkpoint that a run started from, then the one that this one's run started from, and so on to the first.

    Args:
        place: What the setting `from` holds; an empty text has no ancestors.
    """
    names: list[str] = []
    while place and len(names) < _DEEPEST:
        names.append(place_name(place))
        run = run_of(place)
        try:
            settings = run.read_json(run.resolved).get("settings", {}) if run else {}
            place = str(settings.get("from", {}).get("value") or "")
        except (EngineError, AttributeError):  # deleted or damaged: its own past is not known
            break
    return names


def run_of(place: str) -> RunFolder | None:
    """The run in whose folder a checkpoint or a tokenizer lies."""
    path = Path(place)
    if _CHECKPOINT.fullmatch(path.name):
        return RunFolder(path.parent.parent)
    return RunFolder(path.parent) if path.name == "tokenizer" else None


def place_name(place: str) -> str:
    """`RUN@STEP` for a run's checkpoint, `RUN` for its tokenizer, the path itself for anything else."""
    run, step = run_of(place), _CHECKPOINT.fullmatch(Path(place).name)
    if run is None:
        return place
    return f"{run.name}@{int(step[1])}" if step else run.name
