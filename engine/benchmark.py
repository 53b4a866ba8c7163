"""Speed on this machine, as ratios within one run: machines are noisy, ratios less so."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.generation.generate import generate
from engine.generation.sampling import SamplingSettings
from engine.model.config import ModelConfig, matmul_flops_per_token
from engine.model.transformer import Transformer
from engine.objectives.cross_entropy import linear_cross_entropy
from engine.session.assemble import compile_model
from engine.settings.training import TrainingSettings
from engine.text.batching import Batch
from engine.training.batch import to_device
from engine.training.device import DTYPES, Device
from engine.training.optimizer import make_optimizer
from engine.training.peak import matrix_flops_per_second
from engine.training.precision import Precision

Step = Callable[[], None]


def bench_train(
    config: ModelConfig,
    *,
    batch_size: int,
    length: int,
    accumulation: int,
    repeats: int,
    dtypes: tuple[str, ...],
    device: Device,
    compile: bool,
    against: bool,
) -> dict[str, Any]:
    """Times optimizer steps of a model on random tokens, the variants in turn.

    A step is `accumulation` micro-batches of `batch_size` rows of `length` tokens and one AdamW update.

    Args:
        config: The model's shape.
        batch_size: Rows a micro-batch.
        length: Tokens a row.
        accumulation: Micro-batches an update.
        repeats: Timed steps of each variant, after one that is not counted.
        dtypes: Precisions of ours to time.
        device: Where.
        compile: Whether ours is compiled too, as a variant of its own.
        against: Whether Hugging Face's Qwen3 or Llama of the same shape is timed beside it.

    Returns:
        tokens a step, the machine's matrix rate, and by variant tokens_per_second (median, best), mfu and the ratio to
        the first variant.
    """
    rng = np.random.default_rng(0)
    tokens = batch_size * length
    batch = Batch(
        input_ids=rng.integers(0, config.vocab_size, tokens),
        loss_weights=np.where(np.arange(tokens) % length, 1, 0).astype(np.float32),
        cu_seqlens=np.arange(0, tokens + 1, length),
        rows=np.arange(batch_size),
        samples=np.arange(batch_size),
        slots=tokens,
    )
    variants: dict[str, Step] = {}
    for dtype in dtypes:
        variants[f"engine {dtype}"] = _ours(config, batch, accumulation, dtype, device, False)
    if compile:
        variants[f"engine {dtypes[0]} compiled"] = _ours(config, batch, accumulation, dtypes[0], device, True)
    if against:
        for dtype in dtypes:
            variants[f"transformers {dtype}"] = _theirs(config, batch, accumulation, dtype, device)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    rate = 0.0
    for repeat in range(repeats + 1):
        rate = max(rate, matrix_flops_per_second(config, tokens, DTYPES[dtypes[0]], device))
        for name, step in variants.items():
            began = time.perf_counter()
            step()
            device.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    flops = matmul_flops_per_token(config, (length + 1) / 2)
    speed = {name: [tokens * accumulation / each for each in times] for name, times in seconds.items()}
    first = statistics.median(next(iter(speed.values())))
    return {
        "tokens_per_step": tokens * accumulation,
        "matrix_gflops_per_second": rate / 1e9,
        "threads": torch.get_num_threads(),
        "variants": {
            name: {
                "tokens_per_second": statistics.median(values),
                "best": max(values),
                "ratio": statistics.median(values) / first,
                "mfu": statistics.median(values) * flops / rate,
            }
            for name, values in speed.items()
        },
    }


def _ours(config: ModelConfig, batch: Batch, accumulation: int, dtype: str, device: Device, compile: bool) -> Step:
    torch.manual_seed(0)
    model = Transformer(config).to(device.torch_device)
    if compile:
        compile_model(model)
    settings = TrainingSettings()
    optimizer = make_optimizer(model.named_parameters(), settings)
    precision = Precision(dtype, device)
    weight = float(batch.loss_weights.sum()) * accumulation

    def step() -> None:
        for _ in range(accumulation):
            moved = to_device(batch, device.torch_device)
            with precision.autocast():
                hidden = model(moved.tokens, moved.positions, moved.attention)
                total = linear_cross_entropy(
                    hidden[moved.sources], model.head_weight, moved.targets, moved.weights,
                    chunk=settings.loss_chunk_size, dtype=precision.dtype,
                )  # fmt: skip
            torch.autograd.backward(total / weight)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _theirs(config: ModelConfig, batch: Batch, accumulation: int, dtype: str, device: Device) -> Step:
    """Hugging Face's model with its own loss, autocast and torch's AdamW."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

    kind = Qwen3Config if config.qk_norm else LlamaConfig
    shape = kind(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim, intermediate_size=config.intermediate_size,
        tie_word_embeddings=config.tie_word_embeddings, use_cache=False,
    )  # fmt: skip
    build: Any = AutoModelForCausalLM.from_config
    model = build(shape, attn_implementation="sdpa").to(device.torch_device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    precision = Precision(dtype, device)
    rows = len(batch.rows)
    ids = torch.from_numpy(batch.input_ids).view(rows, -1).to(device.torch_device)

    def step() -> None:
        for _ in range(accumulation):
            context: AbstractContextManager[Any] = precision.autocast()
            with context:
                loss = model(input_ids=ids, labels=ids).loss
            (loss / accumulation).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def bench_generate(
    config: ModelConfig,
    *,
    rows: int,
    prompt: int,
    new_tokens: int,
    repeats: int,
    dtypes: tuple[str, ...],
    device: Device,
) -> dict[str, Any]:
    """Times sampling from a random model: `rows` prompts of `prompt` tokens, `new_tokens` more each.

    Returns:
        By precision tokens_per_second (median, best) over all rows, and the ratio to the first.
    """
    rng = np.random.default_rng(0)
    prompts = rng.integers(0, config.vocab_size, (rows, prompt)).tolist()
    settings = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=new_tokens)
    models = {}
    for dtype in dtypes:
        torch.manual_seed(0)
        models[dtype] = Transformer(config).to(device.torch_device, DTYPES[dtype]).eval()
    speed: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
    for repeat in range(repeats + 1):
        for dtype, model in models.items():
            began = time.perf_counter()
            generate(model, prompts, settings, (), batch_size=rows)
            device.synchronize()
            if repeat:
                speed[dtype].append(rows * new_tokens / (time.perf_counter() - began))
    first = statistics.median(speed[dtypes[0]])
    return {
        "rows": rows,
        "threads": torch.get_num_threads(),
        "variants": {
            dtype: {
                "tokens_per_second": statistics.median(values),
                "best": max(values),
                "ratio": statistics.median(values) / first,
            }
            for dtype, values in speed.items()
        },
    }
