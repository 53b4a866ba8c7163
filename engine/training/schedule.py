"""The learning rate over the steps of a run."""

import math

from engine.settings.training import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step`, counted from 0.

    Linear warm-up over `warmup_steps` (its first step is 1/warmup_steps of the top, so no step is lost), then cosine
    or linear down to `min_lr_ratio` at the last step, or constant. Warm-up takes half of the run at most, so a run cut
    short for a quick look still learns.
    """
    top, warmup = settings.learning_rate, min(settings.warmup_steps, total_steps // 2)
    if step < warmup:
        return top * (step + 1) / warmup
    if settings.lr_schedule == "constant":
        return top
    progress = min(1.0, (step - warmup) / max(1, total_steps - 1 - warmup))
    fall = progress if settings.lr_schedule == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
    return top * (1 - (1 - settings.min_lr_ratio) * fall)
