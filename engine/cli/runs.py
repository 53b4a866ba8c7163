"""engine runs list, show, compare, stop."""

from typing import Any

import click

from engine.cli.show import number, print_json, print_table
from engine.runs.control import COMMANDS, send
from engine.runs.events import Finished, RunStarted, Step
from engine.runs.folder import RunFolder, find_run, list_runs, metrics_of


@click.group()
def runs() -> None:
    """Runs: what was trained, how it went, what differs."""


def _summary(run: RunFolder) -> dict[str, Any]:
    events = run.history()
    started = next((event for event in reversed(events) if isinstance(event, RunStarted)), None)
    ends = [event for event in events[-1:] if isinstance(event, Finished)]
    steps = [event for event in events if isinstance(event, Step)]
    checkpoints = run.checkpoint_steps()
    best = run.best_step()
    resolved = run.read_json(run.resolved)
    return {
        "run": run.name,
        "path": str(run.path),
        "profile": resolved.get("profile"),
        "stage": resolved["stage"],
        "state": run.state(),
        "step": steps[-1].step if steps else (ends[0].step if ends else 0),
        "total_steps": started.total_steps if started else None,
        "tokens": steps[-1].tokens if steps else 0,
        "metrics": {name: points[-1][1] for name, points in metrics_of(events).items()},
        "checkpoint": str(run.checkpoint(checkpoints[-1])) if checkpoints else None,
        "best_checkpoint": str(run.checkpoint(best)) if best is not None else None,
        "checkpoints": checkpoints,
        "tokenizer": str(run.tokenizer) if run.tokenizer.is_dir() else None,
        "error": ends[0].error if ends else "",
    }


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(as_json: bool) -> None:
    """List all runs, the newest first."""
    found = [_summary(run) for run in list_runs()]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["run"],
            each["stage"],
            each["state"],
            f"{each['step']}/{each['total_steps'] or '?'}",
            number(each["metrics"].get("loss")),
            number(each["metrics"].get("val_loss")),
        )
        for each in found
    ]
    print_table(("run", "stage", "state", "step", "loss", "validation loss"), rows)


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def show(run: str, as_json: bool) -> None:
    """Show a run: its state, its newest numbers and its newest checkpoint."""
    folder = find_run(run)
    found = _summary(folder) | {"settings": folder.read_json(folder.resolved)["settings"]}
    if as_json:
        print_json(found)
        return
    plain = [(key, value) for key, value in found.items() if key not in ("metrics", "settings")]
    print_table(("what", "value"), [*plain, *((name, number(value)) for name, value in found["metrics"].items())])


@runs.command()
@click.argument("one")
@click.argument("other")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def compare(one: str, other: str, as_json: bool) -> None:
    """Compare two runs: settings that differ, and every metric step by step."""
    folders = [find_run(name) for name in (one, other)]
    settings = [folder.read_json(folder.resolved)["settings"] for folder in folders]
    names = sorted({*settings[0], *settings[1]})
    values = [[entry.get(name, {}).get("value") for name in names] for entry in settings]
    differing = {
        name: {"one": mine, "other": its} for name, mine, its in zip(names, *values, strict=True) if mine != its
    }
    curves = [metrics_of(folder.history()) for folder in folders]
    metrics: dict[str, Any] = {}
    for name in sorted({*curves[0], *curves[1]}):
        mine, its = (dict(each.get(name, [])) for each in curves)
        shared = sorted(mine.keys() & its.keys())
        metrics[name] = {
            "steps": len(shared),
            "only_one": len(mine.keys() - its.keys()),
            "only_other": len(its.keys() - mine.keys()),
            "largest_difference": max((abs(mine[step] - its[step]) for step in shared), default=None),
            "first_difference": next((step for step in shared if mine[step] != its[step]), None),
            "last": {"one": mine[shared[-1]], "other": its[shared[-1]]} if shared else None,
            "points": [[step, mine[step], its[step]] for step in shared],
        }
    if as_json:
        print_json({"one": one, "other": other, "settings": differing, "metrics": metrics})
        return
    print_table(("setting", one, other), [(name, pair["one"], pair["other"]) for name, pair in differing.items()])
    click.echo()
    rows = [
        (
            name,
            found["steps"],
            number(found["last"] and found["last"]["one"]),
            number(found["last"] and found["last"]["other"]),
            number(found["largest_difference"]),
            found["first_difference"] if found["first_difference"] is not None else "equal",
        )
        for name, found in metrics.items()
    ]
    print_table(("metric", "steps", one, other, "largest difference", "differs from step"), rows)


@runs.command("send")
@click.argument("run")
@click.argument("command", type=click.Choice(COMMANDS))
@click.argument("value", type=int, required=False)
def send_(run: str, command: str, value: int | None) -> None:
    """Tell a live run something: pause, continue, stop, save, evaluate."""
    send(find_run(run), command, value)
