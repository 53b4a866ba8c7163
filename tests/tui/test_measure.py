"""What `engine bench tui` is made of; no times are asserted."""

import asyncio
import os
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import EngineError
from engine.runs.events import CheckpointSaved, Step
from minimind_tui.measure import Figure, first_frame, painting, read, terminal
from minimind_tui.measure_run import _late, quantile, speed


def _step(time: float, step: int, tokens: int) -> Step:
    return Step(time=time, step=step, epoch=0.0, tokens=tokens, metrics={})


def test_speed_is_that_of_the_steps_within_the_span() -> None:
    events = [_step(1, 1, 100), _step(2, 2, 200), CheckpointSaved(time=2.5, step=2, path="", best=False, seconds=0),
              _step(4, 3, 500), _step(9, 4, 9000)]  # fmt: skip
    assert speed(events, 1.5, 5) == 150.0
    with pytest.raises(EngineError, match="too short"):
        speed(events, 3, 5)


def test_quantiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (51.0, 100.0, 7.0)


def test_targets_are_a_most_or_a_least() -> None:
    assert Figure("lag", "", 50, "ms", 50).met and not Figure("lag", "", 51, "ms", 50).met
    assert Figure("ratio", "", 0.98, "", 0.97, True).met and not Figure("ratio", "", 0.96, "", 0.97, True).met
    assert Figure("speed", "", 1, "tokens/s").met is None


def test_a_program_on_a_terminal_of_that_size(tmp_path: Path) -> None:
    script = "import os, sys; print(os.get_terminal_size(), os.environ['MINIMIND_HOME'], sys.stdout.isatty())"
    with terminal(["-c", script], tmp_path) as (process, end):
        shown = read(end, lambda shown: b"True" in shown, 30).decode()
    assert "columns=120, lines=40" in shown and str(tmp_path) in shown
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_the_first_frame_comes(tmp_path: Path) -> None:
    assert 0 < first_frame(1, tmp_path) < 60


def test_painting_is_measured_on_widgets_that_paint() -> None:
    found = painting(1)
    assert set(found) == {"token_paint", "token_scroll", "curve"} and all(value > 0 for value in found.values())


async def test_a_blocked_event_loop_is_late() -> None:
    async def block() -> None:
        import time

        await asyncio.sleep(0.05)
        time.sleep(0.1)

    late, _ = await asyncio.gather(_late(0.2), block())
    assert max(late) > 50


def test_the_verb_has_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["engine", "bench", "tui", "--help"])
    main()
    assert {"--busy", "--repeats", "--seconds", "--json"} <= set(capsys.readouterr().out.replace(",", " ").split())
