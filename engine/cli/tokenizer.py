"""engine tokenizer train, eval."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.show import print_json, print_table, say
from engine.errors import UserError


@click.group()
def tokenizer() -> None:
    """Train and evaluate tokenizers."""


def _texts(files: tuple[str, ...], max_rows: int) -> Iterator[str]:
    from engine.references import data_file
    from engine.stages.tokenizer import file_texts

    for file in files:
        yield from file_texts(data_file(file), {}, max_rows)


@tokenizer.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--vocab-size", type=int, default=6400, show_default=True, help="How many tokens.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="The folder to write.")
@click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows of each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def train(files: tuple[str, ...], vocab_size: int, out: str, max_rows: int, as_json: bool) -> None:
    """Train a byte-level BPE tokenizer on FILES."""
    from engine.text.tokenizer_training import train_tokenizer

    folder = Path(out).expanduser()
    if (folder / "tokenizer.json").exists():
        raise UserError("the folder holds a tokenizer already", where=str(folder), hint="choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder cannot be made: {error.strerror}", where=str(folder)) from error
    trained = train_tokenizer(_texts(files, max_rows), vocab_size)
    trained.save(folder)
    if as_json:
        print_json({"out": str(folder), "vocab_size": trained.vocab_size, "fingerprint": trained.fingerprint})
    else:
        click.echo(f"{folder}: {trained.vocab_size} tokens")
    if trained.vocab_size < vocab_size:
        say(f"the text has only enough repeated pairs for {trained.vocab_size} tokens")


@tokenizer.command("eval")
@click.argument("folder")
@click.argument("files", nargs=-1, required=True)
@click.option("--against", default="", help="Another tokenizer folder or run, to compare.")
@click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows of each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def evaluate(folder: str, files: tuple[str, ...], against: str, max_rows: int, as_json: bool) -> None:
    """Measure the tokenizer in FOLDER (or a run's) on FILES: round trip, characters a token by language."""
    from engine.references import load_tokenizer
    from engine.text.tokenizer_training import evaluate_tokenizer

    other = load_tokenizer(against)[0] if against else None
    found = evaluate_tokenizer(load_tokenizer(folder)[0], _texts(files, max_rows), other)
    if as_json:
        print_json(found)
        return
    for name in ("tokenizer", "other"):
        if name in found:
            _show(folder if name == "tokenizer" else against, found[name])
    for language, ratio in found.get("token_ratio", {}).items():
        click.echo(f"{language}: {ratio:.3f} times the other's tokens")


def _show(name: str, figures: dict[str, Any]) -> None:
    failures = figures["round_trip_failures"]["count"]
    click.echo(f"{name}: {figures['vocab_size']} tokens, {figures['unused_share']:.1%} never used, "
               f"{failures} texts changed by the round trip")  # fmt: skip
    rows = [
        (
            language,
            sums["texts"],
            sums["tokens"],
            f"{sums['characters_per_token']:.2f}",
            f"{sums['bytes_per_token']:.2f}",
        )
        for language, sums in figures["languages"].items()
    ]
    print_table(("language", "texts", "tokens", "characters a token", "bytes a token"), rows)
