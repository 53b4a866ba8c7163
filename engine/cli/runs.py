"""engine runs list, show, compare, delete, send."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from engine.cli.show import number, print_json, print_table, say
from engine.errors import EngineError, UserError
from engine.figures import size
from engine.runs.control import COMMANDS, send
from engine.runs.delete import delete_run, disk_use
from engine.runs.folder import RunFolder, find_run, list_runs
from engine.runs.history import metrics_of
from engine.runs.lineage import started_from
from engine.runs.summary import RunSummary, summarise


@click.group()
def runs() -> None:
    """Runs: what was trained, how it went, what differs."""


def _document(summary: RunSummary) -> dict[str, Any]:
    run, newest, best = summary.run, summary.checkpoints[-1:], summary.best_step
    return {
        "run": run.name,
        "path": str(run.path),
        "profile": summary.resolved.get("profile"),
        "stage": summary.resolved.get("stage"),
        "state": summary.state,
        "step": summary.step,
        "total_steps": summary.total or None,
        "tokens": summary.tokens,
        "metrics": summary.metrics,
        "checkpoint": str(run.checkpoint(newest[0])) if newest else None,
        "best_checkpoint": str(run.checkpoint(best)) if best is not None else None,
        "checkpoints": list(summary.checkpoints),
        "tokenizer": str(run.tokenizer) if run.tokenizer.is_dir() else None,
        "error": summary.error,
    }


def _summaries() -> list[RunSummary]:
    """Every run that can be read, the newest first; what cannot is named."""
    found = []
    for run in list_runs():
        try:
            found.append(summarise(run))
        except EngineError as error:
            say(f"run {run.name} is left out: {error}")
        except FileNotFoundError:  # deleted meanwhile
            continue
    return found


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(as_json: bool) -> None:
    """List all runs, the newest first."""
    found = [_document(summary) for summary in _summaries()]
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
    summary = summarise(folder)
    found = _document(summary) | {"bytes": disk_use(folder), "settings": summary.settings}
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


@runs.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN…")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def delete(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete runs with all their checkpoints; one that is running is refused."""
    folders = list({folder.path: folder for folder in map(find_run, names)}.values())
    if running := [folder.name for folder in folders if folder.is_running()]:
        raise UserError(f"{', '.join(running)}: still running", hint=f"first: engine runs send {running[0]} stop")
    found = _going(folders)
    for each in found:
        say(f"run {each['run']}: {size(each['bytes'])}, {len(each['checkpoints'])} checkpoints")
        if each["started_from_it"]:
            say(f"  started from it: {', '.join(each['started_from_it'])} (a run that has not ended cannot go on then)")
    if not yes and not sys.stdin.isatty():
        raise UserError("there is no terminal to ask on", where="engine runs delete", hint="add --yes to delete")
    if not yes and not click.confirm(f"Delete {len(found)} run{'s'[: len(found) > 1]} for good?", err=True):
        say("nothing was deleted")
        found = []
    for folder in folders if found else ():
        delete_run(folder)
        say(f"run {folder.name} is deleted")
    if as_json:
        print_json({"deleted": found})


def _going(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """What is deleted with each run, and which runs were started from it."""
    going = {folder.path for folder in folders}
    others = [summary for summary in _summaries() if summary.run.path not in going]
    return [
        {
            "run": folder.name,
            "path": str(folder.path),
            "bytes": disk_use(folder),
            "checkpoints": folder.checkpoint_steps(),
            "started_from_it": [each.name for each in started_from(others, folder)],
        }
        for folder in folders
    ]


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
