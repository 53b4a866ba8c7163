from pathlib import Path

from engine.runs.events import Step
from engine.runs.folder import RunFolder, create_run
from engine.runs.history import EventWriter
from minimind_tui.core.overlay import Overlay


def _step(run: RunFolder, step: int) -> None:
    write = EventWriter(run)
    write(Step(step=step, epoch=0, tokens=0, metrics={"loss": 1.0}))
    write.close()


def test_a_run_keeps_its_letter_while_it_is_chosen(home: Path) -> None:
    runs = [create_run(name) for name in ("one", "two", "three", "four")]
    overlay = Overlay()
    overlay.choose(overlay.read(runs[:3]))
    assert [other.letter + other.name for other in overlay.others(None)] == ["aone", "btwo", "cthree"]
    overlay.choose(overlay.read([runs[3], runs[2]]))
    assert [other.letter + other.name for other in overlay.others(None)] == ["afour", "cthree"]
    assert [other.name for other in overlay.others(runs[3])] == ["three"], "the shown run is not beside itself"
    overlay.choose({})
    assert overlay.others(None) == [] and overlay.runs == []


def test_a_run_that_goes_on_is_heard(home: Path) -> None:
    run = create_run("one")
    overlay = Overlay()
    with run.lock():
        _step(run, 1)
        overlay.choose(overlay.read([run]))
        _step(run, 2)
        (other,) = overlay.others(None)
        assert list(other.history.curves["loss"].steps) == [1, 2]


def test_a_known_run_is_read_in_one_thread_only(home: Path) -> None:
    one, two = create_run("one"), create_run("two")
    overlay = Overlay()
    overlay.choose(overlay.read([one]))
    _step(one, 1)
    _step(two, 1)
    lives = overlay.read([one, two])
    assert not lives[one].history.curves and len(lives[two].history.curves["loss"]) == 1
    found = overlay.others(None)
    assert len(found[0].history.curves["loss"]) == 1, "also the last words of a run that is over"
