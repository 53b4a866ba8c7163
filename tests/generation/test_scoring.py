import math

import pytest
import torch

from engine.generation.generate import stream
from engine.generation.sampling import SamplingSettings, choose, distribution
from engine.generation.scoring import TokenScores, score
from engine.model.transformer import Transformer
from tests.model.helpers import hidden_of, tiny

# probabilities 0.5, 0.3, 0.15, 0.05
LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log() + 7


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny().eval()


def test_by_hand() -> None:
    """Token 2 under the model, and under what top-p 0.81 leaves: 0.5, 0.3 and 0.15 of 0.95."""
    drawn_from = distribution(LOGITS, SamplingSettings(temperature=1, top_p=0.81))
    [one] = score(torch.tensor([2]), LOGITS, drawn_from, 2)
    assert one.logprob == pytest.approx(math.log(0.15), abs=1e-5)
    assert one.sampled_probability == pytest.approx(0.15 / 0.95)
    assert one.rank == 2
    assert one.entropy == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.3, 0.15, 0.05)), abs=1e-5)
    assert [other.id for other in one.alternatives] == [0, 1]
    assert [math.exp(other.logprob) for other in one.alternatives] == pytest.approx([0.5, 0.3])
    assert [other.sampled_probability for other in one.alternatives] == pytest.approx([0.5 / 0.95, 0.3 / 0.95])


def test_greedy_draws_from_certainty() -> None:
    drawn_from = distribution(LOGITS, SamplingSettings(temperature=0))
    assert drawn_from.tolist() == [[1, 0, 0, 0]]
    [one] = score(torch.tensor([0]), LOGITS, drawn_from, 9)
    assert (one.rank, one.sampled_probability) == (0, 1)
    assert one.logprob == pytest.approx(math.log(0.5), abs=1e-5)
    assert len(one.alternatives) == 4
    assert (one.alternatives[3].id, one.alternatives[3].sampled_probability) == (3, 0)


@pytest.mark.parametrize("settings", [
    SamplingSettings(temperature=0, max_new_tokens=6),
    SamplingSettings(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3, max_new_tokens=6),
])  # fmt: skip
def test_looking_changes_nothing_and_says_the_models_own_probabilities(
    model: Transformer, settings: SamplingSettings
) -> None:
    prompts = [[5, 9, 2], [7, 7, 30], [4]]
    stops = [next(iter(stream(model, [[5, 9, 2]], settings, [])))[0][1]]  # the first row ends at once
    scorer, seen = TokenScores(3), [list(prompt) for prompt in prompts]
    observed = []
    for step in stream(model, prompts, settings, stops, None, scorer):
        observed.append(step)
        assert [*scorer.newest] == [row for row, _, _ in step]
        for row, token, _ in step:
            logprobs = model.logits(hidden_of(model, torch.tensor(seen[row]))[-1:]).log_softmax(-1)[0]
            assert scorer.newest[row].logprob == pytest.approx(float(logprobs[token].detach()), abs=1e-4)
            assert [other.id for other in scorer.newest[row].alternatives] == logprobs.topk(3).indices.tolist()
            assert scorer.newest[row].sampled_probability > 0
            seen[row].append(token)
    assert observed == list(stream(model, prompts, settings, stops))


def test_what_is_drawn_from_is_what_choose_draws_from() -> None:
    """Over evenly spread numbers the shares of the tokens are the probabilities that are said."""
    settings = SamplingSettings(temperature=0.8, top_p=0.9)
    uniforms = torch.arange(1000, dtype=torch.float64) / 1000
    chosen = choose(LOGITS.expand(1000, 4), settings, uniforms)
    said = score(torch.arange(4), LOGITS.expand(4, 4), distribution(LOGITS.expand(4, 4), settings), 1)
    shares = torch.bincount(chosen, minlength=4) / 1000
    assert shares.tolist() == pytest.approx([one.sampled_probability for one in said], abs=2e-3)
