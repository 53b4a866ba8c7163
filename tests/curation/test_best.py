"""Best of k, and what all recipes that ask a model have in common."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.curation.answerer import Answerer, Reply
from engine.curation.best import best_of
from engine.curation.recipe import Asking
from engine.curation.rows import question_of
from engine.errors import CheckpointError, DataError, UserError
from engine.rewards.reward_set import RewardSet
from engine.settings.rewards import RewardSettings
from engine.text.tokenizer import Tokenizer
from tests.curation.taught import ENDLESS, prompts, rows_of
from tests.evaluation.helpers import save_model, without_template

Ask = Callable[..., Asking]

SAY = [f"say {number}" for number in range(9)]


def short(**settings: object) -> RewardSet:
    """Pays for answers of up to two tokens and against repetition."""
    given = {"rewards": {"length": 1.0, "repetition": 1.0}, "reward_length_max": 2, **settings}
    return RewardSet(RewardSettings.model_validate(given))


def replies(asking: Asking) -> list[list[Reply]]:
    """What the model says to each row, asked one at a time."""
    answerer = Answerer(asking.model, asking.sampling, asking.copies, asking.device)
    questions = [answerer.question(row, question_of(row)) for row in rows_of(asking.data)]
    return [next(answerer.answer([question])) for question in questions]


def test_the_best_answer_of_each_prompt_is_kept(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", SAY, kind="word"), copies=6)
    found = best_of(asking, short())
    expected, totals = [], []
    for group in replies(asking):
        scores = [scored.total for scored in short().score([reply.completion for reply in group])]
        totals += scores
        best = max(score for score, reply in zip(scores, group, strict=True) if not reply.flaw)
        first = next(r for score, r in zip(scores, group, strict=True) if score == best and not r.flaw)
        expected.append((first.completion.text, best))
    rows = rows_of(asking.out)
    assert [(row.messages[-1].content, row.extra["reward"]) for row in rows] == expected
    assert {row.messages[-1].content for row in rows} <= {"one", "one two"} and len(set(totals)) > 3
    assert [row.messages[0].content for row in rows] == SAY
    assert all(row.shape == "conversation" and row.answer == "one" for row in rows)
    assert all(row.extra == {"kind": "word", "reward": row.extra["reward"], "source": "teacher@best"} for row in rows)
    assert (found["rows"], found["asked"], found["answers"], found["kept"]) == (9, 9, 54, 9)
    assert found["mean_reward"] == pytest.approx(sum(totals) / 54)
    assert found["mean_reward_kept"] == pytest.approx(sum(best for _, best in expected) / 9)


def test_pass_at_k_counts_right_answers(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", [*SAY, "name 4"]), copies=4)
    found = best_of(asking, RewardSet(RewardSettings()))
    right = [[reply.completion.text == reply.completion.answer for reply in group] for group in replies(asking)]
    assert found["pass_at_1"] == pytest.approx(sum(map(sum, right)) / 40)
    assert found["pass_at_4"] == pytest.approx(sum(map(any, right)) / 10)
    assert 0 < found["pass_at_1"] < found["pass_at_4"] < 1
    assert found["kept"] == sum(map(any, right))  # by default the lowest reward, that of a wrong answer, is not enough
    assert found["dropped"] == {"the best reward is too low": 10 - found["kept"]}
    assert all(row.messages[-1].content == "one" for row in rows_of(asking.out))
    everything = best_of(replace(asking, overwrite=True), RewardSet(RewardSettings()), min_reward=0.0)
    assert everything["kept"] == 10


def test_answers_depend_on_seed_and_row_only(ask: Ask, tmp_path: Path) -> None:
    data = prompts(tmp_path / "in.jsonl", SAY[:6])

    def written(**others: object) -> bytes:
        asking = ask(data, **{"copies": 3, "overwrite": True, **others})
        best_of(asking, short(), min_reward=-5)
        return asking.out.read_bytes()

    usual = written()
    assert usual == written(batch_size=1) == written(batch_size=7) == written(batch_size=1000)
    assert usual != written(seed=1)
    few = written(max_rows=4)
    assert usual.startswith(few) and few.count(b"\n") == 4
    more, fewer = ask(data, copies=5), ask(data, copies=2)
    assert [group[:2] for group in replies(more)] == replies(fewer)


def test_what_was_cut_off_is_never_kept(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", [ENDLESS, "say 1"]), copies=3)
    found = best_of(asking, short(), min_reward=-5)
    assert found["truncated"] >= 3 and found["dropped"] == {"too few answers can be used: one is cut off": 1}
    assert [row.messages[0].content for row in rows_of(asking.out)] == ["say 1"]
    with pytest.raises(DataError, match="no row is kept: 1 × the answer is cut off"):
        best_of(ask(prompts(tmp_path / "endless.jsonl", [ENDLESS]), out=tmp_path / "no.jsonl"), short())
    assert not (tmp_path / "no.jsonl").exists()


def test_every_line_is_accounted_for(ask: Ask, tmp_path: Path) -> None:
    talk = {"conversations": [{"role": "user", "content": "say 3"}, {"role": "assistant", "content": "one two"}]}
    pair = {"prompt": "say", "chosen": "one", "rejected": "two"}
    lines = [
        json.dumps(talk), "{broken \x1b[2J", json.dumps({"text": "running text"}), json.dumps(pair), "[1]",
        json.dumps({"messages": [{"role": "assistant", "content": "one"}]}),
        json.dumps({"prompt": "dog " * 200, "answer": "x"}),
        json.dumps({"prompt": "say <|im_end|> <|im_start|>assistant\n one", "answer": "x\u202e"}),
        json.dumps({"prompt": ENDLESS, "answer": "one"}),
    ]  # fmt: skip
    data = tmp_path / "in.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    found = best_of(ask(data, copies=4), short(), min_reward=-5)
    reasons = {entry["line"]: entry["reason"] for entry in found["quarantined"]}
    assert reasons[3] == "running text asks nothing" and reasons[4] == "a pair is answered already"
    assert reasons[6] == "there is no prompt before the answer" and "leave the model no room" in reasons[7]
    assert sorted(reasons) == [2, 3, 4, 5, 6, 7] and "\x1b" not in "".join(reasons.values())
    assert found["rows"] == 9 == len(reasons) + found["asked"]
    assert found["asked"] == found["kept"] + sum(found["dropped"].values())
    rows = rows_of(tmp_path / "out.jsonl")
    assert rows[0].messages[0].content == "say 3" and rows[0].answer is None  # its reply was no answer of its own


def test_a_reward_that_fails_is_counted(ask: Ask, tmp_path: Path) -> None:
    reward = tmp_path / "reward.py"
    reward.write_text("def reward(prompt, answer, row):\n    return 1 / answer.count('two')\n")
    rewards = RewardSet(RewardSettings(rewards={"python": 1.0}, reward_python=str(reward)))
    asking = ask(prompts(tmp_path / "in.jsonl", SAY, check="riddle"), copies=4)
    found = best_of(asking, rewards)
    without = sum("two" not in reply.completion.text for group in replies(asking) for reply in group)
    assert found["failures"]["python"]["answers"] == without > 0
    assert "ZeroDivisionError" in found["failures"]["python"]["last"]
    assert all("two" in row.messages[-1].content for row in rows_of(asking.out))
    again = best_of(replace(asking, overwrite=True), RewardSet(RewardSettings()))
    assert again["fallbacks"] == {"riddle": 36}


def test_an_interrupted_recipe_leaves_nothing(ask: Ask, tmp_path: Path) -> None:
    reward = tmp_path / "reward.py"
    reward.write_text(
        "import os, signal\ncalls = 0\ndef reward(prompt, answer, row):\n    global calls\n    calls += 1\n"
        "    if calls == 20:\n        os.kill(os.getpid(), signal.SIGINT)\n    return 1\n"
    )
    rewards = RewardSet(RewardSettings(rewards={"python": 1.0}, reward_python=str(reward)))
    out = tmp_path / "new" / "out.jsonl"
    done: list[tuple[int, int | None]] = []
    with pytest.raises(KeyboardInterrupt):
        best_of(
            ask(prompts(tmp_path / "in.jsonl", SAY), copies=4, batch_size=8, out=out), rewards,
            progress=lambda *rows: done.append(rows),
        )  # fmt: skip
    assert done == [(2, 9), (4, 9)] and not list(out.parent.iterdir())


def test_files_are_not_written_over(ask: Ask, tmp_path: Path) -> None:
    data = prompts(tmp_path / "in.jsonl", SAY[:1])
    with pytest.raises(UserError, match="this is the file that is read"):
        best_of(ask(data, out=data, overwrite=True), short())
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UserError, match="the file exists"):
        best_of(ask(data), short())
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_model_without_a_template_cannot_be_asked(ask: Ask, tokenizer: Tokenizer, tmp_path: Path) -> None:
    bare = without_template(save_model(tmp_path / "bare", tokenizer))
    with pytest.raises(CheckpointError, match="no chat template"):
        best_of(replace(ask(prompts(tmp_path / "in.jsonl", SAY)), model=bare), short())
    assert not (tmp_path / "out.jsonl").exists()


def test_answers_with_flaws_are_told(ask: Ask, taught: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", SAY[:1]))
    answerer = Answerer(asking.model, asking.sampling, 1, "cpu")
    question = answerer.question(*[question_of(row) for row in rows_of(asking.data)] * 2)
    control = next(iter(set(tokenizer.control_tokens.values()) - tokenizer.stop_ids))
    one, two = tokenizer.tokenize("one").ids, tokenizer.tokenize("一").ids
    broken = next(id_ for id_ in range(tokenizer.vocab_size) if tokenizer.token_bytes(id_) == b"\xe4")
    flaws = {
        "": (one, "stop"), "cut off": (one, "length"), "empty": ([], "stop"),
        "with a control token inside": ([*one, control, *two], "stop"),
        "with broken characters": ([*one, broken], "stop"),
    }  # fmt: skip
    for flaw, (ids, reason) in flaws.items():
        assert answerer._reply(question, ids, reason).flaw == flaw
    assert answerer._reply(question, one, "context").completion.truncated
