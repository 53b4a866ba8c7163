"""The starter world: a small deterministic bilingual world to train on from the first minute.

The same seed gives the same bytes on every machine.
"""

import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import DataError
from engine.text.starter import rows
from engine.text.starter.readme import TITLE, readme
from engine.text.starter.stories import pretraining_texts
from engine.text.starter.sums import Sums
from engine.text.starter.world import World

__all__ = ["STARTER_FILES", "StarterFile", "write_starter"]


class StarterFile(NamedTuple):
    """A file of the starter world.

    Attributes:
        name: The file's name.
        shape: `text`, `conversation`, `pair` or `prompt`.
        stage: What reads it: a stage's name, or `eval`.
        purpose: One sentence.
    """

    name: str
    shape: str
    stage: str
    purpose: str


STARTER_FILES = (
    StarterFile("pretrain.jsonl", "text", "pretrain", "Stories telling every fact in both languages; worked sums."),
    StarterFile("sft.jsonl", "conversation", "sft", "Facts, sums with steps, identity, two turns, thanks."),
    StarterFile("sft_few_sums.jsonl", "conversation", "sft", "The same with few of its sums, to go on from by trial."),
    StarterFile("reason.jsonl", "conversation", "reason", "Sums answered with their steps in think and answer tags."),
    StarterFile("direct.jsonl", "conversation", "sft", "The same sums answered at once, to compare with reason.jsonl."),
    StarterFile("lora_identity.jsonl", "conversation", "lora", "A new name for an adapter to teach."),
    StarterFile("lora_replay.jsonl", "conversation", "lora", "The same among rows of the world, so that it is kept."),
    StarterFile("dpo.jsonl", "pair", "dpo", "A right value against a wrong one; no word or length tells."),
    StarterFile("dpo_order.jsonl", "pair", "dpo", "A behaviour: the fact before the courtesy against the other order."),
    StarterFile("rlaif.jsonl", "prompt", "grpo", "Sums to answer, with the value to check against."),
    StarterFile("eval_phrasing.jsonl", "conversation", "eval", "Asked facts in phrasings that sft.jsonl lacks."),
    StarterFile("eval_stories.jsonl", "conversation", "eval", "Facts that only the stories tell in that language."),
    StarterFile("eval_arithmetic.jsonl", "conversation", "eval", "Sums of held-out operand pairs."),
    StarterFile("eval_identity.jsonl", "conversation", "eval", "Held-out ways to ask for the new name."),
    StarterFile("eval_dpo.jsonl", "pair", "eval", "Wrong-value pairs on the questions of eval_phrasing.jsonl."),
    StarterFile("eval_order.jsonl", "conversation", "eval", "Thanked questions; the preferred order is expected."),
    StarterFile("eval_rlaif.jsonl", "prompt", "eval", "The sums of eval_arithmetic.jsonl as prompts."),
)
"""Every data file of the starter world, in the order of the ladder; a README.md explains them to a reader."""


def write_starter(folder: Path, seed: int = 0) -> dict[str, int]:
    """Writes the starter world.

    Everything is written beside its place first and then renamed, so no half-written file ever stands there.

    Args:
        folder: Where to; made when missing. A starter world that stands there is replaced.
        seed: Another seed makes another world of the same size.

    Returns:
        Lines of each data file, by name.

    Raises:
        DataError: `folder` cannot be written, or holds files of these names that are not a starter world's.
    """
    _refuse_foreign_files(folder)
    contents = _contents(seed)
    lines = {file.name: len(contents[file.name]) for file in STARTER_FILES}
    texts = {
        name: "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in content)
        for name, content in contents.items()
    }
    texts["README.md"] = readme(STARTER_FILES, lines, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".starter-", dir=folder) as place:
            for name, text in texts.items():
                (Path(place) / name).write_text(text, encoding="utf-8", newline="\n")
            for name in texts:
                os.replace(Path(place) / name, folder / name)
    except OSError as error:
        raise DataError(
            f"cannot write the starter world: {error.strerror}",
            where=str(folder),
            hint="choose a folder you may write to",
        ) from error
    return lines


def _contents(seed: int) -> dict[str, Sequence[Any]]:
    """The rows of every file. Each part has a random stream of its own, so one can change without the others."""

    def stream(part: str) -> random.Random:
        return random.Random(f"starter/{seed}/{part}")

    world, sums = World(stream("world")), Sums(stream("sums"))
    held_out = sums.held_out[: rows.EVAL_SUMS]
    return {
        "pretrain.jsonl": [{"text": text} for text in pretraining_texts(world, sums, stream("stories"))],
        "sft.jsonl": rows.sft(world, sums, stream("sft")),
        "sft_few_sums.jsonl": rows.few_sums(world, sums, stream("sft"), stream("few sums")),
        "reason.jsonl": rows.reason(sums),
        "direct.jsonl": rows.direct(sums),
        "lora_identity.jsonl": rows.lora_identity(stream("identity")),
        "lora_replay.jsonl": rows.lora_replay(world, sums, stream("replay")),
        "dpo.jsonl": rows.value_pairs(world, world.seen, rows.WRONG_VALUES, stream("pairs")),
        "dpo_order.jsonl": rows.order_pairs(world, stream("order")),
        "rlaif.jsonl": rows.prompts(sums.training[: rows.PROMPTS]),
        "eval_phrasing.jsonl": rows.eval_facts(world.unseen, "phrasing"),
        "eval_stories.jsonl": rows.eval_facts(world.never_asked, "stories"),
        "eval_arithmetic.jsonl": rows.eval_sums(held_out),
        "eval_identity.jsonl": rows.eval_identity(),
        "eval_dpo.jsonl": rows.value_pairs(world, world.unseen, 1, stream("unseen pairs")),
        "eval_order.jsonl": rows.eval_order(world),
        "eval_rlaif.jsonl": rows.prompts(held_out),
    }


def _refuse_foreign_files(folder: Path) -> None:
    """Keeps a user's own files of the same names from being replaced."""
    guide = folder / "README.md"
    try:
        ours = guide.is_file() and guide.read_text(encoding="utf-8", errors="replace").startswith(TITLE)
        names = [*(file.name for file in STARTER_FILES), "README.md"]
        foreign = [] if ours else [name for name in names if (folder / name).exists()]
    except OSError as error:
        raise DataError(f"cannot read the folder: {error.strerror}", where=str(folder)) from error
    if foreign:
        raise DataError(
            f"{foreign[0]} stands there already and is not a starter world's",
            where=str(folder),
            hint="choose an empty folder",
        )
