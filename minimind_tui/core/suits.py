"""What a data file can be used for, as the registry of stages says."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.settings.registry import STAGES, StageInfo
from minimind_tui.core.figures import number


@dataclass(frozen=True)
class Suits:
    """What a file holds and who reads it.

    Attributes:
        amount: Rows by shape, tokens where they are known, answers that can be checked.
        stages: The stages that read most of its rows, the most particular first.
    """

    amount: str
    stages: tuple[StageInfo, ...]

    @property
    def use(self) -> str:
        """The stages by title, or that there is none yet."""
        return " · ".join(stage.title for stage in self.stages) or "nothing yet: no stage reads rows of this shape"


def stages_for(shape: str, *, samples: bool = False) -> tuple[StageInfo, ...]:
    """The stages that read a shape, those that read nothing else first.

    Args:
        shape: text, conversation, pair or prompt.
        samples: Only the stages that make samples of rows, with weights.
    """
    found = [stage for stage in STAGES.values() if shape in stage.reads and (not samples or "data" in stage.sections)]
    # Stages that make samples before those that only look at text, the particular before those that take anything.
    return tuple(sorted(found, key=lambda stage: ("data" not in stage.sections, len(stage.reads))))


def suits(
    shape: str, shapes: Mapping[str, int], *, answers: int = 0, tokens: int | None = None, more: bool = False
) -> Suits:
    """What a file can be used for.

    Args:
        shape: Of most rows.
        shapes: Rows by shape.
        answers: Rows with an answer that a reply can be checked against.
        tokens: In all, where they were counted.
        more: Whether the counts still grow.
    """
    parts = [_count(shape, count, more) for shape, count in shapes.items()]
    if answers:
        parts.append(f"{answers:,} checkable")
    if tokens is not None:
        parts.append(f"{number(tokens)} tokens")
    return Suits(" · ".join(parts), stages_for(shape))


def _count(shape: str, count: int, more: bool) -> str:
    return f"{count:,}{'+' if more else ''} {shape}{'s' if count != 1 else ''}"
