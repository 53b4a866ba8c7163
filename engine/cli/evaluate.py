"""engine eval, engine eval compare, engine eval harness."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from engine.cli.show import number, print_json, print_table, say, shorten
from engine.errors import UserError

_CELL = 44
"""Characters of a text in a table."""

_DATA = "a file; starter:NAME is a file of the starter world"
_MAX_NEW_TOKENS = click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="How long an answer may be."
)
_BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Questions at a time."
)
_DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, mps.")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


class _EvalCommand(click.Command):
    """Measures the model that the command line names, unless its first word is another verb of `eval`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the verb that is asked for."""
        verb = _VERBS.get(args[0]) if args else None
        if verb is None:
            return super().make_context(info_name, args, parent, **extra)
        return verb.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of measuring, then the other verbs."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(80)) for name, verb in _VERBS.items()])


def _ks(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between them, such as 1,4,8") from None


@click.command("eval", cls=_EvalCommand)
@click.argument("model")
@click.option("--data", required=True, help=f"What to measure on: {_DATA}.")
@click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows.")
@click.option(
    "--max-seq-len",
    type=click.IntRange(min=0),
    default=0,
    help="The longest sample; 0: what the model reads, at most 2,048.",
)
@_MAX_NEW_TOKENS
@_BATCH_SIZE
@click.option("--samples", type=click.IntRange(min=0), default=0, help="Sampled answers a question, for pass@k.")
@click.option(
    "--k", "ks", default="", callback=_ks, help="The k of pass@k, such as 1,4,8 (default: as far as samples reach)."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of the sampled answers."
)
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Sample only the k most probable tokens.")
@click.option("--top-p", type=float, default=1.0, help="Sample only tokens that together reach this probability.")
@click.option("--reference", default="", help="On pairs: the model that the implicit reward is measured against.")
@click.option(
    "--beta", type=click.FloatRange(min=0, min_open=True), default=0.1, show_default=True,
    help="What a nat of difference to the reference is worth.",
)  # fmt: skip
@_DEVICE
@_JSON
def evaluate(
    model: str,
    data: str,
    max_rows: int,
    max_seq_len: int,
    max_new_tokens: int,
    batch_size: int,
    samples: int,
    ks: tuple[int, ...],
    temperature: float,
    top_k: int,
    top_p: float,
    reference: str,
    beta: float,
    device: str,
    as_json: bool,
) -> None:
    """Measure MODEL on a file.

    Text and conversations: loss and bits per byte. Questions with known answers: exact match, pass@k and the form of
    the answers. Pairs: which side the model finds more probable.
    """
    from engine.evaluation.evaluate import evaluate as measure
    from engine.evaluation.passes import USUAL_KS, Trials
    from engine.generation.settings import SamplingSettings
    from engine.references import checkpoint_folder, data_file
    from engine.training.device import pick_device

    trials = None
    if samples or ks:
        sampling = SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p)
        trials = Trials(samples, ks or tuple(k for k in USUAL_KS if k <= samples), sampling)
    with _progress() as show:
        found = measure(
            checkpoint_folder(model),
            data_file(data),
            max_rows=max_rows,
            max_seq_len=max_seq_len,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            trials=trials,
            reference=checkpoint_folder(reference) if reference else None,
            beta=beta,
            device=str(pick_device(device).torch_device),
            progress=show,
        )
    if as_json:
        print_json(found)
        return
    print_table(("what", "value"), [(key, _value(value)) for key, value in found.items() if key not in ("by", "wrong")])
    rows = [
        (f"{label}={value}", figures["questions"], f"{figures['exact_match']:.1%}", f"{figures['pass_at_1']:.1%}")
        for label, groups in found.get("by", {}).items()
        for value, figures in groups.items()
    ]
    if rows:
        click.echo()
        print_table(("part", "questions", "exact match", "pass@1"), rows)
    for entry in found.get("wrong", [])[:3]:
        click.echo(f"wrong: {entry['prompt']!r} → {entry['said']!r}, expected {entry['expected']!r}")


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="A B [C …]")
@click.option("--data", default="", help=f"Its first questions with known answers are asked: {_DATA}.")
@click.option("--questions", default="", help="Or a text file with a question on each line.")
@click.option(
    "--max-rows", type=click.IntRange(min=0), default=20, show_default=True, help="The first rows of data; 0: all."
)
@_MAX_NEW_TOKENS
@_BATCH_SIZE
@_DEVICE
@click.option("--out", type=click.Path(dir_okay=False), help="Write the JSON document to this file too.")
@_JSON
def compare(
    models: tuple[str, ...],
    data: str,
    questions: str,
    max_rows: int,
    max_new_tokens: int,
    batch_size: int,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Ask several models the same questions, side by side.

    Every model answers greedily; ✓ passes the row's check, ✗ does not.
    """
    if len(set(models)) != len(models) or len(models) < 2:
        raise UserError("a comparison needs two or more different models", hint="engine eval compare A B --data FILE")
    if bool(data) == bool(questions):
        raise UserError("the questions come from --data or from --questions", hint="give one of the two")
    from engine.evaluation.side_by_side import listed_questions, questions_of, side_by_side
    from engine.files import write_whole
    from engine.references import checkpoint_folder, data_file
    from engine.runs.events import to_json_value
    from engine.training.device import pick_device

    folders = {model: checkpoint_folder(model) for model in models}
    source = data_file(data or questions)
    asked = questions_of(source, max_rows) if data else listed_questions(source)
    with _progress() as show:
        found = side_by_side(
            folders,
            asked,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            device=str(pick_device(device).torch_device),
            progress=show,
        )
    found = {"data": str(source), **found}
    if out:
        write_whole(Path(out).expanduser(), json.dumps(to_json_value(found), ensure_ascii=False, indent=1) + "\n")
        say(f"written to {out}")
    if as_json:
        print_json(found)
        return
    print_table(
        ("question", "expected", *models),
        [
            (_cell(row["prompt"]), _cell(row["expected"] or ""), *(_said(row["answers"][model]) for model in models))
            for row in found["questions"]
        ],
    )
    click.echo()
    figures = [key for key in found["models"][models[0]] if key not in ("folder", "by")]
    print_table(("what", *models), [(key, *(_value(found["models"][m][key]) for m in models)) for key in figures])


