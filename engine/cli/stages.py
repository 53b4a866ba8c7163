"""engine stages."""

import click

from engine.cli.show import print_json, print_table
from engine.settings.registry import STAGES


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def stages(as_json: bool) -> None:
    """List the stages of the ladder: what each reads, starts from and is for."""
    if as_json:
        print_json(
            [
                {
                    "name": stage.name,
                    "title": stage.title,
                    "reads": list(stage.reads),
                    "starts_from": list(stage.starts_from),
                    "purpose": stage.purpose,
                }
                for stage in STAGES.values()
            ]
        )
        return
    rows = [
        (stage.name, ", ".join(stage.reads), ", ".join(stage.starts_from) or "–", stage.purpose)
        for stage in STAGES.values()
    ]
    print_table(("stage", "reads", "starts from", "purpose"), rows)
