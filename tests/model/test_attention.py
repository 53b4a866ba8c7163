"""Documents are isolated exactly, however they are grouped."""

from itertools import pairwise

import pytest
import torch

from engine.model import attention as module
from engine.model.attention import DocumentAttention, causal
from tests.model.helpers import flat, hidden_of, tiny

SHORT = [5, 23, 31, 8, 40, 40, 17, 29, 12, 36, 33, 20]


@pytest.mark.parametrize("lengths", [[14, 20], [16, 16, 16], SHORT, [70, 3, 3]])
def test_a_document_sees_only_itself(lengths: list[int]) -> None:
    model = tiny().eval()
    tokens, positions, boundaries = flat(lengths)
    before = model(tokens, positions, DocumentAttention(boundaries))
    changed = tokens.clone()
    changed[: lengths[0]] = (changed[: lengths[0]] + 1) % 97
    after = model(changed, positions, DocumentAttention(boundaries))
    assert torch.equal(before[lengths[0] :], after[lengths[0] :])
    assert not torch.allclose(before[: lengths[0]], after[: lengths[0]])


@pytest.mark.parametrize("lengths", [[14, 20], [16, 16, 16], SHORT, [70, 3, 3]])
def test_the_batch_equals_each_document_alone(lengths: list[int]) -> None:
    model = tiny().eval()
    tokens, positions, boundaries = flat(lengths)
    together = model(tokens, positions, DocumentAttention(boundaries))
    alone = torch.cat([hidden_of(model, part) for part in tokens.split(lengths)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [SHORT, [16] * 6, [600, 9]])
def test_grouping_equals_one_call_for_each_document(lengths: list[int], dtype: torch.dtype) -> None:
    total = sum(lengths)
    torch.manual_seed(1)
    q, k, v = (torch.randn(total, heads, 8, dtype=dtype, requires_grad=True) for heads in (4, 2, 2))
    weight = torch.randn(total, 4, 8, dtype=dtype)
    _, _, boundaries = flat(lengths)
    results = []
    grouped = DocumentAttention(boundaries)(0, q, k, v, 0.0)
    single = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(
                *(x.float()[a:b].transpose(0, 1)[None] for x in (q, k, v)), is_causal=True, enable_gqa=True
            )[0].transpose(0, 1)
            for a, b in pairwise(boundaries)
        ]
    )
    for mixed in (grouped, single):
        results.append([mixed, *torch.autograd.grad((mixed * weight).sum(), (q, k, v))])
    for one, other in zip(*results, strict=True):
        error = (one.float() - other.float()).norm() / other.float().norm()
        assert error < (1e-5 if dtype == torch.float32 else 2e-2)


def test_plans() -> None:
    assert DocumentAttention([0, 16, 32, 48]).padded_tokens == 48
    assert DocumentAttention([0, 600, 609]).padded_tokens == 609
    _, _, boundaries = flat(SHORT)
    # Short documents are worth more together: one call of 12 × 40 slots.
    assert DocumentAttention(boundaries).padded_tokens == 480


def test_written_out_scores_are_split_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(5, 12, heads, 8, dtype=torch.bfloat16) for heads in (4, 2, 2))
    whole = causal(q, k, v, 0.0)
    monkeypatch.setattr(module, "EXPLICIT_SCORES", 2 * 4 * 12**2)
    torch.testing.assert_close(causal(q, k, v, 0.0), whole, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_attention_weights(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    q, k = (torch.randn(1, 200, heads, 8, dtype=dtype) for heads in (4, 2))
    v = torch.ones(1, 200, 2, 8, dtype=dtype)
    kept = causal(q, k, v, 0.5).float()
    assert not torch.allclose(kept, torch.ones(()), atol=0.05)
    # What stays is scaled up: the mean is kept.
    assert kept.mean().item() == pytest.approx(1.0, abs=0.1)
