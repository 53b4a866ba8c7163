"""What a piece of work allocates at its peak, and the peak of a run's largest optimizer step."""

import gc
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy, _profiler_enabled
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

from engine.memory.peak import StepPeak
from engine.memory.tracker import Tracker
from engine.training.precision import Precision
from engine.training.rehearsal import rehearse
from engine.training.stage import Stage

_MOMENTS = 2 * 4
"""Bytes of AdamW's state for a weight."""
_COUNTER = 4
"""And for a tensor: how many steps it took."""


def allocated_peak(work: Callable[[], None], device: torch.device) -> int | None:
    """Does some work and says how many bytes it had allocated at most, above what was there before.

    On a CPU every allocation of this thread's operators is written down, by torch's older profiler: it belongs to a
    thread, where two sessions of the newer one (Kineto) at the same time end the process. On a card it is what torch
    has handed out of its pool. On mps, where torch keeps no peak, the tensors that operators give are counted; what
    they work in meanwhile is not seen.

    Args:
        work: What to do. What it frees of earlier things does not count on a CPU.
        device: Where it computes.

    Returns:
        Bytes; None where somebody is profiling this thread already: then the work is done, and not measured.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before: int = torch.cuda.memory_allocated(device)
        work()
        peak: int = torch.cuda.max_memory_allocated(device) - before
        return peak
    if device.type == "mps":
        with Tracker() as tracker:
            work()
        return int(tracker.peak_bytes)
    if _profiler_enabled():
        work()
        return None
    gc.collect()  # what is freed within was allocated within
    _enable_profiler_legacy(
        ProfilerConfig(
            ProfilerState.CPU, report_input_shapes=False, profile_memory=True, with_stack=False, with_flops=False,
            with_modules=False, experimental_config=_ExperimentalConfig(),
        )
    )  # fmt: skip
    try:
        work()
    finally:
        threads = _disable_profiler_legacy()
    events = [event for thread in threads for event in thread if event.cpu_memory_usage()]
    live = peak = 0
    for event in sorted(events, key=threads[0][0].cpu_elapsed_us):
        live += event.cpu_memory_usage()
        peak = max(peak, live)
    return peak


def step_peak(stage: Stage, work: int) -> StepPeak:
    """The peak of a stage whose forward and backward pass allocate so much."""
    own = list(stage.modules.values())
    trained = {parameter for module in own for parameter in module.parameters() if parameter.requires_grad}
    weights = _bytes(own)
    return StepPeak(
        weights=weights,
        companions=_bytes([*own, *stage.companions()]) - weights,
        optimizer=sum(_MOMENTS * parameter.numel() + _COUNTER for parameter in trained),
        gradients=sum(parameter.nbytes for parameter in trained),
        work=work,
    )


def rehearsed_peak(stage: Stage, precision: Precision, device: torch.device) -> StepPeak | None:
    """Rehearses a run's largest step and measures it; None where that could not be measured. See `rehearse`."""
    work = allocated_peak(lambda: rehearse(stage, precision), device)
    return None if work is None else step_peak(stage, work)


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Of the storages that hold their weights, each counted once."""
    tensors: list[Tensor] = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
