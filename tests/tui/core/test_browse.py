"""Files to choose from."""

from contextlib import suppress
from pathlib import Path

import pytest

from minimind_tui.core.browse import UNUSABLE, complete, entries, found_at, listing, with_recent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Beta.jsonl", "alpha.jsonl.gz", "alps.txt", "model.bin", ".hidden.jsonl"):
        (tmp_path / name).write_text("x" * 10)
    (tmp_path / "alpine").mkdir()
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    return tmp_path


def names(typed: str, **options: bool) -> list[str]:
    return [entry.name for entry in listing(typed, **options)]


def test_a_folder_lists_folders_first_and_only_data(folder: Path) -> None:
    assert [entry.name for entry in entries(folder)] == [
        "../", "alpine/", "alpha.jsonl.gz", "alps.txt", "Beta.jsonl", "gone.csv"]  # fmt: skip
    assert "model.bin" in [entry.name for entry in entries(folder, everything=True)]
    assert entries(folder)[2].size == 10 and entries(folder)[-1].size is None


def test_what_is_typed_narrows_the_list(folder: Path) -> None:
    assert names(f"{folder}/ALP") == ["alpine/", "alpha.jsonl.gz", "alps.txt"]
    assert names(f"{folder}/alpine/..") == names(f"{folder}/")
    assert names(f"{folder}/", folders=True)[:2] == ["./", "../"]
    assert names(f"{folder}/nowhere/x") == []


def test_completion_goes_as_far_as_it_is_clear(folder: Path) -> None:
    assert complete(f"{folder}/al") == f"{folder}/alp"
    assert complete(f"{folder}/B") == f"{folder}/Beta.jsonl"
    assert complete(f"{folder}/alpi") == f"{folder}/alpine/"
    assert complete(f"{folder}/zzz") == f"{folder}/zzz"
    assert complete("starter:dp") == "starter:dpo"
    assert complete("/no/such/folder/x") == "/no/such/folder/x"


@pytest.mark.parametrize("typed", ["~nobody-of-this-name/x", f"/{'x' * 300}/x", "/tmp/a\0b/x"])
def test_a_path_that_cannot_be_looked_up_is_nothing(typed: str) -> None:
    assert found_at(typed) == "" and complete(typed) == typed
    with suppress(UNUSABLE):
        assert listing(typed) == []


def test_a_folder_that_may_not_be_searched_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", lambda path, **options: refuse(path))
    assert found_at("/root/x") == ""


def test_what_stands_at_a_path(folder: Path) -> None:
    assert found_at(folder) == "folder" and found_at(f"{folder}/alps.txt") == "file"
    assert found_at(folder / "gone.csv") == found_at(folder / "none") == ""


def test_a_link_to_itself_hides_no_neighbour(folder: Path) -> None:
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    assert {"alps.txt", "loop.txt"} <= {entry.name for entry in entries(folder)}


def test_an_empty_line_offers_what_was_open_and_the_starter_world() -> None:
    offered = listing("", recent=["/a/b.jsonl"], starter=True)
    assert offered[0].reference == "/a/b.jsonl"
    assert "starter:sft.jsonl" in [entry.reference for entry in offered]
    assert names("starter:eval", starter=True) and not names("starter:nothing", starter=True)


def test_recent_files_are_unique_and_few() -> None:
    recent: list[str] = []
    for number in range(30):
        recent = with_recent(recent, f"/{number % 20}")
    assert recent[0] == "/9" and len(recent) == len(set(recent)) == 12
