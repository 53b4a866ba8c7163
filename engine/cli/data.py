"""engine data inspect, audit, starter; split, mix and convert are in `engine.cli.data_files`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from engine.cli.curate import curate
from engine.cli.data_files import convert, map_option, mapping_of, mix, split
from engine.cli.show import number, print_json, print_table, print_text, say
from engine.errors import DataError, UserError
from engine.settings.profile import build, parse_assignments
from engine.settings.registry import find_stage

_DEFAULT_STAGE = {"text": "pretrain", "conversation": "sft", "pair": "dpo", "prompt": "grpo"}


@click.group()
def data() -> None:
    """Look at data: every token with its weight, the whole file in numbers, the starter world; files out of files."""


for _command in (split, mix, convert, curate):
    data.add_command(_command)


def _encoded_as(stage: str, shape: str) -> tuple[str, tuple[str, ...], str]:
    """The stage by which rows are encoded, by default their shape's; the shapes it takes; which tokens it trains.

    Raises:
        UserError: There is no such stage, or it makes no samples.
    """
    usual = _DEFAULT_STAGE[shape]
    known = find_stage(stage or usual)
    if "data" not in known.sections:
        raise UserError(f"stage {known.name} makes no samples", where="--stage", hint=f"for a {shape}: --stage {usual}")
    return known.name, known.reads, known.train_on


def _sample_settings(stage: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """What `--set` says of how records become samples.

    Raises:
        UserError: A setting that decides something else, or a value that it cannot have.
    """
    from engine.text.encode import EncodeSettings

    info = find_stage(stage)
    names = {field.name for field in fields(EncodeSettings)} - {"max_seq_len"}  # an option of its own
    drawn = [name for name in info.settings if name in names]
    given = parse_assignments(assignments, info)
    for name in given:
        if name not in drawn:
            raise UserError(f"{name} is not used here", where=f"--set {name}", hint=", ".join(drawn))
    values = build(info, {name: (value, "user") for name, value in given.items()}).values()
    return {name: values[name] for name in drawn}


def _template(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the template cannot be read: {error}", where=path, hint="give a jinja file in UTF-8"
        ) from error


_set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the stage that changes its samples, such as parse_special_tokens=true; repeatable.",
)


@data.command()
@click.argument("file", type=click.Path())
@click.option("--row", type=click.IntRange(min=0), default=0, show_default=True, help="Which usable row, from 0.")
@click.option("--stage", default="", help="How it is encoded; found by the row's shape otherwise.")
@click.option("--tokenizer", default="", help="A tokenizer folder or run; otherwise the newest run's.")
@click.option("--template", type=click.Path(dir_okay=False), help="Another chat template (a jinja file).")
@click.option("--max-seq-len", type=click.IntRange(min=0), default=0, help="Cut as training would; 0: the whole row.")
@_set_option
@map_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def inspect(
    file: str,
    row: int,
    stage: str,
    tokenizer: str,
    template: str | None,
    max_seq_len: int,
    assignments: tuple[str, ...],
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the tokens of one row of FILE with their roles and loss weights."""
    from engine.references import data_file, load_tokenizer
    from engine.text.encode import EncodeSettings
    from engine.text.inspect import UNLIMITED, inspect_record
    from engine.text.records import open_records

    record = open_records(data_file(file), mapping=mapping_of(pairs)).read(row)
    stage, shapes, train_on = _encoded_as(stage, record.shape)
    if record.shape not in shapes:
        raise DataError(
            f"stage {stage} reads {' or '.join(shapes)}, the row is a {record.shape}",
            where=f"{file}:{record.line}",
            hint=f"for a {record.shape}: --stage {_DEFAULT_STAGE[record.shape]}",
        )
    settings = EncodeSettings(max_seq_len or UNLIMITED, train_on, **_sample_settings(stage, assignments))
    chosen, folder = load_tokenizer(tokenizer)
    if not tokenizer:
        say(f"tokenizer: {folder}")
    source = _template(template) if template else None
    shown = inspect_record(record, chosen, settings, stage=stage, template=source)
    if as_json:
        print_json(shown)
    else:
        for side in ("chosen", "rejected") if record.shape == "pair" else ("",):
            _show_tokens(shown, shown[side] if side else shown, side)


