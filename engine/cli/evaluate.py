"""engine eval."""

import sys

import click
from tqdm import tqdm

from engine.cli.show import number, print_json, print_table


@click.command("eval")
@click.argument("model")
@click.option("--data", required=True, help="The file to measure on; starter:NAME is a file of the starter world.")
@click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows.")
@click.option(
    "--max-seq-len",
    type=click.IntRange(min=0),
    default=0,
    help="The longest sample; 0: what the model reads, at most 2,048.",
)
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="How long an answer may be."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Questions at a time.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def evaluate(
    model: str,
    data: str,
    max_rows: int,
    max_seq_len: int,
    max_new_tokens: int,
    batch_size: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure MODEL (a run or a model folder): loss, bits per byte, exact match on questions with answers."""
    from engine.evaluation.evaluate import evaluate as measure
    from engine.references import checkpoint_folder, data_file
    from engine.training.device import pick_device

    def show(what: str, done: float) -> None:
        bar.set_description(what, refresh=False)
        bar.n = int(100 * done)
        bar.refresh()

    with tqdm(total=100, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        found = measure(
            checkpoint_folder(model),
            data_file(data),
            max_rows=max_rows,
            max_seq_len=max_seq_len,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            device=str(pick_device(device).torch_device),
            progress=show,
        )
    if as_json:
        print_json(found)
        return
    plain = [(key, value) for key, value in found.items() if key not in ("by", "wrong")]
    print_table(("what", "value"), [(key, value if isinstance(value, str) else number(value)) for key, value in plain])
    rows = [
        (f"{label}={value}", figures["questions"], f"{figures['exact_match']:.1%}")
        for label, groups in found.get("by", {}).items()
        for value, figures in groups.items()
    ]
    if rows:
        click.echo()
        print_table(("part", "questions", "exact match"), rows)
    for entry in found.get("wrong", [])[:3]:
        click.echo(f"wrong: {entry['prompt']!r} → {entry['said']!r}, expected {entry['expected']!r}")
