"""Settings that follow from earlier rungs: comparisons at equal tokens and at equal time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from engine.curation.best import best_of
from engine.curation.recipe import Asking
from engine.generation.settings import SamplingSettings
from engine.rewards.reward_set import RewardSet
from engine.runs.folder import find_run
from engine.runs.history import metrics_of
from engine.session import TrainRequest, check_request
from engine.session.encoding import cache_request
from engine.settings.data import DocumentSettings
from engine.settings.profile import Settings
from engine.settings.rewards import RewardSettings
from engine.settings.rollout import RolloutSettings
from engine.text.batching import Sampler, split_rows
from engine.text.cache import load_samples
from engine.text.records import open_records
from engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from engine.ladder.results import Results

Plan = Callable[["Results", TrainRequest], tuple[TrainRequest, dict[str, Any]]]
"""Takes what is known and the request so far; gives the request to carry out, and notes for the result."""

SAMPLING_SHARE = 0.4
"""Of the time of reinforcement learning, how much goes into sampling rows to fine-tune on."""


def equal_tokens(results: "Results", request: TrainRequest) -> tuple[TrainRequest, dict[str, Any]]:
    """As many steps as read the tokens that the rung `reason` read."""
    tokens = results.result("reason").figures["tokens"]
    steps = steps_to_read(request, tokens)
    return _assigned(request, max_steps=steps), {"tokens_of_reason": tokens, "steps": steps}


def equal_time(results: "Results", request: TrainRequest) -> tuple[TrainRequest, dict[str, Any]]:
    """Fine-tuning on the start's own right answers, best of k (rejection sampling), in the time of the rung `grpo`.

    Prompts, temperature and rewards are those of `grpo`; its rollouts tell how many answers `SAMPLING_SHARE` of the
    time is enough for, the rung `weak` how many tokens are read in what is left after sampling.
    """
    began, grpo, weak = time.perf_counter(), results.result("grpo"), results.result("weak")
    run = find_run(grpo.run)
    settings = Settings.from_json(run.read_json(run.resolved))
    data, rollout, rewards = settings.data, settings.part(RolloutSettings), settings.part(RewardSettings)
    curves = metrics_of(run.history())
    speed, length = (fmean(dict(curves[name]).values()) for name in ("rollout_tokens_per_second", "answer_tokens"))
    answers = int(SAMPLING_SHARE * grpo.train_seconds * speed / length)
    prompts = open_records(Path(data.data), mapping=data.mapping)
    prompts.build_index()
    asking = Asking(
        data=Path(data.data),
        out=results.folder / "own-samples.jsonl",
        model=find_run(weak.run).select("newest"),
        source=weak.run,
        sampling=SamplingSettings(
            temperature=rollout.temperature, top_p=1.0, max_new_tokens=rollout.max_new_tokens, seed=results.seed
        ),
        copies=max(1, answers // len(prompts)),
        batch_size=rollout.rollout_batch_size,
        device=settings.training.device,
        mapping=data.mapping,
        max_rows=max(1, min(answers, len(prompts))),
        overwrite=True,
    )
    found = best_of(asking, RewardSet(rewards), min_reward=rewards.rewards["answer"])
    sampled = time.perf_counter() - began
    request = _assigned(request, data=asking.out)
    tokens = (grpo.train_seconds - sampled) * weak.figures["tokens"] / weak.train_seconds
    steps = max(1, steps_to_read(request, tokens))
    sampling = {name: found[name] for name in ("asked", "answers", "kept", "pass_at_1")}
    notes = {"seconds_of_grpo": grpo.train_seconds, "sampling_seconds": sampled, "steps": steps, **sampling}
    return _assigned(request, max_steps=steps), notes


def steps_to_read(request: TrainRequest, tokens: float) -> int:
    """How many steps a run would take to read so many tokens."""
    settings = check_request(request)
    data, training = settings.part(DocumentSettings), settings.training
    store = load_samples(cache_request(settings), Tokenizer.load(Path(data.tokenizer)))
    sampler = Sampler(
        store,
        split_rows(store.columns["keys"], data.val_fraction)[0],
        batch_size=training.batch_size,
        accumulation_steps=training.accumulation_steps,
        max_seq_len=data.max_seq_len,
        packing=data.packing,
        seed=training.seed,
    )
    step, read = 0, 0
    while read < tokens:
        read += sum(len(batch.input_ids) for batch in sampler.step(step))
        step += 1
    return step


def _assigned(request: TrainRequest, **values: Any) -> TrainRequest:
    """With these settings besides; the last word on each counts."""
    return replace(request, assignments=(*request.assignments, *(f"{name}={value}" for name, value in values.items())))
