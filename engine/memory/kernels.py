"""What torch's operators for CPUs work in beside what they give, where that may decide a peak.

Found by comparing traces with what the allocator saw, torch 2.13. What oneDNN takes to pack half-precision matrices is
left out: it depends on the processor, and is less than what is made of the product.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
_MIXING = frozenset({
    _aten.add.Tensor, _aten.add_.Tensor, _aten.sub.Tensor, _aten.sub_.Tensor, _aten.mul.Tensor, _aten.mul_.Tensor,
    _aten.div.Tensor, _aten.div_.Tensor,
})  # fmt: skip


def worked_in(func: Callable[..., Any], args: Sequence[Any]) -> int:
    """Bytes that an operator holds within itself at most.

    Args:
        func: The operator's overload, below autograd and autocast.
        args: What it is given.
    """
    if func is _aten.logsumexp.default:  # exp(x − max)
        return int(args[0].nbytes)
    if func in _MIXING:  # operands of another type are cast whole
        tensors = [value for value in args if isinstance(value, Tensor) and value.ndim]
        kind = reduce(torch.promote_types, [tensor.dtype for tensor in tensors], torch.bool)
        return sum(tensor.numel() * kind.itemsize for tensor in tensors if tensor.dtype != kind)
    return 0