@click.command()
@click.argument("model")
@click.option("--tasks", required=True, help="Names of the harness's tasks with commas between them.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Only the first rows of each task; 0: all.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Rows at a time.")
@_DEVICE
@_JSON
def harness(model: str, tasks: str, limit: int, batch_size: int, device: str, as_json: bool) -> None:
    """Run tasks of lm-evaluation-harness on MODEL.

    Needs the extra lm-eval; the harness downloads its tasks' data from the Hugging Face Hub.
    """
    from engine.evaluation.harness import run_harness
    from engine.references import checkpoint_folder
    from engine.training.device import pick_device

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    found = run_harness(
        checkpoint_folder(model),
        names,
        limit=limit,
        batch_size=batch_size,
        device=str(pick_device(device).torch_device),
    )
    if as_json:
        print_json(found)
        return
    rows = [(task, key, _value(value)) for task, figures in found["results"].items() for key, value in figures.items()]
    print_table(("task", "what", "value"), rows)


_VERBS: Mapping[str, click.Command] = {"compare": compare, "harness": harness}


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error, where that is a terminal."""
    with tqdm(total=100, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

        def show(what: str, done: float) -> None:
            bar.set_description(what, refresh=False)
            bar.n = int(100 * done)
            bar.refresh()

        yield show


def _value(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


def _cell(text: str) -> str:
    return shorten(" ".join(text.split()), _CELL)


def _said(answer: Mapping[str, Any]) -> str:
    """An answer in a table, with its mark where the right one is known."""
    mark = {True: "✓ ", False: "✗ ", None: ""}[answer["passed"]]
    return mark + _cell(answer["said"])
