"""Folders of adapters as peft writes and reads them, each tied to its base by digest."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.clean import clean
from engine.errors import CheckpointError, ProfileError
from engine.model.fingerprint import fingerprint
from engine.model.hf_config import read_json
from engine.model.lora import LoraConfig, adaptable, adapters, insert, is_target

_CONFIG, _WEIGHTS, _BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
_PREFIX = "base_model.model."
_KEY = re.compile(re.escape(_PREFIX) + r"(.+)\.lora_([AB])\.weight")
_FINGERPRINT = re.compile("[0-9a-f]{32}")
_HARMLESS = frozenset({
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "inference_mode", "init_lora_weights",
    "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "task_type", "use_rslora",
    # settings of initialisations: the tensors are there
    "corda_config", "eva_config", "loftq_config", "lora_ga_config",
    # the names of the tensors say which layers were adapted
    "exclude_modules", "layers_pattern", "layers_to_transform", "target_modules",
})  # fmt: skip
"""Keys of adapter_config.json that are read, or that change nothing in what finished tensors compute."""
_BASE_UNTOUCHED = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base as it is; `pissa` and its like take a part of the base into the adapter."""


@dataclass(frozen=True)
class AdapterFolder:
    """What a folder holds.

    Attributes:
        folder: Where it is.
        config: Its targets are the names of the adapted layers.
        tensors: lora_A [rank, in_features] and lora_B [out_features, rank] by the name of the layer.
        base_path: Where the base was; as found in the file, not checked.
        base_fingerprint: Digest of the base's weights; None where the folder does not say, as peft's do not.
    """

    folder: Path
    config: LoraConfig
    tensors: Mapping[str, tuple[Tensor, Tensor]]
    base_path: str
    base_fingerprint: str | None


