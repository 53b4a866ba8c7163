"""How much memory tensors hold, counted as operators give them; no tensor need hold anything for it."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tracker(TorchDispatchMode):
    """Counts the storages that operators make within it, as long as they live. What was there before is not counted.

    Autograd sums gradients in place, but not where somebody watches: there the sum is made anew, and what it is made of
    is let go at once. So after a sum in a backward pass the peak is looked at when that has happened.

    Args:
        worked_in: Bytes that an operator with these arguments holds within itself; nothing if not given.

    Attributes:
        live_bytes: Now.
        peak_bytes: At most so far.
    """

    def __init__(self, worked_in: Callable[[Any, Sequence[Any]], int] = lambda func, args: 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes: int = 0
        self.peak_bytes: int = 0
        self._worked_in = worked_in
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs an operator, and counts what is new in what it gives."""
        self._look(0)
        found = func(*args, **(kwargs or {}))
        if func.is_view:
            return found
        self._known.update(_storages((args, kwargs)))
        for storage in _storages(found):
            if storage not in self._known:
                self._known.add(storage)
                self.live_bytes += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        if func is not torch.ops.aten.add.Tensor or torch._C._current_graph_task_id() < 0:
            self._look(self._worked_in(func, args))
        return found

    def _look(self, more: int) -> None:
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + more)

    def _let_go(self, size: int) -> None:
        self.live_bytes -= size


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor))
