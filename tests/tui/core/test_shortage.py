from pathlib import Path

from engine.errors import DoesNotFit
from engine.runs.events import Adjusted, Progress, Resumed
from engine.runs.history import EventWriter
from minimind_tui.core.last_words import ran_out
from minimind_tui.core.library import Library
from minimind_tui.core.run_details import details
from minimind_tui.core.shortage import predicted, suffered
from tests.tui.made import make_run, plan_json, starve


def test_the_last_word_counts(home: Path) -> None:
    run = make_run("one", status="")
    assert ran_out(run) is None
    starve(run)
    event = ran_out(run)
    assert event is not None and event.phase == "training"
    with run.events.open("ab") as file:
        file.write(b'{"v":1,"type":"prog')
    assert ran_out(run) == event, "a torn line says nothing"
    for said in (Adjusted(step=20, changes={}, reason="x"), Resumed(from_step=20), Progress(what="x", done=0)):
        starve(run)
        assert ran_out(run) is not None
        write = EventWriter(run)
        write(said)
        write.close()
        assert ran_out(run) is None, "it went on"


def test_what_is_told_of_a_run_that_ran_out(home: Path) -> None:
    run = make_run("one", status="")
    starve(run)
    event = ran_out(run)
    assert event is not None
    told = suffered(run, event)
    facts = dict(told.facts)
    assert told.what == "out of memory on cpu in training, step 20" and "can't allocate" in told.detail
    assert facts["expected"] == "1.1 to 1.6 GiB of 2.0 GiB" and facts["measured"].startswith("1.0 GiB allocated")
    assert facts["limit"] == "1.0 GiB, since more was taken than expected" and facts["asked for"] == "300 MiB more"
    assert told.saved == 20 and told.barred == {3}, "a run that has begun goes on with rows of the same length"
    assert not told.predicted
    fresh = make_run("two", steps=5, status="")
    starve(fresh, step=0, phase="rehearsal")
    event = ran_out(fresh)
    assert event is not None
    told = suffered(fresh, event)
    assert told.what.endswith("in the dry pass before its first step") and told.saved is None and not told.barred


def test_what_is_told_of_a_run_that_was_refused(home: Path) -> None:
    told = predicted(DoesNotFit("it will not fit", plan=plan_json()), "one")
    assert told.predicted and told.what == "it will not fit" and told.plan is not None and not told.barred
    assert predicted(DoesNotFit("it will not fit"), "one").plan is None


def test_lists_tell_them_from_other_failures(home: Path) -> None:
    run = make_run("hungry", status="")
    make_run("broken", status="failed", error="rows 7")
    starve(run)
    library = Library()
    runs = library.runs()
    assert library.starved == {run} and {one.state for one in runs} == {"failed"}
    plight = details(next(one for one in runs if one.run == run), runs).plight
    assert "Out of memory in training" in plight and "F shows what would fit; r goes on from step 20" in plight
    write = EventWriter(run)
    write(Adjusted(step=20, changes={"batch_size": 2}, reason="adjusted after OOM"))
    write.close()
    library.runs()
    assert not library.starved
