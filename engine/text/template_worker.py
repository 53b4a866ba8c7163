"""The process in which unknown chat templates render: `python -m engine.text.template_worker`.

Speaks JSON lines. It says `{}` when it is up. The first line it reads is `{"source", "special_tokens"}`, answered by
`{}` or `{"error"}`; every further one is `{"requests": […]}`, one row, answered by `{"texts": […]}` or `{"error"}`.
It ends when its input ends, and when one line takes far too long, whether or not anyone is there to kill it.
"""

import contextlib
import faulthandler
import json
import signal
import sys
from typing import Any

from jinja2 import Template

from engine.text.rendering import RenderRequest, compile_template, explain, render_all

MEMORY_LIMIT = 2**30
"""Address space, in bytes, where the platform can limit it."""

_LAST_RESORT = 20.0
"""Seconds after which a line ends the process from within: an orphan must not spin for ever."""


def main() -> None:
    """Serves one template until the input ends."""
    _limit_memory()
    # Ctrl-C goes to the whole foreground group, but it is the parent that decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _answer({})
    template: Template | None = None
    special_tokens: dict[str, str] = {}
    for line in sys.stdin.buffer:
        faulthandler.dump_traceback_later(_LAST_RESORT, exit=True)
        try:
            order = json.loads(line)
            if template is None:
                template, special_tokens = compile_template(order["source"]), order["special_tokens"]
                _answer({})
            else:
                requests = [RenderRequest(**request) for request in order["requests"]]
                _answer({"texts": render_all(template, special_tokens, requests)})
        except MemoryError:
            _answer({"error": "the template needs too much memory"})
        except Exception as error:
            _answer({"error": explain(error)})
        faulthandler.cancel_dump_traceback_later()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit alone has to do
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
