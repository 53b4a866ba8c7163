"""Reasoning: which tokens weigh more, what the loss is divided by, and what is asked at each evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from engine.runs.events import Evaluated, Step
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from engine.text.encode import TAGS, Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.sample import Sample
from engine.text.shapes import Record
from engine.text.template import project_template
from engine.text.tokenizer import Tokenizer
from tests.stages.assembled import Assembled, answer_log_probs, assemble
from tests.text.chat_templates import TEMPLATES
from tests.text.tokenizer_folders import MARKERS, TEXTS, qwen, sentencepiece, write
from tests.training.tiny import World, losses, request

TALK = (
    Message("system", "Think in <think> and </think>, answer in <answer>…</answer>."),
    Message("user", "<think>mine</think> What is <answer>?</answer>"),
    Message("assistant", "<think>1+1\nis 2</think>\n<answer>2</answer>\nBut </answers> and < answer > are no tags."),
    Message("user", "And <think>?"),
    Message("assistant", "<answer>3</answer>", reasoning_content="1+2"),
)


def merging(folder: Path) -> Path:
    """Knows no tag as a token, and the last token of a tag at the end of a line is `>\\n`."""
    backend = Backend(models.BPE())
    words = pre_tokenizers.Split(Regex(r"[^\s\p{L}\p{N}]+[\r\n]*|\p{L}+|\p{N}|\s+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*TEXTS, *["<think>\n1\n</think>\n<answer>2</answer>\n"] * 50], trainer)
    backend.add_special_tokens(MARKERS)
    return write(folder, backend)


def _weighted(tokenizer: Tokenizer, sample: Sample) -> tuple[list[bool], list[bool]]:
    """Which tokens weigh 10, and which have a character of a tag in a trained assistant span, by decoded texts."""
    texts = tokenizer.texts(sample.input_ids.tolist())
    ends = np.cumsum([len(text) for text in texts])
    begins = ends - [len(text) for text in texts]
    expected = np.zeros(len(texts), dtype=bool)
    for span in sample.spans:
        if span.role == "assistant" and sample.loss_weights[span.start : span.end].any():
            said = "".join(texts[span.start : span.end])
            for tag in TAGS.finditer(said):
                first, last = begins[span.start] + tag.start(), begins[span.start] + tag.end()
                expected |= (begins < last) & (ends > first)
    return (sample.loss_weights == 10).tolist(), expected.tolist()


@pytest.mark.parametrize(
    "make", [None, qwen, merging, sentencepiece], ids=lambda made: getattr(made, "__name__", "own")
)
def test_exactly_the_tags_that_the_assistant_says_weigh_more(
    world: World, tmp_path: Path, make: Callable[[Path], Path] | None
) -> None:
    """Single tokens, split ones, and ones that melt with a line break; literal tags of others are text."""
    tokenizer = Tokenizer.load(make(tmp_path / "made") if make else world.tokenizer)
    encoder = Encoder(tokenizer, EncodeSettings(2048, tag_weight=10.0), project_template())
    [sample] = encoder.encode(Record(0, 1, "conversation", "openai", messages=TALK))
    found, expected = _weighted(tokenizer, sample)
    assert found == expected and set(sample.loss_weights.tolist()) == {0.0, 1.0, 10.0}
    heavy = "".join(text for text, hit in zip(tokenizer.texts(sample.input_ids.tolist()), found, strict=True) if hit)
    tags = "<think></think><answer></answer>" * 2
    assert "".join(heavy.split()) == tags
    if make is merging:
        assert ">\n" in heavy, "otherwise this tokenizer shows nothing"
    if make is None:
        assert sum(found) == 8, "one token each"
    plain = Encoder(tokenizer, EncodeSettings(2048), project_template())
    [same] = plain.encode(Record(0, 1, "conversation", "openai", messages=TALK))
    assert same.input_ids.tolist() == sample.input_ids.tolist()
    assert ((sample.loss_weights > 0) == (same.loss_weights > 0)).all()


def test_tags_of_turns_that_are_not_trained_weigh_nothing(tokenizer: Tokenizer) -> None:
    """A template that drops old thoughts makes a sample a turn; in the second one the first turn is only read."""
    encoder = Encoder(tokenizer, EncodeSettings(2048, tag_weight=10.0), TEMPLATES["drops old thoughts"])
    first, second = encoder.encode(Record(0, 1, "conversation", "openai", messages=TALK[1:]))
    for sample, tags in ((first, 4), (second, 4)):
        found, expected = _weighted(tokenizer, sample)
        assert sum(found) >= tags and sum(expected) >= sum(found)
    trained = np.flatnonzero(second.loss_weights)
    assert (second.loss_weights[: trained[0]] == 0).all()
    assert "1+1" in tokenizer.decode(second.input_ids[: trained[0]].tolist()), "the first turn stands there, unweighted"


def test_tags_that_the_prompt_supplies_weigh_nothing(tokenizer: Tokenizer) -> None:
    """A template whose generation prompt opens the thoughts: the model never says that tag itself."""
    encoder = Encoder(tokenizer, EncodeSettings(2048, tag_weight=10.0), TEMPLATES["always thinks"])
    talk = (Message("user", "q"), Message("assistant", "<answer>2</answer>", reasoning_content="1+1"))
    [sample] = encoder.encode(Record(0, 1, "conversation", "openai", messages=talk))
    weights = {name: sample.loss_weights[sample.input_ids == tokenizer.tags[name]].tolist() for name in tokenizer.tags}
    assert weights["<think>"] == [0.0]
    assert weights["</think>"] == weights["<answer>"] == weights["</answer>"] == [10.0]


# The loss


def _write_thoughts(path: Path, rows: int = 40) -> Path:
    """Questions with thoughts of different lengths before the answer."""
    lines = []
    for number in range(rows):
        given = "bread" if number % 4 < 2 else "the old boat and two books"
        said = f"<think>Bo gives {given}.</think><answer>Bo</answer>"
        asked = {"role": "user", "content": f"{number}: who gives?"}
        lines.append({"conversations": [asked, {"role": "assistant", "content": said}]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def thoughts(world: World) -> Path:
    return _write_thoughts(world.folder / "thoughts.jsonl")


def _begun(world: World, data: Path, name: str, stage: str = "reason", **settings: Any) -> RunFolder:
    world.start()
    asked = {"max_seq_len": 96, "packing": False, **settings}
    return begin(request(stage, data, world.tokenizer, name, "start", **asked))


def _by_hand(made: Assembled, batches: list[Any]) -> tuple[float, float, int]:
    """The weighted sum of −log p, the sum of weights, and how many tokens have one."""
    total = weights = 0.0
    count = 0
    for document in (document for batch in batches for document in batch.documents()):
        own = document.loss_weights[document.loss_weights > 0]
        log_probs = answer_log_probs(made.stage.model, document.input_ids, document.loss_weights).detach().numpy()
        total -= float((own * log_probs).sum())
        weights += float(own.sum())
        count += len(own)
    return total, weights, count


def test_what_the_weighted_sum_is_divided_by(world: World, thoughts: Path) -> None:
    """By the weights or by the tokens, over all micro-batches of the step."""
    found = {}
    for denominator in ("weights", "tokens"):
        made = assemble(_begun(world, thoughts, denominator, loss_denominator=denominator, batch_size=1,
                               accumulation_steps=4, tag_weight=7.0))  # fmt: skip
        [batches] = made.stage.collect(0)
        total, weights, count = _by_hand(made, batches)
        assert len({float(batch.loss_weights.sum()) for batch in batches}) > 1 and weights > 1.5 * count
        found[denominator] = made.step(batches).loss
        assert found[denominator] == pytest.approx(total / (weights if denominator == "weights" else count), rel=1e-5)
    assert found["tokens"] > 1.5 * found["weights"]


def test_a_weight_of_1_is_plain_fine_tuning(world: World, thoughts: Path) -> None:
    runs = [_begun(world, thoughts, stage, stage, **own)
            for stage, own in (("sft", {}), ("reason", {"tag_weight": 1.0}))]  # fmt: skip
    for run in runs:
        carry_out(run)
    assert losses(runs[0]) == losses(runs[1])


def test_held_out_questions_are_asked(world: World, thoughts: Path) -> None:
    """Before: no form and no right answer. After: both, on rows that were not trained on."""
    run = _begun(world, thoughts, "learnt", max_steps=120, learning_rate=1e-2, eval_interval=40, val_fraction=0.2)
    before = assemble(_begun(world, thoughts, "before", val_fraction=0.2)).stage.evaluate().metrics
    assert before["val_format_rate"] == before["val_accuracy"] == 0
    carry_out(run)
    asked = [event.metrics for event in run.history() if isinstance(event, Evaluated)]
    assert len(asked) == 3 and asked[-1]["val_format_rate"] == asked[-1]["val_accuracy"] == 1
    assert asked[-1]["val_loss"] < before["val_loss"]
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert all("val_format_rate" not in metrics for metrics in steps)


def test_no_held_out_rows_no_questions(world: World, thoughts: Path) -> None:
    made = assemble(_begun(world, thoughts, "none-held-out", val_fraction=0.0))
    assert made.stage.evaluate().metrics == {}
