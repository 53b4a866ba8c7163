"""`engine bench memory`: a real case, and what its tables say."""

from typing import Any

import pytest

from engine.errors import UserError
from engine.memory.history import Record
from engine.session import bench_memory as bench
from engine.session import check_request
from engine.session.bench_memory import Case, bench_memory, tables

MIB = 1 << 20


def case(variant: str, shape: str, *, traced: int | None = 100 * MIB, reason: str = "", **values: Any) -> Case:
    given: dict[str, Any] = {
        "predicted_bytes": 102 * MIB, "measured_bytes": 100 * MIB, "phase": "update", "resident_bytes": 500 * MIB,
        "low_bytes": 400 * MIB, "high_bytes": 600 * MIB, **values,
    }  # fmt: skip
    record = Record(
        run="r", stage="sft", device="cpu", parameters=1, allocator="fast", program_bytes=300 * MIB,
        **given,
    )  # fmt: skip
    return Case(variant, shape, record, traced, reason)


def test_the_tables() -> None:
    cases = [
        case("sft", "small"),
        case("sft", "experts", predicted_bytes=96 * MIB, traced=None, reason="it took too long", high_bytes=450 * MIB),
        case("grpo", "small", phase="rollout", traced=101 * MIB),
    ]
    lines = tables(cases).splitlines()
    assert lines[2] == "| sft | 4.00% | 3.00% | 0.00% | 0.00% | 1 of 2 |"
    assert lines[3] == "| grpo | – | – | 1.00% | 1.00% | 1 of 1 |"  # answers are more than what is measured
    assert lines[4] == "| all | 4.00% | 3.00% | 1.00% | 0.50% | 2 of 3 |"
    assert lines[8] == (
        "| sft | small | 100.0 MiB | 102.0 MiB | +2.00% | 100.0 MiB | +0.00% | 500.0 MiB | 400.0 MiB to 600.0 MiB |"
    )
    assert "it took too long" in lines[9]
    found = cases[1].to_json()
    assert found["error"] == pytest.approx(-0.04) and found["within"] is False and found["trace_error"] is None


def test_a_stage_that_trains_no_model() -> None:
    with pytest.raises(UserError, match="'tokenizer'"):
        bench_memory(["sft", "tokenizer"], print)


def test_every_stage_in_every_shape_can_be_asked_for(tmp_path: Any) -> None:
    for name, shape in bench.SHAPES.items():
        world = bench._World(tmp_path / name, shape)
        for variant in bench.VARIANTS.values():
            settings = check_request(world.request(*variant))
            assert settings.stage.name == variant[0]


def test_a_real_case(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = bench._Shape(400, bench._model(32, 2, (2, 1), 64), {"batch_size": 8, "max_seq_len": 128, "num_threads": 1})
    monkeypatch.setattr(bench, "SHAPES", {"tiny": shape})
    told: list[str] = []
    [found] = bench_memory(["sft"], told.append)
    assert found.record.error is not None and abs(found.record.error) < 0.05
    assert found.trace_error is not None and abs(found.trace_error) < 0.01
    assert found.record.finished and found.record.program_bytes > 0 and "sft, tiny" in told[0]
