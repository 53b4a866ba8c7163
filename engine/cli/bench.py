"""engine bench train, generate, memory, tui, ladder."""

import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from engine.cli.ladder import ladder
from engine.cli.show import number, print_json, print_table, say
from engine.errors import UserError
from engine.settings.profile import load_profile, parse_assignments, resolve

if TYPE_CHECKING:
    from engine.model.config import ModelConfig


@click.group()
def bench() -> None:
    """Measure on this machine: speed, as ratios within one run, how true plans are, and what every stage learns."""


bench.add_command(ladder)

_PROFILE = click.option("--profile", default="minimind3/pretrain", show_default=True, help="Whose model is measured.")
_ASSIGN = click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting; repeatable.")
_REPEATS = click.option(
    "--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed repeats of each variant."
)
_THREADS = click.option("--threads", type=click.IntRange(min=0), default=0, help="Processor threads; 0: all cores.")
_DTYPES = click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    default=("bfloat16", "float32"),
    show_default=True,
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Precisions; repeatable.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def _config(profile: str, assignments: tuple[str, ...]) -> "ModelConfig":
    from engine.session import model_config

    loaded = load_profile(profile)
    if "model" not in loaded.stage.sections:
        raise UserError(f"profile {profile} has no model", where="--profile", hint="such as minimind3/pretrain")
    shape = resolve(loaded, parse_assignments(assignments, loaded.stage)).model
    return model_config(shape, shape.vocab_size or 6400)


@bench.command()
@_PROFILE
@_ASSIGN
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Rows a micro-batch.")
@click.option("--length", type=click.IntRange(min=2), default=340, show_default=True, help="Tokens a row.")
@click.option(
    "--accumulation", type=click.IntRange(min=1), default=1, show_default=True, help="Micro-batches an update."
)
@click.option("--compile", is_flag=True, help="Time the compiled model too.")
@click.option("--alone", is_flag=True, help="Leave transformers out, where it is installed.")
@_REPEATS
@_THREADS
@_DTYPES
@_JSON
def train(
    profile: str,
    assignments: tuple[str, ...],
    batch_size: int,
    length: int,
    accumulation: int,
    compile: bool,
    alone: bool,
    repeats: int,
    threads: int,
    dtypes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Time training steps: tokens a second and model flops utilisation, beside Hugging Face transformers."""
    from engine.benchmark import bench_train
    from engine.training.device import pick_device, set_threads

    set_threads(threads)
    found = bench_train(
        _config(profile, assignments), batch_size=batch_size, length=length, accumulation=accumulation,
        repeats=repeats, dtypes=dtypes, device=pick_device("auto"), compile=compile,
        against=not alone and find_spec("transformers") is not None,
    )  # fmt: skip
    _show(found, as_json)


@bench.command("generate")
@_PROFILE
@_ASSIGN
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Prompts at a time.")
@click.option("--prompt", type=click.IntRange(min=1), default=32, show_default=True, help="Tokens a prompt.")
@click.option("--new-tokens", type=click.IntRange(min=1), default=48, show_default=True, help="Tokens generated a row.")
@_REPEATS
@_THREADS
@_DTYPES
@_JSON
def generate_(
    profile: str,
    assignments: tuple[str, ...],
    rows: int,
    prompt: int,
    new_tokens: int,
    repeats: int,
    threads: int,
    dtypes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Time generation with the key-value cache: tokens a second over all rows."""
    from engine.benchmark import bench_generate
    from engine.training.device import pick_device, set_threads

    set_threads(threads)
    found = bench_generate(
        _config(profile, assignments), rows=rows, prompt=prompt, new_tokens=new_tokens, repeats=repeats,
        dtypes=dtypes, device=pick_device("auto"),
    )  # fmt: skip
    _show(found, as_json)


@bench.command()
@click.option("--stages", default="", help="Only these, as in sft,dpo.")
@_JSON
def memory(stages: str, as_json: bool) -> None:
    """Compare planned with measured memory: every stage in five shapes, in short runs; a few minutes.

    Each has a process and a home of its own; nothing of it is kept. What is printed is Markdown.
    """
    from engine.session.bench_memory import bench_memory, tables

    cases = bench_memory([name.strip() for name in stages.split(",") if name.strip()], say)
    if as_json:
        print_json({"cases": [case.to_json() for case in cases]})
    else:
        click.echo(tables(cases))


@bench.command()
@click.option(
    "--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Starts, and pairs of slices."
)
@click.option("--seconds", type=click.FloatRange(min=1), default=6.0, show_default=True, help="Seconds of a slice.")
@click.option("--busy", is_flag=True, help="The screen's cost also beside another busy process.")
@_JSON
def tui(repeats: int, seconds: float, busy: bool, as_json: bool) -> None:
    """Measure the app: its first frame, painting, its lag beside a run, and what its screen costs the run.

    A process of its own does it on a pseudo-terminal, with the starter world in a folder that is deleted afterwards.
    """
    if find_spec("termios") is None:
        raise UserError("this needs pseudo-terminals, which the system has not")
    options = ["--repeats", str(repeats), "--seconds", str(seconds), *["--busy"] * busy, *["--json"] * as_json]
    done = subprocess.run([sys.executable, "-m", "minimind_tui.measure", *options], stdout=subprocess.PIPE)
    click.echo(done.stdout.decode("utf-8"), nl=False)
    if done.returncode:
        sys.exit(done.returncode)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name != "variants":
            click.echo(f"{name.replace('_', ' ')}: {number(value)}")
    rows = [
        (name, number(each["tokens_per_second"]), number(each["best"]), f"{each['ratio']:.2f}",
         f"{each['mfu']:.0%}" if "mfu" in each else "")
        for name, each in found["variants"].items()
    ]  # fmt: skip
    print_table(("variant", "tokens/s", "best", "ratio", "MFU"), rows)
