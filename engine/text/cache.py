"""The token cache: a file's samples, encoded once, memory-mapped and shared by processes.

A cache is keyed by the content of the data, the tokenizer, the template, the settings and the code, so it cannot be
stale. It is built in a folder of its own and appears by rename.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tokenizers

import engine
from engine.errors import DataError, EngineError
from engine.process import cores
from engine.settings.places import cache_folder
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Quarantined, open_records
from engine.text.store import Part, SampleStore, collect
from engine.text.tokenizer import Tokenizer

_TICK = 0.2
"""Seconds between two calls of a progress function while other processes work; it may raise to end the wait."""
_PARALLEL_BYTES = 8 << 20
"""Smaller files are encoded in this process: starting others would take longer."""

_CHUNK_BYTES = 32 << 20
"""The most that one process encodes at a time: about a tenth of a gigabyte of samples."""

_FRESH_SECONDS = 2.0
"""A file that changed so recently could change again without its times showing it."""


@dataclass(frozen=True)
class CacheRequest:
    """What samples are wanted."""

    data: Path
    tokenizer: Path
    settings: EncodeSettings
    mapping: Mapping[str, str]
    max_rows: int = 0
    shapes: tuple[str, ...] = ("text", "conversation")
    """Shapes of records that are taken; rows of other shapes are quarantined."""

    def key(self, tokenizer: Tokenizer) -> str:
        """The name of the cache: a digest of everything that decides its content."""
        parts = {
            "code": _code_digest(),
            "data": _digest(self.data),
            "kind": self.data.suffixes[-2:],
            "tokenizer": tokenizer.fingerprint,
            "special": [tokenizer.special_tokens, sorted(tokenizer.stop_ids)],
            "template": tokenizer.template_digest,
            "settings": asdict(self.settings.without_idle_seed()),
            "mapping": dict(self.mapping),
            "max_rows": self.max_rows,
            "shapes": self.shapes,
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def cached_samples(request: CacheRequest, tokenizer: Tokenizer) -> SampleStore | None:
    """The samples of a file where they have been encoded before."""
    folder = cache_folder() / "tokens" / request.key(tokenizer)
    return SampleStore(folder) if folder.exists() else None


def load_samples(
    request: CacheRequest, tokenizer: Tokenizer, progress: Callable[[float], None] | None = None
) -> SampleStore:
    """The samples of a file, from the cache or encoded now.

    Raises:
        DataError: The file cannot be read or has no usable row.
    """
    folder = cache_folder() / "tokens" / request.key(tokenizer)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with build_lock(folder.with_suffix(".lock"), lambda: progress(0.0) if progress else None):
            if not folder.exists():
                _build(folder, request, tokenizer, progress)
    return SampleStore(folder)


def _build(folder: Path, request: CacheRequest, tokenizer: Tokenizer, progress: Callable[[float], None] | None) -> None:
    work = folder.with_suffix(".building")
    shutil.rmtree(work, ignore_errors=True)  # what a killed process left
    quarantined: list[Quarantined] = []
    usable = 0

    def watched(parts: Iterable[Part]) -> Iterator[Part]:
        nonlocal usable
        for part in parts:
            usable += part.usable
            quarantined.extend(part.quarantined)
            yield part

    try:
        work.mkdir()
        SampleStore.write(work / "store", watched(_parts(request, tokenizer, work, progress)), tokenizer.vocab_size)
        if not usable:
            raise _nothing_usable(request, quarantined)
        if folder.name != request.key(tokenizer):
            raise DataError("the file was changed while it was read", where=str(request.data), hint="start again")
        (work / "store").rename(folder)
    except OSError as error:
        raise EngineError(
            f"the token cache cannot be written: {error}", where=str(folder.parent), hint="free some disk space"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _nothing_usable(request: CacheRequest, bad: list[Quarantined]) -> DataError:
    reason = f": line {bad[0].line}: {bad[0].reason}" if bad else ""
    return DataError(
        f"not one usable row of {' or '.join(request.shapes)} among {len(bad)}{reason}",
        where=str(request.data),
        hint="engine data audit lists every line with its reason; a mapping can name the columns",
    )


def _parts(
    request: CacheRequest, tokenizer: Tokenizer, work: Path, progress: Callable[[float], None] | None
) -> Iterator[Part]:
    records = open_records(request.data, mapping=request.mapping, max_rows=request.max_rows or None)
    workers, size = cores(), request.data.stat().st_size
    chunks = records.chunks(1 if size < _PARALLEL_BYTES or workers == 1 else max(4 * workers, -(-size // _CHUNK_BYTES)))
    if len(chunks) == 1:
        yield from collect(records, Encoder(tokenizer, request.settings), request.shapes)
        return
    jobs: list[dict[str, Any]] = [
        {
            "data": str(request.data), "tokenizer": str(request.tokenizer), "settings": asdict(request.settings),
            "mapping": dict(request.mapping), "shapes": request.shapes, "chunk": chunk,
            "out": str(work / f"part-{number:05d}.npz"),
        }
        for number, chunk in enumerate(chunks)
    ]  # fmt: skip
    _run_jobs(jobs, workers, progress)
    rows = 0
    for job in jobs:
        part = Part.load(Path(job["out"]))
        part.shift_rows(rows)
        rows += part.parsed
        yield part


def _run_jobs(jobs: list[dict[str, Any]], workers: int, progress: Callable[[float], None] | None) -> None:
    """Encodes chunks in processes of their own; a program of the user's needs no main guard for it."""
    waiting, lock, failures = list(reversed(jobs)), threading.Lock(), list[str]()
    running: set[subprocess.Popen[str]] = set()
    done = 0

    def work() -> None:
        nonlocal done
        while True:
            with lock:
                if not waiting or failures:
                    return
                job = waiting.pop()
                # One thread a process: there is a process for each core.
                process = subprocess.Popen(
                    [sys.executable, "-m", "engine.text.encode_worker"], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    cwd=Path(engine.__path__[0]).parent, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
                )  # fmt: skip
                running.add(process)
            _, said = process.communicate(json.dumps(job))
            with lock:
                running.discard(process)
                if process.returncode:
                    failures.append(said.strip()[-2000:] or f"the encoding process ended with {process.returncode}")
                    continue
                done += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            if progress:
                progress(done / len(jobs))
            for thread in threads:
                thread.join(_TICK / len(threads))
    finally:  # interrupted: nobody waits for what they would write
        with lock:
            waiting.clear()
            for process in running:
                process.kill()
    if failures:
        raise EngineError(f"encoding failed: {failures[0]}")
    if progress:
        progress(1.0)


@contextmanager
def build_lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process builds a cache; others wait for it.

    Args:
        path: The file that is locked; it is made, and stays.
        waiting: Called now and then while another process builds; it may raise to wait no longer.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two processes may build the same cache; the later rename loses nothing
        yield
        return
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(_TICK)
        yield


def _digest(path: Path) -> str:
    """The digest of a file's content, remembered by its identity, size and times."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    settled = time.time() - max(status.st_mtime, status.st_ctime) > _FRESH_SECONDS
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
    memo = cache_folder() / "digests" / hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    if settled and memo.exists():
        return memo.read_text()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if not settled:
        return digest
    memo.parent.mkdir(parents=True, exist_ok=True)
    temporary = memo.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(digest)
    temporary.replace(memo)
    return digest


@functools.cache
def _code_digest() -> str:
    """A digest of the code that makes samples: a cache of another version is another cache."""
    digest = hashlib.blake2b(tokenizers.__version__.encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def data_fingerprint(path: Path) -> str:
    """The digest that names a data file's content in `environment.json`."""
    return _digest(path)
