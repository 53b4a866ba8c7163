"""A scalar head on a transformer: reward models and critics. Its folders are Hugging Face's sequence classifiers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import CheckpointError
from engine.model.adapters import check_base, read_adapter, refill_adapter, save_adapter
from engine.model.attention import Attention
from engine.model.fingerprint import fingerprint
from engine.model.hf_config import ARCHITECTURES, read_config, read_json, write_config
from engine.model.lora import adapted, adapters
from engine.model.transformer import Transformer
from engine.model.weights import build, read_tensors

_HEAD = "score.weight"
_ADAPTER = "adapter"
_SCORE_AT, _END_OF_TURN = "minimind_score_at", "end_of_turn"


class ScalarModel(nn.Module):
    """One number a token: the last real token's is an answer's score, every token's is a critic's value.

    Args:
        transformer: Its blocks; a separate output table is not needed and left out.
        score: The head's weights, [1, hidden_size]; zeros if not given, so that all scores begin equal.
    """

    def __init__(self, transformer: Transformer, score: Tensor | None = None) -> None:
        super().__init__()
        if not transformer.config.tie_word_embeddings:
            headless = Transformer(replace(transformer.config, tie_word_embeddings=True))
            headless.model, headless.gradient_checkpointing = transformer.model, transformer.gradient_checkpointing
            transformer = headless
        self.transformer = transformer
        self.score = nn.Linear(transformer.config.hidden_size, 1, bias=False)
        with torch.no_grad():
            self.score.weight.zero_() if score is None else self.score.weight.copy_(score)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, routers: list[Tensor] | None = None
    ) -> Tensor:
        """A value for each token of a flat batch, float32 [N]; see `Transformer.forward`."""
        hidden = self.transformer(tokens, positions, attention, routers)
        return cast(Tensor, self.score(hidden)[:, 0].float())


def save_scalar_model(folder: Path, model: ScalarModel, *, pad_token_id: int | None, **ids: Any) -> None:
    """Writes a sequence classifier with one label: transformers loads it as it is.

    A score is learnt and read at the end-of-turn token, and config.json says so (`minimind_score_at`). transformers
    reads the last token of a row: end the text there, without the line break that ChatML's template puts after it.
    An adapter is merged into what is written, and kept beside it for going on with it.

    Args:
        folder: Made if need be.
        model: What to write.
        pad_token_id: By which transformers finds the last token of a padded row.
        ids: `bos_token_id` and `eos_token_id`.
    """
    folder.mkdir(exist_ok=True)
    config = model.transformer.config
    write_config(folder, config, pad_token_id=pad_token_id, **ids, dtype="float32")
    raw = read_json(folder / "config.json")
    raw["architectures"] = [ARCHITECTURES[config.family].replace("ForCausalLM", "ForSequenceClassification")]
    raw |= {"id2label": {"0": "score"}, "label2id": {"score": 0}, _SCORE_AT: _END_OF_TURN}
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    tensors = _merged(model.transformer) | {_HEAD: model.score.weight.detach()}
    tensors = {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if adapted(model.transformer):
        (folder / _ADAPTER).mkdir()
        save_adapter(folder / _ADAPTER, model.transformer, "", fingerprint(model.transformer))


def load_scalar_model(folder: Path, dtype: torch.dtype = torch.float32) -> ScalarModel:
    """Reads a sequence classifier with one label, of the families that are built here.

    Raises:
        CheckpointError: It is none, has several labels, or its tensors do not fit.
    """
    labels = read_json(folder / "config.json").get("id2label", {})
    tensors = dict(read_tensors(folder))
    if _HEAD not in tensors:
        raise CheckpointError(
            "the folder holds no reward model: there is no score.weight",
            where=str(folder),
            hint="engine train …/reward makes one",
        )
    score = tensors.pop(_HEAD)
    if score.shape[0] != 1 or len(labels) > 1:
        raise CheckpointError(f"a reward model gives one number, this one gives {score.shape[0]}", where=str(folder))
    tensors.pop("lm_head.weight", None)
    config = replace(read_config(folder), tie_word_embeddings=True)
    return ScalarModel(build(config, tensors, torch.float32, str(folder)), score.float()).to(dtype)


def is_scalar_model(folder: Path) -> bool:
    """Whether a folder holds a sequence classifier."""
    kinds = read_json(folder / "config.json").get("architectures") or []
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def scores_end_of_turn(folder: Path) -> bool:
    """Whether a classifier's score stands at the end-of-turn token, as `save_scalar_model` says of what it writes.

    Others learnt theirs at the last token of what their chat template renders, be it a line break.
    """
    return read_json(folder / "config.json").get(_SCORE_AT) == _END_OF_TURN


def restore_scalar_model(model: ScalarModel, folder: Path) -> None:
    """Puts back what `save_scalar_model` wrote, the adapter as an adapter.

    Raises:
        CheckpointError: The folder is of another model.
    """
    saved = load_scalar_model(folder)
    if adapted(model.transformer):
        adapter = read_adapter(folder / _ADAPTER)
        check_base(adapter, model.transformer, "this run's start")
        refill_adapter(model.transformer, adapter)
        model.score.load_state_dict(saved.score.state_dict())
    else:
        model.load_state_dict(saved.state_dict())


def _merged(model: Transformer) -> dict[str, Tensor]:
    """The weights by their plain names, adapters added to them."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items() if ".lora_" not in name}
    for name, layer in adapters(model).items():
        update = layer.lora_B.detach().float() @ layer.lora_A.detach().float()
        state[f"{name}.weight"] = layer.weight.detach().float() + layer.config.scale * update
    return state
