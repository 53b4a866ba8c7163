import math

from engine.runs.events import Evaluated, Finished, RunStarted, Step
from minimind_tui.core.history import RunHistory
from minimind_tui.core.outcome import gains, next_stages, summary_rows


def _started(stage: str) -> RunStarted:
    return RunStarted(stage=stage, total_steps=3, parameters=1, trainable_parameters=1, device="", dtype="", threads=1)


def test_the_way_of_a_leading_metric_passes_over_what_is_not_finite() -> None:
    history = RunHistory()
    losses = [math.nan, 5.0, 2.0, 3.0, math.inf]
    history.feed([_started("sft"), *[Step(step=step, epoch=0, tokens=0, metrics={"loss": loss, "mfu": 0.5})
                                     for step, loss in enumerate(losses, 1)],
                  Evaluated(step=5, metrics={"val_loss": 4.0})])  # fmt: skip
    loss, validation = gains(history)
    assert (loss.first, loss.last, loss.best, loss.best_step) == (5.0, 3.0, 2.0, 3)
    assert (validation.metric.name, validation.best_step) == ("val_loss", 5)


def test_a_summary_without_curves_becomes_rows() -> None:
    history = RunHistory()
    summary = {"run": "x", "status": "done", "characters_per_token": 2.576, "vocab_size": 1536, "empty": None,
               "languages": {"all": {"tokens": 104_286}}, "list": [1], "exact": True, "name": "\x1b[2J"}  # fmt: skip
    history.feed([_started("tokenizer"), Finished(status="done", step=1, summary=summary)])
    rows = dict(summary_rows(history))
    assert rows["characters per token"] == "2.576" and rows["languages · all · tokens"] == "104k"
    assert (rows["empty"], rows["exact"]) == ("–", "yes") and "list" not in rows and "run" not in rows
    assert gains(history) == []


def test_what_follows_a_stage_is_what_starts_from_it() -> None:
    assert [stage.name for stage in next_stages("tokenizer")] == ["pretrain"]
    assert {"mid-train", "sft"} <= {stage.name for stage in next_stages("pretrain")}
    assert next_stages("no such stage") == []
