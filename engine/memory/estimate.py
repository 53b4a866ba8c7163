"""A step's allocated peak in closed form, for every stage. Torch-free, far below a millisecond a step.

A step has moments at which memory may peak: the loss, the beginning and the end of the backward pass, the optimizer's
step, the making of answers, and the look at held-out rows. Each is added up from its parts; the largest counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from engine.memory.activations import Block, Compute, linear_parameters
from engine.memory.plan import Breakdown
from engine.model.config import ModelConfig, num_parameters

PHASES = ("update", "rollout", "evaluation")
_FLOAT, _MOMENTS = 4, 8
"""Bytes of a float32, and of AdamW's two moments."""
_DIVERGENCES = {"divergence": 7, "reverse_divergence": 8, "cached_divergence": 4}
"""How often a chunk's scores, or what is made of them, exist at the same time."""
_DIVERGENCE_SEEN = 6
"""The same, without gradients."""
_NORM_BACKWARD = 6
"""Tensors as large as the stream that exist while a norm goes back."""
_BATCH = 48
"""Bytes a token of a batch: ids, positions, sources, targets, documents as int64, weights."""


@dataclass(frozen=True)
class Side:
    """A model that takes part.

    Attributes:
        config: Its shape.
        head: Whether it has an output table; else a scalar head.
        trained: Whether it takes gradients.
        size: Bytes of a weight.
    """

    config: ModelConfig
    head: bool = True
    trained: bool = False
    size: int = _FLOAT

    def parameters(self) -> int:
        """Of the whole model; an adapter comes on top."""
        parts = num_parameters(self.config)
        if self.head:
            return sum(parts.values())
        return sum(parts.values()) - parts["head"] + self.config.hidden_size


@dataclass(frozen=True)
class Step:
    """What a step is made of.

    Attributes:
        model: The model that is trained.
        compute: How it computes.
        lengths: Tokens of each document of the largest micro-batch.
        trained: How many of its tokens have a target.
        chunk: Tokens whose logits exist at a time.
        objective: `cross_entropy`, `log_probs`, `scalar`, or one of `_DIVERGENCES`, after which cross-entropy comes.
        accumulates: Whether gradients of earlier micro-batches are there already.
        checkpointing: Whether blocks are computed again on the way back.
        reference: A frozen model of the same shape that is asked within the loss (dpo) or before it.
        asks_within: Whether a reference is asked within the loss, be it the base under the adapter.
        teacher: A frozen teacher, asked within the loss.
        critic: A model of its own that is trained beside the policy.
        judge: A reward model.
        rollout: The most answers that are made at a time, in evaluations too; None in supervised stages.
        look: What an evaluation of a supervised stage takes at a time; None without held-out rows.
        only: `rollout`, `evaluation` or `update`, where nothing else is asked about, if the step has that.
    """

    model: Side
    compute: Compute
    lengths: tuple[int, ...]
    trained: int
    chunk: int
    objective: str
    accumulates: bool = False
    checkpointing: bool = False
    reference: Side | None = None
    asks_within: bool = False
    teacher: Side | None = None
    critic: Side | None = None
    judge: Side | None = None
    rollout: "Rollout | None" = None
    look: "Look | None" = None
    only: str = ""


@dataclass(frozen=True)
class Rollout:
    """Answers in the making: `rows` at a time, each up to `length` tokens, from prompts of these lengths."""

    rows: int
    length: int
    prompts: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class Look:
    """Held-out documents that are looked at together, how many of their tokens have a target, and answers asked for."""

    lengths: tuple[int, ...]
    trained: int
    answers: Rollout | None = None


def adapter_parameters(config: ModelConfig, compute: Compute) -> int:
    """Weights of an adapter on a model of this shape."""
    query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    width, layers = config.hidden_size, config.num_hidden_layers
    attention = {"q_proj": width + query, "k_proj": width + key_value, "v_proj": width + key_value,
                 "o_proj": query + width}  # fmt: skip
    inner = config.moe_intermediate_size if config.num_experts else config.intermediate_size
    feed_forward = sum(width + inner for layer in ("gate_proj", "up_proj", "down_proj") if compute.adapts(layer))
    shared = sum(
        width + config.num_shared_experts * inner
        for layer in ("gate_proj", "up_proj", "down_proj")
        if compute.adapts(layer) and config.num_shared_experts
    )
    ends = sum(size for layer, size in attention.items() if compute.adapts(layer))
    return layers * compute.lora_rank * (ends + feed_forward * max(1, config.num_experts) + shared)


def peak(step: Step) -> tuple[Breakdown, str]:
    """What is allocated at the worst moment, and whether that is an `update`, a `rollout` or an `evaluation`."""
    found = zip(PHASES, (_update(step), _answering(step, step.rollout), _evaluation(step)), strict=True)
    moments = [(moment, phase) for phase, own in found for moment in own]
    asked = [entry for entry in moments if step.only in ("", entry[1])]
    return max(asked or moments, key=lambda entry: entry[0].total)


