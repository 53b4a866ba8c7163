"""What a setting is for."""

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.settings.values import value_text
from minimind_tui.core.forms import Draft, range_text
from minimind_tui.widgets.profiles.cells import columns
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll


class Answers(VimScroll):
    """What the setting under the cursor controls, what happens too high and too low, and where to start."""

    HELP = "What the setting in the form controls, and what happens when it is too high or too low."

    def compose(self) -> ComposeResult:
        yield Static("")

    def show(self, draft: Draft, name: str) -> None:
        """Explains a setting of a draft."""
        info = draft.stage.settings[name]
        self.border_title = Content(name)
        self.border_subtitle = Content(clean(_origin(draft.origin(name)), newlines=False))
        said = [range_text(info), info.unit, f"default {value_text(info.default) or 'empty'}"]
        lines = [
            Content.styled(" · ".join(part for part in said if part), MUTED),
            Content(info.controls),
            Content.assemble(("▲ too high  ", "$warning"), info.high),
            Content.assemble(("▼ too low   ", "$warning"), info.low),
            Content.assemble(("→ for 8 GB  ", "$accent"), info.start),
        ]
        value = clean(draft.text(name), newlines=False)
        if cell_len(value) >= columns(self.size.width)[0]:  # cut in the form
            lines.insert(0, Content.assemble(("= ", MUTED), value))
        self.query_one(Static).update(Content("\n").join(lines))
        self.scroll_home(animate=False)


def _origin(origin: str) -> str:
    return "changed, not saved" if origin == "user" else origin
