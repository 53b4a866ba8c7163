import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.generation.chat import ChatPartner
from engine.generation.sampling import SamplingSettings
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.messages import Message
from engine.text.template import project_template
from engine.text.tokenizer import Tokenizer
from tests.model.helpers import SHAPE
from tests.text import tokenizer_folders as folders

QUESTION = [Message("system", "You are Bo."), Message("user", "一加二等于几？")]
GREEDY_ONE = SamplingSettings(temperature=0, max_new_tokens=1)
SETTINGS = SamplingSettings(temperature=1.0, top_p=0.95, max_new_tokens=40, seed=3)


def _save(folder: Path, tokenizer: Tokenizer) -> ChatPartner:
    """A model that knows nothing, with this tokenizer: it says any token."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**SHAPE, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 512}))
    save_pretrained(folder, model, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    tokenizer.save(folder)
    return ChatPartner(folder)


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ChatPartner:
    return _save(tmp_path_factory.mktemp("model"), tokenizer)


def test_tokens_come_only_when_asked_for_and_change_nothing(partner: ChatPartner) -> None:
    plain = list(partner.answer(QUESTION, SETTINGS))
    scored = list(partner.answer(QUESTION, SETTINGS, alternatives=4))
    assert not any(piece.token for piece in plain)
    assert [(piece.text, piece.stop_reason, piece.tokens) for piece in plain] == [
        (piece.text, piece.stop_reason, piece.tokens) for piece in scored
    ]
    tokens = [piece.token for piece in scored if piece.token]
    assert len(tokens) == len(scored)
    assert "".join(token.text for token in tokens) == "".join(piece.text for piece in plain)
    for token in tokens:
        assert 0 < token.probability == pytest.approx(math.exp(token.score.logprob))
        assert len(token.choices) == 4
        assert [choice.probability for choice in token.choices] == sorted(
            (choice.probability for choice in token.choices), reverse=True
        )
        assert all(choice.name for choice in token.choices)


def test_a_token_is_named_by_its_own_bytes(partner: ChatPartner) -> None:
    """The generated ids are those that tokenising the answer's parts would name."""
    tokenizer = partner.tokenizer
    [piece] = partner.continue_ids([1], GREEDY_ONE, alternatives=tokenizer.vocab_size)
    assert piece.token is not None
    names = {choice.id: choice.name for choice in piece.token.choices}
    assert len(names) == tokenizer.vocab_size
    first = next(id_ for id_ in range(tokenizer.vocab_size) if tokenizer.token_bytes(id_) == b"\xe5")
    assert names[first] == "\\xe5"
    assert names[min(tokenizer.stop_ids)].startswith("<|")
    assert sum(choice.probability for choice in piece.token.choices) == pytest.approx(1, abs=1e-4)


def test_an_answer_goes_on_after_its_opening(partner: ChatPartner) -> None:
    """Greedy: what follows a part of an answer is the rest of it."""
    settings = SamplingSettings(temperature=0, max_new_tokens=12)
    pieces = list(partner.answer(QUESTION, settings, alternatives=1))
    ids = [piece.token.id for piece in pieces if piece.token]
    prompt = partner.prompt_ids(QUESTION)
    opening = "<think>一加二</think>It is <|im_end|>\nthree"
    begun = partner.prompt_ids(QUESTION, opening)
    assert begun[: len(prompt)] == prompt
    assert partner.tokenizer.decode(begun) == partner.tokenizer.decode(prompt) + opening
    spoken = begun[len(prompt) :]
    assert set(partner.tokenizer.tags.values()) & set(spoken), "tags are tokens in an assistant's words"
    assert not set(partner.tokenizer.control_tokens.values()) & set(spoken), "turn markers never are"
    half = list(partner.continue_ids([*prompt, *ids[:5]], settings, alternatives=1))
    assert [piece.token.id for piece in half if piece.token][:7] == ids[5:]
    said = list(partner.answer(QUESTION, settings, opening=opening))
    assert [piece.text for piece in said] == [piece.text for piece in partner.continue_ids(begun, settings)]


@pytest.mark.parametrize("kind", [folders.qwen, folders.sentencepiece, folders.metaspace])
def test_an_opening_gets_no_space_of_its_own(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    tokenizer = Tokenizer.load(kind(tmp_path / "tokenizer"))
    tokenizer.chat_template = project_template()
    partner = _save(tmp_path / "model", tokenizer)
    for opening in ("一加二", "three", "  two\n\n", "\nand"):
        prompt, begun = partner.prompt_ids(QUESTION[1:]), partner.prompt_ids(QUESTION[1:], opening)
        assert tokenizer.decode(begun) == tokenizer.decode(prompt) + opening
