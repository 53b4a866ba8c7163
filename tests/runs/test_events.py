import math
from pathlib import Path

from engine.runs.events import EVENTS, Audited, Evaluated, NonFiniteStep, Sampled, Step, event_table, from_line, to_line
from engine.runs.folder import RunFolder
from engine.runs.history import EventTail, EventWriter, read_events


def test_round_trip() -> None:
    events = [
        Step(step=3, epoch=0.5, tokens=7, metrics={"loss": 1.5, "grad_norm": math.inf}),
        Sampled(step=1, prompt="谁？", text="a\nb\u2028c", stop_reason="stop"),
        NonFiniteStep(step=2, what="loss", rows=[1, 2]),
        Audited(audit={"quarantined": [{"line": 1, "reason": "x"}]}),
    ]
    for event in events:
        line = to_line(event)
        assert "\n" not in line and from_line(line) == event
    nan = from_line(to_line(Evaluated(step=1, metrics={"val_loss": math.nan})))
    assert isinstance(nan, Evaluated) and math.isnan(nan.metrics["val_loss"])


def test_unknown_and_torn_lines_are_passed_over() -> None:
    whole = to_line(Evaluated(step=1, metrics={}))
    for line in (whole[:-4], "", "[]", "7", '{"v":2,"type":"step"}', '{"v":1,"type":"later"}', '{"v":1,"type":[]}',
                 '{"v":1,"type":"step"}', "[" * 100_000):  # fmt: skip
        assert from_line(line) is None
    assert from_line(whole.replace('"step":1', '"step":1,"new":2')) is not None


def test_writer_begins_a_new_line_after_a_torn_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tail = EventTail(run)
    assert tail.drain() == []
    run.events.write_bytes(b'{"v":1,"type":"st')
    assert tail.drain() == []
    writer = EventWriter(run)
    writer(Sampled(step=1, prompt="\udc80", text="", stop_reason="stop"))
    writer.close()
    assert [event.type for event in read_events(run.events)] == ["sampled"] == [event.type for event in tail.drain()]
    assert tail.drain() == []


def test_the_table_names_every_type_and_field() -> None:
    table = event_table()
    for name in (*EVENTS, "from_step", "non_finite", "metrics"):
        assert f"{name}" in table
    assert table.count("\n") == len(EVENTS) + 2
