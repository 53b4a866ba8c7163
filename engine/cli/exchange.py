"""engine import, engine export."""

from pathlib import Path

import click

from engine.cli.show import print_json
from engine.errors import UserError


def _new_folder(out: str) -> Path:
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("the folder exists and is not empty", where=str(folder), hint="choose another OUT")
    return folder


@click.command("import")
@click.argument("source", type=click.Path(exists=True))
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--tokenizer", default="", help="A tokenizer folder or run, where the source has none (MiniMind's .pth).")
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads of a MiniMind .pth file; 8 otherwise.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def import_(source: str, out: str, tokenizer: str, heads: int | None, as_json: bool) -> None:
    """Turn SOURCE, a Hugging Face folder or a MiniMind .pth file, into the checkpoint folder OUT."""
    from engine.exchange import import_model
    from engine.references import tokenizer_folder

    folder = _new_folder(out)
    words = tokenizer_folder(tokenizer) if tokenizer else None
    found = import_model(Path(source).expanduser(), folder, words, heads)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{out}: {found['model']}")


@click.command()
@click.argument("run")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Precision of the files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def export(run: str, out: str, dtype: str | None, as_json: bool) -> None:
    """Write the model of RUN (also RUN@best, RUN@STEP) as a clean Hugging Face folder."""
    from engine.exchange import export_model
    from engine.references import checkpoint_folder

    folder = _new_folder(out)
    found = export_model(checkpoint_folder(run), folder, dtype)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{out}: {found['model']}")
