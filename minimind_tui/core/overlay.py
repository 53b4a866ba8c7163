"""The runs that are drawn beside the shown one. Without Textual and torch-free."""

from collections.abc import Sequence

from engine.runner import RunHandle
from engine.runs.folder import RunFolder
from minimind_tui.core.charts import LETTERS, Other
from minimind_tui.core.live import Live


class Overlay:
    """Runs that are compared with, at most as many as there are letters; each keeps its own while it is chosen."""

    def __init__(self) -> None:
        self._chosen: dict[RunFolder, tuple[int, Live]] = {}

    @property
    def runs(self) -> list[RunFolder]:
        """What is chosen."""
        return list(self._chosen)

    def read(self, runs: Sequence[RunFolder]) -> dict[RunFolder, Live]:
        """The histories of runs; those that are not known yet are read, so call it from a thread.

        Those that are known are left alone: `others` reads on in them, in another thread.

        Raises:
            OSError: One cannot be read.
        """
        known, lives = self._chosen, dict[RunFolder, Live]()
        for run in runs:
            if run in known:
                lives[run] = known[run][1]
            else:
                lives[run] = Live(RunHandle(run))
                lives[run].drain()
        return lives

    def choose(self, lives: dict[RunFolder, Live]) -> None:
        """Compares with these runs and no others."""
        places = {run: place for run, (place, _) in self._chosen.items() if run in lives}
        for run in lives:
            if run not in places:
                places[run] = min(set(range(len(LETTERS))) - set(places.values()))
        self._chosen = {run: (places[run], live) for run, live in lives.items()}

    def others(self, shown: RunFolder | None) -> list[Other]:
        """What is drawn beside a run, with what each has said by now: one that has just ended has last words."""
        found = []
        for run, (place, live) in self._chosen.items():
            if run != shown:
                live.drain()
                found.append(Other(place, live.name, live.history))
        return sorted(found, key=lambda other: other.place)
