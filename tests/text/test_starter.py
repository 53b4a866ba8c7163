"""The starter world keeps what it promises: sizes, held-out sets, true sums, pairs without shortcuts."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError
from engine.text.starter import STARTER_FILES, write_starter
from engine.text.starter.sums import Sum
from engine.text.starter.wording import ATTRIBUTES, LANGUAGES, PEOPLE

Rows = dict[str, list[dict[str, Any]]]

TRAINING = (
    "pretrain.jsonl",
    "sft.jsonl",
    "reason.jsonl",
    "direct.jsonl",
    "lora_identity.jsonl",
    "lora_replay.jsonl",
    "sft_few_sums.jsonl",
    "dpo.jsonl",
    "dpo_order.jsonl",
    "rlaif.jsonl",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("starter")
    write_starter(place)
    return place


@pytest.fixture(scope="module")
def world(folder: Path) -> Rows:
    return {
        file.name: [json.loads(line) for line in (folder / file.name).read_text(encoding="utf-8").splitlines()]
        for file in STARTER_FILES
    }


def everything(row: dict[str, Any]) -> str:
    """All text of a row."""
    turns = [*row.get("conversations", []), *row.get("chosen", []), *row.get("rejected", [])]
    return "\n".join([row.get("text", ""), *(turn["content"] for turn in turns)])


def asked(rows: list[dict[str, Any]]) -> set[str]:
    return {row["conversations"][0]["content"] for row in rows}


def sums_in(text: str) -> set[tuple[frozenset[int], str]]:
    """Two-digit operands that stand before a question mark, a colon or the Chinese wording."""
    found = re.findall(r"(?<!\d)(\d\d)([+-])(\d\d)(?=[?:等])", text)
    return {(frozenset((int(left), int(right))), sign) for left, sign, right in found}


def operands(rows: list[dict[str, Any]]) -> set[frozenset[int]]:
    return {pair for row in rows for pair, _ in sums_in(everything(row))}


def test_same_seed_same_bytes_and_another_seed_another_world(folder: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    lines = write_starter(again)
    assert list(lines) == [file.name for file in STARTER_FILES]
    assert sorted(path.name for path in again.iterdir()) == sorted([*lines, "README.md"])
    for path in again.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert write_starter(other, seed=1) == lines
    assert (other / "eval_stories.jsonl").read_bytes() != (folder / "eval_stories.jsonl").read_bytes()


def test_bytes_do_not_depend_on_the_hash_seed_and_no_torch_is_loaded(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.text.starter import write_starter;"
        f"write_starter(Path({str(tmp_path)!r})); sys.exit('torch' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)}, check=True
    )
    for file in STARTER_FILES:
        assert (tmp_path / file.name).read_bytes() == (folder / file.name).read_bytes()


def test_writing_again_replaces_but_foreign_files_are_kept(tmp_path: Path) -> None:
    write_starter(tmp_path)
    (tmp_path / "sft.jsonl").write_text("torn")
    write_starter(tmp_path)
    assert "torn" not in (tmp_path / "sft.jsonl").read_text(encoding="utf-8")

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "dpo.jsonl").write_text("mine")
    with pytest.raises(DataError, match=r"dpo\.jsonl stands there already") as raised:
        write_starter(mine)
    assert raised.value.hint
    assert [path.name for path in mine.iterdir()] == ["dpo.jsonl"]

    with pytest.raises(DataError):
        write_starter(mine / "dpo.jsonl")


def test_sizes(world: Rows) -> None:
    assert len(world["eval_phrasing.jsonl"]) >= 1000
    assert len(world["eval_stories.jsonl"]) >= 600
    assert len(world["eval_arithmetic.jsonl"]) == len(world["eval_rlaif.jsonl"]) == 1000
    assert len(operands(world["eval_arithmetic.jsonl"])) == 1000
    assert len(world["eval_dpo.jsonl"]) >= 1000
    for name in ("eval_phrasing.jsonl", "eval_stories.jsonl", "eval_arithmetic.jsonl", "eval_identity.jsonl"):
        assert len(asked(world[name])) == len(world[name])
        assert {row["lang"] for row in world[name]} == set(LANGUAGES)


def test_every_row_has_the_shape_of_its_file(world: Rows) -> None:
    for file in STARTER_FILES:
        for row in world[file.name]:
            assert all(turn["role"] in ("system", "user", "assistant") for turn in row.get("conversations", []))
            if file.shape == "text":
                assert list(row) == ["text"] and row["text"].strip()
            elif file.shape == "pair":
                assert list(row) == ["chosen", "rejected"]
                assert row["chosen"][:-1] == row["rejected"][:-1]
                assert row["chosen"][-1]["content"] != row["rejected"][-1]["content"]
            elif file.shape == "prompt":
                assert row["conversations"][-1] == {"role": "assistant", "content": ""}
                assert row["gt"] == [row["answer"]] and row["check"] == "number"
            else:
                assert row["conversations"][-1]["role"] == "assistant"
                assert all(turn["content"].strip() for turn in row["conversations"])
            if file.name.startswith("eval_") and file.shape == "conversation":
                assert [turn["role"] for turn in row["conversations"]] == ["user", "assistant"]
                assert {"kind", "lang"} <= set(row)


def test_every_fact_stands_in_the_stories_of_its_language_and_nothing_is_asked_there(world: Rows) -> None:
    """The answers' sentences are one of the ways in which stories tell a fact."""
    stories = "\n".join(row["text"] for row in world["pretrain.jsonl"])
    told = Counter(re.split(r"\n|(?<=[.。]) ?", stories))
    answers = {
        row["conversations"][-1]["content"]
        for name in ("eval_phrasing.jsonl", "eval_stories.jsonl")
        for row in world[name]
    }
    assert len(answers) == len(PEOPLE) * len(ATTRIBUTES) * len(LANGUAGES)
    assert min(told[answer] for answer in answers) >= 5
    assert "?" not in stories and "？" not in stories
    assert "<" not in stories


