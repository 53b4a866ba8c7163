"""A process of two that train together: each takes every second micro-batch of each optimizer step."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from engine.runs.folder import find_run
from engine.stages.answers import Answer
from engine.stages.policy import PolicyStage
from tests.stages.assembled import assemble

ROUNDS = 2


def carried_out(run: str, rank: int, ranks: int, out: Path) -> None:
    """Makes the steps of a run's first rounds, and writes every step's gradients, weights and figures.

    Args:
        run: A run that was begun.
        rank: This process.
        ranks: How many there are.
        out: Where, without a suffix.
    """
    made = assemble(find_run(run))
    if ranks > 1:
        _share(made.stage, rank, ranks)
    gathered: list[dict[str, Tensor]] = []

    def keep(*_: Any) -> None:
        gathered.append({name: p.grad.clone() for name, p in made.update.named if p.grad is not None})

    made.update.optimizer.register_step_pre_hook(keep)
    rounds = 1 if made.stage.settings.stage.name == "spo" else ROUNDS  # trackers know their own process's rewards
    outcomes = [outcome for number in range(rounds) for outcome in made.round(number)]
    found = {f"{step}:{name}": grad for step, grads in enumerate(gathered) for name, grad in grads.items()}
    found |= {f"after:{name}": tensor for name, tensor in made.weights().items()}
    save_file(found, out.with_suffix(".safetensors"))
    said = [{"loss": outcome.loss, "norm": outcome.norm, **outcome.terms} for outcome in outcomes]
    out.with_suffix(".json").write_text(json.dumps(said))


def _share(stage: Any, rank: int, ranks: int) -> None:
    """Lets a stage see only its own process's micro-batches; answers are drawn by their place in the whole round."""
    if not isinstance(stage, PolicyStage):
        collect = stage.collect
        stage.collect = lambda round: [step[rank::ranks] for step in collect(round)]
        return
    prompts_of, answer = stage.prompts_of, stage.answer

    def own_answers(samples: Sequence[int], copies: int, *purpose: Any, greedy: bool = False) -> list[list[Answer]]:
        if purpose[0] != "rollout":
            return answer(samples, copies, *purpose, greedy=greedy)
        everyone = [sample for prompts in prompts_of(purpose[1]) for sample in prompts]
        groups = dict(zip(everyone, answer(everyone, copies, *purpose, greedy=greedy), strict=True))
        return [groups[sample] for sample in samples]

    stage.prompts_of = lambda round: prompts_of(round)[rank::ranks]  # type: ignore[method-assign]
    stage.answer = own_answers  # type: ignore[method-assign]


def main(rank: int, folder: Path, kinds: list[str]) -> None:
    """The work of one process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    for kind in kinds:
        carried_out(f"{kind}-{rank}", rank, 2, folder / f"{kind}-{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
