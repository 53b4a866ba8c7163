from pathlib import Path

import pytest

from engine.files import write_whole


def test_a_text_is_replaced_whole_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "deep" / "a.toml", tmp_path / "link.toml"
    write_whole(path, "old")
    link.symlink_to(path)
    write_whole(link, "new\n")
    assert path.read_bytes() == b"new\n" and link.is_symlink()
    assert [each.name for each in path.parent.iterdir()] == ["a.toml"]


def test_what_cannot_be_written_leaves_the_old_text_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["a.toml"]
