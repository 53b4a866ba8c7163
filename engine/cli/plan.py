"""engine plan: will it fit, and what to change if not."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from engine.cli.show import print_json, print_text
from engine.errors import UserError
from engine.figures import size
from engine.memory.plan import MemoryPlan
from engine.runs.events import Event

if TYPE_CHECKING:
    from engine.session.measuring import Speed
    from engine.session.request import TrainRequest


@click.command()
@click.argument("profile", required=False)
@click.option("--data", default="", help="The file to train on.")
@click.option("--tokenizer", default="", help="A tokenizer folder or run.")
@click.option("--from", "start_from", default="", help="A run or model folder to start from.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of the stage; repeatable.")
@click.option(
    "--device", default="", help="cpu, cpu:16GiB, cuda, cuda:8GiB, a card such as rtx3050; else the profile's."
)
@click.option(
    "--trace", is_flag=True, help="Trace the real step besides, with tensors that hold nothing; takes seconds."
)
@click.option("--measure", is_flag=True, help="Take a few real steps here besides, for the speed; nothing is kept.")
@click.option("--history", is_flag=True, help="How far plans were off on this machine so far.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def plan(
    profile: str | None,
    data: str,
    tokenizer: str,
    start_from: str,
    assignments: tuple[str, ...],
    device: str,
    trace: bool,
    measure: bool,
    history: bool,
    as_json: bool,
) -> None:
    """Tell whether a run of PROFILE will fit, and what to change if not. Nothing is trained or written."""
    if history:
        _history(as_json)
        return
    if not profile:
        raise UserError("no profile is named", where="PROFILE", hint="engine plan starter/sft")
    from engine.session import TrainRequest
    from engine.session.planning import plan_request

    request = TrainRequest(profile, data, tokenizer, start_from, assignments)
    if measure and device:
        raise UserError("speed is measured on this machine", where="--measure", hint="leave --device out")
    found = plan_request(request, device, trace=trace)
    if measure and found.fits:
        found = plan_request(request, trace=trace, speed=_speed(request))
    if as_json:
        print_json(found.to_json())
    else:
        print_text(readable(found))


def _speed(request: "TrainRequest") -> "Speed":
    """The run's speed here, by a few steps."""
    from engine.cli.train import carry
    from engine.session.measuring import measure_speed

    found: list[Speed] = []

    def work(interrupt: threading.Event, listener: Callable[[Event], None]) -> dict[str, Any]:
        found.append(measure_speed(request, interrupt=interrupt, listener=listener))
        return {}

    carry(work)
    return found[0]


def readable(plan: MemoryPlan) -> str:
    """A plan for people."""
    shape = plan.shape
    fits = "fits" if plan.fits else "does not fit"
    left = f"{size(abs(plan.headroom_bytes))} {'to spare' if plan.fits else 'too much'}"
    lines = [
        f"{plan.device}: {fits}, {left}: {size(plan.low_bytes)} to {size(plan.high_bytes)} of {size(plan.limit_bytes)}",
        f"allocated at the peak ({plan.phase}, by {plan.method}): {size(plan.peak_bytes)}; the largest micro-batch has "
        f"{shape['documents']} documents, {shape['tokens']:,} tokens, the longest of {shape['longest']:,}",
    ]
    parts = [(name, value) for name, value in vars(plan.breakdown).items() if value]
    lines += [f"  {name.replace('_', ' '):<14}{size(value):>10}" for name, value in parts]
    lines.append(f"largest batch_size {plan.max_batch_size:,}, longest max_seq_len {plan.longest_seq_len:,}")
    if plan.time.get("tokens_per_second") or plan.time.get("seconds"):
        lines.append(_time(plan.time))
    lines += [f"note: {note}" for note in plan.notes]
    if not plan.verified:
        lines.append("note: an estimate that no run on this kind of device has checked yet")
    if plan.suggestions:
        lines.append("what would save memory:" if plan.fits else "what would help:")
        lines += suggestion_lines(plan)
    return "\n".join(lines)


def suggestion_lines(plan: MemoryPlan) -> list[str]:
    """The suggestions, numbered."""
    lines = []
    for number, each in enumerate(plan.suggestions, start=1):
        fits = "fits" if each.fits else "not enough"
        cut = f"; cuts {each.truncated_rows:,} rows of this data" if each.truncated_rows else ""
        batch = "" if each.keeps_effective_batch else "; another effective batch"
        lines.append(f"  {number}. {each.title}: {size(each.peak_bytes)}, saves {size(each.saves_bytes)}, {fits}")
        lines.append(f"     {each.cost}{cut}{batch}")
    return lines


def _time(time: dict[str, Any]) -> str:
    speed = f"{time['tokens_per_second']:,.0f} tokens/s by {time['source']}"
    if not time.get("seconds"):
        return speed
    low, high = time["seconds_range"]
    return f"{speed}: about {time['seconds'] / 60:.1f} minutes ({low / 60:.1f} to {high / 60:.1f})"


def _history(as_json: bool) -> None:
    from engine.memory.history import as_json as row
    from engine.memory.history import records

    found = [row(record) for record in records()]
    if as_json:
        print_json({"runs": found})
        return
    if not found:
        raise UserError("no run has reported its memory yet", hint="train something")
    lines = [f"{'run':<28}{'stage':<10}{'planned':>10}{'measured':>10}{'error':>8}{'resident':>10}  range"]
    for each in found:
        error = "" if each["error"] is None else f"{each['error']:+.1%}"
        within = {True: "kept", False: "left", None: ""}[each["within"]]
        measured, resident = (size(each[name]) if each[name] else "" for name in ("measured_bytes", "resident_bytes"))
        lines.append(
            f"{each['run'][:27]:<28}{each['stage']:<10}{size(each['predicted_bytes']):>10}{measured:>10}{error:>8}"
            f"{resident:>10}  {within}"
        )
    print_text("\n".join(lines))
