"""engine bench ladder: the proof on the starter world."""

import sys
from typing import Any

import click

from engine.cli.show import print_json, print_text, say
from engine.errors import UserError
from engine.settings.suggest import nearest


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="The seed of every run.")
@click.option("--stages", default="", help="Only these rungs, with commas between them, and those that they need.")
@click.option("--again", is_flag=True, help="Repeat what is done already; with --stages only those.")
@click.option("--summary", is_flag=True, help="Only show the results of all seeds so far, least to greatest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def ladder(seed: int, stages: str, again: bool, summary: bool, as_json: bool) -> None:
    """Train every stage on the starter world and measure it before and after on the same questions.

    Each result is kept the moment it is there; called again, it goes on where it ended. The runs are called
    ladder-SEED-RUNG. A table with what is to be reached goes to standard output, as Markdown. The exit code is 1 where
    a rung failed, and 0 whether or not the figures reach what is claimed.
    """
    from engine.ladder.results import Results, all_results
    from engine.ladder.rungs import LADDER
    from engine.ladder.table import markdown, tabulate

    if summary:
        seeds, undone = all_results(LADDER), list[str]()
        if not seeds:
            raise UserError("no ladder was climbed yet", hint="engine bench ladder")
    else:
        names = [name.strip() for name in stages.split(",") if name.strip()] or list(LADDER)
        for name in names:
            if name not in LADDER:
                hint = nearest(name, LADDER) or f"there are {', '.join(LADDER)}"
                raise UserError(f"there is no rung {name!r}", where="--stages", hint=hint)
        undone, seeds = _climb(seed, names, again), [Results(LADDER, seed)]
    found = tabulate(LADDER, seeds)
    if as_json:
        print_json(found)
    else:
        print_text(markdown(found))
    if undone or (summary and found["failures"]):
        sys.exit(1)


def _climb(seed: int, names: list[str], again: bool) -> list[str]:
    """Climbs; returns what could not be done."""
    from engine.cli.train import carry
    from engine.ladder.climb import climb
    from engine.ladder.rungs import LADDER
    from engine.session import TrainRequest, train

    def carried(request: TrainRequest) -> dict[str, Any]:
        return carry(lambda interrupt, listener: train(request, interrupt=interrupt, listener=listener))

    return climb(LADDER, seed, names, again=again, train=carried, tell=say)
