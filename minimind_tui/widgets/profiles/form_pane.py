"""The form with what belongs to it: what does not fit, a search, and what the setting is for."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from engine.clean import clean
from minimind_tui.core.forms import Draft
from minimind_tui.core.memory import Memory
from minimind_tui.core.profiles import Entry
from minimind_tui.widgets.memory.gauge import gauge_line
from minimind_tui.widgets.profiles.answers import Answers
from minimind_tui.widgets.profiles.setting_lines import SettingLines
from minimind_tui.widgets.profiles.settings_form import SettingsForm
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll


class FormPane(Vertical):
    """A profile as a form, or why it cannot be read."""

    _plan: Memory | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="notice")
        with VimScroll(id="broken"):
            yield Static("")
        yield SettingsForm(id="form")
        yield Static("", id="gauge-line")
        yield Input(placeholder="words of a setting", id="search", compact=True)
        yield Answers(id="answers")

    @property
    def form(self) -> SettingsForm:
        """The form itself."""
        return self.query_one(SettingsForm)

    @property
    def lines(self) -> SettingLines:
        """The form's lines, which have its focus and its cursor."""
        return self.form.lines

    def show(self, draft: Draft, setting: str = "") -> None:
        """Shows a draft, with the cursor on the named setting."""
        self._display(form=True)
        self.form.show(draft, setting)
        self.update()

    def show_broken(self, entry: Entry) -> None:
        """Shows why a profile cannot be read."""
        self._display(form=False)
        message = self.query_one("#broken")
        message.border_title = Content(clean(entry.reference, newlines=False))
        said = f"{clean(str(entry.problem))}\n\n" if entry.problem else ""
        message.query_one(Static).update(Content.assemble((said, "$text-error"), "e opens the file, x deletes it."))

    def _display(self, *, form: bool) -> None:
        self.query_one("#broken").display = not form
        self.query_one("#notice").display = False
        self.form.display = self.query_one("#answers").display = form

    def on_resize(self) -> None:
        self.update()
        self._show_line()

    def show_memory(self, plan: Memory | None) -> None:
        """Shows how much memory it would take, where the outlook does not stand beside it."""
        self._plan = plan
        self._show_line()

    def _show_line(self) -> None:
        line = self.query_one("#gauge-line", Static)
        line.display = self._plan is not None and self.form.display and not self.screen.has_class("-three")
        line.update(gauge_line(self._plan, max(0, self.size.width - 4)), layout=False)

    def update(self) -> None:
        """Shows the draft as it stands now."""
        if (draft := self.lines.draft) is None:
            return
        self.lines.update()
        about = clean(draft.profile.title, newlines=False)
        title = clean(draft.title, newlines=False)
        self.form.border_title = Content.assemble(title, (f"  {about}" if about else "", MUTED))
        kind = "" if draft.profile.path else "not saved yet" if draft.is_new else "built in"
        changed = f"● {draft.unsaved} not saved" if draft.unsaved else ""
        elsewhere = "" if self.screen.has_class("-three") else "v outlook"
        self.form.border_subtitle = Content(" · ".join(part for part in (changed, kind, elsewhere) if part))
        notice, mismatch = self.query_one("#notice", Static), draft.mismatch()
        notice.display = bool(mismatch)
        notice.update(Content(f"✗ {clean(mismatch, newlines=False)}"))
        self._explain()

    @on(SettingLines.Moved)
    def _explain(self) -> None:
        draft, name = self.lines.draft, self.lines.setting
        if draft is not None and name in draft.stage.settings:
            self.query_one(Answers).show(draft, name)

    def enter(self) -> None:
        """Moves the focus here."""
        broken = self.query_one("#broken")
        self.screen.set_focus(broken if broken.display else self.lines, scroll_visible=False)

    def search(self) -> None:
        """Opens the input for words of a setting."""
        field = self.query_one("#search", Input)
        field.display = True
        self.screen.set_focus(field)  # at once: the next key may be for it already

    def again(self, by: int) -> None:
        """The next or the previous setting with the words searched for."""
        if words := self.query_one("#search", Input).value:
            self.lines.find(words, by=by)

    def back(self) -> bool:
        """From the search or the explanations to the form; False where that is already."""
        if self.lines.has_focus or not self.form.display or not self.has_focus_within:
            return False
        self._leave_search()
        return True

    @on(Input.Changed, "#search")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value and not self.lines.find(event.value, here=True):
            self.app.bell()

    @on(Input.Submitted, "#search")
    def _leave_search(self) -> None:
        self.query_one("#search").display = False
        self.screen.set_focus(self.lines, scroll_visible=False)
