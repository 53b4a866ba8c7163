"""The right side of the Data screen: how rows become tokens, and the row that is looked at."""

import time
from dataclasses import replace
from pathlib import Path

from textual import on

from engine.runs.summary import RunSummary
from minimind_tui.core.look import MODES, PACKED, TOKENS, Judges, Look
from minimind_tui.core.reading import Reader, Reading, check_length, first_reading
from minimind_tui.core.rollouts import Origin, origin_of
from minimind_tui.core.rows import Rows
from minimind_tui.core.suits import stages_for
from minimind_tui.screens.data_list import DataList
from minimind_tui.screens.data_work import LookRequest
from minimind_tui.widgets.data.list_dialog import Item, ListDialog
from minimind_tui.widgets.data.prompt_line import PromptLine
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.data.row_pane import RowPane
from minimind_tui.widgets.data.switches import Switches
from minimind_tui.widgets.file_dialog import FileDialog

_OWN, _OTHER = "own", "other"
_LONG_SECONDS = 0.5
"""Encoding a row that takes longer is told."""


class DataTokens(DataList):
    """Encodes the row under the cursor, one after the other, always the newest."""

    def __init__(self) -> None:
        super().__init__()
        self._reader: Reader | None = None
        self._judges, self._judge_names = Judges(), ("", "")
        self._looking: LookRequest | None = None
        self._looking_since = 0.0
        self._packed: int | None = None
        self._mode = TOKENS
        self._reading = self._usual = Reading("")
        self._origin: Origin | None = None

    def recall_switches(self) -> None:
        """Reads rows as they were read when the app was left."""
        get = self.mini.state.get
        self._mode = get("data.mode", TOKENS)
        length = get("data.max_seq_len", int(Reading("").default("max_seq_len")))
        self._reading = self._usual = Reading(
            "", get("data.stage", ""), get("data.tokenizer", ""), get("data.template", ""), length
        )  # fmt: skip
        self._say_switches()

    def encode(self) -> None:
        """Encodes the whole file."""
        raise NotImplementedError

    def reader_changed(self) -> None:
        """Rows are read in another way from now on."""
        raise NotImplementedError

    def forget_encoded(self) -> None:
        """The file would be encoded otherwise now."""
        raise NotImplementedError

    def file_opened(self, rows: Rows) -> None:
        self._looking, self._packed = None, None
        if self._mode == PACKED:  # it would encode the whole file at once
            self._mode = TOKENS
        self.query_one(RowPane).show(None)
        self._origin = origin = origin_of(rows.path)
        self._read_as(origin.reading(rows.shape) if origin else first_reading(rows.path, rows.shape, self._usual))

    def work_failed(self, kind: str) -> None:
        if kind == "look":
            self._looking = None
        elif kind == "reader" and self._reading.source != ("", ""):
            self._read_as(replace(self._reading, tokenizer="", template=""))

    # How rows are read

    def _read_as(self, reading: Reading) -> None:
        """Reads rows in another way from now on; a run's rollouts leave the usual way as it is."""
        self._reading, before = reading, self._reader
        if self._origin is None:
            self._usual = reading
            for name in ("stage", "tokenizer", "template", "max_seq_len"):
                self.mini.state.keep(f"data.{name}", getattr(reading, name))
        self.forget_encoded()
        self._say_switches()
        self.start("reader", self.compute, lambda: Reader(reading, before), self._take_reader)

    def _take_reader(self, reader: Reader) -> None:
        self._reader = reader
        self._say_switches()
        self.reader_changed()
        self._look()

    def _say_switches(self) -> None:
        reader = self._reader if self._reader and self._reader.reading.source == self._reading.source else None
        self.query_one(Switches).show(self._reading, reader, self._mode, self._judge_names)

    def action_stage(self) -> None:
        """Asks for the stage as which rows are encoded: one that reads the shape."""
        if self._rows is None:
            return
        items = [Item(stage.name, stage.name, stage.title) for stage in stages_for(self._rows.shape, samples=True)]

        def chosen(name: str | None) -> None:
            if name is not None:
                self._read_as(replace(self._reading, stage=name))

        self.mini.push_screen(ListDialog("Encode as", items, self._reading.stage), chosen)

    def action_length(self) -> None:
        """Asks for the longest sample."""
        length = str(self._reading.max_seq_len)
        self.query_one(PromptLine).ask("length", "longest sample", length, "tokens; 0: whole rows")

    def answered(self, purpose: str, text: str) -> None:
        if purpose == "length":
            self._read_as(replace(self._reading, max_seq_len=check_length(text)))
        else:
            super().answered(purpose, text)

    def action_tokenizer(self) -> None:
        """Asks for a tokenizer."""
        self.start("runs", self.compute, self.mini.library.runs, self._offer_tokenizers)

    def _offer_tokenizers(self, runs: list[RunSummary]) -> None:
        items = [Item(_OWN, "the newest run's"), Item(_OTHER, "a folder …")]
        items += [
            Item(run.name, run.name, run.stage) for run in runs if (run.run.tokenizer / "tokenizer.json").is_file()
        ]

        def chosen(name: str | None) -> None:
            if name == _OTHER:
                dialog = FileDialog(f"{Path.cwd()}/", title="A tokenizer's folder", folders=True)
                self.mini.push_screen(dialog, lambda path: self._use_tokenizer(path) if path else None)
            elif name is not None:
                self._use_tokenizer("" if name == _OWN else name)

        self.mini.push_screen(ListDialog("Tokenizer", items, self._reading.tokenizer or _OWN), chosen)

    def _use_tokenizer(self, reference: str) -> None:
        self._judges, self._judge_names = Judges(), ("", "")
        self._read_as(replace(self._reading, tokenizer=reference))

    def action_template(self) -> None:
        """Asks for a chat template."""
        items = [Item(_OWN, "the tokenizer's own"), Item(_OTHER, "a jinja file …")]

        def use(path: str) -> None:
            self._read_as(replace(self._reading, template=path))

        def chosen(name: str | None) -> None:
            if name == _OTHER:
                dialog = FileDialog(f"{Path.cwd()}/", title="A chat template", everything=True)
                self.mini.push_screen(dialog, lambda path: use(path) if path else None)
            elif name is not None:
                use("")

        self.mini.push_screen(ListDialog("Chat template", items, _OTHER if self._reading.template else _OWN), chosen)

    # The row

    def file_known(self) -> None:
        if self._looking is not None and time.monotonic() - self._looking_since > _LONG_SECONDS:
            self.query_one(RowPane).wait(f"Row {self._looking.row:,} is being encoded …")

    def row_moved(self) -> None:
        self._packed = None
        self._look()

    def _look(self) -> None:
        """Encodes the row under the cursor, after the one that is being encoded."""
        wanted = self._wanted()
        if wanted is None:
            if not self.query_one(RowList).rows:
                self.query_one(RowPane).show(None)
            return
        if wanted.mode == PACKED and wanted.encoded is None:
            self.query_one(RowPane).wait("The whole file is encoded first: a packed row may hold any of its rows.")
            self.encode()
        elif self._looking is None:
            self._looking, self._looking_since = wanted, time.monotonic()
            self.start("look", self.look_at, wanted, self._take_look)

    def _wanted(self) -> LookRequest | None:
        row, pane = self.query_one(RowList).row, self.query_one(RowPane)
        if self._rows is None or self._reader is None or row is None or self._reader.reading.shape != self._rows.shape:
            return None
        width = max(20, pane.size.width - 3)
        encoded = self._encoded if self._mode == PACKED else None
        return LookRequest(self._rows, row, self._reader, self._mode, self._judges, encoded, self._packed, width)

    def _take_look(self, looked: LookRequest, seen: Look, packed: int | None) -> None:
        self._looking = None
        if looked.rows is not self._rows:
            return
        self.query_one(RowPane).show(seen)
        if seen.has_problem:
            self.query_one(RowList).mark([seen.row])
        if packed is not None:
            self._packed = packed
        wanted = self._wanted()
        if wanted is not None and replace(wanted, packed=looked.packed, width=looked.width) != looked:
            self._look()

    def action_mode(self) -> None:
        """Another way to look at the row; packed batches are of what stages pack."""
        modes = [mode for mode in MODES if mode != PACKED or self._reading.info is not None]
        self._mode = modes[(modes.index(self._mode) + 1) % len(modes) if self._mode in modes else 0]
        self.mini.state.keep("data.mode", self._mode)
        self._say_switches()
        self._look()

    @on(RowPane.Beside)
    def _look_beside(self, event: RowPane.Beside) -> None:
        self.query_one(RowList).go_to(event.row)

    @on(RowPane.Turned)
    def _turn(self, event: RowPane.Turned) -> None:
        self._packed = (self._packed or 0) + event.step
        self._look()
