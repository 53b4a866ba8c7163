"""Answers sampled from a policy for reinforcement learning, with the log-probability of every token."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.generation.generate import stream
from engine.generation.sampling import SamplingSettings
from engine.model.transformer import Transformer


@dataclass(frozen=True)
class Rollout:
    """One answer.

    Attributes:
        ids: Its tokens; the stop token is the last one where it ended by itself.
        log_probs: The logarithm of each token's chance to be drawn, as sampled.
        stop_reason: `stop`, or `length` and `context` where it was cut off.
    """

    ids: list[int]
    log_probs: list[float]
    stop_reason: str

    @property
    def truncated(self) -> bool:
        """Whether it was cut off."""
        return self.stop_reason != "stop"

    @property
    def words(self) -> list[int]:
        """Its tokens without the stop token."""
        return self.ids if self.truncated else self.ids[:-1]


def roll_out(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    copies: int,
    settings: SamplingSettings,
    stop_ids: Iterable[int],
    *,
    batch_size: int,
    go_on: Callable[[], None],
) -> list[list[Rollout]]:
    """Samples `copies` answers to each prompt.

    What is drawn depends on the seed, the prompt's place and the copy, not on how answers are batched. The prompts of
    a batch are read once each, without padding, and their keys and values forked.

    Args:
        model: The policy, in evaluation mode.
        prompts: Token ids.
        copies: Answers a prompt.
        settings: How to sample.
        stop_ids: An answer ends at any of these.
        batch_size: Answers made at a time; at least one prompt's.
        go_on: Called before each token; may raise to give up.
    """
    answers: list[list[Rollout]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    together = max(1, batch_size // copies)
    for start in range(0, len(order), together):
        places = order[start : start + together]
        rows = len(places) * copies
        ids: list[list[int]] = [[] for _ in range(rows)]
        reasons, chances = [""] * rows, _Chances(rows)
        numbers = [place * copies + copy for place in places for copy in range(copies)]
        steps = stream(model, [prompts[place] for place in places], settings, stop_ids, numbers, chances, copies)
        go_on()
        for step in steps:
            go_on()
            for row, token, reason in step:
                ids[row].append(token)
                reasons[row] = reason
        for number, place in enumerate(places):
            answers[place] = [
                Rollout(ids[row], chances.log_probs[row], reasons[row])
                for row in range(number * copies, (number + 1) * copies)
            ]
    return answers


class _Chances:
    """Notes the log-probability that each token was drawn with; `stream` calls it at each step."""

    def __init__(self, rows: int) -> None:
        self.log_probs: list[list[float]] = [[] for _ in range(rows)]

    def __call__(self, rows: Sequence[int], tokens: Tensor, logits: Tensor, drawn_from: Tensor) -> None:
        chances = drawn_from.gather(-1, tokens.to(drawn_from.device)[:, None])[:, 0].log().tolist()
        for row, chance in zip(rows, chances, strict=True):
            self.log_probs[row].append(chance)
