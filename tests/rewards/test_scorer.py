"""Where the score of an answer is read: in folders of this project, in others of its families, in any other."""

import json
from copy import copy
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from engine.errors import CheckpointError
from engine.model.families import load_pretrained
from engine.model.heads import ScalarModel, save_scalar_model
from engine.rewards.scorer import ForeignScorer, RewardScorer, load_scorer
from engine.text.messages import Message
from engine.text.template import TemplateFailure
from engine.text.tokenizer import Tokenizer
from tests.evaluation.helpers import save_model
from tests.text.chat_templates import TEMPLATES

CPU = torch.device("cpu")
ASKED = (Message("user", "who?"), Message("assistant", "the fox"), Message("user", "where?"))
ANSWERS = [((ASKED[0],), "a dog"), (ASKED, "in the sun"), (ASKED, "")]


def _ours(folder: Path, tokenizer: Tokenizer, template: str = TEMPLATES["project"]) -> Path:
    """A folder as the reward stage writes it, of large random weights."""
    used = copy(tokenizer)
    used.chat_template = template
    torch.manual_seed(5)
    model = ScalarModel(load_pretrained(save_model(folder, used, 1)), torch.randn(1, 16))
    save_scalar_model(folder, model, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    return folder


def _theirs(folder: Path) -> Path:
    """The same as if somebody else had trained it."""
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("minimind_score_at") == "end_of_turn"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@torch.no_grad()
def _score(folder: Path, text: str) -> float:
    """What transformers gives for a text, read at its last token."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return float(model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0])


def _text(folder: Path, prompt: tuple[Message, ...], answer: str) -> str:
    messages = [message.as_dict() for message in (*prompt, Message("assistant", answer))]
    return str(AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False))


def test_ours_are_read_at_the_end_of_the_turn(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = _ours(tmp_path, tokenizer)
    texts = [_text(folder, *answer) for answer in ANSWERS]
    assert all(text.endswith("<|im_end|>\n") for text in texts)
    found = load_scorer(folder, CPU)(ANSWERS)
    assert found == pytest.approx([_score(folder, text.removesuffix("\n")) for text in texts], abs=1e-5)


def test_others_of_our_families_are_read_at_the_last_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Also the line break after the end of the turn: it is where transformers learnt the score."""
    at_end = load_scorer(_ours(tmp_path, tokenizer), CPU)(ANSWERS)
    scorer = load_scorer(_theirs(tmp_path), CPU)
    assert isinstance(scorer, RewardScorer)
    found = scorer(ANSWERS)
    assert found == pytest.approx([_score(tmp_path, _text(tmp_path, *answer)) for answer in ANSWERS], abs=1e-5)
    assert found == pytest.approx(ForeignScorer(tmp_path, CPU)(ANSWERS), abs=1e-5)
    assert all(abs(one - other) > 1e-3 for one, other in zip(found, at_end, strict=True))


def test_an_empty_answer_has_a_score_of_its_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """With a template of which every turn is a sample of its own, the turn before is not taken for it."""
    folder = _ours(tmp_path, tokenizer, TEMPLATES["drops old thoughts"])
    before, empty = load_scorer(folder, CPU)([(ASKED[:1], ASKED[1].content), (ASKED, "")])
    assert abs(before - empty) > 1e-3
    text = _text(folder, ASKED, "").removesuffix("\n")
    assert "where?" in text and text.endswith("</think>\n\n<|im_end|>")
    assert empty == pytest.approx(_score(folder, text), abs=1e-5)


def test_where_nothing_marks_a_turns_end_an_empty_answer_is_read_at_the_last_token(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    bare = "{% for m in messages %}{{ '\\n' + m.role + ':' + m.content }}{% endfor %}"
    bare += "{% if add_generation_prompt %}{{ '\\nassistant:' }}{% endif %}"
    folder = _ours(tmp_path, tokenizer, bare)
    scores = load_scorer(folder, CPU)([(ASKED, ""), (ASKED[:1], "a dog"), (ASKED, "")])
    assert scores[0] == pytest.approx(scores[2], abs=1e-6)
    assert scores[0] == pytest.approx(_score(folder, _text(folder, ASKED, "")), abs=1e-5)


def test_other_families_are_read_by_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    used = copy(tokenizer)
    used.chat_template = TEMPLATES["merges system"]
    used.save(tmp_path)
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    config.num_labels = 1
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    scorer = load_scorer(tmp_path, CPU)
    assert isinstance(scorer, ForeignScorer)
    expected = [_score(tmp_path, _text(tmp_path, *answer)) for answer in ANSWERS]
    assert scorer(ANSWERS) == pytest.approx(expected, abs=1e-5)
    assert scorer.score((*ASKED, Message("assistant", "in the sun"))) == pytest.approx(expected[1], abs=1e-5)
    with pytest.raises(TemplateFailure, match="must alternate"):
        scorer.score((ASKED[0], ASKED[2]))


def test_a_language_model_is_no_reward_model(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Transformers would draw the head that is not there."""
    tokenizer.save(tmp_path)
    config = GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=16, n_layer=1, n_head=2, num_labels=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no sequence classifier: it has no score\.weight"):
        load_scorer(tmp_path, CPU)
