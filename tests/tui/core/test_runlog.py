from pathlib import Path

from minimind_tui.core import runlog


def test_a_short_log_is_shown_whole_and_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\n\x1b[2Jtwo \xff\n")
    assert runlog.log_tail(path) == "one\n␛[2Jtwo �\n"


def test_of_a_long_log_the_last_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(40_000)))
    text = runlog.log_tail(path)
    assert text.startswith("(") and "bytes before this" in text.partition("\n")[0]
    assert text.endswith("line 39999\n") and text.split("\n")[1].startswith("line ")
