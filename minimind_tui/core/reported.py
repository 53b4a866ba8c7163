"""The metrics that a run has reported, in the order in which they are shown. Torch-free and without Textual."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from engine.settings.registry import Metric, StageInfo

VALIDATION = "val_"
"""How the names of the metrics begin that validation measures."""


def reported(stage: StageInfo | None, names: Collection[str]) -> list[Metric]:
    """The metrics of these names in the registry's order; what that does not list stands with its kin, or last."""
    listed = {metric.name: metric for metric in stage.metrics} if stage else {}
    found = [metric for name, metric in listed.items() if name in names]
    others: dict[str, list[Metric]] = {}
    for name in names:
        if name not in listed:
            others.setdefault(_kin(name, found), []).append(_unlisted(name, listed))
    after = [[metric, *others.get(metric.name, ())] for metric in found]
    return [metric for group in after for metric in group] + others.get("", [])


def leading(stage: StageInfo | None, names: Collection[str]) -> list[Metric]:
    """The metrics that say what was learnt: those with a direction that validation measures, and their validation.

    A stage that validates nothing leads with all that have a direction.
    """
    directed = [metric for metric in reported(stage, names) if metric.direction]
    known = {metric.name for metric in stage.metrics} if stage else set(names)
    validated = {name for name in names if VALIDATION + name in known}
    held_out = [metric for metric in directed if metric.name.startswith(VALIDATION) or metric.name in validated]
    return held_out or directed


def _kin(name: str, metrics: Sequence[Metric]) -> str:
    """The listed metric that one of another name belongs behind: `reward` of `reward_answer`; empty: none."""
    stem = name.rpartition("_")[0]
    alike = [metric.name for metric in metrics if stem and f"{metric.name}_".startswith(f"{stem}_")]
    return stem if stem in alike else alike[-1] if alike else ""


def _unlisted(name: str, listed: Mapping[str, Metric]) -> Metric:
    """What can be said of a metric that the registry does not list."""
    measured = listed.get(name.removeprefix(VALIDATION))
    if measured and name.startswith(VALIDATION):
        return replace(measured, name=name, title=f"validation {measured.title}")
    return Metric(name, name.replace("_", " "))
