import pytest
import torch

from engine.errors import UserError
from engine.generation.generate import generate, stream
from engine.generation.sampling import GREEDY, SamplingSettings
from engine.model.transformer import Transformer
from tests.model.helpers import hidden_of, tiny

PROMPTS = [[5, 9, 2], [1], [7, 7, 7, 7, 30, 12, 8], [3, 4], [60, 2, 2, 9, 11]]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny().eval()


def _greedy(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Without a cache: the whole text is read again for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.logits(hidden_of(model, torch.tensor(ids))[-1]).argmax()))
    return ids[len(prompt) :]


def test_batch_equals_single_equals_no_cache(model: Transformer) -> None:
    settings = SamplingSettings(temperature=0.0, max_new_tokens=12)
    together = generate(model, PROMPTS, settings, [])
    for prompt, answer in zip(PROMPTS, together, strict=True):
        assert answer.ids == generate(model, [prompt], settings, [])[0].ids == _greedy(model, prompt, 12)
        assert answer.stop_reason == "length"


def test_every_stop_token_ends_its_row(model: Transformer) -> None:
    free = [answer.ids for answer in generate(model, PROMPTS, SamplingSettings(temperature=0.0, max_new_tokens=8), [])]
    stops = {free[0][2], free[2][4]}
    answers = generate(model, PROMPTS, SamplingSettings(temperature=0.0, max_new_tokens=8), stops)
    for ids, answer in zip(free, answers, strict=True):
        place = next((place for place, token in enumerate(ids) if token in stops), None)
        assert answer.ids == ids[:place]
        assert answer.stop_reason == ("length" if place is None else "stop")
    assert {answer.stop_reason for answer in answers} >= {"stop"}


def test_a_seed_says_the_same_whatever_the_batch(model: Transformer) -> None:
    settings = SamplingSettings(temperature=1.0, top_p=0.9, max_new_tokens=10, seed=11)
    answers = {
        size: [answer.ids for answer in generate(model, PROMPTS, settings, [], batch_size=size)] for size in (1, 2, 5)
    }
    assert answers[1] == answers[2] == answers[5]
    other = SamplingSettings(temperature=1.0, top_p=0.9, max_new_tokens=10, seed=12)
    assert [answer.ids for answer in generate(model, PROMPTS, other, [])] != answers[5]
    same_prompt = generate(model, [[5, 9]] * 4, settings, [])
    assert len({tuple(answer.ids) for answer in same_prompt}) > 1


def test_the_context_is_the_limit(model: Transformer) -> None:
    room = model.config.max_position_embeddings
    prompts = [list(range(1, 97)) + [1] * (room - 100), [4]]
    long, short = generate(model, prompts, SamplingSettings(temperature=0.0, max_new_tokens=10), [])
    assert (len(long.ids), long.stop_reason) == (4, "context")
    assert (len(short.ids), short.stop_reason) == (10, "length")
    for bad in ([1] * room, []):
        with pytest.raises(UserError, match=f"has {len(bad)} tokens"):
            generate(model, [[4], bad], GREEDY, [])


def test_stream_says_when_each_row_ends(model: Transformer) -> None:
    steps = list(stream(model, PROMPTS[:2], SamplingSettings(temperature=0.0, max_new_tokens=3), []))
    assert [[(row, reason) for row, _, reason in step] for step in steps] == [
        [(0, ""), (1, "")], [(0, ""), (1, "")], [(0, "length"), (1, "length")],
    ]  # fmt: skip
    assert generate(model, [], GREEDY, []) == []
