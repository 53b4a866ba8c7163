"""The real step traced in a process of its own, with tensors that hold nothing. Torch-free."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engine
from engine.clean import clean
from engine.memory.peak import StepPeak
from engine.settings.profile import Settings

_SECONDS = 120.0


@dataclass(frozen=True)
class Traced:
    """What came of a trace.

    Attributes:
        peak: Of the largest step; None: there is no estimate.
        reason: Why there is none, in a line.
    """

    peak: StepPeak | None
    reason: str = ""


def trace(settings: Settings, run: Path | None = None, *, seconds: float = _SECONDS) -> Traced:
    """Traces the largest step of a run, on a CPU whatever its device. Takes seconds, whatever its size; never raises.

    Args:
        settings: The run's; `dtype` and `vocab_size` are decided, places are paths.
        run: The run's folder, if it was begun.
        seconds: After which it is given up.
    """
    job: dict[str, Any] = {"settings": settings.to_json(), "run": str(run) if run else None, "seconds": seconds}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "engine.session.trace_worker"],
            input=json.dumps(job),
            text=True,
            capture_output=True,
            timeout=seconds,
            cwd=Path(engine.__path__[0]).parent,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        return Traced(None, f"it took longer than {seconds:g} s")
    except OSError as error:
        return Traced(None, f"its process cannot be started: {error.strerror}")
    try:
        answer = json.loads(done.stdout)
        return Traced(StepPeak(**answer["peak"])) if "peak" in answer else Traced(None, clean(str(answer["error"])))
    except (ValueError, TypeError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return Traced(None, clean(f"its process ended with {done.returncode}: {last[0][:200]}"))
