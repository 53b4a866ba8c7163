"""From settings to the step that memory is planned for: which models take part, and how large its micro-batch is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.memory.activations import Compute
from engine.memory.estimate import Look, Rollout, Side, Step
from engine.model.config import ModelConfig
from engine.settings.data import DocumentSettings
from engine.settings.distill import DistillSettings
from engine.settings.lora import LoraSettings
from engine.settings.profile import Settings
from engine.settings.reason import QUESTIONS, most_tokens
from engine.settings.rewards import RewardSettings
from engine.settings.rollout import GrpoSettings, KlSettings, RolloutSettings
from engine.settings.spo import SpoSettings, prompts_used
from engine.text.batching import RowOrder, draw_pool

_HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a run: of every training sample its tokens and how many have a target.

    Sides of pairs stand one after the other.

    Attributes:
        lengths: Tokens.
        trained: Targets.
        held_out: Of the rows that are held out, those first that are looked at where some are enough; None: like these.
    """

    lengths: NDArray[np.int64]
    trained: NDArray[np.int64]
    held_out: "Rows | None" = None

    @cached_property
    def longest_first(self) -> NDArray[np.int64]:
        """The samples by falling length."""
        return np.argsort(-self.lengths, kind="stable")

    @cached_property
    def longest_pairs_first(self) -> NDArray[np.int64]:
        """The first sides of pairs by the falling length of both."""
        return 2 * np.argsort(-(self.lengths[::2] + self.lengths[1::2]), kind="stable")


@dataclass(frozen=True)
class Facts:
    """What settings do not say.

    Attributes:
        config: The shape of the model that is trained.
        device: `cpu`, `cuda` or `mps`.
        has_bfloat16: Whether bfloat16 is worth something there.
        others: The shapes of other models by what the run calls them: `teacher`, `critic`, `reward_model`.
        rows: Of the data; None where they have not been encoded yet.
        only: `rollout` or `evaluation`, where that alone is asked about.
        measured: Tokens of each document and targets of micro-batches that are known to be the largest.
    """

    config: ModelConfig
    device: str = "cpu"
    has_bfloat16: bool = False
    others: Mapping[str, ModelConfig] = field(default_factory=dict)
    rows: Rows | None = None
    measured: tuple[tuple[tuple[int, ...], int], ...] = ()
    only: str = ""


def steps_of(settings: Settings, facts: Facts, *, exact: bool = True) -> list[Step]:
    """The steps with the largest micro-batches: one, or two where many tokens and long documents are not the same.

    Args:
        settings: The run's; `dtype` is decided.
        facts: What they do not say.
        exact: Whether the run's own order of rows is gone through; else the longest rows are taken together.
    """
    facts = replace(facts, rows=_used(settings, facts.rows))
    values, training, name = settings.values(), settings.training, settings.stage.name
    lora, config = settings.part(LoraSettings), replace(facts.config, dropout=settings.model.dropout)
    compute = Compute(
        dtype=training.dtype,
        device=facts.device,
        lora_rank=lora.lora_rank,
        lora_targets=tuple(lora.lora_targets),
        lora_dropout=lora.lora_dropout,
    )
    frozen = Side(facts.config)
    precomputed = values.get("reference_log_probs") == "precomputed"
    policy = settings.stage.train_on == "prompt"
    refers = (name == "dpo" and not precomputed) or (policy and (name == "ppo" or bool(_kl(settings))))
    step = Step(
        model=Side(config, head=name != "reward", trained=True),
        compute=compute,
        lengths=(),
        trained=0,
        chunk=training.loss_chunk_size,
        objective=_objective(settings),
        accumulates=_accumulates(settings, facts.rows),
        checkpointing=training.gradient_checkpointing,
        reference=frozen if refers and not lora.lora_rank else None,
        asks_within=name == "dpo" and not precomputed,
        teacher=_teacher(settings, facts),
        critic=Side(facts.others.get("critic", config), head=False, trained=True)
        if values.get("critic") == "own"
        else None,
        judge=Side(facts.others.get("reward_model", config), head=False) if _is_judged(settings) else None,
        rollout=_rollout(settings, facts) if policy else None,
        look=None if policy else _look(settings, facts),
        only=facts.only,
    )
    found = facts.measured or _micro_batches(settings, facts.rows, exact)
    return [replace(step, lengths=lengths, trained=trained) for lengths, trained in found]


def _objective(settings: Settings) -> str:
    name = settings.stage.name
    if name == "distill":
        own = settings.part(DistillSettings)
        if own.teacher_top_k:
            return "cached_divergence"
        return "reverse_divergence" if own.direction == "reverse" else "divergence"
    if name == "reward":
        return "scalar"
    return "log_probs" if name == "dpo" or settings.stage.train_on == "prompt" else "cross_entropy"