def _show_tokens(head: dict[str, Any], shown: dict[str, Any], side: str) -> None:
    click.echo(
        f"row {head['row']} (line {head['line']}), {head['shape']}, stage {head['stage']}{side and f', {side}'}: "
        f"{shown['trained']} of {shown['total']} tokens trained, {shown['truncated']} cut"
    )
    for problem in shown["problems"]:
        click.echo(f"problem: {problem}")
    rows = [
        (
            index,
            token["id"],
            repr(token["text"])[1:-1],
            token["role"],
            f"{token['weight']:g}" if token["weight"] else "·",
        )
        for index, token in enumerate(shown["tokens"])
    ]
    print_table(("#", "id", "text", "role", "weight"), rows)


@data.command()
@click.argument("file", type=click.Path())
@click.option("--stage", default="", help="How it is encoded; found by the file's shape otherwise.")
@click.option("--tokenizer", default="", help="A tokenizer folder or run; otherwise the newest run's.")
@click.option("--max-seq-len", type=click.IntRange(min=4), default=512, show_default=True, help="The longest sample.")
@click.option(
    "--val-fraction", type=click.FloatRange(0, 0.5), default=0.02, show_default=True, help="Share kept for validation."
)
@click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows, for a quick look.")
@_set_option
@map_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def audit(
    file: str,
    stage: str,
    tokenizer: str,
    max_seq_len: int,
    val_fraction: float,
    max_rows: int,
    assignments: tuple[str, ...],
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what FILE turns out to be: rows, tokens, what is trained, what is wrong with which line."""
    from engine.references import data_file, load_tokenizer
    from engine.text.audit import audit as audit_store
    from engine.text.cache import CacheRequest, load_samples
    from engine.text.encode import EncodeSettings
    from engine.text.records import open_records
    from engine.text.shortcuts import shortcut_audit

    path, mapping = data_file(file), mapping_of(pairs)
    rows = open_records(path, mapping=mapping, max_rows=max_rows or None)
    shape = rows.shape
    stage, shapes, train_on = _encoded_as(stage, shape)
    settings = EncodeSettings(max_seq_len, train_on, **_sample_settings(stage, assignments))
    chosen, folder = load_tokenizer(tokenizer)
    if not tokenizer:
        say(f"tokenizer: {folder}")
    request = CacheRequest(path, folder, settings, mapping, max_rows, shapes)
    store = load_samples(request, chosen, lambda done: say(f"encoding: {done:.0%}"))
    found = audit_store(store, max_seq_len=max_seq_len, val_fraction=val_fraction, vocab_size=chosen.vocab_size)
    found = {"file": str(path), "shape": shape, "stage": stage, **found}
    if shape == "pair":
        say("looking for shortcuts")
        found["shortcuts"] = shortcut_audit(rows.records())
    if as_json:
        print_json(found)
        return
    for entry in found["quarantined"][:20]:
        print_text(f"line {entry['line']}: {entry['reason']}")
    if len(found["quarantined"]) > 20:
        click.echo(f"… and {len(found['quarantined']) - 20} more quarantined lines (--json lists all)")
    skipped = ("quarantined", "lines_without_trained_tokens", "length_histogram", "problems", "shortcuts")
    figures = [(name, _figure(name, value)) for name, value in found.items() if name not in skipped]
    print_table(("what", "value"), [*figures, *found["problems"].items()])
    if shape == "pair":
        _show_shortcuts(found["shortcuts"])


def _show_shortcuts(found: dict[str, Any]) -> None:
    share = found["same_length_share"]
    alike = "" if share is None else f", sides as long as each other in {share:.1%}"
    click.echo(f"\nshortcuts in {found['pairs']:,} pairs ({found['same_sides']:,} with equal sides{alike}):")
    for name, meaning in found["meaning"].items():
        print_text(f"{name.replace('_', ' ')}: {meaning}")
    words = [
        (entry["word"], entry["side"], f"{entry['accuracy']:.1%}", number(entry["support"]), where)
        for name, where in (("top_words", "anywhere"), ("top_first_words", "first"))
        for entry in found[name]
    ]
    if words:
        print_table(("word", "its side is", "right", "pairs", "where"), words)


def _figure(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1%}" if name.endswith("share") else number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


@data.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--seed", type=int, default=0, help="Another seed makes another world.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def starter(folder: str, seed: int, as_json: bool) -> None:
    """Write the starter world into FOLDER: a small bilingual world that a model learns in minutes."""
    from engine.text.starter import STARTER_FILES, write_starter

    lines = write_starter(Path(folder), seed)
    if as_json:
        print_json({"folder": folder, "files": lines})
        return
    print_table(("file", "lines", "what"), [(file.name, lines[file.name], file.purpose) for file in STARTER_FILES])
