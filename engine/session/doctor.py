"""What this machine has, measured in seconds: device, memory, threads, precision, compilation, disk."""

import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from engine.errors import UserError
from engine.memory.limits import Target, process_limits
from engine.model.config import ModelConfig, num_parameters
from engine.process import cores
from engine.session.advice import advise, made_for
from engine.session.decide import can_compile
from engine.session.planning import draft_settings, plan_draft
from engine.settings.places import home
from engine.settings.profile import load_profile, resolve
from engine.training.device import DTYPES, Device, pick_device, pick_dtype, set_threads
from engine.training.precision import Precision

_ROUNDS, _SECONDS = 7, 0.4
"""Tries of each product, and how long further ones are begun."""
_ROWS = {"cpu": 256, "cuda": 4096, "mps": 4096}
"""Rows of the products: enough to keep the device busy; more take longer and hardly change the ratios."""
_TOLERANCE = 0.05
"""How far a gradient may be from the true one, relative to its norm; rounding to bfloat16 makes it some thousandths."""
_SAVED_BYTES = 12
"""Bytes a parameter in a checkpoint: an fp32 weight and AdamW's two moments."""
_LIBRARIES = ("OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_")
"""How the names of environment variables begin that torch's libraries read."""

Products = Callable[[], Tensor]
Name = TypeVar("Name", bound=Hashable)


def examine(*, full: bool = False) -> dict[str, Any]:
    """Looks at the machine as a run of this process would find it, and times small products.

    Args:
        full: Whether torch.compile is tried too, which takes longer than all the rest.

    Returns:
        `python`, `torch` and `platform`; `device`, `memory`, `threads`, `precision`, `compile` and `disk` with what was
        found (bytes, seconds, floating point operations a second); `advice`, sentences; `seconds` that it took.
    """
    began = time.perf_counter()
    devices = _devices()
    chosen = next(each for each in devices if not each["problem"])
    device, profiles = pick_device(chosen["name"]), made_for(chosen["memory_bytes"])
    target = Target(device.kind, chosen["name"], chosen["free_bytes"])
    drafted = draft_settings(resolve(load_profile(f"{profiles}/pretrain")), target, [])
    config, settings = drafted.facts.config, drafted.settings
    torch_threads = torch.get_num_threads()
    try:
        set_threads(0)  # as a run does
        threads, precision = _threads(config), _precision(config, device)
    finally:
        torch.set_num_threads(torch_threads)
    plan = plan_draft(drafted)
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "device": chosen | {"profiles": profiles, "all": devices, "nvidia_driver": bool(shutil.which("nvidia-smi"))},
        "memory": _memory() | {"pretrain": {"low_bytes": plan.low_bytes, "high_bytes": plan.high_bytes}},
        "threads": {"torch": torch_threads} | threads,
        "precision": precision,
        "compile": _compile(device) if full else {"tried": False, "works": None, "seconds": None},
        "disk": _disk(settings.training.keep_checkpoints, sum(num_parameters(config).values())),
    }
    return found | {"advice": advise(found, plan), "seconds": time.perf_counter() - began}


def _devices() -> list[dict[str, Any]]:
    """Everything that can be named as a device, cards first; the processor always works."""
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [_device(name) for name in (*cards, *["mps"] * torch.backends.mps.is_available(), "cpu")]


def _device(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "description": name, "memory_bytes": None, "free_bytes": None, "problem": ""}
    try:
        device = pick_device(name)
    except UserError as error:
        return found | {"problem": error.what}
    if device.kind == "cuda":
        found["free_bytes"], found["memory_bytes"] = torch.cuda.mem_get_info(device.torch_device)
    elif device.kind == "mps":
        found["memory_bytes"] = torch.mps.recommended_max_memory()
        found["free_bytes"] = found["memory_bytes"] - torch.mps.driver_allocated_memory()
    return found | {"description": _processor() if device.kind == "cpu" else device.describe()}


