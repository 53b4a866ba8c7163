"""A run's parts: its samples, its model and its stage."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from engine.model.heads import is_scalar_model, load_scalar_model
from engine.model.loading import load_model
from engine.model.lora import LoraConfig, attach, merge
from engine.model.transformer import Transformer
from engine.randomness import derive_seed
from engine.runs.folder import RunFolder
from engine.session.encoding import cache_request
from engine.session.shape import model_config, stretched
from engine.settings.lora import LoraSettings
from engine.settings.profile import Settings
from engine.settings.registry import StageInfo
from engine.text.cache import load_samples
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer


def build_model(run: RunFolder, settings: Settings, saved: Path | None = None) -> Transformer:
    """The start checkpoint's model, or random weights by the seed; with an adapter where one is asked for.

    Args:
        run: Keeps what the run started from, where that is needed all along.
        settings: The run's.
        saved: A checkpoint of the run itself; of what the run once started from only an adapter's base is needed then.
    """
    shape, lora = settings.model, settings.part(LoraSettings)
    kept = run.companion("start")
    whole = None if lora.lora_rank else saved  # an adapter is put on what the run started from, and nothing else
    start = whole or (kept if kept.is_dir() else Path(settings.data.start_from) if settings.data.start_from else None)
    if start:
        loaded = _start_model(start, settings)
        scaling = loaded.config.rope_scaling or stretched(shape)
        config = replace(
            loaded.config,
            dropout=shape.dropout,
            rope_scaling=scaling,
            router_aux_loss_coef=shape.router_aux_loss_coef if loaded.config.num_experts else 0.0,
        )
        model = Transformer(config)
        model.load_state_dict(loaded.state_dict())
    else:
        torch.manual_seed(derive_seed(settings.training.seed, "weights"))
        assert shape.vocab_size is not None
        model = Transformer(model_config(shape, shape.vocab_size))
    if lora.lora_rank:
        torch.manual_seed(derive_seed(settings.training.seed, "adapter"))
        attach(model, LoraConfig(lora.lora_rank, lora.lora_alpha, lora.lora_dropout, tuple(lora.lora_targets)))
    return model


def _start_model(start: Path, settings: Settings) -> Transformer:
    """A checkpoint's language model; of a reward model, which only such a stage can go on from, the blocks: the
    stage itself takes the head.
    """
    if settings.stage.name == "reward" and is_scalar_model(start):
        return load_scalar_model(start).transformer
    model = load_model(start)
    merge(model)
    return model


def compile_model(model: Transformer) -> None:
    """Compiles in place what works row by row, for any number of rows; names in the state_dict stay as they are.

    Attention is planned for every batch from its documents' lengths: compiled, it would be compiled again for each.
    """
    for block in model.model.layers:
        experts = model.config.num_experts > 0  # how many tokens an expert gets differs from batch to batch
        for name in ("input_layernorm", "post_attention_layernorm", *(() if experts else ("mlp",))):
            block.get_submodule(name).compile(dynamic=True)
    model.model.norm.compile(dynamic=True)


def load_data(
    run: RunFolder, settings: Settings, tokenizer: Tokenizer, progress: Callable[[float], None]
) -> SampleStore:
    """The run's samples, from the cache or encoded now."""
    return load_samples(cache_request(settings, run.tokenizer), tokenizer, progress)


def implementation(stage: StageInfo) -> Callable[..., Any]:
    """What carries a stage out, loaded now."""
    module, _, name = stage.implementation.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
