from pathlib import Path

from engine.runs.events import CheckpointSaved, Evaluated, Event, Finished, Resumed, Step, Warned
from engine.runs.folder import RunFolder
from engine.runs.history import EventTail, EventWriter, clean_history, metrics_of


def _step(step: int, loss: float = 1.0) -> Step:
    return Step(step=step, epoch=0.0, tokens=0, metrics={"loss": loss})


def _saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(step=step, path="", best=False, seconds=0.0)


def test_a_resume_takes_back_what_came_after_its_checkpoint() -> None:
    events: list[Event] = [
        _step(1), _step(2), Evaluated(step=2, metrics={}), _saved(2), Evaluated(step=2, metrics={"val_loss": 3.0}),
        _step(3, 9.0), Warned(name="x", message="", step=3), Finished(status="failed", step=3),
        Resumed(from_step=2), _step(3),
    ]  # fmt: skip
    kept = clean_history(events)
    assert kept == [*events[:4], *events[8:]]
    assert metrics_of(kept)["loss"] == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_a_checkpoint_whose_event_was_never_written() -> None:
    events: list[Event] = [_step(1), _step(2), _step(3), Resumed(from_step=2), _step(3), Resumed(from_step=0), _step(1)]
    assert [event.step for event in clean_history(events[:5]) if isinstance(event, Step)] == [1, 2, 3]
    assert [event.step for event in clean_history(events) if isinstance(event, Step)] == [1]


def test_a_tail_gives_what_is_new_and_waits_for_a_torn_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tail, write = EventTail(run), EventWriter(run)
    assert tail.drain() == []
    write(_step(1))
    write(_step(2))
    with run.events.open("ab") as file:
        file.write(b'{"v":1,"type":"step","st')
    assert [event.step for event in tail.drain() if isinstance(event, Step)] == [1, 2]
    assert tail.drain() == []
    EventWriter(run)(_step(3))
    assert [event.step for event in tail.drain() if isinstance(event, Step)] == [3]


def test_the_newest_leave_out_steps_that_another_step_follows(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tail, write = EventTail(run), EventWriter(run)
    for event in (_step(1), _step(2), Evaluated(step=2, metrics={"val_loss": 1.0}), _step(3), _step(4), _step(5)):
        write(event)
    assert [(event.type, getattr(event, "step", 0)) for event in tail.newest()] == [
        ("step", 2), ("evaluated", 2), ("step", 5)]  # fmt: skip
    write(_step(6))
    assert [getattr(event, "step", 0) for event in tail.newest()] == [6]
