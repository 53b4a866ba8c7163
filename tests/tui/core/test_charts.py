import math
from itertools import pairwise

from engine.runs.events import Evaluated, MemoryPlanned, RunStarted, Step
from minimind_tui.core.charts import FAINT, MAIN, OTHER, SMOOTHING, VALIDATION, Other, View, charts, strength
from minimind_tui.core.history import RunHistory
from minimind_tui.core.series import RECENT
from tests.tui.made import plan_json


def _history(steps: int, *, stage: str = "sft", shift: float = 0.0) -> RunHistory:
    history = RunHistory()
    history.feed([RunStarted(stage=stage, total_steps=steps, parameters=1, trainable_parameters=1, device="cpu",
                             dtype="float32", threads=1)])  # fmt: skip
    for step in range(1, steps + 1):
        loss = 5 - step / steps + math.sin(step) + shift
        history.feed([Step(step=step, epoch=0, tokens=0, metrics={"loss": loss, "memory_bytes": 2.0**20, "reward": 1})])
        if step % (steps // 4) == 0:
            history.feed([Evaluated(step=step, metrics={"val_loss": 4.0 + shift, "val_bits_per_byte": 1.5})])
    return history


def test_a_validation_metric_joins_what_it_validates_and_unknown_metrics_have_charts_too() -> None:
    titles = [chart.title for chart in charts(_history(40))]
    assert titles == ["loss (nats a token)", "validation bits per byte (bits/byte)", "memory (bytes)", "reward"]
    loss = charts(_history(40))[0]
    assert [curve.role for curve in loss.curves] == [MAIN, VALIDATION]
    assert loss.values().endswith("validation 4")


def test_compared_runs_have_their_letters_and_roles_whatever_their_names() -> None:
    other = Other(2, "损失 [red]😀", _history(80, shift=1.0))
    loss, bits, memory, reward = charts(_history(40), [other])
    assert {curve.role for curve in loss.curves} == {MAIN, VALIDATION, OTHER + 2}
    assert "c validation 5" in loss.values()
    assert [curve.sign for curve in memory.curves] == ["", "c"] and len(reward.curves) == 2
    assert [curve.sign for curve in bits.curves] == ["●", "c"]
    alone = charts(_history(40), [Other(0, "tokenizer", RunHistory())])
    assert all(curve.role < OTHER for chart in alone for curve in chart.curves)


def test_values_near_a_step() -> None:
    history = _history(40)
    chart = charts(history, [Other(0, "short", _history(8))])[0]
    first, validation, short, short_validation = chart.values(30).split(" · ")
    assert float(first) == round(history.curves["loss"].values[29], 3)
    assert (validation, short, short_validation) == ("validation 4", "a –", "a validation –")


def test_smoothing_keeps_the_raw_curve_faint_behind() -> None:
    loss = charts(_history(1_000), [Other(0, "other", _history(1_000))])[0]
    plain = loss.layers(View(), 50)
    assert {layer.role for layer in plain} == {MAIN, VALIDATION, OTHER} and plain[-1].role == VALIDATION
    smooth = loss.layers(View(smoothing="strong"), 50)
    assert smooth[0].role == FAINT and smooth[0].points == next(one.points for one in plain if one.role == MAIN)

    def roughness(points: list[tuple[float, float]]) -> float:
        return sum(abs(b - a) for (_, a), (_, b) in pairwise(points))

    def main(view: View) -> list[tuple[float, float]]:
        return next(layer.points for layer in loss.layers(view, 50) if layer.role == MAIN)

    rough, light, strong = (roughness(main(View(smoothing=name))) for name in ("off", "light", "strong"))
    assert rough > 3 * light > 3 * strong
    assert max(len(layer.points) for layer in smooth) <= 100


def test_the_recent_view_cuts_all_curves_to_the_same_steps() -> None:
    loss = charts(_history(1_000), [Other(0, "longer", _history(2_000))])[0]
    for layer in loss.layers(View(whole=False), 200):
        assert all(1_000 - RECENT < step <= 1_000 for step, _ in layer.points)


def test_a_preference_is_one_of_the_strengths() -> None:
    assert [strength(weight) for weight in (0.0, 0.3, 0.9)] == list(SMOOTHING)


def test_the_plan_stands_beside_the_memory_that_is_taken() -> None:
    history = _history(10)
    history.feed([MemoryPlanned(plan=plan_json())])
    history.feed([Step(step=step, epoch=0, tokens=0, metrics={"memory_bytes": 2.0**30}) for step in (11, 12)])
    memory = next(chart for chart in charts(history) if chart.title.startswith("memory"))
    assert memory.values() == "1.0 GiB · planned at most 1.6 GiB"
    assert [len(each.series) for each in memory.curves] == [12, 2]
