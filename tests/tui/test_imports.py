"""What starting the app loads."""

import subprocess
import sys
from pathlib import Path

_FIRST_FRAME = """
import asyncio, sys
from minimind_tui.app import MinimindApp

def look(app):
    heavy = {"torch", "transformers", "plotext"} & set(sys.modules)
    print("heavy:", *sorted(heavy), file=sys.__stdout__)
    app.exit()

MinimindApp._after_first_frame = look
asyncio.run(MinimindApp().run_async(headless=True))
"""


def _python(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"MINIMIND_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def test_the_first_frame_needs_no_torch(tmp_path: Path) -> None:
    done = _python("-c", _FIRST_FRAME, home=tmp_path)
    assert done.stdout.strip() == "heavy:", done.stderr


def test_version_and_help_need_no_terminal(tmp_path: Path) -> None:
    assert "minimind-tui" in _python("-m", "minimind_tui", "--version", home=tmp_path).stdout
    assert "--starter" in _python("-m", "minimind_tui", "--help", home=tmp_path).stdout


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    done = _python("-m", "minimind_tui", home=tmp_path)
    assert done.returncode == 1
    assert "engine" in done.stderr


def test_the_wait_policy_is_set_before_anything_is_loaded(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom minimind_tui.__main__ import main\nsys.argv = ['minimind-tui', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    assert _python("-c", script, home=tmp_path).stdout.split()[-2:] == ["PASSIVE", "False"]
