"""The token cache: a file's samples, encoded once, memory-mapped and shared by processes.

A cache is keyed by the content of the data, the tokenizer, the template and the settings, so it cannot be stale. It is
built in a folder of its own and appears by rename.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import DataError, EngineError
from engine.settings.places import cache_folder
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import open_records
from engine.text.store import Part, SampleStore, collect
from engine.text.tokenizer import Tokenizer

_VERSION = 1
_PARALLEL_BYTES = 8 << 20
"""Smaller files are encoded in this process: starting others would take longer."""


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
            "version": _VERSION,
            "data": _digest(self.data),
            "kind": self.data.name.split(".", 1)[-1],
            "tokenizer": tokenizer.fingerprint,
            "template": tokenizer.template_digest,
            "settings": asdict(self.settings),
            "mapping": dict(self.mapping),
            "max_rows": self.max_rows,
            "shapes": self.shapes,
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def load_samples(
    request: CacheRequest, tokenizer: Tokenizer, progress: Callable[[float], None] | None = None
) -> SampleStore:
    """The samples of a file, from the cache or encoded now.

    Raises:
        DataError: The file cannot be read or has no usable row.
    """
    folder = cache_folder() / "tokens" / request.key(tokenizer)
    if not (folder / "meta.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _build_lock(folder.with_suffix(".lock")):
            if not (folder / "meta.json").exists():
                _build(folder, request, tokenizer, progress)
    return SampleStore(folder)


def _build(folder: Path, request: CacheRequest, tokenizer: Tokenizer, progress: Callable[[float], None] | None) -> None:
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    try:
        parts = _parts(request, tokenizer, work, progress)
        if not any(part.usable for part in parts):
            raise _nothing_usable(request, parts)
        SampleStore.write(work / "store", parts, tokenizer.vocab_size)
        (work / "store").rename(folder)
    except OSError as error:
        raise EngineError(
            f"the token cache cannot be written: {error}", where=str(folder.parent), hint="free some disk space"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _nothing_usable(request: CacheRequest, parts: list[Part]) -> DataError:
    bad = [entry for part in parts for entry in part.quarantined]
    reason = f": line {bad[0].line}: {bad[0].reason}" if bad else ""
    return DataError(
        f"not one usable row of {' or '.join(request.shapes)} among {len(bad)}{reason}",
        where=str(request.data),
        hint="engine data audit lists every line with its reason; a mapping can name the columns",
    )


def _parts(
    request: CacheRequest, tokenizer: Tokenizer, work: Path, progress: Callable[[float], None] | None
) -> list[Part]:
    records = open_records(request.data, mapping=request.mapping, max_rows=request.max_rows or None)
    cores = os.cpu_count() or 1
    small = request.data.stat().st_size < _PARALLEL_BYTES or cores == 1
    chunks = records.chunks(1 if small else 4 * cores)
    if len(chunks) == 1:
        return [collect(records, Encoder(tokenizer, request.settings), request.shapes)]
    jobs: list[dict[str, Any]] = [
        {
            "data": str(request.data), "tokenizer": str(request.tokenizer), "settings": asdict(request.settings),
            "mapping": dict(request.mapping), "shapes": request.shapes, "chunk": chunk,
            "out": str(work / f"part-{number:04d}.npz"),
        }
        for number, chunk in enumerate(chunks)
    ]  # fmt: skip
    _run_jobs(jobs, cores, progress)
    return [Part.load(Path(job["out"])) for job in jobs]


def _run_jobs(jobs: list[dict[str, Any]], workers: int, progress: Callable[[float], None] | None) -> None:
    """Encodes chunks in processes of their own; a program of the user's needs no main guard for it."""
    waiting, lock, failures = list(reversed(jobs)), threading.Lock(), list[str]()

    def work() -> None:
        while not failures:
            with lock:
                if not waiting:
                    return
                job = waiting.pop()
            done = subprocess.run(
                [sys.executable, "-m", "engine.text.encode_worker"],
                input=json.dumps(job), text=True, capture_output=True, check=False,
            )  # fmt: skip
            if done.returncode:
                failures.append(done.stderr.strip()[-2000:] or f"the encoding process ended with {done.returncode}")
            elif progress:
                progress(1 - len(waiting) / len(jobs))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise DataError(f"encoding failed: {failures[0]}")


@contextmanager
def _build_lock(path: Path) -> Iterator[None]:
    """One process builds a cache; others wait for it."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes may build the same cache; the later rename loses nothing
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    """The digest of a file's content, remembered by its identity, size and times."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
    memo = cache_folder() / "digests" / hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    if memo.exists():
        return memo.read_text()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
    memo.parent.mkdir(parents=True, exist_ok=True)
    temporary = memo.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(digest)
    temporary.replace(memo)
    return digest


def data_fingerprint(path: Path) -> str:
    """The digest that names a data file's content in `environment.json`."""
    return _digest(path)
