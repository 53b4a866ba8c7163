"""A run's parts: its samples, its model and its stage."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from engine.model.families import load_pretrained
from engine.model.transformer import Transformer
from engine.randomness import derive_seed
from engine.runs.folder import RunFolder
from engine.session.shape import model_config, stretched
from engine.settings.profile import Settings
from engine.settings.registry import StageInfo
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer


def build_model(settings: Settings, saved: Path | None = None) -> Transformer:
    """The start checkpoint's model, or random weights that are a function of the seed.

    Args:
        settings: The run's.
        saved: A checkpoint of the run itself; what the run once started from is not needed any more then.
    """
    shape, start = settings.model, saved or settings.data.start_from
    if start:
        loaded = load_pretrained(start)
        scaling = loaded.config.rope_scaling or stretched(shape)
        model = Transformer(replace(loaded.config, dropout=shape.dropout, rope_scaling=scaling))
        model.load_state_dict(loaded.state_dict())
        return model
    torch.manual_seed(derive_seed(settings.training.seed, "weights"))
    assert shape.vocab_size is not None
    return Transformer(model_config(shape, shape.vocab_size))


def compile_model(model: Transformer) -> None:
    """Compiles in place what works row by row, for any number of rows; names in the state_dict stay as they are.

    Attention is planned for every batch from its documents' lengths: compiled, it would be compiled again for each.
    """
    for block in model.model.layers:
        for name in ("input_layernorm", "post_attention_layernorm", "mlp"):
            block.get_submodule(name).compile(dynamic=True)
    model.model.norm.compile(dynamic=True)


def encode_settings(settings: Settings) -> EncodeSettings:
    """How the run's records become samples."""
    data = settings.data
    return EncodeSettings(
        max_seq_len=data.max_seq_len,
        train_on=settings.stage.train_on,
        parse_special_tokens=data.parse_special_tokens,
        system_prompt_ratio=data.system_prompt_ratio,
        empty_think_ratio=data.empty_think_ratio,
        seed=settings.training.seed,
    )


def load_data(
    run: RunFolder, settings: Settings, tokenizer: Tokenizer, progress: Callable[[float], None]
) -> SampleStore:
    """The run's samples, from the cache or encoded now."""
    data = settings.data
    request = CacheRequest(
        data=Path(data.data),
        tokenizer=run.tokenizer,
        settings=encode_settings(settings),
        mapping=data.mapping,
        max_rows=data.max_rows,
        shapes=settings.stage.reads,
    )
    return load_samples(request, tokenizer, progress)


def implementation(stage: StageInfo) -> Callable[..., Any]:
    """What carries a stage out, loaded now."""
    module, _, name = stage.implementation.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