def test_no_held_out_question_is_trained(world: Rows) -> None:
    trained = "\n".join(everything(row) for name in TRAINING for row in world[name])
    for name in ("eval_phrasing.jsonl", "eval_stories.jsonl"):
        for question in asked(world[name]):
            assert question not in trained
    identities = asked(world["lora_identity.jsonl"]) | asked(world["sft.jsonl"])
    assert not identities & asked(world["eval_identity.jsonl"])


def test_facts_of_the_stories_are_never_asked_in_any_phrasing(world: Rows) -> None:
    """No trained question and answer gives a never-asked fact, and both sets' facts are disjoint."""
    answers = {row["conversations"][-1]["content"] for row in world["eval_stories.jsonl"]}
    assert not answers & {row["conversations"][-1]["content"] for row in world["eval_phrasing.jsonl"]}
    for name in TRAINING[1:]:
        for row in world[name]:
            assert not answers & {turn["content"] for turn in row.get("conversations", [])}
            assert not any(answer in row["chosen"][-1]["content"] for answer in answers if "chosen" in row)
    groups = Counter(row["conversations"][-1]["content"] for row in world["eval_stories.jsonl"])
    assert set(groups.values()) == {5}


def test_each_asked_fact_is_trained_in_three_phrasings(world: Rows) -> None:
    held_out = Counter(row["conversations"][-1]["content"] for row in world["eval_phrasing.jsonl"])
    single = [row["conversations"] for row in world["sft.jsonl"] if len(row["conversations"]) == 2]
    trained = Counter(turns[1]["content"] for turns in single)
    assert set(held_out.values()) == {2}
    assert {trained[answer] for answer in held_out} == {3}


