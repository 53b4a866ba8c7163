"""Samples longer than the model reads: what is kept, and how much was cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.text.messages import Message
from engine.text.sample import Sample, Span

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample of a conversation, with how many tokens each message takes (the last entry: a generation prompt)."""

    sample: Sample
    counts: NDArray[np.int64]


def windows(sample: Sample, length: int) -> list[Sample]:
    """Cuts a sample into windows that overlap by one token: nothing is lost, each token is predicted once."""
    if len(sample) <= length:
        return [sample]
    starts = range(0, len(sample) - 1, length - 1)
    return [window(sample, start, min(start + length, len(sample))) for start in starts]


def window(sample: Sample, start: int, end: int) -> Sample:
    """Tokens `start` to `end` of a sample."""
    weights = sample.loss_weights[start:end].copy()
    weights[:1] = 0
    spans = tuple(
        Span(max(span.start, start) - start, min(span.end, end) - start, span.role, span.kind)
        for span in sample.spans
        if span.start < end and span.end > start
    )
    return replace(sample, input_ids=sample.input_ids[start:end], loss_weights=weights, spans=spans)


def drop_turns(
    encoded: list[Encoded],
    sides: Sequence[Messages],
    ends: Sequence[int],
    length: int,
    encode: Callable[[Messages], Encoded | None],
) -> list[Encoded]:
    """Drops the oldest whole turns, and what follows the last answer, until all sides fit.

    Args:
        encoded: One conversation, or the sides of a pair, which lose the same turns.
        sides: Their messages.
        ends: How many messages of each count: the last answer's, or a prompt's all.
        length: The room in tokens.
        encode: Encodes fewer messages; None where the template refuses them.

    Returns:
        The sides that fit with the fewest turns dropped; where none do, with the last exchange alone.
    """
    if all(len(each.sample) <= length for each in encoded):
        return encoded
    first = sides[0]
    system = next((index for index, message in enumerate(first) if message.role != "system"), len(first))
    differing = (i for i, column in enumerate(zip(*sides, strict=False)) if any(each != column[0] for each in column))
    shared = next(differing, min(ends))
    trailing = any(end < len(side) for end, side in zip(ends, sides, strict=True))
    places = [
        place
        for place in range(system, min(shared, *ends))
        if (first[place].role == "user" and place > system) or (trailing and place == system)
    ]
    best, excess = encoded, 0
    for place in places:
        guess = max(
            int(each.counts[:system].sum() + each.counts[place:end].sum())
            for each, end in zip(encoded, ends, strict=True)
        )
        if guess + excess > length and place != places[-1]:
            continue
        shorter = [encode((*side[:system], *side[place:end])) for side, end in zip(sides, ends, strict=True)]
        whole = [each for each in shorter if each is not None]
        if len(whole) < len(sides):
            continue
        best = whole
        longest = max(len(each.sample) for each in whole)
        if longest <= length:
            break
        excess = max(excess, longest - guess)
    return best


def last_answer(messages: Messages) -> int:
    """The number of messages up to the last answer, or of all where there is none."""
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return answers[-1] + 1 if answers else len(messages)


def cut_start(sample: Sample, length: int) -> Sample:
    """Keeps the last tokens up to the end of the last trained one."""
    if len(sample) <= length:
        return sample
    trained = np.flatnonzero(sample.loss_weights)
    end = int(trained[-1]) + 1 if len(trained) else len(sample)
    return window(sample, max(0, end - length), end)


def cut_sides(sides: Sequence[Sample], length: int) -> list[Sample]:
    """Cuts a pair's prompt from its start and its answers from their ends, where a side is too long.

    The answers get what the prompt leaves, but at least half of the room; both sides keep the same part of the prompt,
    at least one token of it, and at least one token of the answer.
    """
    if all(len(side) <= length for side in sides):
        return list(sides)
    prompts = [int(np.flatnonzero(side.loss_weights)[0]) if side.trained else len(side) for side in sides]
    answer = max(len(side) - prompt for side, prompt in zip(sides, prompts, strict=True))
    room = max(length - answer, length // 2)
    return [
        window(side, start, min(len(side), start + length))
        for side, start in zip(sides, (max(0, prompt - room) for prompt in prompts), strict=True)
    ]
