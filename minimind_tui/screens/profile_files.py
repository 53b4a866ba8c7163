"""What the Profiles screen does with files: saving, copying, deleting, and the user's editor."""

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType

from engine.clean import clean
from engine.errors import EngineError, ProfileError, UserError
from engine.settings.profile import Profile
from engine.settings.registry import find_stage
from engine.settings.writing import save_profile, write_profile
from minimind_tui.core.forms import Draft, Entries, new_draft
from minimind_tui.core.profiles import Entry, editor_command, free_name, heirs
from minimind_tui.screens.area import Area
from minimind_tui.widgets.profiles.dialogs import ChoiceDialog, NameDialog, StageDialog

_NAMED = 8
"""Profiles that a question names at most."""


class ProfileFiles(Area):
    """A screen with a profile whose file can be written.

    Attributes:
        draft: What is shown in the form.
        broken: The profile shown instead, where it cannot be read.
        entries: All profiles.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "save", "Save", tooltip="Save the changes", id="profiles.save"),
        Binding("a", "save_as", "Save as", tooltip="Save a copy under a name", show=False, id="profiles.save_as"),
        Binding("c", "create", "New", tooltip="A new profile from a stage's defaults", show=False, id="profiles.new"),
        Binding("e", "editor", "Edit the file", tooltip="Open the file in $EDITOR", show=False, id="profiles.editor"),
        Binding("x", "delete", "Delete", tooltip="Delete a profile of your own", show=False, id="profiles.delete"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.draft: Draft | None = None
        self.broken: Entry | None = None
        self.entries: Sequence[Entry] = ()

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that would be lost."""
        return self.draft is not None and self.draft.unsaved > 0

    def show_draft(self, draft: Draft, setting: str = "") -> None:
        """Shows a draft, with the cursor on the named setting."""
        raise NotImplementedError

    def show_saved(self, reference: str) -> None:
        """Reads all profiles again and shows one of them; an empty reference: the first."""
        raise NotImplementedError

    def read_profiles(self) -> None:
        """Reads all profiles again."""
        raise NotImplementedError

    def enter_form(self) -> None:
        """Goes to the form."""
        raise NotImplementedError

    # Saving

    def leave_draft(self, then: Callable[[], None]) -> None:
        """Goes on at once, or asks first what becomes of the changes."""
        draft = self.draft
        if draft is None or not draft.unsaved:
            then()
            return

        def answered(answer: str | None) -> None:
            if answer == "s":
                self._save(then)
            elif answer == "d":
                draft.undo_all()
                then()

        count = f"{draft.unsaved} changes that are" if draft.unsaved != 1 else "a change that is"
        answers = {"s": "Save", "d": "Discard", "c": "Cancel"}
        self.mini.push_screen(ChoiceDialog("Unsaved", f"{draft.title} has {count} not saved.", answers), answered)

    def action_save(self) -> None:
        """Writes the changes into the profile's own file; of a built-in one a copy is made."""
        self._save(None)

    def _save(self, then: Callable[[], None] | None) -> None:
        draft = self.draft
        if draft is None or not self.is_usable(draft):
            return
        if draft.profile.path is None:
            self._save_as(draft, then)
        else:
            self._write_text(draft, draft.reference, draft.revised, partial(_write_own, draft.profile), then)

    def is_usable(self, draft: Draft) -> bool:
        """Whether a run could have the settings; says why not, and goes there."""
        if wrong := draft.unusable:
            self.show_draft(draft, wrong[0])
            self.notify(f"{wrong[0]} {clean(draft.problem(wrong[0]))}", severity="error", markup=False)
        elif said := draft.mismatch():
            self.notify(clean(said), severity="error", markup=False)
        else:
            return True
        return False

    def action_save_as(self) -> None:
        """Saves a copy under another name."""
        if self.draft is not None and self.is_usable(self.draft):
            self._save_as(self.draft, None)

    def _save_as(self, draft: Draft, then: Callable[[], None] | None) -> None:
        base = draft.base_of_copy
        why = f"It extends {base} and holds what differs only." if base else "It holds what differs from the defaults."
        if base and base == draft.reference:
            why = f"{base} is built in and stays as it is. The copy extends it and holds what differs only."

        def named(answer: tuple[str, str] | None) -> None:
            if answer is not None:
                name, title = answer
                self._write_text(draft, name, lambda: draft.copied(title), lambda text: save_profile(name, text), then)

        suggestion = free_name(draft, [entry.reference for entry in self.entries])
        self.mini.push_screen(NameDialog(why, suggestion, draft.profile.title), named)

    def _write_text(
        self,
        draft: Draft,
        reference: str,
        make: Callable[[], str],
        write: Callable[[str], object],
        then: Callable[[], None] | None,
    ) -> None:
        """Makes the text at once, for the draft may change while a thread writes it."""
        try:
            text = make()
        except EngineError as error:
            self.mini.show_error(error)
        else:
            written = draft.asked

            def done() -> None:
                self._written(draft, written, reference, then)

            self._write(lambda: write(text), done)

    @work(thread=True, group="save", exit_on_error=False)
    def _write(self, write: Callable[[], object], done: Callable[[], None]) -> None:
        try:
            write()
        except EngineError as error:
            self.app.call_from_thread(self.mini.show_error, error)
        else:
            self.app.call_from_thread(done)

    def _written(self, draft: Draft, written: Entries, reference: str, then: Callable[[], None] | None) -> None:
        self.notify(f"saved: {clean(reference, newlines=False)}", markup=False)
        draft.mark_saved(written)
        draft.reference = reference
        if draft is self.draft and (then is None or draft.unsaved):  # changed meanwhile: one stays with it
            self.show_saved(reference)
            return
        self.read_profiles()
        if then is not None:
            then()

    # Files

    def action_create(self) -> None:
        """A new profile from a stage's defaults."""

        def chosen(stage: str | None) -> None:
            if stage is not None:
                self.show_draft(new_draft(find_stage(stage)))
                self.enter_form()

        def ask() -> None:
            self.mini.push_screen(StageDialog(), chosen)

        self.leave_draft(ask)

    def _own_file(self) -> Path | None:
        """The file of the profile shown, if it is the user's; says so where it is not."""
        if self.broken is not None:
            return self.broken.path
        if self.draft is None or self.draft.profile.path is None:
            is_new = self.draft is not None and self.draft.is_new
            self.notify("It has no file yet: w saves it." if is_new else "Built in: a saves a copy of your own.")
            return None
        return self.draft.profile.path

    def action_delete(self) -> None:
        """Deletes a profile of the user's, after asking."""
        if (path := self._own_file()) is None:
            return

        def answered(answer: str | None) -> None:
            if answer == "y":
                self._delete(path)

        question = f"Delete {path}?\nRuns keep their own copy of the profile."
        if names := heirs(self.entries, path):
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            question += f"\nWhat extends it cannot be read without it: {', '.join(names[:_NAMED])}{more}."
        self.mini.push_screen(ChoiceDialog("Delete", question, {"y": "Delete", "c": "Cancel"}), answered)

    @work(thread=True, group="save", exit_on_error=False)
    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            wrong = ProfileError(f"the profile cannot be deleted: {error.strerror}", where=str(path))
            self.app.call_from_thread(self.mini.show_error, wrong)
        else:
            self.app.call_from_thread(self._deleted, path)

    def _deleted(self, path: Path) -> None:
        self.notify(f"deleted: {clean(path.name, newlines=False)}", markup=False)
        self.draft = self.broken = None
        self.entries = [entry for entry in self.entries if entry.path != path]
        self.show_saved("")

    def action_editor(self) -> None:
        """Opens the profile's file in the user's editor, and reads it again afterwards."""
        if (path := self._own_file()) is None:
            return
        if self.unsaved:
            self.notify("Save (w) or take back (U) the changes here first.", severity="warning")
            return
        try:
            command = editor_command(path)
        except UserError as error:
            self.mini.show_error(error)
            return
        if not command:
            self.notify("Neither VISUAL nor EDITOR names an editor.", severity="warning")
        else:
            try:
                with self.app.suspend():
                    subprocess.run(command, check=False)
            except SuspendNotSupported:
                hint = "open the file in another terminal"
                self.mini.show_error(UserError("the editor cannot be run here", where=str(path), hint=hint))
            except OSError as error:
                wrong = ProfileError(f"the editor cannot be started: {error.strerror}", where=command[0])
                self.mini.show_error(wrong)
            self.show_saved(self.draft.reference if self.draft else self.broken.reference if self.broken else "")


def _write_own(profile: Profile, text: str) -> None:
    """Writes a profile's own file, unless another program has changed it meanwhile.

    Raises:
        ProfileError: It was changed, or cannot be written.
    """
    path = profile.path
    assert path is not None
    try:
        now = path.read_text(encoding="utf-8") if path.exists() else profile.source
    except (OSError, UnicodeDecodeError):
        now = ""
    if now != profile.source:
        raise ProfileError(
            "the file was changed by another program since it was read",
            where=str(path),
            hint="save under another name (a), or take the changes back (U) and open it again",
        )
    write_profile(path, text)
