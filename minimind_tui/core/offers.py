"""What can be put into the fields of the start dialog. Torch-free and without Textual."""

from collections.abc import Sequence

from engine.runs.summary import RunSummary
from engine.session.companions import REFERENCES
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
        """What `data`, `from`, `tokenizer`, or a setting that names another model, of a stage may name."""
        if setting in REFERENCES:
            return self._models(stage.settings[setting].start)
        return {"data": self._data, "from": self._checkpoints, "tokenizer": self._tokenizers}[setting](stage)

    def _data(self, stage: StageInfo) -> list[str]:
        """The starter files that the stage can read: its own, then those of the shape that it reads first."""
        fitting = [file for file in STARTER_FILES if file.shape in stage.reads and file.stage != _EVALUATION]
        fitting.sort(key=lambda file: (file.stage != stage.name, stage.reads.index(file.shape)))
        return [f"starter:{file.name}" for file in fitting]

    def _checkpoints(self, stage: StageInfo) -> list[str]:
        """Runs of the stages that it usually starts from before those of others; the best beside the newest."""
        fitting = [run for run in self._runs if run.checkpoints]
        usual = [run for run in fitting if run.stage in stage.starts_from]
        others = [run for run in fitting if run.stage not in stage.starts_from]
        return [name for run in (*usual, *others) for name in _names(run)]

    def _models(self, advice: str) -> list[str]:
        """Every checkpoint; those of the stages that the setting's advice speaks of before the others."""
        fitting = [run for run in self._runs if run.checkpoints]
        return [name for run in sorted(fitting, key=lambda run: run.stage not in advice) for name in _names(run)]

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
