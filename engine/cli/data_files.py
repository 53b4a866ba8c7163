"""engine data split, mix, convert: files out of files."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import click

from engine.cli.show import number, print_json, print_table, say
from engine.errors import UserError
from engine.text.converting import TARGETS, convert_file
from engine.text.mixing import Ingredient, mix_files
from engine.text.splitting import split_file

_SHOWN = 20

map_option = click.option(
    "--map", "pairs", multiple=True, metavar="FIELD=COLUMN", help="Which column holds which field."
)
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what has the name already.")
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def mapping_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """What `--map` says.

    Raises:
        UserError: A pair is malformed.
    """
    split = [pair.partition("=") for pair in pairs]
    for (name, equals, column), pair in zip(split, pairs, strict=True):
        if not (name and equals and column):
            raise UserError(f"--map {pair!r} is not FIELD=COLUMN", hint="such as --map text=body")
    return {name: column for name, _, column in split}


def _say_bad(file: str, what: str, entries: Sequence[dict[str, Any]]) -> None:
    """The first of the lines that were left out, on standard error."""
    if not entries:
        return
    say(f"{file}: {len(entries):,} lines {what}")
    for entry in entries[:_SHOWN]:
        say(f"  line {entry['line']}: {entry['reason']}")
    if len(entries) > _SHOWN:
        say(f"  … and {len(entries) - _SHOWN:,} more (--json lists all)")


@click.command()
@click.argument("file", type=click.Path())
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder for the two.")
@click.option(
    "--fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1, show_default=True,
    help="Share of the rows held out.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, help="Another seed holds out other rows; 0: what a training run would.")
@click.option(
    "--by", type=click.Choice(["prompt", "row"]), default="prompt", show_default=True,
    help="What stays on one side: rows of one prompt, or every row by itself.",
)  # fmt: skip
@map_option
@_overwrite_option
@_json_option
def split(
    file: str,
    out: Path,
    fraction: float,
    seed: int,
    by: Literal["prompt", "row"],
    pairs: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write FILE as NAME.train.jsonl and NAME.val.jsonl; equal prompts never stand on both sides."""
    from engine.references import data_file

    path, mapping = data_file(file), mapping_of(pairs)
    done = split_file(path, out, fraction=fraction, seed=seed, by=by, mapping=mapping, overwrite=overwrite)
    _say_bad(file, "cannot be used and are in neither", done["quarantined"])
    if as_json:
        print_json(done)
        return
    print_table(("file", "rows"), [(done[side], number(done[f"{side}_rows"])) for side in ("train", "val")])
    if done["prompts_on_both_sides"]:
        click.echo(f"{done['prompts_on_both_sides']:,} prompts stand on both sides")


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("files", nargs=-1, required=True, metavar="FILE[=WEIGHT]…")
@click.option(
    "--rows", type=click.IntRange(min=0), default=0, help="Rows of the mixture; 0: as many as the files have."
)
@click.option("--seed", type=int, default=0, help="Decides which rows are taken and their order.")
@click.option("--no-repeat", is_flag=True, help="Rather shrink the mixture than repeat a file too small for its part.")
@_overwrite_option
@_json_option
def mix(
    out: Path, files: tuple[str, ...], rows: int, seed: int, no_repeat: bool, overwrite: bool, as_json: bool
) -> None:
    """Write rows of FILEs into OUT, shuffled; WEIGHT is a file's part of the rows, by default its own size."""
    done = mix_files(
        out, [_ingredient(file) for file in files], rows=rows, seed=seed, repeat=not no_repeat, overwrite=overwrite
    )
    for file in done["files"]:
        _say_bad(file["file"], "cannot be used and are left out", file["quarantined"])
        if file["repeated"]:
            say(f"{file['file']}: too small for its part, {file['repeated']:,} rows are repetitions")
    if rows > done["rows"]:
        say(f"{done['rows']:,} rows rather than {rows:,}: more would need repetitions")
    if as_json:
        print_json(done)
        return
    shown = [
        (file["file"], number(file["rows"]), number(file["taken"]), f"{file['share']:.1%}", number(file["repeated"]))
        for file in done["files"]
    ]
    print_table(("file", "has", "taken", "share", "repeated"), shown)
    click.echo(f"{done['rows']:,} rows ({done['shape']}) in {done['out']}")


def _ingredient(text: str) -> Ingredient:
    """`FILE` or `FILE=WEIGHT`; a file whose own name has an equals sign is taken as it is.

    Raises:
        UserError: The weight is no positive number.
        DataError: There is no such file.
    """
    from engine.references import data_file

    name, equals, weight = text.rpartition("=")
    if not equals or Path(text).expanduser().is_file():
        return Ingredient(data_file(text))
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"the weight {weight!r} is no positive number", where=text, hint="such as sft.jsonl=0.7")
    return Ingredient(data_file(name), Fraction(str(value)))


@click.command()
@click.argument("file", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--to", type=click.Choice(TARGETS), required=True,
    help="A layout; or text (what is said), sft (a pair's chosen side) or prompts (the last reply is the answer).",
)  # fmt: skip
@map_option
@_overwrite_option
@_json_option
def convert(file: str, out: Path, to: str, pairs: tuple[str, ...], overwrite: bool, as_json: bool) -> None:
    """Write the rows of FILE to OUT in another layout; what cannot be expressed is listed."""
    from engine.references import data_file

    done = convert_file(data_file(file), out, to, mapping=mapping_of(pairs), overwrite=overwrite)
    _say_bad(file, "cannot be used and are left out", done["quarantined"])
    _say_bad(file, f"cannot be written as {to} and are left out", done["refused"])
    for what, count in done["lost"].items():
        say(f"lost: {what}, in {count:,} rows")
    if as_json:
        print_json(done)
        return
    click.echo(f"{done['written']:,} of {done['rows']:,} rows as {to} in {out}")
