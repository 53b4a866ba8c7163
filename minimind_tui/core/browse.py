"""Files to choose from: what stands in a folder, what was open before, the starter world."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.text.starter import STARTER_FILES

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".md", ".csv", ".parquet")
"""What data files are called, each also with .gz behind it."""

STARTER = "starter:"
CHOOSE_FOLDER = "choose this folder"
UNUSABLE = (OSError, RuntimeError, ValueError)
"""What looking up a typed path may raise: the name is too long, a folder may not be searched, there is no such user."""
_MOST_ENTRIES = 2000
_MOST_RECENT = 12


@dataclass(frozen=True)
class Entry:
    """Something to choose.

    Attributes:
        reference: What is opened: a path, or `starter:NAME`.
        name: What is shown of it; a folder's ends with a slash.
        note: What is known of it, such as its size.
        size: Bytes, of files.
    """

    reference: str
    name: str
    note: str = ""
    size: int | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is walked into, not chosen."""
        return self.name.endswith("/") and self.note != CHOOSE_FOLDER


def found_at(typed: str | Path) -> Literal["file", "folder", ""]:
    """What stands at a path that was typed; empty for nothing, and where it cannot be looked up."""
    try:
        path = Path(typed).expanduser()
        return "folder" if path.is_dir() else "file" if path.is_file() else ""
    except UNUSABLE:
        return ""


def reason(error: Exception) -> str:
    """Why a path is `UNUSABLE`, in words; uncleaned."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_data(name: str) -> bool:
    """Whether a file's name is that of a data file."""
    return name.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)


def entries(folder: Path, *, everything: bool = False) -> list[Entry]:
    """The folders and data files in a folder, folders first; hidden ones are left out.

    Args:
        folder: The folder.
        everything: All files, not only those that are called like data.

    Raises:
        OSError: The folder cannot be read.
    """
    folders, files = [], []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(Entry(entry.path, f"{entry.name}/"))
            elif everything or is_data(entry.name):
                files.append(Entry(entry.path, entry.name, size=_size(entry)))
    ordered = [*sorted(folders, key=_by_name), *sorted(files, key=_by_name)]
    parent = [] if folder.parent == folder else [Entry(str(folder.parent), "../", "the folder above")]
    return [*parent, *ordered[:_MOST_ENTRIES]]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing
        return None


def _by_name(entry: Entry) -> str:
    return entry.name.casefold()


def starter_entries() -> list[Entry]:
    """The files of the starter world, which are written when one of them is opened first."""
    return [Entry(STARTER + file.name, STARTER + file.name, file.purpose) for file in STARTER_FILES]


def listing(
    typed: str, *, recent: Sequence[str] = (), starter: bool = False, folders: bool = False, everything: bool = False
) -> list[Entry]:
    """What fits the path typed so far; for an empty one, what was chosen before, the starter world, and where to go.

    Args:
        typed: A path, whose last part may be a piece of a name.
        recent: Paths that were chosen before.
        starter: Offer the starter world.
        folders: Offer the folder itself first.
        everything: All files, not only those that are called like data.

    Raises:
        UNUSABLE: The path cannot be looked up, or the folder cannot be read.
    """
    if typed.startswith(STARTER) and starter:
        return [entry for entry in starter_entries() if typed in entry.reference]
    if not typed:
        before = [Entry(path, _short(path), "opened before") for path in recent]
        here = [Entry(str(Path.cwd()), f"{_short(str(Path.cwd()))}/", "this folder")]
        mine = [Entry(str(Path.home()), "~/", "your folder")]
        return [*before, *here, *mine, *(starter_entries() if starter else [])]
    folder, begin = _parts(typed)
    folder = folder.resolve()
    if not folder.is_dir():
        return []
    found = entries(folder, everything=everything)
    piece = begin.casefold()
    fitting = [entry for entry in found if piece in entry.name.casefold() and (not begin or entry.name != "../")]
    return [Entry(str(folder), "./", CHOOSE_FOLDER), *fitting] if folders and not begin else fitting


def _parts(typed: str) -> tuple[Path, str]:
    """The folder of a path that is being typed, and the piece of a name behind it."""
    path = Path(typed).expanduser()
    return (
        (path, "") if typed.endswith("/") or typed.rpartition("/")[2] in ("~", "..", ".") else (path.parent, path.name)
    )


def _short(path: str) -> str:
    """A path with the user's folder as `~`."""
    home = str(Path.home())
    return "~" + path[len(home) :] if path == home or path.startswith(home + os.sep) else path


def complete(typed: str, *, everything: bool = False) -> str:
    """The longest beginning that all paths starting with what was typed have in common; as typed where none does."""
    if typed.startswith(STARTER):
        return _common(typed, [entry.reference for entry in starter_entries()])
    try:
        folder, begin = _parts(typed)
        found = entries(folder, everything=everything)
    except UNUSABLE:
        return typed
    head = typed[: len(typed) - len(begin)] if begin else typed
    return head + _common(begin, [entry.name for entry in found if entry.name != "../"])


def _common(begin: str, names: Sequence[str]) -> str:
    fitting = [name for name in names if name.startswith(begin)]
    shared = min(fitting, key=len, default=begin)
    while not all(name.startswith(shared) for name in fitting):
        shared = shared[:-1]
    return shared


def with_recent(recent: Sequence[str], path: str) -> list[str]:
    """The files opened last, the newest first, with another one in front."""
    return [path, *[other for other in recent if other != path]][:_MOST_RECENT]
