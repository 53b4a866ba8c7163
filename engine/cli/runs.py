"""engine runs list, show, compare, send."""

from itertools import zip_longest
from typing import Any

import click

from engine.cli.show import number, print_json, print_table, say
from engine.errors import EngineError, UserError
from engine.runs.control import COMMANDS, send
from engine.runs.events import VERSION, Event, Finished, RunStarted, Step, from_line
from engine.runs.folder import RunFolder, clean_history, find_run, list_runs, metrics_of
from engine.settings.registry import STAGES

_STEP = f'{{"v":{VERSION},"type":"{Step.type}"'.encode()


@click.group()
def runs() -> None:
    """Runs: what was trained, how it went, what differs."""


def _newest_events(run: RunFolder) -> list[Event]:
    """The run's history with only the last of steps that follow each other: enough for what a list shows."""
    if not run.events.exists():
        return []
    lines = run.events.read_bytes().splitlines()
    kept = [
        line
        for line, after in zip_longest(lines, lines[1:], fillvalue=b"")
        if not (line.startswith(_STEP) and after.startswith(_STEP))
    ]
    return clean_history([event for line in kept if (event := from_line(line)) is not None])


def _newest_metrics(stage: str, events: list[Event], end: Finished | None) -> dict[str, float]:
    """The last value of every metric; a stage without steps tells its metrics in its summary."""
    curves = metrics_of(events)
    if curves or end is None or stage not in STAGES:
        return {name: points[-1][1] for name, points in curves.items()}
    told = {metric.name: end.summary.get(metric.name) for metric in STAGES[stage].metrics}
    return {name: value for name, value in told.items() if value is not None}


def _summary(run: RunFolder) -> dict[str, Any]:
    events = _newest_events(run)
    started = next((event for event in reversed(events) if isinstance(event, RunStarted)), None)
    end = next((event for event in events[-1:] if isinstance(event, Finished)), None)
    steps = [event for event in events if isinstance(event, Step)]
    checkpoints = run.checkpoint_steps()
    best = run.best_step()
    resolved = run.read_json(run.resolved)
    return {
        "run": run.name,
        "path": str(run.path),
        "profile": resolved.get("profile"),
        "stage": resolved.get("stage"),
        "state": "running" if run.is_running() else end.status if end else "interrupted",
        "step": end.step if end else (steps[-1].step if steps else 0),
        "total_steps": started.total_steps if started else None,
        "tokens": steps[-1].tokens if steps else 0,
        "metrics": _newest_metrics(str(resolved.get("stage")), events, end),
        "checkpoint": str(run.checkpoint(checkpoints[-1])) if checkpoints else None,
        "best_checkpoint": str(run.checkpoint(best)) if best is not None else None,
        "checkpoints": checkpoints,
        "tokenizer": str(run.tokenizer) if run.tokenizer.is_dir() else None,
        "error": end.error if end else "",
    }


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(as_json: bool) -> None:
    """List all runs, the newest first."""
    found = []
    for run in list_runs():
        try:
            found.append(_summary(run))
        except EngineError as error:
            say(f"run {run.name} is left out: {error}")
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
    found = _summary(folder) | {"settings": folder.read_json(folder.resolved).get("settings", {})}
    if as_json:
        print_json(found)
        return
    plain = [(key, value) for key, value in found.items() if key not in ("metrics", "settings")]
    print_table(("what", "value"), [*plain, *((name, number(value)) for name, value in found["metrics"].items())])
    click.echo()
    print_table(
        ("setting", "value", "origin"), [(name, e["value"], e["origin"]) for name, e in found["settings"].items()]
    )


@runs.command()
@click.argument("one")
@click.argument("other")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def compare(one: str, other: str, as_json: bool) -> None:
    """Compare two runs: settings that differ, and every metric step by step."""
    folders = [find_run(name) for name in (one, other)]
    settings = [folder.read_json(folder.resolved).get("settings", {}) for folder in folders]
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
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def send_(run: str, command: str, value: int | None, as_json: bool) -> None:
    """Tell a live run something: pause, continue, stop, save, evaluate."""
    folder = find_run(run)
    state = folder.state()
    if state in ("done", "stopped", "failed"):
        raise UserError(f"run {folder.name} is {state}: nobody listens", hint="engine runs list shows what is running")
    identity = send(folder, command, value)
    if as_json:
        print_json({"run": folder.name, "command": command, "id": identity})
