"""What a transformer's blocks keep for the backward pass, and work in, in closed form. Torch-free.

Counted from what autograd saves of this engine's modules on a CPU, op by op (tests compare with the real allocator).
Sizes are bytes; N is the tokens of a micro-batch, S its slots in attention, padding included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.model.config import ModelConfig
from engine.model.grouping import EXPLICIT_LIMIT, EXPLICIT_SCORES, Group, Grouping, group_documents

_FLOAT, _INT = 4, 8


@dataclass(frozen=True)
class Compute:
    """How a pass computes.

    Attributes:
        dtype: The precision of computation.
        device: `cpu`, `cuda` or `mps`.
        lora_rank: Of an adapter; 0: all weights are trained.
        lora_targets: The layers that it is put on.
        lora_dropout: Before its first matrix.
    """

    dtype: str = "float32"
    device: str = "cpu"
    lora_rank: int = 0
    lora_targets: tuple[str, ...] = ()
    lora_dropout: float = 0.0

    @property
    def half(self) -> bool:
        """Whether that is bfloat16 or float16."""
        return self.dtype != "float32"

    @property
    def size(self) -> int:
        """Bytes of a number in the precision of computation."""
        return 2 if self.half else _FLOAT

    def adapts(self, layer: str) -> bool:
        """Whether the linear layers of that name, `q_proj` or `up_proj`, have an adapter."""
        ends = (target.rpartition(".")[2] for target in self.lora_targets)
        return bool(self.lora_rank) and any(end in ("all-linear", layer) for end in ends)


class Block:
    """One block of a model over the documents of a micro-batch.

    Args:
        config: The model's shape.
        lengths: Tokens of each document.
        compute: How it computes.

    Attributes:
        tokens: N.
        grouping: The attention's calls.
    """

    def __init__(self, config: ModelConfig, lengths: Sequence[int], compute: Compute) -> None:
        self.config, self.compute = config, compute
        self.tokens = sum(lengths)
        self.grouping: Grouping = group_documents(lengths)
        self._query = config.num_attention_heads * config.head_dim
        self._key_value = config.num_key_value_heads * config.head_dim

    @property
    def stream(self) -> int:
        """The residual stream, float32: what gradient checkpointing keeps of a block."""
        return _FLOAT * self.tokens * self.config.hidden_size

    @property
    def kept(self) -> int:
        """What it keeps for the backward pass."""
        return 2 * self._norm + self._projections + self._attention + self._feed_forward + self._dropped

    @property
    def frozen(self) -> int:
        """What a model's first block need not keep where an adapter is all that is trained: nothing is before it."""
        if not self.compute.lora_rank:
            return 0
        if not any(map(self.compute.adapts, ("q_proj", "k_proj", "v_proj"))):
            whole = self._norm + self._projections + self._attention
            mixed = self.tokens * self.compute.size * self._query
            return whole - mixed if self.compute.adapts("o_proj") else whole + self._norm
        masks = sum(map(self.compute.adapts, ("q_proj", "k_proj", "v_proj"))) if self.compute.lora_dropout else 0
        return self.tokens * _FLOAT * (1 + (1 + masks) * self.config.hidden_size)

    @property
    def weights_copied(self) -> int:
        """Its weights in the precision of computation, kept from the forward to the backward pass."""
        return 2 * linear_parameters(self.config) // self.config.num_hidden_layers if self.compute.half else 0

    @property
    def backward(self) -> int:
        """What its backward pass works in beside what is kept: slopes of the stream and on the widest part."""
        config, size = self.config, self.compute.size
        inner = self.tokens * size * self._width
        weight = (_FLOAT + (size if self.compute.half else 0)) * config.hidden_size * self._inner
        feed_forward = 2 * self._first_inner + (0 if self.compute.lora_rank else weight)
        if config.num_experts and not config.num_shared_experts:
            routed = _FLOAT * self.tokens * config.num_experts_per_tok * config.hidden_size
            feed_forward = max(3 * routed, routed + feed_forward)
        scores = sum(self._scores(group, 2) for group in self.grouping.groups)
        attention = scores - 4 * inner - 2 * self.stream
        return self.stream + max(feed_forward, attention)

    @property
    def mixing(self) -> int:
        """What a mixture of experts works in beside what is kept, at the end of the block's forward pass."""
        config, half = self.config, self.compute.half
        if not config.num_experts:
            return 0
        taken = config.num_experts_per_tok * config.hidden_size
        copied = taken * (_FLOAT * (2 if half else 1) + self.compute.size)
        added = (2 * _FLOAT + self.compute.size + (_FLOAT if half else 0)) * config.hidden_size
        if self.compute.adapts("up_proj"):  # what the adapter adds stands beside what it is added to
            inner = self.compute.size * config.num_shared_experts * config.moe_intermediate_size
            added = max(added, _FLOAT * config.hidden_size + inner)
        return self.tokens * (copied + max(self._weighed, added if config.num_shared_experts else 0))

    @property
    def forward(self) -> int:
        """What a pass without gradients works in at most."""
        weight = 2 * self.config.hidden_size * self._inner if self.compute.half else 0
        moved = 0 if self.grouping.order is None else 8 * (self.tokens + self.grouping.slots)
        # the block's input and its normalised stream; in the feed-forward part the stream after attention too
        return moved + 2 * self.stream + max(self._attending, self.stream + self._at_work + weight)

    @property
    def _attending(self) -> int:
        """What attention works in without gradients: projections, before and after they are rotated, and its calls."""
        size, grouping, query, key_value = self.compute.size, self.grouping, self._query, self._key_value
        moved = grouping.order is not None
        found = self.tokens * (2 * query + 3 * key_value) + (grouping.slots * (query + 2 * key_value) if moved else 0)
        if self.compute.half:  # the stream, cosines and sines once more
            found += self.tokens * (self.config.hidden_size + self.config.head_dim)
        joined = (grouping.slots + self.tokens) * query if moved else 0
        written = [
            self._scores(group, 2) + size * group.slots * (query + 2 * key_value)
            for group in grouping.groups
            if self._scores(group, 1)
        ]
        return size * (found + grouping.slots * query) + max([size * joined, *written])

    @property
    def _at_work(self) -> int:
        """What the feed-forward part works in without gradients."""
        config, size, token = self.config, self.compute.size, self.config.hidden_size
        if not config.num_experts:
            adapter = self.compute.adapts("up_proj")  # what it adds stands beside what it is added to, and their sum
            return self.tokens * (4 if adapter else 3) * size * config.intermediate_size
        taken, inner = config.num_experts_per_tok, config.moe_intermediate_size
        shared = 3 * size * config.num_shared_experts * inner
        share = taken * (size * token + 3 * size * inner // config.num_experts)  # one expert after the other
        after = 2 * size * taken * token + max(_FLOAT * token + shared, self._weighed)
        return self.tokens * (2 * _FLOAT * taken * token + max(share, after))

    # Parts

    @property
    def _width(self) -> int:
        """The inner width that a token passes through."""
        config = self.config
        if not config.num_experts:
            return config.intermediate_size
        return (config.num_experts_per_tok + config.num_shared_experts) * config.moe_intermediate_size

    @property
    def _first_inner(self) -> int:
        """The widest part of what goes back first: in a mixture the shared experts, else one of the others."""
        config, width = self.config, self._width
        if config.num_experts:
            each = config.num_experts_per_tok * config.moe_intermediate_size // config.num_experts
            width = config.num_shared_experts * config.moe_intermediate_size or each
        return self.tokens * self.compute.size * width

    @property
    def _weighed(self) -> int:
        """Bytes a token where what its experts say is weighed, in float32; another type is cast whole."""
        config = self.config
        return _FLOAT * (2 if self.compute.half else 1) * config.num_experts_per_tok * config.hidden_size

    @property
    def _inner(self) -> int:
        """The inner width of one product."""
        return self.config.moe_intermediate_size if self.config.num_experts else self.config.intermediate_size

    @property
    def _norm(self) -> int:
        """The stream, its scale, and what the weight is multiplied with."""
        kept = 1 if self.compute.lora_rank else 2
        return self.tokens * _FLOAT * (kept * self.config.hidden_size + 1)

    @property
    def _projections(self) -> int:
        """What query, key and value are made of, and what they are before their own norms."""
        compute, config = self.compute, self.config
        found = self._inputs(("q_proj", "k_proj", "v_proj"), config.hidden_size)
        heads = config.num_attention_heads + config.num_key_value_heads
        if config.qk_norm:
            kept = 1 if compute.lora_rank else 2
            found += self.tokens * _FLOAT * (kept * (self._query + self._key_value) + heads)
        if compute.half:
            found += self.tokens * compute.size * config.head_dim  # cosines and sines once more
        return found

    @property
    def _attention(self) -> int:
        """Queries, keys, values, and the result before its projection."""
        size, grouping = self.compute.size, self.grouping
        alone = grouping.order is None and len(grouping.groups) == 1
        copied, found = self.tokens * size * self._query, self._attended
        for group in grouping.groups:
            found += self._scores(group, 3 if self.config.dropout else 1)
            if not self._explicit(group) and not self._math:
                found += group.slots * (_FLOAT * self.config.num_attention_heads + size * self._query)
                copied = 0 if alone else copied
        keeps = not self.compute.lora_rank or (self.compute.adapts("o_proj") and not self.compute.lora_dropout)
        return found + (copied if keeps else 0)

    @property
    def _attended(self) -> int:
        """What the calls copy of queries, keys and values; those that one of them looks at in place are kept whole."""
        heads, shared = self.config.num_attention_heads, self.config.num_key_value_heads
        found, looks, looks_at_queries = 0, False, False
        for group in self.grouping.groups:
            if self._explicit(group):
                together = max(1, EXPLICIT_SCORES // (heads * group.length**2))
                alone = group.documents if together == 1 else int(group.documents % together == 1)
                in_place = group.documents if shared == 1 else alone
                asking = in_place if heads == shared else 0
                copied = (group.documents - asking) * self._query + (group.documents - in_place) * 2 * self._key_value
                found += group.length * copied
                looks, looks_at_queries = looks or in_place > 0, looks_at_queries or asking > 0
            elif self._math:
                found += group.slots * 3 * self._query  # keys and values are repeated
            else:
                looks = looks_at_queries = True
        whole = looks_at_queries * self._query + looks * 2 * self._key_value
        return self.compute.size * (found + self.grouping.slots * whole)

    @property
    def _math(self) -> bool:
        """Whether torch writes the scores out: for dropout, on a CPU."""
        return bool(self.config.dropout) and self.compute.device == "cpu"

    def _explicit(self, group: Group) -> bool:
        """Whether the engine does, see `engine.model.attention.causal`."""
        return self.compute.device == "cpu" and self.compute.dtype == "bfloat16" and group.length <= EXPLICIT_LIMIT

    def _scores(self, group: Group, copies: int) -> int:
        """Attention weights that are written out."""
        written = self._explicit(group) or self._math
        pairs = group.documents * group.length**2
        return copies * self.compute.size * self.config.num_attention_heads * pairs if written else 0

    @property
    def _feed_forward(self) -> int:
        config, compute = self.config, self.compute
        found = self._inputs(("o_proj",), self._query, is_kept=True, is_half=True)
        found += self.tokens * compute.size * self._width * 3
        found += self._inputs(("down_proj",), self._width, is_half=True)
        if not config.num_experts:
            return found + self._inputs(("gate_proj", "up_proj"), config.hidden_size)
        taken, width = config.num_experts_per_tok, config.hidden_size
        inputs = self._inputs(("gate_proj", "up_proj"), taken * width)
        if config.num_shared_experts and compute.half:
            inputs += self._inputs(("gate_proj", "up_proj"), width)
        routed = _FLOAT * (config.num_experts + 1 + 2 * taken) + _INT * 3 * taken
        router_input, by_token = _FLOAT * width, compute.size * taken * width
        return found + inputs + self.tokens * (routed + router_input + by_token)

    def _inputs(self, layers: tuple[str, ...], width: int, *, is_kept: bool = False, is_half: bool = False) -> int:
        """What linear layers with one input keep of it.

        Args:
            layers: Their names.
            width: Of the input.
            is_kept: Whether others keep it anyway.
            is_half: Whether it comes in the precision of computation; else under autocast each layer casts a copy.
        """
        compute, size = self.compute, self.compute.size
        copies = len(layers) if compute.half and not is_half else 1
        if not compute.lora_rank:
            return 0 if is_kept else self.tokens * size * width * copies
        adapted = sum(compute.adapts(layer) for layer in layers)
        inner = self.tokens * size * adapted * compute.lora_rank
        if compute.lora_dropout:
            mask = size if is_half else _FLOAT
            return inner + self.tokens * adapted * width * (mask + size)
        if is_kept or not adapted:
            return inner
        return inner + self.tokens * size * width * (adapted if copies > 1 else 1)

    @property
    def _dropped(self) -> int:
        """Masks of dropout on both residual branches."""
        return 2 * self.tokens * self.compute.size * self.config.hidden_size if self.config.dropout else 0


def linear_parameters(config: ModelConfig) -> int:
    """Weights of the linear layers of all blocks."""
    query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    experts = config.num_experts + config.num_shared_experts
    inner = experts * config.moe_intermediate_size if config.num_experts else config.intermediate_size
    return config.num_hidden_layers * config.hidden_size * (2 * (query + key_value) + 3 * inner)
