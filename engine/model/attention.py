"""Which token sees which. The transformer asks an `Attention`; documents of a flat batch never see each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.grouping import EXPLICIT_LIMIT, EXPLICIT_SCORES, Group, group_documents


class Attention(Protocol):
    """Mixes values along the documents of a flat batch; the transformer calls it once a layer."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
        """Attends.

        Args:
            layer: Index of the calling layer, from 0.
            q: [N, heads, head_dim], rotated.
            k: [N, key_value_heads, head_dim], rotated.
            v: [N, key_value_heads, head_dim].
            dropout_p: Share of attention weights to drop; 0 outside training.

        Returns:
            [N, heads, head_dim] in the dtype of `q`.
        """
        ...


def causal(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """Causal attention over documents of one length; the key-value heads are shared, never repeated (GQA).

    Up to `EXPLICIT_LIMIT` tokens in bf16 on a CPU the scores are written out (in bf16, as any eager attention does):
    torch's fused CPU kernel took 2 to 9 times as long there. Measured with 1 thread on AVX-512, forward and backward:
    16 × 32 tokens with 6 heads of 32: 5.5 against 0.6 ms; 8 × 340 with 8 heads of 96: 106 against 41 ms. From about
    1,000 tokens on, and in fp32, both are equally fast, and the fused kernel keeps no scores.

    Args:
        q: [documents, length, heads, head_dim].
        k: [documents, length, key_value_heads, head_dim].
        v: The same.
        dropout_p: Share of attention weights to drop.

    Returns:
        [documents, length, heads, head_dim].
    """
    documents, length, heads, _ = q.shape
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and length <= EXPLICIT_LIMIT:
        together = max(1, EXPLICIT_SCORES // (heads * length**2))
        if documents <= together:
            return _explicit(q, k, v, dropout_p)
        parts = zip(torch.split(q, together), torch.split(k, together), torch.split(v, together), strict=True)
        return torch.cat([_explicit(part_q, part_k, part_v, dropout_p) for part_q, part_k, part_v in parts])
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    grouped = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=True, enable_gqa=grouped)
    return mixed.transpose(1, 2)


def _explicit(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """`causal` by batched products. The queries that share a key-value head stand below each other for one product."""
    documents, length, heads, dim = q.shape
    shared = k.shape[2]
    queries = heads // shared
    mask = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1).repeat(queries, 1)
    q = q.view(documents, length, shared, queries, dim).permute(0, 2, 3, 1, 4).reshape(-1, queries * length, dim)
    k = k.permute(0, 2, 3, 1).reshape(-1, dim, length)
    v = v.permute(0, 2, 1, 3).reshape(-1, length, dim)
    weights = F.dropout(torch.baddbmm(mask, q, k, alpha=dim**-0.5).softmax(-1), dropout_p)
    mixed = torch.bmm(weights, v).view(documents, shared, queries, length, dim)
    return mixed.permute(0, 3, 1, 2, 4).reshape(documents, length, heads, dim)


class DocumentAttention:
    """Causal attention that isolates the documents of a flat batch exactly. Planned once a batch, used by all layers.

    Neighbours of equal length share a call on plain views, a lone document is a call of its own. Where it is cheaper,
    the documents are sorted by length instead, moved into padded groups and back: causality keeps the padding, which
    comes last, from being seen. Cheaper means fewer pairs of tokens by `CALL_COST` and `MOVE_COST`. Measured with
    1 thread in bf16 (one layer, forward and backward): 16 documents of 20 to 60 tokens with 6 heads of 32 took 5.8 ms
    one by one and 2.2 ms in one padded group; 16 documents in 2,048 tokens with 8 heads of 96 took 23 ms one by one
    and 24 ms in 7 groups, so they stay in place.

    Args:
        cu_seqlens: Document boundaries: 0, then the end of each document; strictly increasing.
        device: Where the tokens are.

    Attributes:
        padded_tokens: Slots attended to in each layer, padding included; at least the number of tokens.
    """

    def __init__(self, cu_seqlens: Sequence[int], device: torch.device | str = "cpu") -> None:
        lengths = [end - start for start, end in pairwise(cu_seqlens)]
        grouping = group_documents(lengths)
        self._slots: Tensor | None = None
        self._groups, self.padded_tokens = grouping.groups, grouping.slots
        if grouping.order is not None:
            self._slots, self._tokens = _moves(cu_seqlens, lengths, grouping.order, grouping.groups, device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
        """See `Attention`."""
        if self._slots is not None:
            q, k, v = (x.index_select(0, self._slots) for x in (q, k, v))
        sizes = [group.slots for group in self._groups]
        parts = zip(self._groups, torch.split(q, sizes), torch.split(k, sizes), torch.split(v, sizes), strict=True)
        mixed = [
            causal(_view(group, gq), _view(group, gk), _view(group, gv), dropout_p).flatten(0, 1)
            for group, gq, gk, gv in parts
        ]
        joined = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        return joined if self._slots is None else joined.index_select(0, self._tokens)


def _view(group: Group, x: Tensor) -> Tensor:
    """[documents · length, heads, head_dim] → [documents, length, heads, head_dim]."""
    return x.view(group.documents, group.length, *x.shape[1:])


def _moves(
    cu_seqlens: Sequence[int],
    lengths: Sequence[int],
    order: Sequence[int],
    groups: Sequence[Group],
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """The token that each slot holds (padding repeats a document's last token), and the slot of each token."""
    slots: list[int] = []
    tokens = [0] * sum(lengths)
    documents = iter(order)
    for group in groups:
        for _ in range(group.documents):
            document = next(documents)
            start, length = cu_seqlens[document], lengths[document]
            tokens[start : start + length] = range(len(slots), len(slots) + length)
            slots.extend(range(start, start + length))
            slots.extend([start + length - 1] * (group.length - length))
    return torch.tensor(slots, device=device), torch.tensor(tokens, device=device)