def _rounds(settings: Settings) -> int:
    """Rounds that `max_steps` means; 0: all of the data."""
    values = settings.values()
    steps: int = values.get("updates_per_rollout", 1) * values.get("ppo_epochs", 1) * values.get("mini_batches", 1)
    return -(-settings.training.max_steps // steps)


def _pool(settings: Settings) -> int | None:
    """How many prompts SPO keeps to, see `SpoSettings.pool_size`; None: all that there are."""
    if settings.stage.name != "spo":
        return None
    together = settings.training.batch_size * settings.training.accumulation_steps
    return prompts_used(settings.part(SpoSettings), together, _rounds(settings))


def _used(settings: Settings, rows: Rows | None) -> Rows | None:
    """The rows that are learnt from; SPO draws its prompts by the seed."""
    pool = _pool(settings)
    if rows is None or pool is None:
        return rows
    drawn = draw_pool(np.arange(len(rows.lengths)), pool, settings.training.seed)
    return Rows(rows.lengths[drawn], rows.trained[drawn], rows.held_out)


def _accumulates(settings: Settings, rows: Rows | None) -> bool:
    """Whether a step has more than one micro-batch."""
    values, most = settings.values(), settings.training.accumulation_steps
    if rows is not None:
        units = len(rows.lengths) // (2 if settings.stage.reads == ("pair",) else 1)
        most = min(most, -(-units // settings.training.batch_size))
    return bool(most > values.get("mini_batches", 1))


def _kl(settings: Settings) -> float:
    return settings.part(KlSettings).kl_coefficient


def _is_judged(settings: Settings) -> bool:
    return settings.stage.train_on == "prompt" and "model" in settings.part(RewardSettings).rewards


def _teacher(settings: Settings, facts: Facts) -> Side | None:
    if settings.stage.name != "distill" or settings.part(DistillSettings).teacher_top_k:
        return None
    size = 2 if settings.part(DistillSettings).teacher_dtype in _HALF else 4
    return Side(facts.others.get("teacher", facts.config), size=size)


def copies(settings: Settings) -> int:
    """Answers to one prompt that are learnt from together."""
    return settings.part(GrpoSettings).num_generations if settings.stage.name == "grpo" else 1


def _prompt_length(settings: Settings, facts: Facts) -> int:
    """Of the longest prompt, held out or not."""
    longest, rows = settings.data.max_seq_len, facts.rows
    lengths = [each.lengths for each in (rows, rows.held_out if rows else None) if each and len(each.lengths)]
    return min(longest, max(int(each.max()) for each in lengths)) if lengths else longest


def _rollout(settings: Settings, facts: Facts) -> Rollout:
    """The most answers that are made at a time: in a round, before SPO's first one, or in an evaluation."""
    own, training, each = settings.part(RolloutSettings), settings.training, copies(settings)
    there = len(facts.rows.lengths) if facts.rows is not None else own.rollout_batch_size
    asked = [(each, min(training.batch_size * training.accumulation_steps, there))]
    if settings.stage.name == "spo":
        asked.append((settings.part(SpoSettings).initial_rollouts, there))
    if settings.data.val_fraction:
        held = len(facts.rows.held_out.lengths) if facts.rows is not None and facts.rows.held_out else there
        asked.append((1, min(training.eval_rows or held, held)))
    prompts = [(each, min(max(1, own.rollout_batch_size // each), most)) for each, most in asked]
    prompt = _prompt_length(settings, facts)
    length = min(prompt + own.max_new_tokens, facts.config.max_position_embeddings)
    return Rollout(max(each * count for each, count in prompts), length, (prompt,) * max(count for _, count in prompts))


def _look(settings: Settings, facts: Facts) -> Look | None:
    """The most that an evaluation takes at a time, see `held_out_batches` of the stages."""
    training, longest = settings.training, settings.data.max_seq_len
    together = 2 if settings.stage.reads == ("pair",) else 1
    if not settings.data.val_fraction:
        return None
    if facts.rows is None:
        rows = training.eval_rows or max(training.batch_size, QUESTIONS)
        look = Look(*_documents(together * min(training.batch_size, rows), longest))
        half = -(-longest // 2)  # a full row is a question and its answer
        return replace(look, answers=_questions(settings, facts, rows, half, half))
    held = facts.rows.held_out or facts.rows
    if training.eval_rows:
        held = Rows(held.lengths[: together * training.eval_rows], held.trained[: together * training.eval_rows])
    if not len(held.lengths):
        return None
    lengths, trained = np.minimum(held.lengths, longest), np.minimum(held.trained, longest)
    if together == 2:
        first = held.longest_pairs_first[: training.batch_size]
        chosen = np.sort(np.concatenate([first, first + 1]))
        look = Look(tuple(lengths[chosen].tolist()), int(trained[chosen].sum()))
    else:
        documents, targets = _full(held, lengths, trained, training.batch_size * longest)
        look = Look((*documents[::2], *documents[1::2]), targets)  # they do not come by length
    asked = _questions(settings, facts, len(lengths), max(1, int((lengths - trained).max())), int(trained.max()))
    return replace(look, answers=asked)


def _questions(settings: Settings, facts: Facts, rows: int, prompt: int, answer: int) -> Rollout | None:
    """What reasoning asks of held-out rows with prompts and answers of these lengths."""
    if settings.stage.name != "reason":
        return None
    length = min(prompt + most_tokens(answer), facts.config.max_position_embeddings)
    return Rollout(min(rows, QUESTIONS), length, (prompt,) * min(rows, QUESTIONS))


def _documents(count: int, length: int) -> tuple[tuple[int, ...], int]:
    """Equal documents whose tokens are all learnt, and how many targets they have."""
    return (length,) * count, count * (length - 1)


def _micro_batches(settings: Settings, rows: Rows | None, exact: bool) -> list[tuple[tuple[int, ...], int]]:
    """Lengths of the documents and number of targets of the largest micro-batches."""
    training, longest = settings.training, settings.data.max_seq_len
    pairs, policy = settings.stage.reads == ("pair",), settings.stage.train_on == "prompt"
    packing = "packing" in settings.stage.settings and settings.part(DocumentSettings).packing
    if rows is None or not len(rows.lengths):
        count = min(training.batch_size, _pool(settings) or training.batch_size) * (2 if pairs else 1)
        found = [_documents(count, longest)]
    else:
        lengths, trained = np.minimum(rows.lengths, longest), np.minimum(rows.trained, longest)
        if packing and not exact:
            return [_full(rows, lengths, trained, training.batch_size * longest)]
        if settings.values().get("prioritised"):  # any prompts of the pool may stand together
            exact = False
        chosen = _ordered(lengths, settings, packing, pairs) if exact else _longest(rows, settings, pairs)
        found = [(tuple(lengths[each].tolist()), int(trained[each].sum())) for each in chosen]
    if not policy:
        return found
    own, room = settings.part(RolloutSettings), settings.model.max_position_embeddings
    each, answers = copies(settings), []
    for prompts, _ in found:
        documents = [min(prompt + own.max_new_tokens, room) for prompt in prompts for _ in range(each)]
        said = sum(document - prompt for document, prompt in zip(documents, np.repeat(prompts, each), strict=True))
        answers.append((tuple(documents), int(said)))
    return answers


def _ordered(lengths: NDArray[np.int64], settings: Settings, packing: bool, pairs: bool) -> list[NDArray[np.int64]]:
    """The rows of the largest micro-batches in the order in which the run really takes them."""
    training, together = settings.training, 2 if pairs else 1
    order = RowOrder(
        lengths,
        np.arange(len(lengths)),
        batch_size=training.batch_size,
        accumulation_steps=training.accumulation_steps,
        max_seq_len=settings.data.max_seq_len * together,
        packing=packing,
        seed=training.seed,
        together=together,
    )
    steps = _rounds(settings) or training.epochs * order.steps_per_epoch
    return [np.concatenate(units) for units in order.largest(steps)]


def _longest(rows: Rows, settings: Settings, pairs: bool) -> list[NDArray[np.int64]]:
    """At least what the largest micro-batch can be: the longest rows."""
    size = settings.training.batch_size
    if pairs:
        first = rows.longest_pairs_first[:size]
        return [np.stack([first, first + 1], axis=1).reshape(-1)]
    return [rows.longest_first[:size]]


def _full(rows: Rows, lengths: NDArray[np.int64], trained: NDArray[np.int64], room: int) -> tuple[tuple[int, ...], int]:
    """Packed rows without a gap: the longest documents, the last one cut where the room ends."""
    order = rows.longest_first[:room]
    ends = np.cumsum(lengths[order])
    order = order[: int(np.searchsorted(ends, room)) + 1]
    documents = lengths[order].tolist()
    over = max(0, sum(documents) - room)
    documents[-1] -= over
    return tuple(documents), int(trained[order].sum()) - min(over, int(trained[order[-1]]))
