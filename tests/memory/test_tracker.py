"""Memory counted from what operators give, against what the allocator saw."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.allocated import allocated_peak
from engine.memory.kernels import worked_in
from engine.memory.tracker import Tracker

CPU = torch.device("cpu")


def _counted(work: Callable[[], object]) -> Tracker:
    with Tracker(worked_in) as tracker:
        work()
    return tracker


def test_views_and_changes_in_place_take_nothing() -> None:
    kept: list[Tensor] = []
    tracker = _counted(lambda: kept.append(torch.ones(10, 100).t()[5:].mul_(2).add_(1)[3:]))
    assert (tracker.live_bytes, tracker.peak_bytes) == (4000, 4000)
    kept.clear()
    assert tracker.live_bytes == 0


def test_what_was_there_before_does_not_count() -> None:
    before = torch.ones(1000)
    tracker = _counted(lambda: before.add_(1).view(10, 100).t())
    assert (tracker.live_bytes, tracker.peak_bytes) == (0, 0)
    assert _counted(lambda: before + 1).peak_bytes == 4000


def test_it_counts_tensors_that_hold_nothing() -> None:
    with FakeTensorMode():
        tracker = _counted(lambda: torch.empty(1 << 40) * 2)  # four terabytes, and again
    assert tracker.peak_bytes == 8 << 40 and tracker.live_bytes == 0


def test_gradients_are_summed_as_where_nobody_watches() -> None:
    """Autograd sums them in place, but not under a tracker."""
    weight = torch.randn(100, 100, requires_grad=True)

    def work() -> None:
        ((weight * 2).sum() + (weight * 3).sum()).backward()
        weight.grad = None

    work()
    real = allocated_peak(work, CPU)
    assert real is not None and 80_000 <= real < 90_000
    assert _counted(work).peak_bytes == pytest.approx(real, abs=64)


KERNELS: dict[str, Callable[[], Tensor]] = {
    "logsumexp": lambda: torch.ones(100, 300).logsumexp(-1),
    "half added to whole": lambda: torch.ones(100, 300) + torch.ones(100, 300, dtype=torch.bfloat16),
    "in place": lambda: torch.ones(100, 300).add_(torch.ones(100, 300, dtype=torch.bfloat16)),
    "broadcast": lambda: torch.ones(100, 300) * torch.ones(300, dtype=torch.bfloat16),
    "a number": lambda: torch.ones(100, 300) * torch.tensor(2.0, dtype=torch.float64),
    "equal types": lambda: torch.ones(100, 300) * torch.ones(300),
    "a mask": lambda: torch.ones(100, 300) * (torch.ones(100, 300) > 0),
}


@pytest.mark.parametrize("work", KERNELS.values(), ids=KERNELS)
def test_what_operators_work_in(work: Callable[[], Tensor]) -> None:
    def measured() -> None:
        work()

    real = allocated_peak(measured, CPU)
    assert real is not None and _counted(work).peak_bytes == pytest.approx(real, abs=2000)
