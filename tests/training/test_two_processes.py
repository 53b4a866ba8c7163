"""Two processes make the step that one makes: losses, gradients and weights, for one stage of each kind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.assembled import write_reward
from tests.training.tiny import World
from tests.training.two_processes import carried_out

ROOT = Path(__file__).parents[2]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {"packing": False}),
    "experts": ("sft", {"packing": True, "num_experts": 4, "num_experts_per_tok": 2}),
    "dpo": ("dpo", {"sft_weight": 0.3}),
    "reward": ("reward", {}),
    "distill": ("distill", {"alpha": 0.4, "packing": False, "teacher": "teacher"}),
    "grpo": ("grpo", {"num_generations": 6, "kl_coefficient": 0.1, "loss_type": "grpo", "updates_per_rollout": 2}),
    "ppo": ("ppo", {"mini_batches": 2, "ppo_epochs": 2, "whiten": True, "early_stop_kl": 0.0}),
    "spo": ("spo", {"pool_size": 16, "truncated": "score", "epochs": 4, "updates_per_rollout": 2}),
}
EVEN: dict[str, Any] = {
    "batch_size": 2, "accumulation_steps": 4, "grad_clip": 0.0, "weight_decay": 0.0, "warmup_steps": 0,
    "learning_rate": 0.05, "adam_eps": 0.1,
}  # fmt: skip
"""No clipping, and an optimizer that does not make much of a gradient of nothing but rounding."""


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """What one process and two processes make of the same runs."""
    reward = {
        "rewards": {"python": 1.0},
        "reward_python": str(write_reward(tmp_path / "letters.py", "return len(answer) % 7 / 6")),
    }
    world.trained("sft", "teacher", hidden_size=24, max_steps=4)
    for kind, (stage, settings) in KINDS.items():
        more = reward if stage in ("grpo", "ppo", "spo") else {}
        for name in (f"{kind}-one", f"{kind}-0", f"{kind}-1"):
            world.begun(stage, name, **{**EVEN, **settings, **more})
        carried_out(f"{kind}-one", 0, 1, tmp_path / f"{kind}-one")
    command = [sys.executable, "-m", "tests.training.two_processes"]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path), *KINDS], cwd=ROOT, stderr=subprocess.PIPE)
                 for rank in range(2)]  # fmt: skip
    try:
        for process in processes:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said.decode()[-3000:]
    finally:
        for process in processes:
            process.kill()
    return tmp_path


def test_two_processes_make_the_step_that_one_makes(folder: Path) -> None:
    for kind in KINDS:
        one = load_file(folder / f"{kind}-one.safetensors")
        said = json.loads((folder / f"{kind}-one.json").read_text())
        assert len({name.partition(":")[0] for name in one}) > 2, kind
        for rank in range(2):
            other = load_file(folder / f"{kind}-{rank}.safetensors")
            assert other.keys() == one.keys(), kind
            for name, tensor in one.items():
                largest = float(tensor.abs().max())
                apart = float((tensor - other[name]).abs().max())
                assert apart <= 1e-6 * max(largest, 1.0), f"{kind} {name}: {apart} of {largest}"
            for mine, its in zip(json.loads((folder / f"{kind}-{rank}.json").read_text()), said, strict=True):
                assert mine == pytest.approx(its, rel=1e-4, abs=1e-6), kind
        moved = max(float(tensor.abs().max()) for name, tensor in one.items() if name.startswith("0:"))
        assert moved > 1e-3, f"{kind}: otherwise this shows nothing"
        assert all(torch.isfinite(tensor).all() for tensor in one.values())