def test_held_out_operands_stand_nowhere_in_training(world: Rows) -> None:
    held_out = operands(world["eval_arithmetic.jsonl"])
    assert held_out == operands(world["eval_rlaif.jsonl"])
    trained = {name: operands(world[name]) for name in TRAINING}
    for name in ("pretrain.jsonl", "sft.jsonl", "reason.jsonl", "direct.jsonl", "rlaif.jsonl"):
        assert len(trained[name]) > 900
    assert not held_out & set().union(*trained.values())


def test_worked_steps_by_hand() -> None:
    assert Sum(53, "-", 15).steps == "13-5=8 5-1-1=3" and Sum(53, "-", 15).result == 38
    assert Sum(58, "-", 15).steps == "8-5=3 5-1-0=4" and Sum(58, "-", 15).result == 43
    assert Sum(47, "+", 38).steps == "7+8=15 4+3+1=8" and Sum(47, "+", 38).result == 85
    assert Sum(99, "+", 99).reasoned == "<think>9+9=18 9+9+1=19</think><answer>198</answer>"
    assert Sum(53, "-", 48).text == "53-48: 13-8=5 5-4-1=0 5"


def test_every_written_step_and_answer_is_right(world: Rows) -> None:
    """Each equation is re-computed, and the answer is put together from the steps."""

    def check(left: int, sign: str, right: int, steps: str, answer: str) -> None:
        equations = [equation.split("=") for equation in steps.split(" ")]
        for formula, value in equations:
            assert re.fullmatch(r"[\d+-]+", formula)
            terms = [int(term) for term in re.findall(r"[+-]?\d+", formula)]
            assert sum(terms) == int(value)
        (ones, low), (_, high) = equations
        assert len(re.findall(r"\d+", ones)) == 2
        assert int(answer) == int(high) * 10 + int(low) % 10 == (left + right if sign == "+" else left - right)
        assert 0 <= int(answer) <= 198

    checked = 0
    for row in world["pretrain.jsonl"]:
        for line in re.findall(r"^\d.*$", row["text"], re.MULTILINE):
            match = re.fullmatch(r"(\d\d)([+-])(\d\d): (\S+ \S+) (\d+)", line)
            assert match
            check(int(match[1]), match[2], int(match[3]), match[4], match[5])
            checked += 1
    for name in ("sft.jsonl", "reason.jsonl", "eval_arithmetic.jsonl"):
        for row in world[name]:
            question, answer = (turn["content"] for turn in row["conversations"][-2:])
            if "<" in answer:
                match = re.fullmatch(r"<think>(\S+ \S+)</think><answer>(\d+)</answer>", answer)
                operation = re.search(r"(\d\d)([+-])(\d\d)", question)
                assert match and operation
                check(int(operation[1]), operation[2], int(operation[3]), match[1], match[2])
                checked += 1
    assert checked > 15000
    for quick, slow in zip(world["direct.jsonl"], world["reason.jsonl"], strict=True):
        assert quick["conversations"][0] == slow["conversations"][0]
        assert slow["conversations"][1]["content"].endswith("</think>" + quick["conversations"][1]["content"])
    for prompt, expected in zip(world["eval_rlaif.jsonl"], world["eval_arithmetic.jsonl"], strict=True):
        assert prompt["conversations"][0] == expected["conversations"][0]
        assert f"<answer>{prompt['answer']}</answer>" in expected["conversations"][1]["content"]


def answers_of(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["chosen"][-1]["content"], row["rejected"][-1]["content"]) for row in rows]


def words(text: str) -> set[str]:
    """English words, Chinese characters."""
    return set(re.findall(r"[A-Za-z']+|[\u4e00-\u9fff]", text))


@pytest.mark.parametrize("name", ["dpo.jsonl", "eval_dpo.jsonl"])
def test_length_tells_nothing(world: Rows, name: str) -> None:
    pairs = answers_of(world[name])
    differences = Counter(len(chosen) - len(rejected) for chosen, rejected in pairs)
    longer = sum(count for difference, count in differences.items() if difference > 0)
    assert 0.42 <= (longer + differences[0] / 2) / len(pairs) <= 0.58
    assert all(differences[difference] == differences[-difference] for difference in list(differences))


