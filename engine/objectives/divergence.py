"""Kullback–Leibler divergences: of whole distributions for distillation, estimated from samples for policies."""

import math

import torch
from torch import Tensor

from engine.objectives.chunked import chunked_loss

_LEAST = -40.0
"""The least log-probability of a student's "any other", where no token is left for it."""


def kl_estimate(log_ratio: Tensor, estimator: str) -> Tensor:
    """KL(policy ‖ other), estimated from tokens drawn from the policy (Schulman, "Approximating KL divergence", 2020).

    Args:
        log_ratio: log(policy / other) of the tokens.
        estimator: `k1`: log_ratio, unbiased, may be negative. `k3`: exp(−log_ratio) − 1 + log_ratio, unbiased, never
            negative, of lower variance where the two are close.
    """
    return log_ratio if estimator == "k1" else torch.expm1(-log_ratio) + log_ratio


def kl_loss(log_ratio: Tensor, estimator: str) -> Tensor:
    """`kl_estimate` as a term of a loss, with a gradient that pulls the policies together.

    k3 has one of its own, on average that of KL(other ‖ policy). k1's is 0 on average; here it has that of
    ½·log_ratio², which is on average that of KL(policy ‖ other).
    """
    if estimator == "k1":
        half_square = 0.5 * log_ratio**2
        return half_square + (log_ratio - half_square).detach()
    return kl_estimate(log_ratio, estimator)


class Teacher:
    """A teacher's distributions over some tokens, from its hidden states.

    Args:
        hidden: Its hidden states, shape (tokens, teacher's width).
        head: Its output table, shape (at least `vocabulary`, teacher's width), in its own precision.
        vocabulary: How many tokens both models share; rows beyond are padding and leave the softmax.
    """

    def __init__(self, hidden: Tensor, head: Tensor, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._hidden, self._head = hidden, head[:vocabulary]

    def divergence(self, own: Tensor, piece: slice, temperature: float, reverse: bool) -> tuple[Tensor, Tensor]:
        """The divergence of each token, and its slope on the student's logits at this temperature.

        Args:
            own: The student's log-probabilities at the temperature, (rows, vocabulary) in float32.
            piece: Which of the tokens these are.
            temperature: Divides the teacher's logits too.
            reverse: KL(student ‖ teacher) instead of KL(teacher ‖ student).
        """
        with torch.autocast(own.device.type, enabled=False):  # the teacher keeps its own precision
            logits = (self._hidden[piece].to(self._head.dtype) @ self._head.T).float()
        return _kl(own, (logits / temperature).log_softmax(dim=-1), reverse)


class CachedTeacher:
    """A teacher's most probable tokens, kept from an earlier pass; what is left is one more outcome, "any other".

    The divergence over these outcomes is at most the one over the vocabulary, and equal to it where the student
    spreads the rest as the teacher does.

    Args:
        ids: The k most probable tokens, int64 (tokens, k).
        log_probs: Their log-probabilities at the temperature of the distillation, float32 (tokens, k).
        vocabulary: How many tokens both models share.
    """

    def __init__(self, ids: Tensor, log_probs: Tensor, vocabulary: int) -> None:
        self.vocabulary, self._ids, self._log_probs = vocabulary, ids, log_probs

    def divergence(self, own: Tensor, piece: slice, temperature: float, reverse: bool) -> tuple[Tensor, Tensor]:
        """See `Teacher.divergence`."""
        ids, kept = self._ids[piece], self._log_probs[piece]
        left = (-kept.exp().sum(dim=-1, keepdim=True).clamp(max=1 - 1e-7)).log1p()
        # Summed, not 1 less the others: in float32 a confident student's rest would be lost, and its slope with it
        rest = own.scatter(1, ids, -math.inf).logsumexp(dim=-1, keepdim=True).clamp(min=_LEAST)
        student, teacher = torch.cat([own.gather(1, ids), rest], dim=-1), torch.cat([kept, left], dim=-1)
        value, slope = _kl(student, teacher, reverse)
        # The slope on an outcome's logit; the rest's is shared by its tokens as their probabilities are.
        spread = (own - rest).exp() * slope[:, -1:]
        return value, spread.scatter(1, ids, slope[:, :-1])


def _kl(student: Tensor, teacher: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """The divergence of each row of log-probabilities, and its slope on the logits behind `student`."""
    if reverse:
        likely, gap = student.exp(), student - teacher
        value = (likely * gap).sum(dim=-1)
        return value, likely * (gap - value[:, None])
    likely = teacher.exp()
    return (likely * (teacher - student)).sum(dim=-1), student.exp() - likely


def linear_divergence(
    hidden: Tensor,
    head: Tensor,
    teacher: Teacher | CachedTeacher,
    weights: Tensor,
    *,
    temperature: float,
    reverse: bool = False,
    chunk: int = 1024,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The weighted sum of KL(teacher ‖ student) of each token, in nats, both softened by the temperature.

    Multiplied by temperature² its gradients are as large as at temperature 1 (Hinton et al., arXiv 1503.02531, section
    2). Softmax, divergence and sum are float32. Backward may run once.

    Args:
        hidden: The student's hidden states, shape (tokens, width).
        head: The student's output table, shape (vocabulary or more, width).
        teacher: What it is to be like, over the same tokens.
        weights: Shape (tokens,), float32.
        temperature: Above 0.
        reverse: KL(student ‖ teacher), which looks for one of the teacher's modes.
        chunk: Tokens whose logits exist at a time.
        dtype: The precision of the student's matrix products.
    """

    def slope_of(logits: Tensor, piece: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        own = logits[:, : teacher.vocabulary].div(temperature).log_softmax(dim=-1)
        divergence, slope = teacher.divergence(own, piece, temperature, reverse)
        value = (divergence * weights[piece]).sum()
        if not wanted:
            return value, None
        logits.zero_()[:, : teacher.vocabulary] = slope * (weights[piece, None] / temperature)
        return value, logits

    return chunked_loss(hidden, head, slope_of, chunk=chunk, dtype=dtype)
