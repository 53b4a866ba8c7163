"""Memory that ran out: the error recognised in all its wordings, and what it keeps alive given back."""

import errno
import gc
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from engine.allocator import trim
from engine.clean import clean

_WORDINGS: dict[str, re.Pattern[str]] = {
    "mps": re.compile(r"MPS backend out of memory|Invalid buffer size: [\d.]+ [KMGT]i?B"),
    "cuda": re.compile(
        "(CUDA|HIP)( driver)?( error:)? out of memory|Cuda failure [0-9 ]*'out of memory'"
        r"|(CUBLAS|CUDNN)_STATUS_\w*ALLOC(ATION)?_FAILED"
    ),
    "cpu": re.compile(
        "DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc"
        r"|Cannot allocate memory \((os error )?12\)|(os error|WinError) 1455"
    ),
}
"""How torch and what it calls say it in a RuntimeError. 1455: Windows, where the paging file is too small."""
_WANTED = re.compile(r"(?:allocate|mmap|buffer size:|Requested +:) (\d+(?:\.\d*)?) ?(bytes|([KMGTPE])i?B)\b")
_POWERS = " KMGTPE"


@dataclass(frozen=True)
class Exhausted:
    """An error that means: no memory left.

    Attributes:
        device: Where: `cpu`, `cuda` or `mps`.
        wanted_bytes: What was to be allocated; None where the error does not say.
        text: The error's first line, or its class where it has no text; safe for a terminal.
    """

    device: str
    wanted_bytes: int | None
    text: str


def exhausted(error: BaseException) -> Exhausted | None:
    """Recognises an error that means that memory ran out, be it the error itself or what led to it; else None."""
    for each in _chain(error):
        device = _device(each)
        if device:
            text = str(each).strip() or type(each).__name__
            return Exhausted(device, _wanted(text), clean(text.splitlines()[0], newlines=False))
    return None


def release(error: BaseException) -> None:
    """Gives back what an error keeps alive: the variables of the frames that it went through, and the caches above.

    Frames that are still running keep theirs: call it from outside of the work that failed. Tracebacks are gone
    afterwards, so log them first.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            each.__traceback__ = None
            waiting += [other for other in (each.__cause__, each.__context__) if other]
    gc.collect()
    if torch := sys.modules.get("torch"):
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
    trim()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what a traceback would show as having led to it."""
    each: BaseException | None = error
    seen = set[int]()
    while each and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _device(error: BaseException) -> str | None:
    """The device that has no memory left, by this very error."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "cpu"
    if not isinstance(error, RuntimeError | OSError):
        return None
    text = str(error)
    named = next((device for device, wording in _WORDINGS.items() if wording.search(text)), None)
    of_torch = any(base.__name__ == "OutOfMemoryError" and base.__module__ == "torch" for base in type(error).__mro__)
    return named or ("cuda" if of_torch else None)


def _wanted(text: str) -> int | None:
    """The first size in the text that was to be allocated; all who say GB there count in powers of 1024."""
    found = _WANTED.search(text)
    return round(float(found[1]) * 1024 ** _POWERS.index(found[3] or " ")) if found else None
