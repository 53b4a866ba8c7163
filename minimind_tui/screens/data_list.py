"""The left side of the Data screen: which file is open, which of its rows are listed, and where the cursor stands."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from textual import on
from textual.content import Content

from engine.clean import clean
from engine.errors import EngineError, UserError
from minimind_tui.core.browse import found_at, with_recent
from minimind_tui.core.encoded import Encoded
from minimind_tui.core.filters import ALL, LENGTH, Filter, between, filters, rows_of
from minimind_tui.core.rows import Preview, Rows
from minimind_tui.screens.data_work import DataWork
from minimind_tui.widgets.data.list_dialog import Item, ListDialog
from minimind_tui.widgets.data.prompt_line import PromptLine
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.file_dialog import FileDialog

_TICK_SECONDS = 0.2
_EVERYTHING = Filter(ALL, "all rows")


class DataList(DataWork):
    """Opens files, lists, searches and filters their rows."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Rows | None = None
        self._reference = ""
        self._share = 0.0
        self._wanted_row = 0
        self._encoded: Encoded | None = None
        self._filter = _EVERYTHING
        self._filtered: array[int] = array("q")
        self._filtering = 1.0
        self._needle, self._hits, self._searched = "", array("q"), 1.0
        self._jump = False

    def file_opened(self, rows: Rows) -> None:
        """Another file is open."""
        raise NotImplementedError

    def file_known(self) -> None:
        """More is known of the file."""
        raise NotImplementedError

    def row_moved(self) -> None:
        """The cursor stands on another row."""
        raise NotImplementedError

    def encode_then(self, then: Filter) -> None:
        """Encodes the whole file; afterwards the filter is to be applied."""
        raise NotImplementedError

    # Opening

    def open(self, path: Path | str, row: int = 0) -> None:
        """Shows a file, also one of the starter world, or what is in a folder."""
        if found_at(path) == "folder":
            self._ask_for_file(f"{str(path).rstrip('/')}/")
        else:
            self._wanted_row = row
            self.start("file", self.open_file, str(path), self._opened, self._note_share)

    def _note_share(self, share: float) -> None:
        self._share = share

    def _opened(self, rows: Rows, reference: str) -> None:
        self._rows, self._reference, self._share = rows, reference, 0.0
        self.end_work("encode", "search", "filter")
        self._encoded, self._filter = None, _EVERYTHING
        self._needle, self._hits, self._searched = "", array("q"), 1.0
        state = self.mini.state
        state.keep("data.file", reference)
        state.keep("data.recent", with_recent(state.get("data.recent", list[str]()), reference))
        self.query_one(RowList).show((), fresh=True)
        self.file_opened(rows)
        self._tick()

    def _ask_for_file(self, start: str) -> None:
        recent = self.mini.state.get("data.recent", list[str]())
        dialog = FileDialog(start, title="Open a data file", recent=recent, starter=True)
        self.mini.push_screen(dialog, lambda path: self.open(path) if path else None)

    def action_open(self) -> None:
        """Asks for a file, beginning in the folder of the open one."""
        folder = self._rows.path.parent if self._rows else Path.cwd()
        self._ask_for_file(f"{folder}/")

    def action_recent(self) -> None:
        """Asks for a file that was open before."""
        self._ask_for_file("")

    def follow_file(self) -> None:
        """Begins to follow the reading of files."""
        self.set_interval(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Follows the reading of the file: rows known so far are listed at once."""
        rows, listed = self._rows, self.query_one(RowList)
        if rows is None:
            return
        complete = rows.indexed
        if self._filter.name == ALL and len(listed.rows) != rows.known:
            listed.grow(range(rows.known))
        if self._wanted_row and (complete or rows.known > self._wanted_row):
            listed.go_to(self._wanted_row)
            self._wanted_row = 0
        self.say_list()
        self.file_known()

    def say_list(self) -> None:
        """Says what is listed."""
        listed, title = self.query_one(RowList), "Rows"
        if self._filter.name != ALL:
            title = self._filter.title + (f" · {self._filtering:.0%}" if self._filtering < 1 else "")
        elif self._needle:
            title = f"/{self._needle} · {len(self._hits):,} hits"
            title += f" · {self._searched:.0%}" if self._searched < 1 else ""
        listed.say(Content(clean(title, newlines=False)), Content(f"{len(listed.rows):,}"))

    # The list

    @on(RowList.Wanted)
    def _previews_wanted(self, event: RowList.Wanted) -> None:
        if self._rows is not None:
            self.start("previews", self.read_previews, self._rows, event.rows, self._take_previews, exclusive=False)

    def _take_previews(self, rows: Rows, previews: dict[int, Preview]) -> None:
        if rows is self._rows:
            self.query_one(RowList).fill(previews)

    @on(RowList.Moved)
    def _moved(self, event: RowList.Moved) -> None:
        if event.row >= 0 and not self._wanted_row:
            self.mini.state.keep("data.row", event.row)
        self.row_moved()

    def action_row(self, step: int) -> None:
        """Moves in the list from anywhere."""
        self.query_one(RowList).cursor += step

    # Asking

    def action_search(self) -> None:
        """Asks what to search for."""
        if self._rows is not None:
            self.query_one(PromptLine).ask("search", "search", self._needle, "text, upper and lower case alike")

    def action_go_to(self) -> None:
        """Asks for a row's number."""
        if self._rows is not None:
            self.query_one(PromptLine).ask("row", "go to row", placeholder=f"0 to {self._rows.known - 1:,}")

    def answered(self, purpose: str, text: str) -> None:
        """Something was typed.

        Raises:
            UserError: It cannot be what was asked for.
        """
        if purpose == "search":
            self._search(text)
        elif purpose == "row":
            self._go_to(text)
        elif purpose == "between":
            self.list_only(between(text))

    def _go_to(self, text: str) -> None:
        number = text.strip().replace(",", "")
        if not number.isdigit() or self._rows is None:
            raise UserError(f"{text!r} is no row's number")
        if self._filter.name != ALL:
            self.list_only(_EVERYTHING)
        if int(number) >= self._rows.known:
            self.notify(f"The last row known so far is {self._rows.known - 1:,}.", severity="warning")
        self.query_one(RowList).go_to(int(number))

    # Searching

    def _search(self, text: str) -> None:
        self.clear_search()
        rows = self._rows
        if not text or rows is None:
            return
        if self._filter.name != ALL:
            self.list_only(_EVERYTHING)
        self._needle, self._searched, self._jump = text, 0.0, True
        self.start("search", self.gather, lambda stop: rows.search(text, stop), self._take_hits)

    def _take_hits(self, found: Sequence[int], share: float, over: bool) -> None:
        self._hits.extend(found)
        self._searched = share
        if self._jump and self._hits and (self._hits[-1] >= self._here or over):
            self._jump = False
            self._show_hit(bisect_left(self._hits, self._here))
        elif self._jump and over:
            self._jump = False
            self.notify("Not found.", severity="warning")
        self.say_list()

    @property
    def _here(self) -> int:
        return self.query_one(RowList).row or 0

    def _show_hit(self, place: int) -> None:
        self.query_one(RowList).go_to(self._hits[place % len(self._hits)])

    def action_hit(self, step: int) -> None:
        """The next hit of the search, or the one before; at the end it starts over."""
        if self._hits:
            here = bisect_right(self._hits, self._here) if step > 0 else bisect_left(self._hits, self._here) - 1
            self._show_hit(here)

    def clear_search(self) -> None:
        """Forgets the search."""
        self.end_work("search")
        self._needle, self._hits, self._searched, self._jump = "", array("q"), 1.0, False
        self.say_list()

    # Filtering

    def action_filter(self) -> None:
        """Asks which rows to list."""
        if self._rows is None:
            return
        offered = {each.name: each for each in filters(self._rows, self._encoded, len(self._hits))}
        items = [Item(each.name, each.title, _note(each, self._encoded)) for each in offered.values()]

        def chosen(name: str | None) -> None:
            if name == LENGTH:
                self.query_one(PromptLine).ask("between", "tokens from-to", placeholder="100-200, 100- or -200")
            elif name is not None:
                self.list_only(offered[name])

        self.mini.push_screen(ListDialog("List only", items, self._filter.name), chosen)

    def list_only(self, chosen: Filter) -> None:
        """Lists the rows of a filter; the file is encoded first where that is needed."""
        rows, listed = self._rows, self.query_one(RowList)
        if rows is None:
            return
        if chosen.needs_encoding and self._encoded is None:
            self.encode_then(chosen)
            return
        self.end_work("filter")
        here, self._filter, self._filtered = listed.row, chosen, array("q")
        if chosen.name == ALL:
            listed.show(range(rows.known), here)
        else:
            hits = rows_of(chosen, rows, self._encoded, self._hits[:])
            self._filtering = 0.0
            listed.show(self._filtered)
            self.start("filter", self.gather, hits, self._take_filtered)
        self.say_list()
        self.row_moved()
        listed.focus()

    def _take_filtered(self, found: Sequence[int], share: float, over: bool) -> None:
        self._filtered.extend(found)
        self._filtering = share
        self.query_one(RowList).grow(self._filtered)
        if over and not self._filtered:
            self.notify(clean(f"No {self._filter.title}.", newlines=False), markup=False)
            self.list_only(_EVERYTHING)
        self.say_list()

    def clear_filter(self) -> bool:
        """Lists all rows again.

        Returns:
            Whether only some were listed.
        """
        if self._filter.name == ALL:
            return False
        self.list_only(_EVERYTHING)
        return True

    @on(PromptLine.Answered)
    def _take_answer(self, event: PromptLine.Answered) -> None:
        self.query_one(RowList).focus()
        try:
            self.answered(event.purpose, event.text)
        except EngineError as error:
            self.mini.show_error(error)


def _note(chosen: Filter, encoded: Encoded | None) -> str:
    if chosen.count is not None:
        return f"{chosen.count:,}"
    return "encodes the file first" if chosen.needs_encoding and encoded is None else ""
