"""Keys and values of what was already read, so that generation computes only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import EngineError
from engine.model.attention import Attention, DocumentAttention
from engine.model.config import ModelConfig


class KVCache:
    """Preallocated keys and values of a batch of texts of different lengths; every row starts at position 0.

    A step is flat, like a training batch: `counts[b]` new tokens of each row, one row after the other.

        step = cache.attention(counts)
        hidden = model(tokens, cache.positions(counts), step)

    Args:
        config: The model's shape.
        batch: Rows.
        max_length: Tokens a row can hold.
        dtype: Of keys and values; what `attention` is given is converted.
        device: Where the model is.

    Attributes:
        keys: A tensor a layer: [batch, key-value heads, max_length, head_dim].
        values: The same.
        lengths: Tokens held by each row; they grow when the last layer of a step has run.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        max_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape, layers = (batch, config.num_key_value_heads, max_length, config.head_dim), config.num_hidden_layers
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.lengths = [0] * batch

    def positions(self, counts: Sequence[int]) -> Tensor:
        """Positions of a step's tokens: int64 [sum of counts]."""
        new = zip(self.lengths, counts, strict=True)
        return torch.tensor(
            [position for length, count in new for position in range(length, length + count)],
            dtype=torch.int64,
            device=self.keys[0].device,
        )

    def attention(self, counts: Sequence[int]) -> Attention:
        """Plans a step that appends `counts[b]` tokens to row b; use it for one forward pass, without gradients.

        Raises:
            EngineError: A row would outgrow the cache.
        """
        ends = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        if max(ends) > (room := self.keys[0].shape[2]):
            raise EngineError(
                f"the key-value cache holds {room} tokens a row, {max(ends)} are needed",
                hint="shorten the text or ask for fewer new tokens",
            )
        if all(count == 1 for count in counts):
            return _Decode(self)
        return _Append(self, counts)

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order; drops finished ones, and forks a row that is named more than once.

        One layer after the other, so that old and new ones are never all there together.
        """
        used = max((self.lengths[row] for row in rows), default=0)
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.keys[0].device)
        for held in (self.keys, self.values):
            for layer, tensor in enumerate(held):
                held[layer] = _rows(tensor, index, used)
        self.lengths = [self.lengths[row] for row in rows]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forgets the end of each row beyond its length here; lengths above what a row holds change nothing."""
        self.lengths = [min(held, length) for held, length in zip(self.lengths, lengths, strict=True)]


def _rows(tensor: Tensor, index: Tensor, used: int) -> Tensor:
    """The rows `index` of a layer's tensor; only the first `used` tokens are copied."""
    _, heads, max_length, dim = tensor.shape
    kept = tensor.new_zeros(len(index), heads, max_length, dim)
    kept[:, :, :used] = tensor[:, :, :used].index_select(0, index)
    return kept


class _Decode:
    """One new token for every row: one call for all, with a mask only where the rows' lengths differ."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._end = max(cache.lengths) + 1
        device = cache.keys[0].device
        self._mask: Tensor | None = None
        if len(set(cache.lengths)) > 1:
            self._last = torch.tensor(cache.lengths, device=device)
            self._rows = torch.arange(len(cache.lengths), device=device)
            self._mask = (torch.arange(self._end, device=device) <= self._last[:, None])[:, None, None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
        """See `Attention`; N is the number of rows. Nothing is dropped while generating."""
        cache, (batch, heads, dim) = self._cache, q.shape
        keys, values = cache.keys[layer], cache.values[layer]
        if self._mask is None:
            keys[:, :, self._end - 1], values[:, :, self._end - 1] = k.to(keys.dtype), v.to(values.dtype)
        else:
            keys[self._rows, :, self._last] = k.to(keys.dtype)
            values[self._rows, :, self._last] = v.to(values.dtype)
        # The queries that share a key-value head take the place of a text's positions: nothing is repeated for GQA.
        query = q.to(keys.dtype).reshape(batch, k.shape[1], heads // k.shape[1], dim)
        keys, values = keys[:, :, : self._end], values[:, :, : self._end]
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=self._mask)
        if layer == len(cache.keys) - 1:
            cache.lengths = [length + 1 for length in cache.lengths]
        return mixed.reshape(batch, heads, dim).to(q.dtype)


class _Append:
    """Any number of new tokens a row, after what the row holds already."""

    def __init__(self, cache: KVCache, counts: Sequence[int]) -> None:
        self._cache, self._counts = cache, list(counts)
        device = cache.keys[0].device
        self._fresh: DocumentAttention | None = None
        self._masks: list[Tensor] = []
        if not any(cache.lengths):
            self._fresh = DocumentAttention([0, *accumulate(count for count in counts if count)], device)
        else:
            for length, count in zip(cache.lengths, counts, strict=True):
                self._masks.append(torch.ones(count, length + count, dtype=torch.bool, device=device).tril(length))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
        """See `Attention`."""
        cache, counts = self._cache, self._counts
        keys, values = cache.keys[layer], cache.values[layer]
        steps = zip(cache.lengths, counts, torch.split(k, counts), torch.split(v, counts), strict=True)
        for row, (length, count, new_keys, new_values) in enumerate(steps):
            keys[row, :, length : length + count] = new_keys.transpose(0, 1)
            values[row, :, length : length + count] = new_values.transpose(0, 1)
        if self._fresh is not None:
            mixed = self._fresh(layer, q, k, v, dropout_p)
        else:
            parts = enumerate(zip(torch.split(q, counts), self._masks, strict=True))
            mixed = torch.cat([self._row(keys[row], values[row], *part) for row, part in parts if counts[row]])
        if layer == len(cache.keys) - 1:
            cache.lengths = [length + count for length, count in zip(cache.lengths, counts, strict=True)]
        return mixed

    @staticmethod
    def _row(keys: Tensor, values: Tensor, q: Tensor, mask: Tensor) -> Tensor:
        """One row's new queries [count, heads, dim] over all it holds [key_value_heads, max_length, dim]."""
        end = mask.shape[1]
        query = q.transpose(0, 1).to(keys.dtype)
        grouped = query.shape[0] != keys.shape[0]
        mixed = F.scaled_dot_product_attention(
            query[None], keys[None, :, :end], values[None, :, :end], attn_mask=mask, enable_gqa=grouped
        )
        return mixed[0].transpose(0, 1).to(q.dtype)
