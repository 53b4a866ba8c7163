"""What can be put into the fields of the start dialog. Torch-free and without Textual."""

from collections.abc import Sequence

from engine.runs.summary import RunSummary
from engine.settings.registry import StageInfo
from engine.text.starter import STARTER_FILES

_EVALUATION = "eval"


class Offers:
    """Data files, checkpoints and tokenizers that a stage can use, the likeliest first.

    Args:
        runs: All runs, the newest first.
    """

    def __init__(self, runs: Sequence[RunSummary]) -> None:
        self._runs = list(runs)

    def of(self, setting: str, stage: StageInfo) -> list[str]:
        """What `data`, `from` or `tokenizer` of a stage may name."""
        return {"data": self._data, "from": self._checkpoints, "tokenizer": self._tokenizers}[setting](stage)

    def _data(self, stage: StageInfo) -> list[str]:
        """The starter files that the stage can read, its own before the others."""
        fitting = [file for file in STARTER_FILES if file.shape in stage.reads and file.stage != _EVALUATION]
        return [f"starter:{file.name}" for file in sorted(fitting, key=lambda file: file.stage != stage.name)]

    def _checkpoints(self, stage: StageInfo) -> list[str]:
        """Runs of the stages that it usually starts from before those of others; the best beside the newest."""
        fitting = [run for run in self._runs if run.checkpoints]
        usual = [run for run in fitting if run.stage in stage.starts_from]
        others = [run for run in fitting if run.stage not in stage.starts_from]
        return [name for run in (*usual, *others) for name in _names(run)]

    def _tokenizers(self, stage: StageInfo) -> list[str]:
        """Runs that made a tokenizer."""
        made = (run for run in self._runs if run.state == "done" and not run.checkpoints)
        return [run.name for run in made if run.run.tokenizer.is_dir()]


def checkpoints(run: RunSummary) -> list[str]:
    """Every checkpoint of a run as the command line names it: newest, best, then by step."""
    return [*_names(run), *[f"{run.name}@{step}" for step in reversed(run.checkpoints)]]


def _names(run: RunSummary) -> list[str]:
    best = run.best_step is not None and run.checkpoints and run.best_step != run.checkpoints[-1]
    return [run.name, *[f"{run.name}@best"] * bool(best)]
