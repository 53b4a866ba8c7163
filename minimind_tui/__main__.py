"""Entry point of `minimind-tui`. What must happen before torch loads happens first."""

import sys
from importlib.metadata import version
from pathlib import Path

import click

from engine.process import prepare

SWITCH_INTERVAL = 0.0005
"""Seconds between changes of Python threads: training beside the screen may not hold up a key press."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--starter", is_flag=True, help="Train the starter ladder at once, then chat with the result.")
@click.version_option(version=version("minimind-tui"), prog_name="minimind-tui")
def command(path: Path | None, starter: bool) -> None:
    """Train small language models and talk with them.

    PATH is a run folder to look at, a profile (.toml) or a data file to train on; without it the app opens where it was
    left.
    """
    if not sys.stderr.isatty() or not sys.stdin.isatty():
        raise click.ClickException("this needs a terminal; the command line `engine` does the same without one")
    sys.setswitchinterval(SWITCH_INTERVAL)
    from minimind_tui.state import log_path
    from minimind_tui.terminal import guarded_output

    with guarded_output(log_path()):
        from minimind_tui.app import MinimindApp

        farewell = MinimindApp(path=path, starter=starter).run()
    if farewell:
        click.echo(farewell, err=True)


def main() -> None:
    """Entry point of the `minimind-tui` script."""
    prepare()
    command()


if __name__ == "__main__":
    main()
