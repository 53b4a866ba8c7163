"""Out-of-memory errors in their real wordings, and memory given back."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from engine.exhaustion import Exhausted, exhausted, release

MIB, GIB = 1 << 20, 1 << 30
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="these limits and counters are Linux's")

WORDINGS = [
    # torch 2.13, Linux; the same words in reports since 2020
    ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
     "268435456 bytes. Error code 12 (Cannot allocate memory)", "cpu", 268435456),
    # torch on Windows, lllyasviel/Fooocus#237 and Comfy-Org/Nvidia_RTX_Nodes_ComfyUI#13
    (r"[enforce fail at ..\c10\core\impl\alloc_cpu.cpp:72] data. DefaultCPUAllocator: not enough memory: you tried to "
     "allocate 26214400 bytes.", "cpu", 26214400),
    ("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allocate "
     "31850496000 bytes.", "cpu", 31850496000),
    # torch mapping a file or shared memory, safetensors/safetensors#528
    ("unable to mmap 23802932552 bytes from file <./flux1-dev.safetensors>: Cannot allocate memory (12)",
     "cpu", 23802932552),
    ("std::bad_alloc", "cpu", None),
    # torch 2.0 and before, where the card's figures stand in brackets
    ("CUDA out of memory. Tried to allocate 8.13 GiB (GPU 0; 10.76 GiB total capacity; 643.57 MiB already allocated; "
     "8.20 GiB free; 32.43 MiB cached)", "cuda", round(8.13 * GIB)),
    # torch 2.1 and later, Wan-Video/Wan2.1#465
    ("CUDA out of memory. Tried to allocate 100.00 MiB. GPU 0 has a total capacity of 31.37 GiB of which 15.88 MiB is "
     "free. Including non-PyTorch memory, this process has 31.34 GiB memory in use. Of the allocated memory 30.74 GiB "
     "is allocated by PyTorch, and 19.41 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
     "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
     "cuda", 100 * MIB),
    ("CUDA out of memory. Tried to allocate 1024.00 KiB (GPU 0; 11.17 GiB total capacity)", "cuda", MIB),
    ("CUDA out of memory. Tried to allocate more than 1EB memory.", "cuda", None),
    ("HIP out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 23.98 GiB of which 0 bytes is "
     "free.", "cuda", 512 * MIB),
    # outside of torch's allocator; later versions raise it as AcceleratorError, also a RuntimeError
    ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
     "stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1", "cuda", None),
    ("CUDA driver error: out of memory", "cuda", None),  # with expandable segments, Robbyant/lingbot-map#29
    ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cuda", None),  # QwenLM/Qwen3#873
    ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "cuda", None),  # pytorch/pytorch#20123
    ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "cuda", None),  # cuDNN 9
    ("NCCL error in: NCCLUtils.hpp:275, unhandled cuda error\nncclUnhandledCudaError: Call to CUDA function failed.\n"
     "Last error:\nCuda failure 2 'out of memory'", "cuda", None),
    # later torch on a Mac, Comfy-Org/ComfyUI#8984
    ("MPS backend out of memory (MPS allocated: 15.72 GiB, other allocations: 2.41 MiB, max allowed: 18.13 GiB). Tried "
     "to allocate 5.81 GiB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory "
     "allocations (may cause system failure).", "mps", round(5.81 * GIB)),
    # torch up to 2.6, which writes GB for the same unit, Comfy-Org/ComfyUI#2489 and pinokiocomputer/pinokio#941
    ("MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB). Tried to "
     "allocate 768.00 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0", "mps", 768 * MIB),
    ("MPS backend out of memory (MPS allocated: 16.00 GB, other allocations: 3.31 GB, max allowed: 18.13 GB). Tried to "
     "allocate 256 bytes on shared pool.", "mps", 256),
    ("Invalid buffer size: 19.45 GB", "mps", round(19.45 * GIB)),  # pytorch/pytorch#141909
]  # fmt: skip


@pytest.mark.parametrize(("text", "device", "wanted"), WORDINGS)
def test_real_wordings(text: str, device: str, wanted: int | None) -> None:
    assert exhausted(RuntimeError(text)) == Exhausted(device, wanted, text.splitlines()[0])


def test_torch_s_own_class_needs_no_wording() -> None:
    """As torch's other allocator says it, cudaMallocAsync."""
    first = "Allocation on device 0 would exceed allowed memory. (out of memory)"
    rest = "\nCurrently allocated     : 9.43 GiB\nRequested               : 640.00 MiB"
    assert exhausted(torch.OutOfMemoryError(first + rest)) == Exhausted("cuda", 640 * MIB, first)
    of_mps = exhausted(torch.OutOfMemoryError("MPS backend out of memory (MPS allocated: 8.08 GiB)"))
    assert of_mps is not None
    assert of_mps.device == "mps"


