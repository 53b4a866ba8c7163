"""Home: the ladder, the runs, the machine, and what to do next."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import DataTable, Static

from engine.clean import clean
from engine.cli.starter import LADDER
from engine.runs.summary import RunSummary
from minimind_tui.core.library import ladder, next_stage
from minimind_tui.core.machine import describe_machine
from minimind_tui.screens.area import Area
from minimind_tui.widgets.area_bar import AREAS
from minimind_tui.widgets.file_dialog import FileDialog
from minimind_tui.widgets.ladder import Ladder
from minimind_tui.widgets.run_table import RunTable

_REFRESH_SECONDS = 3.0
_NO_RUNS = "Runs appear here as you start them.\n[b]s[/b] starts the starter world, [b]n[/b] lets you choose a profile."
_COLUMNS = ("name", "stage", "state", "step", "best", "when")
_FRAME = 3
"""Rows of the table of runs that are no runs: its border and its head."""
_FEWEST = 1


def _key(area: str) -> str:
    """The number key of an area."""
    return f"[b]{list(AREAS).index(area) + 1}[/b]"


class HomeScreen(Area):
    """What there is, and what to do next."""

    MODE = "home"
    HELP_TEXT = (
        "The ladder shows every stage from raw text to a chat partner with its newest run and that run's data; enter "
        "on a stage starts one. Below stand the newest runs of this machine, also those of the command line; enter "
        "opens one, and the Runs screen has them all."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "starter", "Starter ladder", tooltip="Train the starter world, stage by stage", id="home.starter"),
        Binding("n", "new_run", "New run", tooltip="Choose a profile and start a run", id="home.new_run"),
        Binding("r", "resume", "Resume", tooltip="Go on with the run under the cursor", id="home.resume"),
        Binding(
            "F",
            "fit",
            "Make it fit",
            show=False,
            tooltip="What happened to its memory, and what would fit",
            id="home.fit",
        ),
        Binding("c", "chat", "Chat", tooltip="Talk with the run under the cursor", id="home.chat"),
        Binding("o", "open_data", "Open data", show=False, tooltip="Look at a data file", id="home.open_data"),
    ]

    def compose_body(self) -> Iterator[Widget]:
        yield Static("", id="next-step")
        yield Ladder(id="ladder")
        yield RunTable(_COLUMNS, id="runs")
        yield Static(Content.from_markup(_NO_RUNS), id="no-runs")
        yield Static("", id="machine")

    def on_mount(self) -> None:
        self._runs: list[RunSummary] = []
        self.query_one("#next-step").border_title = "Next"
        self.query_one("#machine").border_title = "Machine"
        self.query_one(RunTable).border_title = "Newest runs"
        self.query_one("#no-runs").border_title = "Runs"
        self.query_one("#no-runs").display = False
        self.query_one(Ladder).show(ladder([]))
        self.read_runs()
        self.set_interval(_REFRESH_SECONDS, self.read_runs)

    def on_screen_resume(self) -> None:
        self.read_runs()

    @work(thread=True, exclusive=True, group="library", exit_on_error=False)
    def read_runs(self) -> None:
        """Reads the runs' folders in a thread and shows them."""
        if self.is_current or not self._runs:
            runs, machine = self.mini.library.runs(), describe_machine(self.mini.device)
            self.app.call_from_thread(self._show, runs, machine)

    def _show(self, runs: list[RunSummary], machine: str) -> None:
        self._runs = runs
        self.query_one(Ladder).show(ladder(runs), self.mini.library.starved)
        self.query_one(RunTable).display, self.query_one("#no-runs").display = bool(runs), not runs
        panel, (has, _, place) = self.query_one("#machine", Static), machine.partition("\n")
        panel.update(Content(has))
        panel.border_subtitle = Content(place)
        self.query_one("#next-step", Static).update(Content.from_markup(self._advice()))
        self.call_after_refresh(self._show_newest)
        self.refresh_bindings()

    def _show_newest(self) -> None:
        """As many runs as there is room for; the Runs screen has them all."""
        table = self.query_one(RunTable)
        room = max(_FEWEST, table.outer_size.height - _FRAME)
        table.show(self._runs[:room], starved=self.mini.library.starved)
        more = f"{room} of {len(self._runs)} · {list(AREAS).index('runs') + 1} shows all"
        table.border_subtitle = more if len(self._runs) > room else f"{len(self._runs)}"

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._show_newest)

    def _advice(self) -> str:
        own = self.mini.own
        if own is not None and own.alive:
            return f"A run goes on: press {_key('train')} to watch it."
        done = {run.stage for run in self._runs if run.state == "done"}
        if not self._runs:
            return "No runs yet. Press [b]s[/b] to train the starter world: tokenizer, pretrain, fine-tune, then chat."
        if any(run.state == "running" for run in self._runs):
            return "A run goes on as a process of its own: press [b]enter[/b] on it to watch it."
        if self._runs[0].run in self.mini.library.starved:
            name = clean(self._runs[0].name)
            return f"{name} ran out of memory: [b]tab[/b] to it, and [b]F[/b] shows what would fit."
        if self._runs[0].state == "interrupted":
            return f"{clean(self._runs[0].name)} was interrupted: [b]tab[/b] to it and [b]r[/b] to go on with it."
        if self._starter_open():
            return "Press [b]s[/b] to go on with the starter world, or [b]n[/b] to start a run of your own."
        following = next_stage(done)
        if following is None:
            return "The ladder is climbed. Press [b]c[/b] to chat, or [b]n[/b] to start another run."
        return f"Press [b]n[/b] for the next stage: {following.title}. {following.purpose}"

    def _starter_open(self) -> bool:
        done = {run.profile for run in self._runs if run.state == "done"}
        return not done.issuperset(LADDER)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are left out of the footer."""
        chosen = self._chosen() if self.is_mounted and self._runs else None
        if action == "starter":
            return self.is_mounted and self._starter_open()
        if action == "resume":
            return chosen is not None and chosen.can_resume
        if action == "fit":
            return chosen is not None and chosen.run in self.mini.library.starved
        if action == "chat":
            return any(run.checkpoints for run in self._runs) if self.is_mounted else False
        return True

    def _chosen(self) -> RunSummary | None:
        """The run under the cursor: of the runs, or the newest of a stage."""
        steps = self.query_one(Ladder)
        if steps.has_focus:
            return steps.selected.newest if steps.selected else None
        return self.query_one(RunTable).selected

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        steps = self.query_one(Ladder)
        steps.border_subtitle = Content(steps.selected.stage.purpose) if steps.selected else ""
        self.refresh_bindings()

    def on_descendant_focus(self) -> None:
        """The footer follows the table in which one is."""
        self.refresh_bindings()

    @on(DataTable.RowSelected, "#ladder")
    def _open_stage(self) -> None:
        rung = self.query_one(Ladder).selected
        if rung is None:
            return
        if rung.newest is not None and rung.newest.state == "running":
            self.mini.show_run(rung.newest.run)
        else:
            self.mini.ask_for_run(stage=rung.stage.name)

    @on(DataTable.RowSelected, "#runs")
    def _open_run(self) -> None:
        chosen = self.query_one(RunTable).selected
        if chosen is not None:
            self.mini.show_run(chosen.run)

    def action_starter(self) -> None:
        """Trains what is missing of the starter ladder."""
        self.mini.climb_starter()

    def action_new_run(self) -> None:
        """Asks for a profile of any stage; enter on the ladder asks for one of a stage."""
        self.mini.ask_for_run()

    def action_resume(self) -> None:
        """Goes on with the chosen run."""
        if (chosen := self._chosen()) is not None:
            self.mini.resume_run(chosen.run)

    def action_fit(self) -> None:
        """What happened to the chosen run's memory, and what would fit."""
        if (chosen := self._chosen()) is not None:
            self.mini.explain_memory(chosen.run)

    def action_open_data(self) -> None:
        """Asks for a data file and shows it on the Data screen."""

        def chosen(path: str | None) -> None:
            if path:
                self.mini.open_data(Path(path))

        recent = self.mini.state.get("data.recent", list[str]())
        self.app.push_screen(FileDialog(title="Open a data file", recent=recent, starter=True), chosen)

    def action_chat(self) -> None:
        """Talks with the chosen run, or with the newest that can."""
        chosen = self._chosen()
        self.mini.chat_with(chosen.name if chosen and chosen.checkpoints else "")
