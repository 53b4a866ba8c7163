"""Comparisons at equal tokens and at equal time."""

import json

from engine.ladder.plans import SAMPLING_SHARE, equal_time, equal_tokens
from engine.ladder.results import Results
from engine.ladder.rungs import Rung
from engine.runs.events import Step
from engine.runs.folder import find_run
from engine.runs.history import metrics_of
from tests.ladder.conftest import only, profile
from tests.training.tiny import OF_STAGE


def test_direct_answers_read_as_many_tokens_as_reasoning(ladder, carrier, world):
    talks = {"data": str(world.talks)}
    ladder |= {
        "reason": Rung("reason", profile("reason", world), {"from": "pretrain"}, talks),
        "direct": Rung(
            "direct", profile("sft", world), {"from": "pretrain"}, {**talks, "batch_size": 3}, equal_tokens, ("reason",)
        ),
    }
    assert carrier.climb(ladder, "direct") == []
    results = Results(ladder, 0)
    read = results.result("reason").figures["tokens"]
    steps = [event for event in find_run("ladder-0-direct").history() if isinstance(event, Step)]
    assert steps[-2].tokens < read <= steps[-1].tokens
    assert results.result("direct").notes == {"tokens_of_reason": read, "steps": len(steps)}


def test_own_samples_are_right_ones_and_take_the_time_of_reinforcement_learning(ladder, carrier, world):
    asked = [f"{number}: who gives?" for number in range(24)]
    turns = [[{"role": "user", "content": each}, {"role": "assistant", "content": "Bo"}] for each in asked]
    talks = only(world.folder / "bo.jsonl", "".join(json.dumps({"conversations": each}) + "\n" for each in turns))
    rows = [{"prompt": each, "answer": "Bo" if number % 2 else "Ann"} for number, each in enumerate(asked)]
    prompts = only(world.folder / "asked.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    trial = {**OF_STAGE["grpo"], "rewards": {"answer": 1.0, "format": 0.1}, "max_steps": 2, "data": str(prompts)}
    learn = {"data": str(talks), "max_steps": 60, "learning_rate": 1e-2, "log_interval": 20}
    ladder |= {
        "weak": Rung("weak", profile("sft", world), {"from": "pretrain"}, learn),
        "grpo": Rung("grpo", profile("grpo", world), {"from": "weak"}, trial),
        "own-samples": Rung("own-samples", profile("sft", world), {"from": "weak"}, {}, equal_time, ("grpo",)),
    }
    assert carrier.climb(ladder, "own-samples") == []
    results = Results(ladder, 0)
    notes, grpo = results.result("own-samples").notes, results.result("grpo")
    sampled = [json.loads(line) for line in (results.folder / "own-samples.jsonl").read_text().splitlines()]
    assert sampled and len(sampled) == notes["kept"] <= 12  # half of the prompts want another answer
    assert {row["conversations"][-1]["content"] for row in sampled} == {"Bo"}
    assert {row["source"] for row in sampled} == {"ladder-0-weak"}
    assert notes["seconds_of_grpo"] == grpo.train_seconds
    weak = results.result("weak")
    read = (grpo.train_seconds - notes["sampling_seconds"]) * weak.figures["tokens"] / weak.train_seconds
    steps = [event for event in find_run("ladder-0-own-samples").history() if isinstance(event, Step)]
    assert len(steps) == notes["steps"] >= 1
    assert read <= steps[-1].tokens and (len(steps) == 1 or steps[-2].tokens < read)
    curves = metrics_of(find_run("ladder-0-grpo").history())
    speed, length = (
        sum(value for _, value in curves[name]) / len(curves[name])
        for name in ("rollout_tokens_per_second", "answer_tokens")
    )
    answers = int(SAMPLING_SHARE * grpo.train_seconds * speed / length)
    assert notes["answers"] == (answers // 24 * 24 if answers >= 24 else answers)
