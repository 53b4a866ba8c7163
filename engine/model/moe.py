"""Mixture of experts: every token passes through the few feed-forward parts that a router picks for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import ModelConfig
from engine.model.feed_forward import FeedForward


class Router(nn.Module):
    """How likely each expert is for a token; in fp32 also under autocast (Switch, arXiv 2101.03961, section 2.4).

    No `nn.Linear`, as in transformers 5: what adapts or quantises all linear layers leaves it alone.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """[N, hidden_size] → probabilities [N, num_experts], fp32."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float()).softmax(-1)


class MixtureOfExperts(nn.Module):
    """Sums a token's `num_experts_per_tok` most likely experts by their probabilities, and the shared experts.

    Renormalised (`norm_topk_prob`), the weights of a token's experts sum to 1. With one expert a token that weight is
    the constant 1 and the router gets no gradient from the language model, so only checkpoints made elsewhere have it.

    Tokens are sorted by expert and sorted back, two permutations without an addition: no sum depends on the order in
    which a device's threads arrive. An expert without a token multiplies empty matrices while training, so that its
    gradient is 0 rather than missing.

    Args:
        config: Gives the number of experts, their width and how many a token takes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, inner = config.hidden_size, config.moe_intermediate_size
        self.gate = Router(config)
        self.experts = nn.ModuleList(FeedForward(width, inner) for _ in range(config.num_experts))
        if config.num_shared_experts:
            self.shared_experts = FeedForward(width, config.num_shared_experts * inner)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, hidden_size] → [N, hidden_size] and the router's probabilities [N, num_experts] in fp32."""
        slots = self.config.num_experts_per_tok
        probabilities = self.gate(x)
        weights, chosen = probabilities.topk(slots)
        if self.config.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)
        counts = tokens_by_expert(chosen, len(self.experts))
        copies = x[:, None].expand(-1, slots, -1).reshape(order.shape[0], -1)
        shares = zip(self.experts, torch.split(copies.index_select(0, order), counts), strict=True)
        by_expert = torch.cat([expert(share) for expert, share in shares if len(share) or torch.is_grad_enabled()])
        by_token = by_expert.index_select(0, order.argsort()).view(*chosen.shape, -1)
        mixed = (by_token * weights[..., None].to(x.dtype)).sum(1)
        if self.config.num_shared_experts:
            mixed = mixed + self.shared_experts(x)
        return mixed, probabilities


def tokens_by_expert(chosen: Tensor, experts: int) -> list[int]:
    """How many tokens each expert gets; a trace, which knows no values, puts an even share in its place.

    Args:
        chosen: Each token's experts, int64 [N, experts a token].
        experts: How many there are.
    """
    counts: list[int] = chosen.flatten().bincount(minlength=experts).tolist()
    return counts


def load_balancing(routers: Sequence[Tensor], cu_seqlens: Tensor, top_k: int) -> Tensor:
    """How unevenly the routers use their experts: 1 a token when balanced, up to `num_experts` / `top_k`.

    Switch's loss E·Σₑ fₑ·Pₑ (arXiv 2101.03961, section 2.2), taken over each document as in DeepSeek-V3's
    sequence-wise loss (arXiv 2412.19437, section 2.1.2) and weighted by the document's tokens: fₑ is the share of the
    document's assignments that went to expert e, Pₑ the router's mean probability for it. So the sum does not depend
    on how documents are split over micro-batches and ranks. Gradients flow through P only.

    Args:
        routers: Each layer's probabilities [N, experts].
        cu_seqlens: Document boundaries, int64 [documents + 1], on the same device.
        top_k: Experts a token.

    Returns:
        The layers' mean, summed over tokens; divide it by N.
    """
    probabilities = torch.stack(list(routers))
    lengths = cu_seqlens.diff()
    layers, tokens, experts = probabilities.shape
    documents = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths, output_size=tokens)
    counts = probabilities.new_zeros(layers, len(lengths), experts)
    counts = counts.index_add(1, documents, _assignments(probabilities, top_k))
    shares = counts / (top_k * lengths[:, None])
    # length · Σ f·P is Σ f·p over the document's tokens
    return experts * (shares.index_select(1, documents) * probabilities).sum() / layers


@torch.no_grad()
def router_figures(routers: Sequence[Tensor], top_k: int) -> tuple[Tensor, Tensor]:
    """What the routers did with a batch; both figures add up over batches.

    Args:
        routers: Each layer's probabilities [N, experts].
        top_k: Experts a token.

    Returns:
        The tokens that each expert got, int64 [layers, experts]: a layer's sum to N·`top_k`. And the entropy of each
        layer's probabilities in nats, summed over tokens, [layers]: N·ln(experts) where the router prefers none.
    """
    probabilities = torch.stack(list(routers))
    return _assignments(probabilities, top_k).sum(1).long(), torch.special.entr(probabilities).sum((1, 2))


@torch.no_grad()
def _assignments(probabilities: Tensor, top_k: int) -> Tensor:
    """1 where a token takes an expert, else 0: [layers, N, experts] as the probabilities."""
    return torch.zeros_like(probabilities).scatter(-1, probabilities.topk(top_k).indices, 1.0)
