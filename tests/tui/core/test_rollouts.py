"""Rollouts as a run logs them: read back, gathered in groups, and scored as they were sampled."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation.scores import Scorer
from engine.references import checkpoint_folder
from engine.runs.folder import RunFolder
from engine.text.records import Record
from engine.text.shapes import read_row
from minimind_tui.core.look import RAW, TOKENS, Judges, look
from minimind_tui.core.reading import Reader, first_reading
from minimind_tui.core.rollouts import group_of, origin_of, rollout_of
from minimind_tui.core.rows import Rows
from tests.stages.started import world, world_and_start
from tests.training.tiny import World

__all__ = ["world", "world_and_start"]

ROW: dict[str, Any] = {
    "conversations": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
    "round": 3, "group": "3-7", "row": 7, "expected": "4", "reward": 1.5, "rewards": {"answer": 1, "format": 0.5},
    "advantage": -0.25, "stop_reason": "stop", "answer_ids": [5, 0], "log_probs": [-0.5, 0],
}  # fmt: skip


def _record(**changes: Any) -> Record:
    return read_row(ROW | changes, 0, 1)


def test_a_row_is_read_as_a_rollout() -> None:
    found = rollout_of(_record())
    assert found is not None and found.ended and (found.round, found.group, found.text) == (3, "3-7", "4")
    assert (found.reward, found.advantage, found.parts) == (1.5, -0.25, {"answer": 1.0, "format": 0.5})
    silent = rollout_of(_record(conversations=[ROW["conversations"][0], {"role": "assistant", "content": ""}]))
    assert silent is not None and silent.text == "", "a row that nobody answers is a prompt for the reader"


@pytest.mark.parametrize(
    "wrong",
    [
        {"answer_ids": [5]}, {"answer_ids": []}, {"answer_ids": ["5", 0]}, {"answer_ids": [-1, 0]},
        {"answer_ids": [2**40, 0]}, {"log_probs": [0.5, 0]}, {"log_probs": [None, 0]}, {"log_probs": "no"},
        {"rewards": [1]}, {"rewards": {"answer": "1"}}, {"reward": True}, {"advantage": 10**400}, {"round": "3"},
    ],
)  # fmt: skip
def test_what_is_damaged_is_a_row_like_any_other(wrong: dict[str, Any]) -> None:
    assert rollout_of(_record(**wrong)) is None


def test_a_group_is_one_prompt_s_answers_of_one_round(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    kinds = [(0, "0-1"), (0, "0-2"), (0, "0-2"), (0, "0-2"), (1, "0-2"), (1, "1-2")]
    lines = [json.dumps(ROW | {"round": number, "group": group}) for number, group in kinds]
    path.write_text("\n".join([*lines[:3], '{"broken', *lines[3:]]))
    rows = Rows(path)
    rows.build_index()

    def group(row: int) -> list[int]:
        rollout = rollout_of(rows.read(row))
        assert rollout is not None
        return [each.row for each in group_of(rows, rollout)]

    assert [group(row) for row in range(6)] == [[0], [1, 2, 3], [1, 2, 3], [1, 2, 3], [4], [5]]


def _rows(run: RunFolder) -> Rows:
    rows = Rows(run.rollouts)
    rows.build_index()
    return rows


def test_the_tokens_are_those_that_were_sampled(world: World) -> None:
    """Before its first update, the policy that sampled is the start checkpoint: the ratios are 1."""
    run = world.trained("grpo", temperature=0.7)
    origin = origin_of(run.rollouts)
    assert origin is not None and (origin.stage, origin.max_seq_len, origin.temperature) == ("grpo", 24, 0.7)
    rows, reader = _rows(run), Reader(origin.reading("conversation"))
    start = Judges(Scorer(checkpoint_folder("start")))
    first = [row for row in range(len(rows)) if rows.read(row).extra["round"] == 0]
    assert len(first) > 8
    for row in first:
        seen = look(rows, row, reader, TOKENS, start, 80)
        rollout = rollout_of(rows.read(row))
        assert rollout is not None and not seen.problems and not seen.labelled[0].problems
        assert row in [each.row for each in seen.group]
        sheet, begin = seen.labelled[0].sheet, seen.labelled[0].begin
        assert len(sheet) - begin == len(rollout.ids) == sum(sheet.weights)
        assert "".join(sheet.texts[begin : begin + len(rollout.ids) - rollout.ended]) == rollout.text
        assert sheet.heat[begin - 1] is None and max(value or 0 for value in sheet.heat) < 1e-3
        said = sheet.detail(begin)
        assert said[0].startswith(f"sampled with log p {rollout.log_probs[0]:.3f}") and "ratio 1.000" in said[1]
        assert "likely" in said[-1] or "nothing is learnt" in said[-1]
    moved = look(rows, first[0], reader, TOKENS, Judges(Scorer(checkpoint_folder("grpo")), start.policy), 80)
    assert max(value or 0 for value in moved.labelled[0].sheet.heat) > 1e-3
    assert "now" in moved.notes[0] and "reference" in moved.notes[0]
    plain = look(rows, first[0], reader, TOKENS, Judges(), 80)
    assert max(value or 0 for value in plain.labelled[0].sheet.heat) > 0.3, "hot where it was improbable"


@pytest.mark.parametrize(("stage", "left_out"), [("grpo", True), ("ppo", False)])
def test_what_was_cut_off_is_trained_only_where_the_loss_has_it(world: World, stage: str, left_out: bool) -> None:
    run = world.trained(stage, truncated="mask", max_steps=2)
    origin = origin_of(run.rollouts)
    assert origin is not None and origin.masks == left_out
    rows, reader = _rows(run), Reader(origin.reading("conversation"))
    found = set()
    for row in range(len(rows)):
        rollout, seen = rollout_of(rows.read(row)), look(rows, row, reader, TOKENS, Judges(), 80)
        assert rollout is not None
        found.add(rollout.ended)
        shown = seen.labelled[0]
        assert bool(shown.trained) == (rollout.ended or not left_out) == (not seen.has_problem)
        assert ("leaves it out" in shown.sheet.detail(len(shown.sheet) - 1)[-1]) == seen.has_problem
    assert False in found


def test_rollouts_elsewhere_are_rows_with_a_group(world: World, tmp_path: Path) -> None:
    run = world.trained("spo")
    copy = tmp_path / "rollouts.jsonl"
    copy.write_bytes(run.rollouts.read_bytes())
    origin = origin_of(run.rollouts)
    assert origin is not None and origin_of(copy) is None and origin_of(run.events) is None
    reading = first_reading(copy, "conversation", origin.reading("conversation"))
    first = next(number for number, line in enumerate(copy.open()) if json.loads(line)["round"] == 0)
    seen = look(_rows(RunFolder(tmp_path)), first, Reader(reading), RAW, Judges(), 80)
    assert [each.row for each in seen.group] == [first] and not seen.sheets


def test_another_tokenizer_is_told_and_so_are_tokens_that_it_lacks(world: World, tokenizer_folder: str) -> None:
    run = world.trained("ppo")
    origin = origin_of(run.rollouts)
    assert origin is not None
    foreign = Reader(replace(origin.reading("conversation"), tokenizer=tokenizer_folder))
    seen = look(_rows(run), 0, foreign, TOKENS, Judges(), 80)
    assert "T chooses the run's own" in seen.labelled[0].problems[-1]
