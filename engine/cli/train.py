"""engine train, engine resume."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import click
from tqdm import tqdm

from engine.clean import clean
from engine.cli.show import number, print_json, print_text, say, shorten
from engine.errors import DoesNotFit, Interrupted, OutOfMemory
from engine.figures import size
from engine.runs.events import (
    Adjusted,
    Audited,
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    MemoryPlanned,
    NonFiniteStep,
    Progress,
    RanOutOfMemory,
    Resumed,
    RunStarted,
    Sampled,
    Step,
    Warned,
)
from engine.runs.folder import RunFolder, find_run

_FORCE = click.option("--force", is_flag=True, help="Start although it is not expected to fit into memory.")
_AUTO_FIT = click.option(
    "--auto-fit", type=click.IntRange(0), default=0, metavar="[N]",
    help="Where memory runs out, or would, change settings so that it fits and go on; N times at most (3).",
)  # fmt: skip


class _AutoFitting(click.Command):
    """A command whose `--auto-fit` may stand without its number, whatever follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        pairs = pairwise([*args, ""])
        return super().parse_args(
            ctx, ["--auto-fit=3" if arg == "--auto-fit" and not after.isdecimal() else arg for arg, after in pairs]
        )


@click.command(cls=_AutoFitting)
@click.argument("profile")
@click.option("--data", default="", help="The file to train on.")
@click.option("--tokenizer", default="", help="A tokenizer folder or run.")
@click.option("--from", "start_from", default="", help="A run or model folder to start from; its shape is inherited.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of the stage; repeatable.")
@click.option("--name", default="", help="The run's name.")
@click.option("--overwrite", is_flag=True, help="Replace a run of that name.")
@_FORCE
@_AUTO_FIT
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def train(
    profile: str,
    data: str,
    tokenizer: str,
    start_from: str,
    assignments: tuple[str, ...],
    name: str,
    overwrite: bool,
    force: bool,
    auto_fit: int,
    as_json: bool,
) -> None:
    """Train the stage of PROFILE, a built-in name such as starter/pretrain or a TOML file."""
    from engine.session import TrainRequest
    from engine.session import train as train_run
    from engine.session.fitting import fitting_request

    request = TrainRequest(profile, data, tokenizer, start_from, assignments, name, overwrite)

    def work(interrupt: threading.Event, listener: Callable[[Event], None]) -> dict[str, Any]:
        return train_run(request, force=force, interrupt=interrupt, listener=listener)

    for left in range(auto_fit, -1, -1):
        try:
            _run(work, as_json)
            return
        except DoesNotFit as error:
            changed = fitting_request(request, error) if left else None
            if changed is None:
                if as_json:
                    print_json({"status": "does_not_fit", "run": "", "error": str(error), "plan": error.plan})
                raise
            say(f"not expected to fit; changed: {' '.join(changed.fitted[len(request.fitted) :])}")
            request = changed
        except OutOfMemory as error:
            _go_on(error, left, ["--force"] * force + ["--json"] * as_json)


@click.command(cls=_AutoFitting)
@click.argument("run")
@click.option("--allow-inexact", is_flag=True, help="Go on although the machine or its settings changed.")
@click.option("--apply", "number", type=click.IntRange(1), help="After out of memory: change settings by suggestion N.")
@_FORCE
@_AUTO_FIT
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def resume(run: str, allow_inexact: bool, number: int | None, force: bool, auto_fit: int, as_json: bool) -> None:
    """Go on with RUN from its newest checkpoint, bit for bit."""
    from engine.session import carry_out
    from engine.session.adjust import apply_suggestion
    from engine.session.aftermath import explain_kill

    folder = find_run(run)
    done = _summary_of(folder)
    if done:
        say(f"run {folder.name} is done already; there is nothing to resume")
        _show(done, as_json)
        return
    if killed := explain_kill(folder):
        say(f"run {folder.name}: {killed.what}")
    if number is not None:
        changes = apply_suggestion(folder, number)
        say("changed: " + ", ".join(f"{name} = {value}" for name, value in changes.items()))

    def work(interrupt: threading.Event, listener: Callable[[Event], None]) -> dict[str, Any]:
        return carry_out(
            folder, resume=True, allow_inexact=allow_inexact, force=force, interrupt=interrupt, listener=listener
        )

    flags = ["--force"] * force + ["--allow-inexact"] * allow_inexact + ["--json"] * as_json
    try:
        _run(work, as_json)
    except OutOfMemory as error:
        _go_on(error, auto_fit, flags)


def _go_on(error: OutOfMemory, left: int, flags: list[str]) -> None:
    """Changes the run so that it fits, and goes on with it in a fresh process: only its end gives all memory back.

    Raises:
        OutOfMemory: No changes are left, or none helps.
    """
    from engine.session.fitting import adjust_to_fit

    if not left or not adjust_to_fit(error):
        if "--json" in flags:
            print_json({"status": "out_of_memory", "run": error.run, "error": str(error), "plan": error.plan})
        raise error
    say(clean(f"{error.what}; settings changed, going on"))
    command = [sys.executable, "-P", "-m", "engine", "resume", error.run, "--auto-fit", str(left - 1), *flags]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(sys.executable, command)
    sys.exit(subprocess.run(command).returncode)


def carry(work: Callable[[threading.Event, Callable[[Event], None]], dict[str, Any]]) -> dict[str, Any]:
    """Carries a run out with its events narrated and signals heeded; returns its summary."""
    interrupt = threading.Event()
    with _signals(interrupt), _Narrator() as narrator:
        return work(interrupt, narrator)


