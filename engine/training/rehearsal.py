"""A dry forward and backward of a run's largest micro-batches: what does not fit fails before anything is trained."""

import torch

from engine.training.precision import Precision
from engine.training.stage import Stage
from engine.training.update import back_propagate


def rehearse(stage: Stage, precision: Precision) -> None:
    """Computes the gradients of the largest micro-batches as a step would, and forgets them.

    Where a step takes several micro-batches each is computed twice, the second time beside the gradients of the first.
    Nothing of it remains, also where it fails: no gradients, no figures, no random numbers drawn. (On mps the global
    generator is not put back; every micro-batch seeds its own.)

    Args:
        stage: Stands between two steps.
        precision: How a run computes.
    """
    parameters = [parameter for module in stage.modules.values() for parameter in module.parameters()]
    cards = {parameter.device.index for parameter in parameters if parameter.is_cuda}
    for module in stage.modules.values():
        module.train()
    for batch in stage.largest():
        counts = stage.measure(batch).counts
        with torch.random.fork_rng(cards), stage.unnoted():
            try:
                for _ in range(2 if stage.accumulates else 1):
                    back_propagate(stage, precision, batch, counts)
            finally:
                for parameter in parameters:
                    parameter.grad = None