def trained_parameters(side: Side, compute: Compute) -> int:
    """How many parameters of a trained model take gradients."""
    if not compute.lora_rank:
        return side.parameters()
    return adapter_parameters(side.config, compute) + (0 if side.head else side.config.hidden_size)


def _resting(step: Step) -> Breakdown:
    """What is there all along, once the optimizer has its moments."""
    compute, sides = step.compute, [side for side in (step.model, step.critic) if side]
    adapters = {id(side): adapter_parameters(side.config, compute) if compute.lora_rank else 0 for side in sides}
    trained = sum(trained_parameters(side, compute) for side in sides)
    others = [side.size * side.parameters() for side in (step.reference, step.judge) if side]
    unused = 0 if step.model.head else num_parameters(step.model.config)["head"]  # a table that stays beside the scorer
    return Breakdown(
        weights=_FLOAT * (step.model.parameters() + adapters[id(step.model)] + unused),
        optimizer=_MOMENTS * trained,
        reference=sum(others),
        teacher=step.teacher.size * step.teacher.parameters() if step.teacher else 0,
        critic=_FLOAT * (step.critic.parameters() + adapters[id(step.critic)]) if step.critic else 0,
        runtime=_BATCH * sum(step.lengths) + _FLOAT * step.model.config.head_dim * sum(step.lengths),
    )


def _update(step: Step) -> Iterator[Breakdown]:
    resting, compute = _resting(step), step.compute
    sides = [side for side in (step.model, step.critic) if side]
    blocks = [Block(side.config, step.lengths, compute) for side in sides]
    own = [_FLOAT * trained_parameters(side, compute) for side in sides]
    there = sum(own) if step.accumulates else 0
    kept = [_kept(block, step.checkpointing) for block in blocks]
    copies = sum(block.weights_copied * block.config.num_hidden_layers for block in blocks)
    if step.checkpointing and compute.lora_rank:  # only weights that are trained are cached
        copies = 0
    loss = _Loss(step)
    within = resting.runtime + copies + loss.copies
    yield replace(
        resting, gradients=there, activations=sum(kept) + blocks[-1].mixing + (loss.before if step.critic else 0),
        runtime=resting.runtime + copies,
    )  # fmt: skip
    for gradients, activations, logits in loss.moments:
        yield replace(
            resting, gradients=there + gradients, activations=sum(kept) + activations, logits=logits, runtime=within,
        )  # fmt: skip
    yield replace(
        resting, gradients=there + loss.head_gradient, activations=sum(kept) + _NORM_BACKWARD * blocks[0].stream,
        runtime=resting.runtime + (0 if step.checkpointing else copies),
    )  # fmt: skip
    for frozen in (step.reference if step.asks_within else None, step.teacher):
        if frozen:
            dtype = compute.dtype if frozen is step.reference else "float32" if frozen.size == _FLOAT else "bfloat16"
            other = Block(frozen.config, step.lengths, Compute(dtype, compute.device))
            yield replace(
                resting, gradients=there, activations=sum(kept) + loss.before + other.forward, runtime=within,
            )  # fmt: skip
    for index, block in enumerate(blocks):  # what was made last goes back first
        waiting = sum(kept[:index]) + (loss.waiting if index else 0)
        again = block.kept - block.stream if step.checkpointing else 0
        yield replace(
            resting, gradients=there or loss.head_gradient + sum(own[index + 1 :]),
            activations=kept[index] + waiting + again + max(block.backward, block.mixing if step.checkpointing else 0),
            runtime=resting.runtime + (block.weights_copied if step.checkpointing else copies),
        )  # fmt: skip
        first = (block.stream if step.checkpointing else block.kept) + again + block.backward
        embedding = _FLOAT * block.config.vocab_size * block.config.hidden_size
        untied = 0 if block.config.tie_word_embeddings or compute.lora_rank else embedding
        still = 0 if compute.lora_rank else _FLOAT * linear_parameters(block.config) // block.config.num_hidden_layers
        yield replace(
            resting, gradients=there or sum(own[index:]) - untied - still, activations=first + waiting,
            runtime=resting.runtime + block.weights_copied,
        )  # fmt: skip
    again = 0
    if not compute.lora_rank:
        config = step.model.config
        embedding = _FLOAT * config.vocab_size * config.hidden_size
        again = embedding if config.tie_word_embeddings or step.accumulates else 0
    yield replace(resting, gradients=sum(own) + again, activations=blocks[0].stream)
    yield replace(resting, gradients=sum(own))


def _kept(block: Block, checkpointing: bool) -> int:
    """By all blocks of a model, from its input on."""
    layers = block.config.num_hidden_layers
    masks = block.stream if block.config.dropout else 0
    return masks + (layers * block.stream if checkpointing else layers * block.kept - block.frozen)