def _processor() -> str:
    """What the processor calls itself, and the widest instructions that torch has code for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor() or platform.machine())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _memory() -> dict[str, Any]:
    limits = process_limits()
    found = {f"{name}_bytes": value for name, value in asdict(limits).items()}
    return found | {"limit_bytes": limits.limit, "limited_by": limits.source}


def _disk(keep_checkpoints: int, parameters: int) -> dict[str, Any]:
    """Of the engine's home, or of the nearest folder above it that exists; and what a run's checkpoints take there."""
    # unlike Path.exists, os.path.exists takes what may not be looked at as missing
    place = next(folder for folder in (home(), *home().parents) if os.path.exists(folder))
    usage = shutil.disk_usage(place)
    return {
        "home": str(home()),
        "total_bytes": usage.total,
        "free_bytes": usage.free,
        "writable": os.access(place, os.W_OK),
        # besides those that are kept the best one, and one that is being written
        "checkpoints_bytes": (keep_checkpoints + 2) * _SAVED_BYTES * parameters,
    }


def _threads(config: ModelConfig) -> dict[str, Any]:
    """How much faster all cores multiply matrices than one."""
    usable, cpu = cores(), pick_device("cpu")
    rows = _ROWS[cpu.kind]
    products = _products(config, rows, "float32", cpu)

    def with_threads(count: int) -> Products:
        def run() -> Tensor:
            torch.set_num_threads(count)
            return products()

        return run

    seconds = _medians({count: with_threads(count) for count in (1, usable)}, cpu)
    return {
        "cores": usable,
        "machine_cores": os.cpu_count(),
        "load": psutil.getloadavg()[0],
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_LIBRARIES)},
        "one_flops_per_second": _flops(config, rows) / seconds[1],
        "all_flops_per_second": _flops(config, rows) / seconds[usable],
        "speedup": seconds[1] / seconds[usable],
    }


def _precision(config: ModelConfig, device: Device) -> dict[str, Any]:
    """Which precisions give the right gradient here, and how fast."""
    rows = _ROWS[device.kind]
    true = _products(config, rows, "float32", pick_device("cpu"))()
    working: dict[str, Products] = {}
    problems: dict[str, str] = {}
    for dtype in DTYPES:
        try:
            products = _products(config, rows, dtype, device)
            distance = torch.dist(products().cpu(), true) / true.norm()
        except Exception as error:  # no kernel, no scaler, an old driver: every device has its own
            problems[dtype] = str(error).partition("\n")[0] or type(error).__name__
            continue
        if distance < _TOLERANCE:
            working[dtype] = products
        else:
            problems[dtype] = "it computes wrong gradients"
    seconds = _medians(working, device)
    return {
        "auto": pick_dtype("auto", device, sum(num_parameters(config).values())),
        "hardware_bfloat16": device.has_bfloat16(),
        "dtypes": {
            dtype: {
                "works": dtype in working,
                "problem": problems.get(dtype, ""),
                "flops_per_second": _flops(config, rows) / seconds[dtype] if dtype in seconds else None,
                "relative_speed": seconds["float32"] / seconds[dtype] if {"float32", dtype} <= seconds.keys() else None,
            }
            for dtype in DTYPES
        },
    }


def _compile(device: Device) -> dict[str, Any]:
    began = time.perf_counter()
    return {"tried": True, "works": can_compile(device), "seconds": time.perf_counter() - began}


def _products(config: ModelConfig, rows: int, dtype: str, device: Device) -> Products:
    """The widest layer of a block, forward and backward in that precision as a run computes it.

    Returns:
        What computes the gradient of its weight, shape (intermediate_size, hidden_size), always of the same numbers.
    """
    precision, generator = Precision(dtype, device), torch.Generator().manual_seed(0)
    inputs, weight = (
        torch.randn(count, config.hidden_size, generator=generator).to(device.torch_device).requires_grad_()
        for count in (rows, config.intermediate_size)
    )

    def run() -> Tensor:
        inputs.grad = weight.grad = None
        with precision.autocast():
            outputs = functional.linear(inputs, weight)
        precision.backward(outputs.float().square().mean())
        assert weight.grad is not None
        return weight.grad / precision.scaler.get_scale()

    return run


def _flops(config: ModelConfig, rows: int) -> float:
    """Floating point operations of the forward and both backward products."""
    return 6.0 * rows * config.hidden_size * config.intermediate_size


def _medians(steps: Mapping[Name, Products], device: Device) -> dict[Name, float]:
    """Median seconds of each step, tried in turn so that a busy moment meets them all."""
    tries: dict[Name, list[float]] = {name: [] for name in steps}
    began = time.perf_counter()
    for number in range(_ROUNDS):
        if number and time.perf_counter() - began > _SECONDS:
            break
        for name, step in steps.items():
            device.synchronize()
            started = time.perf_counter()
            step()
            device.synchronize()
            tries[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in tries.items()}
