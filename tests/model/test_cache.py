"""Step by step equals all at once; ragged rows equal single ones."""

import pytest
import torch
from torch import Tensor

from engine.errors import EngineError
from engine.model.cache import KVCache
from engine.model.transformer import Transformer
from tests.model.helpers import hidden_of, tiny

TEXTS = [torch.arange(n) * 7 % 97 for n in (11, 4, 18)]


def _run(model: Transformer, cache: KVCache, parts: list[Tensor]) -> list[Tensor]:
    counts = [len(part) for part in parts]
    with torch.no_grad():
        hidden = model(torch.cat(parts), cache.positions(counts), cache.attention(counts))
    return list(hidden.split(counts))


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4}, {"qk_norm": False, "num_key_value_heads": 1}])
def test_ragged_prefill_and_decode_equal_the_full_forward(changes: dict[str, object]) -> None:
    model = tiny(**changes).eval()
    cache = KVCache(model.config, 3, 18)
    prompts = [text[: len(text) - 3] for text in TEXTS]
    steps = [_run(model, cache, prompts)]
    for offset in (3, 2, 1):
        steps.append(_run(model, cache, [text[len(text) - offset :][:1] for text in TEXTS]))
    assert cache.lengths == [11, 4, 18]
    for row, text in enumerate(TEXTS):
        got = torch.cat([step[row] for step in steps])
        torch.testing.assert_close(got, hidden_of(model, text), rtol=0, atol=2e-5)


def test_equal_lengths_decode_without_a_mask() -> None:
    model = tiny().eval()
    cache = KVCache(model.config, 2, 6)
    texts = [torch.tensor([1, 2, 3, 4]), torch.tensor([9, 8, 7, 6])]
    _run(model, cache, [text[:3] for text in texts])
    last = _run(model, cache, [text[3:] for text in texts])
    for text, got in zip(texts, last, strict=True):
        torch.testing.assert_close(got[0], hidden_of(model, text)[-1], rtol=0, atol=2e-5)


def test_chunks_into_filled_rows() -> None:
    model = tiny().eval()
    cache = KVCache(model.config, 3, 20)
    cuts = [[0, 5, 5, 11], [0, 0, 3, 4], [0, 1, 9, 18]]
    steps = []
    for step in range(3):
        parts = [text[cut[step] : cut[step + 1]] for text, cut in zip(TEXTS, cuts, strict=True)]
        steps.append(_run(model, cache, parts))
    for row, text in enumerate(TEXTS):
        got = torch.cat([step[row] for step in steps])
        torch.testing.assert_close(got, hidden_of(model, text), rtol=0, atol=2e-5)


def test_keep_forks_and_truncate_rewinds() -> None:
    model = tiny().eval()
    cache = KVCache(model.config, 3, 20)
    _run(model, cache, TEXTS)
    cache.keep([2, 0, 2])
    assert cache.lengths == [18, 11, 18]
    cache.truncate([6, 50, 18])
    assert cache.lengths == [6, 11, 18]
    new = torch.tensor([42])
    for row, prefix, got in zip(
        range(3), (TEXTS[2][:6], TEXTS[0], TEXTS[2]), _run(model, cache, [new] * 3), strict=True
    ):
        expected = hidden_of(model, torch.cat([prefix, new]))[-1]
        torch.testing.assert_close(got[0], expected, rtol=0, atol=2e-5, msg=f"row {row}")


def test_a_bf16_cache_is_near() -> None:
    model = tiny().eval()
    cache = KVCache(model.config, 1, 20, dtype=torch.bfloat16)
    _run(model, cache, [TEXTS[2][:17]])
    got = _run(model, cache, [TEXTS[2][17:]])[0][0]
    expected = hidden_of(model, TEXTS[2])[-1]
    assert got.dtype == torch.float32
    assert ((got - expected).norm() / expected.norm()).item() < 0.05


def test_a_full_cache_says_so() -> None:
    cache = KVCache(tiny().config, 2, 8)
    with pytest.raises(EngineError, match="holds 8 tokens a row, 9 are needed"):
        cache.attention([3, 9])
