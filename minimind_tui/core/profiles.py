"""All profiles at a glance: by hardware, filtered by stage and words. Without Textual."""

import os
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from engine.errors import EngineError, UserError
from engine.settings.places import user_profiles
from engine.settings.profile import Profile, list_profiles, load_profile
from engine.settings.registry import STAGES
from minimind_tui.core.forms import Draft

OWN = "your own"
"""The family of profiles that the user wrote."""
_FIRST = "starter"
"""The family that needs nothing of the user's, and so stands first."""


@dataclass(frozen=True)
class Entry:
    """One profile of the list.

    Attributes:
        reference: Its name, or the path of a file elsewhere.
        family: What it is grouped under: the hardware, or the user's own.
        profile: What it holds; None where it cannot be read.
        problem: Why it cannot be read.
    """

    reference: str
    family: str
    profile: Profile | None
    problem: EngineError | None = None

    @property
    def label(self) -> str:
        """Its name within its family."""
        return self.reference if self.family == OWN else self.reference.removeprefix(f"{self.family}/")

    @property
    def stage(self) -> str:
        """The name of its stage; empty where it cannot be read."""
        return self.profile.stage.name if self.profile else ""

    @property
    def path(self) -> Path | None:
        """Its file; None for what is built in."""
        if self.profile is not None:
            return self.profile.path
        named = Path(self.reference)
        return named if named.suffix == ".toml" else user_profiles() / f"{self.reference}.toml"

    @property
    def title(self) -> str:
        """Its title, or what is wrong."""
        return self.profile.title if self.profile else self.problem.what if self.problem else ""


def read_entries(opened: Iterable[str] = ()) -> list[Entry]:
    """Reads every profile, and those opened by their path: by family, in the ladder's order, the user's own last."""
    entries = [read_entry(reference) for reference in dict.fromkeys((*list_profiles(), *opened))]
    order = list(STAGES)

    def rank(entry: Entry) -> tuple[bool, bool, str, int, str]:
        rung = order.index(entry.stage) if entry.stage else len(order)
        return entry.family == OWN, entry.family != _FIRST, entry.family, rung, entry.reference

    return sorted(entries, key=rank)


def read_entry(reference: str) -> Entry:
    """Reads one profile; what is wrong with it becomes part of the entry."""
    family = reference.rpartition("/")[0] or OWN
    try:
        profile = load_profile(reference)
    except EngineError as error:
        return Entry(reference, OWN, None, error)
    return Entry(reference, OWN if profile.path else family, profile)


def grouped(entries: Sequence[Entry], stage: str = "", words: str = "") -> list[tuple[str, list[Entry]]]:
    """The entries of a stage (empty: of all) that have every one of the words, by family."""
    wanted = words.casefold().split()

    def fits(entry: Entry) -> bool:
        text = f"{entry.reference} {entry.family} {entry.stage} {entry.title}".casefold()
        return stage in ("", entry.stage) and all(word in text for word in wanted)

    return [(family, list(of)) for family, of in groupby(filter(fits, entries), key=lambda entry: entry.family)]


def editor_command(path: Path) -> list[str]:
    """The user's editor on a file; empty where neither VISUAL nor EDITOR names one.

    Raises:
        UserError: The editor's command cannot be read, such as one with an open quote.
    """
    name = "VISUAL" if os.environ.get("VISUAL") else "EDITOR"
    editor = os.environ.get(name, "")
    try:
        return [*shlex.split(editor), str(path)] if editor.strip() else []
    except ValueError as error:
        reason = str(error).lower()
        raise UserError(
            f"the editor's command cannot be read: {reason}", where=f"{name}={editor}", hint=f"set {name} anew"
        ) from None


def heirs(entries: Iterable[Entry], path: Path) -> list[str]:
    """The profiles that extend a file, also by way of others."""
    parents = {
        entry.reference: (_parent(entry.profile), entry.profile.path)
        for entry in entries
        if entry.profile is not None and entry.profile.extends
    }
    found: list[str] = []
    above = {path.resolve()}
    while new := [name for name, (parent, _) in parents.items() if parent in above and name not in found]:
        found += new
        above |= {own.resolve() for name in new if (own := parents[name][1]) is not None}
    return found


def _parent(profile: Profile) -> Path:
    """The file of the user's that a profile extends, if there is one."""
    named = Path(profile.extends).expanduser()
    return (named if named.is_file() else user_profiles() / f"{profile.extends}.toml").resolve()


def free_name(draft: Draft, taken: Collection[str]) -> str:
    """A name for a copy that is not taken: a built-in profile's with dashes, with a number where need be."""
    base = f"my-{draft.stage.name}" if draft.is_new else draft.reference
    if Path(base).suffix == ".toml":
        base = Path(base).stem
    elif draft.profile.path is None:
        base = base.replace("/", "-")
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)
