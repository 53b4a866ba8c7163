from pathlib import Path

from engine.runner import RunHandle
from engine.runs.events import CheckpointSaved, Event, Finished, NonFiniteStep, Warned
from engine.runs.folder import create_run
from engine.runs.history import EventWriter
from minimind_tui.core.live import Live
from minimind_tui.core.notices import Notice, Notices


class _Run:
    def __init__(self, *before: Event) -> None:
        run = create_run("one")
        self._write = EventWriter(run)
        self.say(*before)
        self.live = Live(RunHandle(run))

    def say(self, *events: Event) -> None:
        for event in events:
            self._write(event)


def _saved(step: int, best: bool = False) -> CheckpointSaved:
    return CheckpointSaved(step=step, path="x", best=best, seconds=0.1)


def _texts(notices: Notices, live: Live, *times: float) -> list[str]:
    found: list[Notice | None] = []
    for time in times:
        live.drain()
        found.append(notices.due([live], time))
    return [notice.text for notice in found if notice is not None]


def test_what_was_said_before_is_no_news(home: Path) -> None:
    run = _Run(CheckpointSaved(time=5, step=1, path="x", best=False, seconds=0.1))
    notices = Notices()
    assert _texts(notices, run.live, 0.0) == []
    run.say(_saved(20, best=True))
    assert _texts(notices, run.live, 1.0) == ["checkpoint of step 20 saved, the best so far"]


def test_at_most_one_a_second_and_of_a_kind_the_newest(home: Path) -> None:
    run, notices = _Run(), Notices()
    run.say(_saved(10), *[NonFiniteStep(step=step, what="loss", rows=[1]) for step in (11, 12, 13)], _saved(14),
            Warned(name="loss_not_falling", message="flat", step=14), Finished(status="done", step=15))  # fmt: skip
    told = _texts(notices, run.live, 0.0, 0.25, 0.5, 1.0, 1.75, 2.0, 3.0, 4.0, 5.0)
    assert told == ["step 13 skipped: loss is not finite (3 times)", "checkpoint of step 14 saved",
                    "loss not falling: flat", "done at step 15"]  # fmt: skip


def test_a_failure_elsewhere_is_told_and_nothing_steers_the_terminal(home: Path) -> None:
    run = _Run()
    run.say(Finished(status="failed", step=3, error="\x1b[2Jgone", exit_code=1))
    run.live.drain()
    notice = Notices().due([run.live], 0.0)
    assert notice is not None and notice.severity == "error" and "\x1b" not in notice.text
