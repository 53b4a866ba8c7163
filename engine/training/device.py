"""The device layer: cuda, mps and cpu behind one interface."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from engine.errors import UserError
from engine.process import LARGE_FOR_CPU, computes_bfloat16, cores

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Device:
    """Where tensors live and what it can do."""

    torch_device: torch.device

    @property
    def kind(self) -> str:
        """cuda, mps or cpu."""
        return self.torch_device.type

    def describe(self) -> str:
        """A name for people: the card's, or the processor's with its threads."""
        if self.kind == "cuda":
            return str(torch.cuda.get_device_name(self.torch_device))
        return "Apple GPU" if self.kind == "mps" else f"cpu ({platform.processor() or platform.machine()})"

    def has_bfloat16(self) -> bool:
        """Whether bfloat16 products are computed by the hardware."""
        if self.kind == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if self.kind == "mps":
            return True
        return computes_bfloat16()

    def memory_in_use(self) -> int:
        """Bytes: allocated on the card, or resident in this process."""
        if self.kind == "cuda":
            return int(torch.cuda.memory_allocated(self.torch_device))
        if self.kind == "mps":
            return int(torch.mps.current_allocated_memory())
        return int(psutil.Process().memory_info().rss)

    def reset_peak(self) -> bool:
        """Begins `peak_memory` anew; whether that could be done."""
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats(self.torch_device)
            return True
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
        except OSError:
            return False
        return self.kind == "cpu"

    def peak_memory(self) -> int:
        """Bytes at most since the process or `reset_peak`: taken from the card, or resident in this process."""
        if self.kind == "cuda":
            return int(torch.cuda.max_memory_reserved(self.torch_device))
        if self.kind == "mps":
            return int(torch.mps.driver_allocated_memory())
        if marked := _high_water_mark():
            return marked
        if resource is None:
            return int(psutil.Process().memory_info().peak_wset)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def synchronize(self) -> None:
        """Waits for the device, so that a clock tells the truth."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.kind == "mps":
            torch.mps.synchronize()


def _high_water_mark() -> int:
    """The peak resident memory as Linux tells it, which a new program in the process begins anew; else 0."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def pick_device(name: str) -> Device:
    """The device of that name; `auto` takes cuda, then mps, then cpu.

    Raises:
        UserError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        if "device type at start" in reason:
            reason = "there is no such device"
        raise UserError(f"device {name!r} cannot be used: {reason}", where="device", hint="try device=cpu") from error
    return Device(device)


def pick_dtype(name: str, device: Device, parameters: int) -> str:
    """The precision of computation that a run will really use.

    `auto` takes bfloat16 where the hardware has it and the model is large enough to gain (measured on a CPU: nothing
    at one million parameters), float16 on older cards, else float32. A bfloat16 that the hardware lacks becomes
    float32.
    """
    if name == "auto":
        if device.kind == "cuda" and not device.has_bfloat16():
            return "float16"
        worth_it = device.kind != "cpu" or parameters >= LARGE_FOR_CPU
        return "bfloat16" if worth_it and device.has_bfloat16() else "float32"
    if name == "bfloat16" and not device.has_bfloat16():
        return "float32"
    return name


def set_threads(count: int) -> int:
    """Sets torch's threads (0: all cores) and returns how many there are."""
    threads = count or cores()
    torch.set_num_threads(threads)
    return threads
