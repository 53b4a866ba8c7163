"""What a run of some settings would be: parameters, tokens a step, learning rates. Without Textual.

What must be looked up (a start checkpoint, a tokenizer) is read from disk: call `sketch` from a thread.
"""

from dataclasses import dataclass, field
from typing import Any

from engine.errors import EngineError
from engine.settings.profile import Settings, build
from engine.settings.registry import StageInfo
from engine.settings.training import TrainingSettings
from minimind_tui.core.forms import Entries
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.series import Points

_POINTS = 160
_EXAMPLE_STEPS = 1000
_WARMUPS = 10
"""How many times its warm-up a run is drawn where its length is not known."""


@dataclass(frozen=True)
class Sketch:
    """What can be said before a run.

    Attributes:
        start: The reference of the start checkpoint; empty without one.
        inherited: The shape that it brings.
        start_problem: Why the start checkpoint cannot be read.
        parts: Parameters by part; without a vocabulary, those that do not depend on it.
        vocabulary: Rows of the embedding; None while unknown.
        vocabulary_problem: Why it is unknown.
        tokens: The most tokens that an optimizer step can have; 0 where there are no steps.
        batch: Rows in an optimizer step.
        steps: Optimizer steps; 0 where the data decides.
        rates: The learning rate over the steps.
        drawn_steps: For how many steps it is drawn.
        problem: Why nothing of this can be said.
        settings: All of it, checked together, with the shape that it brings; None where they cannot be.
    """

    start: str = ""
    inherited: dict[str, Any] = field(default_factory=dict)
    start_problem: str = ""
    parts: dict[str, int] = field(default_factory=dict)
    vocabulary: int | None = None
    vocabulary_problem: str = ""
    tokens: int = 0
    batch: int = 0
    steps: int = 0
    rates: Points = field(default_factory=list)
    drawn_steps: int = 0
    problem: str = ""
    settings: Settings | None = field(default=None, compare=False)


def sketch(stage: StageInfo, entries: Entries, lookups: Lookups) -> Sketch:
    """Says what can be said of a run with these settings."""
    shape: dict[str, Any] = {}
    start, start_problem = str(entries["from"][0]) if "from" in entries else "", ""
    if start:
        try:
            shape = lookups.shape(start)
        except EngineError as error:
            start_problem = error.what
    try:
        settings = build(stage, entries | {name: (value, "") for name, value in shape.items()})
    except EngineError as error:
        return Sketch(start, shape, start_problem, problem=error.what)
    said: dict[str, Any] = {"settings": settings}
    if "model" in settings.sections:
        said |= _parameters(settings, lookups)
    if "training" in settings.sections:
        said |= _steps(settings)
    return Sketch(start, shape, start_problem, **said)


def _parameters(settings: Settings, lookups: Lookups) -> dict[str, Any]:
    from engine.model.config import num_parameters
    from engine.session import model_config

    vocabulary, problem = settings.model.vocab_size, ""
    reference = str(settings.values().get("tokenizer") or "")
    if vocabulary is None and reference:
        try:
            vocabulary = lookups.vocabulary(reference)
        except EngineError as error:
            problem = error.what
    elif vocabulary is None:
        problem = "no tokenizer is named"
    try:
        parts = num_parameters(model_config(settings.model, vocabulary or 1))
    except EngineError as error:
        return {"vocabulary": vocabulary, "vocabulary_problem": problem, "problem": error.what}
    if vocabulary is None:
        parts = {name: count for name, count in parts.items() if name not in ("embedding", "head")}
    return {"parts": parts, "vocabulary": vocabulary, "vocabulary_problem": problem}


def _steps(settings: Settings) -> dict[str, Any]:
    training = settings.training
    batch = training.batch_size * training.accumulation_steps
    drawn = training.max_steps or max(_EXAMPLE_STEPS, _WARMUPS * training.warmup_steps)
    return {
        "batch": batch,
        "tokens": batch * settings.data.max_seq_len,
        "steps": training.max_steps,
        "rates": learning_rates(training, drawn),
        "drawn_steps": drawn,
    }


def learning_rates(training: TrainingSettings, steps: int) -> Points:
    """The learning rate at points spread over a run, the end of warm-up among them."""
    from engine.training.schedule import learning_rate

    places = {round(index * (steps - 1) / (_POINTS - 1)) for index in range(_POINTS)}
    places.add(min(training.warmup_steps, steps - 1))
    return [(float(step), learning_rate(training, step, steps)) for step in sorted(places)]