class _Loss:
    """The end of the forward pass: the final norm, and what the objective makes of it.

    Attributes:
        moments: Gradients of the table, activations and logits of each.
        before: What there is before it.
        waiting: What is left of it while a critic goes back.
    """

    def __init__(self, step: Step) -> None:
        config, compute, objective = step.model.config, step.compute, step.objective
        width, vocabulary, scalar = config.hidden_size, config.vocab_size, objective == "scalar"
        stream, gathered = _FLOAT * sum(step.lengths) * width, 0 if scalar else _FLOAT * step.trained * width
        table, scores = (
            _FLOAT * vocabulary * width,
            0 if scalar else _FLOAT * min(step.chunk, step.trained) * vocabulary,
        )
        half = compute.half and not scalar
        normed = stream if compute.lora_rank else 2 * stream  # its input, and what its weight is multiplied with
        final = normed + stream
        critic = final if step.critic else 0
        self.copies = table // 2 if half else 0
        self.head_gradient = 0 if compute.lora_rank or scalar else table
        # a chunk's gradient of the table; in half precision once more in float32 to be added
        added = 0 if not self.head_gradient else 3 * table // 2 if half else table
        slope = scores // 2 if half else scores
        self.before = final + critic + gathered
        self.waiting = normed + stream + self.head_gradient
        after, head = self.before + gathered, self.head_gradient
        if objective == "log_probs":
            asked = stream + gathered if step.reference and step.asks_within else 0
            self.moments = [
                (0, self.before + asked, 2 * scores),
                (head, after, slope + (scores if half else 0) + added),
            ]
        elif objective in _DIVERGENCES:
            teacher = step.teacher.size * step.trained * step.teacher.config.hidden_size if step.teacher else 0
            cross_entropy = max(2 * scores, slope + added)
            self.moments = [(head, after + teacher, max(_DIVERGENCES[objective] * scores, slope + added)),
                            (2 * head, after + 2 * gathered, cross_entropy)]  # fmt: skip
        else:
            self.moments = [(head, after, max(2 * scores, slope + added))]


def _answering(step: Step, answers: Rollout | None) -> Iterator[Breakdown]:
    """While answers are made, see `engine.generation`: the prompts are read, tokens drawn, and rows that end let go."""
    if answers is None:
        return
    resting, config, compute = _resting(step), replace(step.model.config, dropout=0.0), step.compute
    rows, length, block = answers.rows, answers.length, Block(config, answers.prompts, compute)
    token = 2 * _FLOAT * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    scores, table = _FLOAT * rows * config.vocab_size, 2 * config.vocab_size * config.hidden_size
    copies = block.weights_copied * config.num_hidden_layers + table if compute.half else 0
    resting = replace(resting, runtime=copies)
    prompts = token * len(answers.prompts) * length
    yield replace(resting, rollout_cache=prompts, activations=block.forward)
    full = replace(resting, rollout_cache=token * rows * length)
    attention = 2 * _FLOAT * rows * config.num_attention_heads * length  # its weights, before and after the softmax
    yield replace(full, activations=Block(config, (1,) * rows, compute).forward + attention, logits=scores)
    yield replace(full, logits=6 * scores)  # two as float64
    # a layer's keys, then its values, are made anew for the rows that go on, from a copy of theirs
    kept = token * length * rows + token * length * (rows - 1) // config.num_hidden_layers
    yield replace(resting, rollout_cache=kept, logits=2 * scores)


def _evaluation(step: Step) -> Iterator[Breakdown]:
    """While held-out rows are looked at, without gradients: a block at a time, then the loss; or answers are made."""
    look = step.look
    if look is None:
        return
    config, compute = replace(step.model.config, dropout=0.0), step.compute
    block = Block(config, look.lengths, compute)
    scores = 0 if step.objective == "scalar" else _FLOAT * min(step.chunk, look.trained) * config.vocab_size
    resting = _resting(replace(step, lengths=look.lengths))
    copies = block.weights_copied * config.num_hidden_layers if compute.half else 0
    table = 2 * config.vocab_size * config.hidden_size if compute.half and scores else 0
    gathered = _FLOAT * look.trained * config.hidden_size if scores else 0
    resting = replace(resting, runtime=resting.runtime + copies)
    yield replace(resting, activations=block.forward)
    yield replace(
        resting, activations=2 * block.stream + gathered, logits=2 * scores, runtime=resting.runtime + table,
    )  # fmt: skip
    if step.asks_within:  # for the divergence from it; under an adapter that is the model itself
        yield replace(resting, activations=block.forward + block.stream + gathered)
        yield replace(
            resting, activations=2 * block.stream + 2 * gathered, logits=_DIVERGENCE_SEEN * scores,
            runtime=resting.runtime + table,
        )  # fmt: skip
    yield from _answering(replace(step, compute=replace(compute, dtype="float32")), look.answers)
