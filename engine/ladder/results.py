"""What came of the rungs of one seed, on disk from the moment a rung is done."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.files import write_whole
from engine.ladder.rungs import Figure, Rung
from engine.runs.events import to_json_value
from engine.settings.places import home


@dataclass(frozen=True)
class Result:
    """What came of a rung.

    Attributes:
        run: The name of its run.
        began, finished: In seconds since 1970.
        train_seconds: Planning and training.
        evaluation_seconds: Measuring, also what was not known yet of earlier rungs.
        figures: The run's own: its summary, the last value of every metric, and what `engine.ladder.climb` adds.
        measured: What was found of its last checkpoint, by file.
        notes: What its plan has to say.
        error: Why it failed; empty: it did not.
    """

    run: str
    began: float
    finished: float
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class Results:
    """The results of one seed.

    Args:
        ladder: All rungs by name.
        seed: The seed.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, ladder: Mapping[str, Rung], seed: int) -> None:
        self.ladder, self.seed = ladder, seed
        self.folder = ladder_folder() / f"seed-{seed}"

    def get(self, name: str) -> Result | None:
        """What came of a rung; None where it was never finished.

        Raises:
            DataError: Its file is damaged.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            return Result(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError("this result cannot be read", where=str(path), hint="delete it: it is made anew") from error

    def result(self, name: str) -> Result:
        """What came of a rung that was climbed."""
        found = self.get(name)
        assert found is not None
        return found

    def put(self, name: str, result: Result) -> None:
        """Keeps a result."""
        text = json.dumps(to_json_value(asdict(result)), ensure_ascii=False, indent=1)
        write_whole(self.folder / f"{name}.json", text + "\n")

    def is_done(self, name: str) -> bool:
        """Whether a rung was climbed, and none of those that it needs has been repeated since."""
        result = self.get(name)
        if result is None or result.error:
            return False
        needs = self.ladder[name].needs
        return all(self.is_done(need) and self.result(need).finished <= result.began for need in needs)

    def value(self, name: str, figure: Figure) -> Any:
        """A figure of a rung; None where it is not known."""
        if not name or not self.is_done(name):
            return None
        result = self.result(name)
        found = (result.measured.get(figure.file, {}) if figure.file else result.figures).get(figure.key)
        return float(found) if isinstance(found, str) else found  # NaN and the like, see to_json_value


def ladder_folder() -> Path:
    """Where the results of all seeds are."""
    return home() / "data" / "ladder"


def all_results(ladder: Mapping[str, Rung]) -> list[Results]:
    """The results of every seed that was begun."""
    names = [path.name.removeprefix("seed-") for path in ladder_folder().glob("seed-*")]
    return [Results(ladder, seed) for seed in sorted(int(name) for name in names if name.isdigit())]


def run_name(seed: int, rung: str) -> str:
    """The name of a rung's run."""
    return f"ladder-{seed}-{rung}"