def save_adapter(folder: Path | str, model: nn.Module, base: str, base_fingerprint: str) -> None:
    """Writes the model's adapter so that peft can load it, and which base it belongs to.

    Args:
        folder: An existing folder.
        model: Has an adapter.
        base: Where its base is: a folder, or a run's checkpoint.
        base_fingerprint: The base's `fingerprint`.

    Raises:
        ValueError: The model has no adapter.
    """
    layers = adapters(model)
    if not layers:
        raise ValueError("the model has no adapter")
    config = next(iter(layers.values())).config
    tensors = {
        f"{_PREFIX}{name}.{part}.weight": parameter.detach().to("cpu", torch.float32).contiguous()
        for name, layer in layers.items()
        for part, parameter in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B))
    }
    save_file(tensors, Path(folder) / _WEIGHTS, metadata={"format": "pt"})
    described = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.rank,
        "target_modules": _short_names(model, list(layers)),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    for name, content in ((_CONFIG, described), (_BASE, {"path": base, "fingerprint": base_fingerprint})):
        (Path(folder) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_adapter(folder: Path | str) -> AdapterFolder:
    """Reads a folder that `save_adapter` or peft wrote.

    Raises:
        CheckpointError: Missing or damaged files, a kind of adapter or a feature that computes something else (named),
            or tensors that are no pairs of this rank.
    """
    folder = Path(folder)
    where = str(folder / _CONFIG)
    raw = read_json(folder / _CONFIG)
    _refuse_unsupported(raw, where)
    rank = raw.get("r")
    if type(rank) is not int:
        raise CheckpointError(f"r is {_shown(rank)}, expected a whole number", where=where)
    alpha, dropout = _number(raw, "lora_alpha", where), _number(raw, "lora_dropout", where)
    tensors = _read_tensors(folder / _WEIGHTS)
    try:
        config = LoraConfig(rank, alpha, dropout, tuple(tensors))
        if raw.get("use_rslora"):  # alpha / √rank (arXiv 2312.03732): the same scale by another alpha
            config = replace(config, alpha=alpha * math.sqrt(rank))
    except ProfileError as error:
        raise CheckpointError(_shown(error.what, 120), where=where, hint=error.hint) from error
    _check_rank(tensors, rank, str(folder / _WEIGHTS))
    _check_targets(raw.get("target_modules"), tensors, where)
    base_path, base_fingerprint = str(raw.get("base_model_name_or_path") or ""), None
    if (folder / _BASE).is_file():
        base_path, base_fingerprint = _read_base(folder / _BASE)
    return AdapterFolder(folder, config, tensors, base_path, base_fingerprint)


def load_adapter(model: nn.Module, adapter: AdapterFolder) -> None:
    """Attaches an adapter that was read; from then on only its weights require gradients.

    Draws no random numbers. The tensors are copied: the model may train on, and the adapter be loaded again.

    Raises:
        CheckpointError: A layer that the model does not have or of another shape; the model is as before.
        ValueError: The model has an adapter already.
    """
    layers = adaptable(model)
    strange, wrong = [], []
    for name, (lora_A, lora_B) in adapter.tensors.items():
        if name not in layers:
            strange.append(_shown(name, 80))
        elif lora_A.shape[1] != layers[name].in_features or lora_B.shape[0] != layers[name].out_features:
            expected = f"{layers[name].in_features} → {layers[name].out_features}"
            wrong.append(f"{name} is {lora_A.shape[1]} → {lora_B.shape[0]}, expected {expected}")
    for problem, names in (
        ("the adapter is for layers that the model does not have", strange),
        ("the adapter is for a model of another shape", wrong),
    ):
        if names:
            hint = "load it onto the base it was trained on"
            raise CheckpointError(f"{problem}: {_listed(names)}", where=str(adapter.folder), hint=hint)
    insert(model, adapter.config, adapter.tensors)


@torch.no_grad()
def refill_adapter(model: nn.Module, adapter: AdapterFolder) -> None:
    """Puts saved weights into the adapter that the model has; its parameters stay the same objects, for an optimizer.

    Raises:
        CheckpointError: The adapters are for different layers or of different ranks.
    """
    layers = adapters(model)
    shapes = {name: (layer.lora_A.shape, layer.lora_B.shape) for name, layer in layers.items()}
    if shapes != {name: (lora_A.shape, lora_B.shape) for name, (lora_A, lora_B) in adapter.tensors.items()}:
        raise CheckpointError("the saved adapter is for other layers, or of another rank", where=str(adapter.folder))
    for name, layer in layers.items():
        layer.lora_A.copy_(adapter.tensors[name][0])
        layer.lora_B.copy_(adapter.tensors[name][1])


def check_base(adapter: AdapterFolder, model: nn.Module, where: str) -> None:
    """Compares the model, with or without an adapter in it, with the base that the adapter was trained on.

    A folder that does not name its base by digest passes: only its shapes can be checked, by `load_adapter`.

    Args:
        adapter: The adapter.
        model: The base that it is to be loaded onto.
        where: Where that base came from, for the error.

    Raises:
        CheckpointError: It is another base.
    """
    if adapter.base_fingerprint is None or (found := fingerprint(model)) == adapter.base_fingerprint:
        return
    home = clean(adapter.base_path, newlines=False)
    raise CheckpointError(
        f"the adapter belongs to another base: it was trained on weights {adapter.base_fingerprint[:12]}… ({home}), "
        f"those of {where} are {found[:12]}…",
        where=str(adapter.folder),
        hint=f"load it onto {home} as it was then, or train an adapter on {where}",
    )


def _refuse_unsupported(raw: Mapping[str, Any], where: str) -> None:
    """Names the first key that would make peft compute something that is not computed here."""
    if raw.get("peft_type") != "LORA":
        raise CheckpointError(f"peft_type is {_shown(raw.get('peft_type'))}", where=where, hint="only LORA can be read")
    refused = {key: value for key, value in raw.items() if key not in _HARMLESS and value and value != "none"}
    if (start := raw.get("init_lora_weights", True)) not in _BASE_UNTOUCHED:
        refused["init_lora_weights"] = start
    if refused:
        key, value = next(iter(refused.items()))
        raise CheckpointError(
            f"{_shown(key)} = {_shown(value)} is not supported",
            where=where,
            hint="merge the adapter into its base with peft and import the whole model",
        )


def _number(raw: Mapping[str, Any], key: str, where: str) -> float:
    value = raw.get(key)
    if type(value) is int or type(value) is float:
        return value
    raise CheckpointError(f"{key} is {_shown(value)}, expected a number", where=where)


def _read_tensors(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """All tensors of the file, in pairs by the name of their layer."""
    if not path.is_file():
        raise CheckpointError("no adapter weights found", where=str(path.parent), hint=f"expected {path.name}")
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(path), hint="copy the file again") from error
    found = {key: match for key in given if (match := _KEY.fullmatch(key))}
    layers = list(dict.fromkeys(match[1] for match in found.values()))
    lacking = [f"{name}.lora_{part}" for name in layers for part in "AB" if _key(name, part) not in found]
    for problem, names, hint in (
        ("holds more than pairs of lora_A and lora_B", [key for key in given if key not in found],
         "adapters that also train embeddings, heads or norms are not supported"),
        ("missing tensors", lacking, "copy the file again"),
        ("tensors that are no matrices of floating point numbers",
         [key for key in found if given[key].dim() != 2 or not given[key].is_floating_point()], "copy the file again"),
        ("holds no tensors", [] if given else [path.name], "copy the file again"),
    ):  # fmt: skip
        if names:
            shown = _listed([_shown(name, 120) for name in names])
            raise CheckpointError(f"{problem}: {shown}", where=str(path), hint=hint)
    return {name: (given[_key(name, "A")], given[_key(name, "B")]) for name in layers}


def _key(layer: str, part: str) -> str:
    return f"{_PREFIX}{layer}.lora_{part}.weight"


def _check_rank(tensors: Mapping[str, tuple[Tensor, Tensor]], rank: int, where: str) -> None:
    wrong = [
        f"{_shown(name, 80)} has {lora_A.shape[0]} and {lora_B.shape[1]}"
        for name, (lora_A, lora_B) in tensors.items()
        if not lora_A.shape[0] == lora_B.shape[1] == rank
    ]
    if wrong:
        raise CheckpointError(
            f"the rank is {rank} by {_CONFIG}, but {_listed(wrong)}",
            where=where,
            hint="the files do not belong together",
        )


def _check_targets(targets: Any, tensors: Mapping[str, Any], where: str) -> None:
    """A list of targets must name every layer: peft would leave the others out. (A pattern is not read.)"""
    if targets is None or isinstance(targets, str):
        return
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise CheckpointError(f"target_modules is {_shown(targets)}, expected names", where=where)
    others = [name for name in tensors if not any(is_target(name, target) for target in targets)]
    if others:
        shown = _listed([_shown(name, 80) for name in others])
        raise CheckpointError(
            f"target_modules does not name {shown}", where=where, hint="the files do not belong together"
        )


def _read_base(path: Path) -> tuple[str, str]:
    raw = read_json(path)
    place, digest = raw.get("path"), raw.get("fingerprint")
    if not isinstance(place, str) or not isinstance(digest, str) or not _FINGERPRINT.fullmatch(digest):
        raise CheckpointError(
            "path or fingerprint is missing or damaged",
            where=str(path),
            hint="without this file the adapter loads onto any base of its shape, unchecked",
        )
    return place, digest


def _short_names(model: nn.Module, names: list[str]) -> list[str]:
    """The last parts of the names where they mean these layers and no others, else the whole names."""
    short = {name.rpartition(".")[2] for name in names}
    meant = [name for name in adaptable(model) if name.rpartition(".")[2] in short]
    return sorted(short if meant == names else names)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _shown(value: object, limit: int = 40) -> str:
    """A value from a file as it may stand in an error: short, without control characters."""
    text = str(value)
    return clean(text[:limit] + ("…" if len(text) > limit else ""), newlines=False)