@pytest.mark.parametrize("name", ["dpo.jsonl", "eval_dpo.jsonl"])
def test_no_single_word_tells_chosen_from_rejected(world: Rows, name: str) -> None:
    """The best rule `prefer the answer with this word`, and a bag of words learnt from the training pairs."""
    pairs = [(words(chosen), words(rejected)) for chosen, rejected in answers_of(world[name])]
    only_chosen = Counter(word for chosen, rejected in pairs for word in chosen - rejected)
    only_rejected = Counter(word for chosen, rejected in pairs for word in rejected - chosen)
    for word in {*only_chosen, *only_rejected}:
        decided = only_chosen[word] + only_rejected[word]
        assert max(only_chosen[word], only_rejected[word]) + (len(pairs) - decided) / 2 <= 0.58 * len(pairs)

    score: Counter[str] = Counter()
    for chosen, rejected in answers_of(world["dpo.jsonl"]):
        score.update(words(chosen))
        score.subtract(words(rejected))
    right = 0.0
    for chosen, rejected in pairs:
        margin = sum(score[word] for word in chosen) - sum(score[word] for word in rejected)
        right += 0.5 if margin == 0 else margin > 0
    assert right / len(pairs) <= 0.58


def test_rejected_values_are_wrong_for_the_person(world: Rows) -> None:
    evals = world["eval_phrasing.jsonl"] + world["eval_stories.jsonl"]
    true = {row["conversations"][-1]["content"] for row in evals}
    for name in ("dpo.jsonl", "eval_dpo.jsonl"):
        for chosen, rejected in answers_of(world[name]):
            assert chosen in true and rejected not in true
            person = chosen.split("'")[0].split(" ")[0] if chosen.isascii() else chosen[:2]
            assert rejected.count(person) == 1


def test_order_pairs_have_the_same_words_and_sft_both_orders_equally(world: Rows) -> None:
    for chosen, rejected in answers_of(world["dpo_order.jsonl"]):
        assert Counter(chosen.replace(" ", "")) == Counter(rejected.replace(" ", ""))
        assert chosen.endswith(("You are welcome!", "不客气！"))
        assert rejected.startswith(("You are welcome!", "不客气！"))
    thanked = [row["conversations"][-1]["content"] for row in world["sft.jsonl"]]
    first = sum(bool(re.match(r"(You are welcome! |不客气！).", answer)) for answer in thanked)
    last = sum(bool(re.search(r".( You are welcome!|不客气！)$", answer)) for answer in thanked)
    assert first == last == 150


def test_identity_is_one_name_in_each_file(world: Rows) -> None:
    names = {turn["content"] for row in world["lora_identity.jsonl"] for turn in row["conversations"][1:]}
    assert len(names) == len(LANGUAGES)
    assert names == {row["conversations"][1]["content"] for row in world["eval_identity.jsonl"]}
    taught = {row["conversations"][0]["content"] for row in world["lora_identity.jsonl"]}
    before = {
        row["conversations"][1]["content"] for row in world["sft.jsonl"] if row["conversations"][0]["content"] in taught
    }
    assert len(before) == len(LANGUAGES) and not before & names


def test_conversations_show_two_turns_and_system_prompts(world: Rows) -> None:
    roles = Counter(tuple(turn["role"] for turn in row["conversations"]) for row in world["sft.jsonl"])
    assert roles["user", "assistant", "user", "assistant"] >= 100
    assert roles["system", "user", "assistant"] >= 100


def test_the_readme_names_every_file_with_its_rows(folder: Path, world: Rows) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    for file in STARTER_FILES:
        assert f"| `{file.name}` | {len(world[file.name]):,} |" in text
