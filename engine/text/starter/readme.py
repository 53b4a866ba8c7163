"""The starter world's README."""

from collections.abc import Mapping, Sequence

from engine.text.starter.stories import TELLINGS
from engine.text.starter.sums import HELD_OUT_SHARE
from engine.text.starter.wording import ATTRIBUTES, PEOPLE
from engine.text.starter.world import ASKED_PHRASINGS, NEVER_ASKED

TITLE = "# The starter world"
"""The first line; a folder whose README begins so is a starter world's."""


def readme(files: Sequence[tuple[str, str, str, str]], lines: Mapping[str, int], seed: int) -> str:
    """The README's text: what the world is, its files with their counts, and its held-out sets."""
    table = "\n".join(
        f"| `{name}` | {lines[name]:,} | {shape} | {stage} | {purpose} |" for name, shape, stage, purpose in files
    )
    attributes = ", ".join(attribute.name for attribute in ATTRIBUTES)
    facts = len(PEOPLE) * len(ATTRIBUTES)
    return f"""{TITLE}

A small made-up world in English and Chinese, written by `engine data starter` with seed {seed}: the same seed gives the
same bytes everywhere. {len(PEOPLE)} people have {len(ATTRIBUTES)} attributes each ({attributes}): {facts} facts, each
told in both languages. A story is in one language; nothing in the stories asks a question. Sums have two-digit operands
and are worked one digit at a time, the carry or borrow always written.

| file | rows | shape | for | what it is |
|---|---|---|---|---|
{table}

Each row is one line of JSON: `text`; `conversations`; `chosen` and `rejected`; or `conversations` with an empty last
turn plus `answer`, `gt`, `check`, `task` and `lang`. Rows of the eval files also carry `kind` and `lang`; the
assistant's turn in them is the exact answer expected. Train the tokenizer on `pretrain.jsonl` and `sft.jsonl` together.

## What is held out
- **Phrasings** (`eval_phrasing.jsonl`): every asked fact has five phrasings. {ASKED_PHRASINGS} of them, drawn for each
  fact, are asked in training, the others here. Training shows each phrasing, but with other people.
- **Facts only told** (`eval_stories.jsonl`): for {NEVER_ASKED} of {len(PEOPLE)} people, drawn for each attribute and
  language, no training conversation asks the fact in that language (it may in the other). The stories tell it, so
  this set shows what pretraining gave. Guessing among the values gives about 7 %.
- **Operands** (`eval_arithmetic.jsonl`, `eval_rlaif.jsonl`): {HELD_OUT_SHARE:.0%} of the operand pairs, in both orders
  and for both operations, stand nowhere in training.
- **Identity** (`eval_identity.jsonl`): questions whose wording, greeting or both stand in neither `sft.jsonl` nor
  `lora_identity.jsonl`. The name expected is the one that `lora_identity.jsonl` teaches.

## The pairs
In `dpo.jsonl` and `eval_dpo.jsonl` two questions of the same kind exchange their values, so each answer's words and
length are chosen as often as rejected: only knowing the fact helps. `dpo_order.jsonl` is no such hard pair but a
behaviour: both sides have the same words, and the first one tells them apart. `sft.jsonl` answers thanked questions in
both orders, half and half, so that training on these pairs has something to prefer; `eval_order.jsonl` counts what the
model then does.

Each fact stands {TELLINGS} times or more in the portraits alone, and about twice as often over all stories.
"""
