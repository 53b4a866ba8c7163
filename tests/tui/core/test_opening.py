import os
import time
from pathlib import Path

import pytest

from minimind_tui.core.opening import open_folder


def test_the_desktop_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    for name in ("xdg-open", "open"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf %s "$1" > {asked}.new && mv {asked}.new {asked}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("minimind_tui.core.opening.sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert not open_folder(tmp_path / "run") and not asked.exists()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert open_folder(tmp_path / "run")
    until = time.monotonic() + 20
    while not asked.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert asked.read_text() == str(tmp_path / "run")
    monkeypatch.setattr("minimind_tui.core.opening.sys.platform", "darwin")
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")
    assert not open_folder(tmp_path / "run"), "over SSH a Mac's window would open where nobody sits"