def _run(work: Callable[[threading.Event, Callable[[Event], None]], dict[str, Any]], as_json: bool) -> None:
    summaries: list[dict[str, Any]] = []

    def heeded(interrupt: threading.Event, narrate: Callable[[Event], None]) -> dict[str, Any]:
        def listener(event: Event) -> None:
            if isinstance(event, Finished) and event.summary:
                summaries.append(event.summary)
            narrate(event)

        return work(interrupt, listener)

    try:
        summary = carry(heeded)
    except Interrupted:
        if summaries:  # interrupted, and saved: what was reached is a result too
            _show(summaries[-1], as_json)
        raise
    _show(summary, as_json)
    if summary["status"] == "stopped":
        sys.exit(130)


def _summary_of(run: RunFolder) -> dict[str, Any] | None:
    """The summary of a run that is done and whose result is there; None where there is something left to do."""
    end = run.history()[-1:]
    if run.is_running() or not end or not isinstance(end[0], Finished) or end[0].status != "done":
        return None
    kind = "tokenizer" if "tokenizer" in end[0].summary else "checkpoint"
    made = run.tokenizer if kind == "tokenizer" else run.checkpoint(end[0].step)
    return end[0].summary | {"path": str(run.path), kind: str(made)} if made.is_dir() else None


def _show(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
    else:
        print_text(_readable(summary))


@contextmanager
def _signals(interrupt: threading.Event) -> Iterator[None]:
    """Signals ask the run to save its last step boundary; a signal ignored by inheritance (nohup) stays ignored.

    A second ctrl+c does not wait for that: what was saved before is what a resume goes on from.
    """

    def heed(number: int, _: object) -> None:
        if number == signal.SIGINT and interrupt.is_set():
            raise KeyboardInterrupt
        interrupt.set()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    caught = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for each in caught:
        signal.signal(each, heed)
    try:
        yield
    finally:
        for each, old in caught.items():
            signal.signal(each, old)


class _Narrator:
    """Shows a run's events on standard error: a progress bar on a terminal, lines elsewhere."""

    def __enter__(self) -> "_Narrator":
        self._bar: tqdm[Any] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted) and event.total_steps > 1:
            say(f"{event.stage}: {event.parameters / 1e6:.2f} M parameters, {event.total_steps} steps, {event.dtype}, "
                f"{event.device}, {event.threads} threads")  # fmt: skip
            self._bar = tqdm(total=event.total_steps, unit="step", file=sys.stderr, dynamic_ncols=True, mininterval=0.5,
                             maxinterval=5, disable=not sys.stderr.isatty())  # fmt: skip
        elif isinstance(event, Step) and self._bar is not None:
            self._bar.update(event.step - self._bar.n)
            speed = event.metrics["tokens_per_second"]
            reward = f", reward {event.metrics['reward']:.3f}" if "reward" in event.metrics else ""
            self._bar.set_postfix_str(f"loss {event.metrics['loss']:.4f}{reward}, {speed:,.0f} tokens/s")
        elif isinstance(event, Resumed) and self._bar is not None:
            self._bar.update(event.from_step)
        else:
            text = _line(event)
            if text:
                tqdm.write(clean(text), file=sys.stderr)


def _line(event: Event) -> str:
    """An event as a line of narration; empty for those that say nothing to a person."""
    match event:
        case Progress(what=what, done=done):
            return f"{what}: {done:.0%}"
        case Audited(audit=found):
            return (
                f"data: {found['usable']:,} rows, {found['tokens']:,} tokens, {found['trained_share']:.0%} trained, "
                f"{len(found['quarantined'])} quarantined, {found['truncated_rows']} truncated"
            )
        case Evaluated(step=step, metrics=metrics):
            return f"step {step}: " + ", ".join(f"{name} {number(value)}" for name, value in metrics.items())
        case Sampled(prompt=prompt, text=text):
            return f"  {shorten(prompt)!r} → {shorten(text)!r}"
        case CheckpointSaved(step=step, best=best):
            return f"step {step}: checkpoint saved{' (best so far)' if best else ''}"
        case NonFiniteStep(step=step, what=what, rows=rows):
            return f"step {step}: non-finite {what}, step skipped; rows {rows[:8]}"
        case Warned(name=name, message=message):
            return f"warning: {name}: {message}"
        case RanOutOfMemory(phase=phase, step=step, what=what):
            return f"step {step}: out of memory in {phase}: {what}"
        case Adjusted(changes=changes, reason=reason):
            return f"{reason}: " + ", ".join(f"{name} = {value}" for name, value in changes.items())
        case MemoryPlanned(plan=plan):
            return (
                f"memory: {size(plan['peak_bytes'])} allocated at the peak, {size(plan['low_bytes'])} to "
                f"{size(plan['high_bytes'])} with the program, of {size(plan['limit_bytes'])}"
            )
        case Resumed(from_step=step):
            return f"resumed from step {step}"
        case _:
            return ""


def _readable(summary: dict[str, Any]) -> str:
    if "tokenizer" in summary:
        return (
            f"run {summary['run']}: {summary['vocab_size']:,} tokens, "
            f"{summary['characters_per_token']:.2f} characters a token\ntokenizer {summary['tokenizer']}"
        )
    speed = summary["tokens_per_second"]
    return "\n".join(
        [
            f"run {summary['run']}: {summary['status']} after {summary['steps']:,} steps, {summary['tokens']:,} tokens",
            ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in summary["metrics"].items()),
            f"{number(speed and round(speed))} tokens/s, peak memory {size(summary['peak_bytes'])} "
            f"({size(summary['resident_bytes'])} with the program)",
            f"checkpoint {summary['checkpoint']}",
        ]
    )
