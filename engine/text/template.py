"""Chat templates: known ones render here, any other in a process that can be limited and killed."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import engine
from engine.errors import DataError
from engine.text.rendering import RenderRequest, compile_template, explain, render_all

__all__ = ["ChatTemplate", "RenderRequest", "TemplateFailure", "project_template"]

ROW_SECONDS = 1.0
"""The wall time that the rendering of one row may take in the worker."""

_START_SECONDS, _COMPILE_SECONDS = 60.0, 5.0

_FIELDS = tuple(field.name for field in dataclasses.fields(RenderRequest))

_KNOWN = frozenset(
    {
        "97c6a9ef3f8d35044f435bb7773f1af160a7328ab6e8d2e9d67702941320a711",  # MiniMind-3
        "4f57494cd38c0e4e50e27f4632fb6907414a68cc48d0bbc48da5449c596c69fa",  # MiniMind2
        "d98e9c48d59b25d43a76525902414f17470dfade4d6d60085a8862c11d48f0d5",  # MiniMind2, until October 2025
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",  # SmolLM2-Instruct
        "cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f",  # Qwen2.5-Instruct
        "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8",  # Qwen3
    }
)
"""Digests of templates that were read and found harmless."""


class TemplateFailure(DataError):
    """A template could not render a row: it refused, failed, took too long or needed too much memory."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the chat template cannot render the row: {reason}")
        self.reason = reason


@functools.cache
def project_template() -> str:
    """The project's own template, ChatML with thinking and tools."""
    return Path(__file__).with_name("chatml.jinja").read_text(encoding="utf-8")


class ChatTemplate:
    """A chat template, rendered as transformers renders it but for the date, which is frozen.

    Safe to use from several threads.

    Args:
        source: The jinja source.
        special_tokens: Name (`bos_token`, …) → text, as the template may use them.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self.digest = hashlib.sha256(source.encode()).hexdigest()
        """SHA-256 of the source."""
        self.known = self.digest in _KNOWN or source == project_template()
        """Whether the template was read and found harmless, so that it renders in this process."""
        self._special_tokens = dict(special_tokens)
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._broken: TemplateFailure | None = None

    def render(self, requests: Sequence[RenderRequest]) -> list[str]:
        """Renders the requests of one row, which share one limit of time, memory and length.

        Raises:
            TemplateFailure: The template could not; says why.
        """
        if not self.known:
            return self._render_outside(requests)
        try:
            return render_all(self._compiled, self._special_tokens, requests)
        except Exception as error:
            raise TemplateFailure(explain(error)) from error

    def close(self) -> None:
        """Ends the worker process, if one is running; a later `render` starts another."""
        with self._lock:
            self._stop()

    @functools.cached_property
    def _compiled(self) -> Any:
        return compile_template(self.source)

    def _render_outside(self, requests: Sequence[RenderRequest]) -> list[str]:
        try:
            row = json.dumps({"requests": [{name: getattr(each, name) for name in _FIELDS} for each in requests]})
        except (RecursionError, TypeError, ValueError) as error:
            raise TemplateFailure(explain(error)) from error
        with self._lock:
            if self._broken is not None:
                raise TemplateFailure(self._broken.reason)
            # A forked child must not share its parent's pipes.
            if self._worker is None or self._worker.owner != os.getpid():
                self._worker = self._start()
            try:
                answer = self._worker.ask(row, ROW_SECONDS)
            except TemplateFailure:
                self._stop()
                raise
        if "error" in answer:
            raise TemplateFailure(answer["error"])
        texts: list[str] = answer["texts"]
        return texts

    def _start(self) -> "_Worker":
        """A worker that holds the template; a template that cannot be compiled is not tried again."""
        worker = _Worker()
        order = json.dumps({"source": self.source, "special_tokens": self._special_tokens})
        try:
            answer = worker.ask(order, _COMPILE_SECONDS)
            if "error" in answer:
                raise TemplateFailure(answer["error"])
        except TemplateFailure as failure:
            worker.stop()
            self._broken = failure
            raise
        return worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


class _Worker:
    """One process of `engine.text.template_worker`, up and waiting."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.text.template_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(engine.__path__[0]).parent,
        )
        self.stop = weakref.finalize(self, _end, self._process, self.owner)
        """Kills the process; happens by itself when the worker is forgotten or the program ends."""
        self._read(_START_SECONDS, b"")

    def ask(self, order: str, seconds: float) -> dict[str, Any]:
        """Sends an order (one line of JSON) and waits for the answer.

        Raises:
            TemplateFailure: The process did not answer in time, or died; it is of no more use.
        """
        return self._read(seconds, order.encode() + b"\n")

    def _read(self, seconds: float, sent: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        # Killing the process ends a blocked write or read on every platform, which no timeout on a pipe does.
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            self._process.stdin.write(sent)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        timer.cancel()
        timer.join()
        if late.is_set():
            raise TemplateFailure(f"it took longer than {seconds:g} s")
        if not line.endswith(b"\n"):
            raise TemplateFailure("its process died, perhaps for lack of memory")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked copy of the handle: the process is the parent's
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):  # what was still to be written to a dead process
            pipe.close()
    process.wait()
