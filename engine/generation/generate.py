"""Decoding with the key-value cache: one row or many, streamed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.generation.sampling import SamplingSettings, choose, distribution, draw, penalise
from engine.model.cache import KVCache
from engine.model.transformer import Transformer
from engine.randomness import derive_seed


@dataclass(frozen=True)
class Generated:
    """One row's new tokens, without the stop token, and why it ended: `stop`, `length` or `context`."""

    ids: list[int]
    stop_reason: str


Observer = Callable[[Sequence[int], Tensor, Tensor, Tensor], None]
"""Sees each step before it is yielded: the rows, their new tokens [rows], the model's logits and the probabilities that
were drawn from, both [rows, vocabulary]."""


@torch.no_grad()
def stream(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    stop_ids: Iterable[int],
    numbers: Sequence[int] | None = None,
    observe: Observer | None = None,
    copies: int = 1,
) -> Iterator[list[tuple[int, int, str]]]:
    """Generates for all prompts at once.

    Every row draws from its own randomness, made of the seed and the row's number, so what it says does not depend on
    its neighbours.

    Args:
        model: In evaluation mode.
        prompts: Token ids of each row, at least one.
        settings: How to sample.
        stop_ids: A row ends at any of these.
        numbers: The number of each row; 0, 1, 2 … if not given.
        observe: What is drawn does not depend on whether somebody looks.
        copies: How many rows go on from each prompt, which is read once; row `p · copies + c` is prompt p's copy c.

    Yields:
        After each step (row, token, stop_reason) for every row that was still alive; stop_reason is empty while the
        row goes on. The token of reason `stop` is the stop token itself.
    """
    stops = frozenset(stop_ids)
    room = model.config.max_position_embeddings
    too_long = next((row for row, prompt in enumerate(prompts) if not 0 < len(prompt) < room), None)
    if too_long is not None:
        raise UserError(
            f"prompt {too_long + 1} has {len(prompts[too_long])} tokens; the model reads 1 to {room - 1}",
            hint="shorten the conversation",
        )
    weight = model.head_weight
    longest = min(max(map(len, prompts)) + settings.max_new_tokens, room)
    cache = KVCache(model.config, len(prompts), longest, weight.dtype, weight.device)
    seen = [list(prompt) for prompt in prompts for _ in range(copies)]
    alive = list(range(len(seen)))
    dice = [
        np.random.Generator(np.random.Philox(key=derive_seed(settings.seed, "sample", number)))
        for number in (alive if numbers is None else numbers)
    ]
    counts = [len(prompt) for prompt in prompts]
    flat = [token for prompt in prompts for token in prompt]
    for number in range(1, settings.max_new_tokens + 1):
        tokens = torch.tensor(flat, device=weight.device)
        hidden = model(tokens, cache.positions(counts), cache.attention(counts))
        ends = torch.tensor(np.cumsum(counts) - 1, device=weight.device)
        logits = model.logits(hidden[ends]).float()
        if number == 1 and copies > 1:
            logits = logits.repeat_interleave(copies, dim=0)
            cache.keep([row for row in range(len(prompts)) for _ in range(copies)])
        penalised = penalise(logits, [seen[row] for row in alive], settings.repetition_penalty)
        uniforms = torch.tensor([dice[row].random() for row in alive], dtype=torch.float64)
        if observe is None:
            flat = choose(penalised, settings, uniforms).tolist()
        else:
            probabilities = distribution(penalised, settings)
            drawn = draw(probabilities, uniforms)
            observe(alive, drawn, logits, probabilities)
            flat = drawn.tolist()
        said: list[tuple[int, int, str]] = []
        for row, token in zip(alive, flat, strict=True):
            seen[row].append(token)
            last = number == settings.max_new_tokens
            full = len(seen[row]) >= room
            said.append((row, token, "stop" if token in stops else "length" if last else "context" if full else ""))
        yield said
        going = [place for place, (_, _, reason) in enumerate(said) if not reason]
        if not going:
            return
        if len(going) < len(alive):
            cache.keep(going)
            alive, flat = [alive[place] for place in going], [flat[place] for place in going]
        counts = [1] * len(alive)


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    stop_ids: Iterable[int],
    *,
    batch_size: int = 64,
    progress: Callable[[float], None] | None = None,
) -> list[Generated]:
    """`stream`, gathered: the answers in the order of the prompts.

    Prompts of similar length are generated together, `batch_size` at a time; that changes no answer, since a prompt's
    number is its place among all of them.
    """
    stops = frozenset(stop_ids)
    answers: list[Generated] = [Generated([], "")] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        said: list[list[int]] = [[] for _ in rows]
        reasons = [""] * len(rows)
        for step in stream(model, [prompts[row] for row in rows], settings, stops, rows):
            for place, token, reason in step:
                if reason != "stop":
                    said[place].append(token)
                reasons[place] = reason
        for place, row in enumerate(rows):
            answers[row] = Generated(said[place], reasons[place])
        if progress:
            progress((start + len(rows)) / len(order))
    return answers