@pytest.mark.parametrize(
    ("error", "wanted", "text"),
    [
        (MemoryError(), None, "MemoryError"),
        (MemoryError("std::bad_alloc"), None, "std::bad_alloc"),
        (MemoryError("Cannot allocate memory (os error 12)"), None, "Cannot allocate memory (os error 12)"),
        (MemoryError("Unable to allocate 201. GiB for an array with shape (2999, 2999, 2999) and data type int64"),
         201 * GIB, "Unable to allocate 201. GiB for an array with shape (2999, 2999, 2999) and data type int64"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), None, f"[Errno {errno.ENOMEM}] Cannot allocate memory"),
        (OSError("The paging file is too small for this operation to complete. (os error 1455)"), None,
         "The paging file is too small for this operation to complete. (os error 1455)"),
    ],
)  # fmt: skip
def test_python_s_and_numpy_s_own(error: Exception, wanted: int | None, text: str) -> None:
    assert exhausted(error) == Exhausted("cpu", wanted, text)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Pin memory thread exited unexpectedly"),  # torch.utils.data
        RuntimeError("could not create a primitive"),  # oneDNN says so for many reasons, pytorch/pytorch#143651
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Invalid buffer size: 0"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904]"),
        ValueError("the template needs too much memory: CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EAGAIN, "Resource temporarily unavailable"),
        KeyboardInterrupt(),
    ],
    ids=str,
)
def test_what_only_mentions_memory_is_something_else(error: BaseException) -> None:
    assert exhausted(error) is None


def caught(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_led_to_an_error_counts_unless_it_was_put_aside() -> None:
    def fails(*, because: bool = False, instead: bool = False) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            if because:
                raise KeyError("a") from error
            if instead:
                raise KeyError("a") from None
            raise KeyError("a")  # noqa: B904

    def twice() -> None:
        try:
            fails()
        except KeyError as error:
            raise ValueError("b") from error

    none_left = Exhausted("cpu", None, "MemoryError")
    assert exhausted(caught(fails)) == none_left
    assert exhausted(caught(lambda: fails(because=True))) == none_left
    assert exhausted(caught(twice)) == none_left
    assert exhausted(caught(lambda: fails(instead=True))) is None


def test_errors_that_led_to_each_other_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert exhausted(one) is None
    release(one)


def test_the_text_is_one_safe_line() -> None:
    found = exhausted(MemoryError("a\x1b[31m\tb\nc"))
    assert found is not None
    assert found.text == "a␛[31m␉b"


LIMITED = """
import json, os, resource, tempfile
import numpy, psutil, torch
from safetensors.torch import load_file, save_file
from engine.exhaustion import exhausted, release
path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
save_file({"a": torch.zeros(64 << 20)}, path)
room = 200 << 20
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room, resource.RLIM_INFINITY))
def layers():
    width = 2048
    kept = [torch.randn(width, width, requires_grad=True) for _ in range(4)]
    for _ in range(100):
        kept.append(torch.relu(kept[-1] @ kept[0]))
for work in (lambda: torch.empty(128 << 20), layers, lambda: numpy.ones((1 << 13, 1 << 13)),
             lambda: bytearray(room * 2), lambda: load_file(path), lambda: numpy.memmap(path, mode="r")):
    try:
        work()
    except BaseException as error:
        found = exhausted(error)
        release(error)
        print(json.dumps([type(error).__qualname__, found and [found.device, found.wanted_bytes]]))
"""


@linux_only
def test_real_errors_of_a_process_with_little_address_space(tmp_path: Path) -> None:
    """torch alone and in a chain of layers, numpy, Python, a file that is mapped; each after the last was released."""
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert [json.loads(line) for line in answer.stdout.splitlines()] == [
        ["RuntimeError", ["cpu", 4 * 128 * MIB]],
        ["RuntimeError", ["cpu", 16 * MIB]],
        ["_ArrayMemoryError", ["cpu", 512 * MIB]],
        ["MemoryError", ["cpu", None]],
        ["MemoryError", ["cpu", None]],
        ["OSError", ["cpu", None]],
    ]


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@linux_only
def test_release_gives_back_what_the_frames_of_an_error_hold() -> None:
    """Tensors of all sizes, in the frames of the error and of what led to it; also where a log keeps the traceback."""

    def inner() -> None:
        small = [torch.ones(16 * 1024) for _ in range(1000)]  # 64 KiB each: below malloc's mmap threshold
        raise MemoryError(len(small))

    def outer() -> None:
        large = [torch.ones(MIB) for _ in range(16)]
        try:
            inner()
        except MemoryError as error:
            also = torch.ones(18 * MIB)
            raise KeyError(len(large), len(also)) from error

    before = resident()
    error = caught(outer)
    held = resident() - before
    assert held > 190 * MIB
    logged = error.__traceback__
    release(error)
    assert logged is not None
    assert error.__traceback__ is None
    assert resident() - before < 20 * MIB
