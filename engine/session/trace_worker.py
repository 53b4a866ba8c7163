"""The process in which a run's largest step is traced: `python -m engine.session.trace_worker`.

It reads a JSON job from standard input and answers with a JSON line, `{"peak": …}` or `{"error": …}`. Torch may end it
or keep it for ever: whoever starts it waits only so long, and so does the process itself.
"""

import faulthandler
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from engine.clean import clean
from engine.errors import EngineError

_NICE = 5


def main() -> None:
    """Does the job."""
    job = json.load(sys.stdin)
    faulthandler.dump_traceback_later(job["seconds"], exit=True)
    _stand_back()
    print(json.dumps(answer(job)), flush=True)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """What comes of a job; torch raises whatever it likes where it cannot trace."""
    try:
        from engine.session.traced import traced_peak  # loads torch, which may need more room than there was

        return {"peak": asdict(traced_peak(job["settings"], job["run"]))}
    except EngineError as error:
        return {"error": f"{error.where}: {error.what}" if error.where else error.what}
    except Exception as error:
        return {"error": clean(f"{type(error).__name__}: {error}".splitlines()[0])}


def _stand_back() -> None:
    """Others come first; limits on memory that are meant for a run do not hold for what holds nothing."""
    try:
        import resource
    except ImportError:  # Windows
        return
    os.nice(_NICE)
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        with suppress(OSError, ValueError):
            most = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    main()
