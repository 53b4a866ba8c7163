"""Entry point of `minimind-tui`. What must happen before torch loads happens first."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.process import prepare

if TYPE_CHECKING:
    from minimind_tui.core.live import Live

SWITCH_INTERVAL = 0.0005
"""Seconds between changes of Python threads: training beside the screen may not hold up a key press."""
SAVE_SECONDS = 120.0
"""How long a run may take to save its last step after the app has ended by an error."""


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
    from minimind_tui.core.applog import open_log
    from minimind_tui.terminal import guarded_output

    log = open_log()
    with guarded_output(log):
        from minimind_tui.app import MinimindApp

        app = MinimindApp(path=path, starter=starter)
        farewell = app.run()
    if app.return_code:
        click.echo(f"minimind-tui ended by an error of its own; the whole story is at the end of {log}", err=True)
    if farewell := rescue(app.own) or farewell:
        click.echo(farewell, err=True)
    if app.return_code:
        sys.exit(1)


def rescue(live: "Live | None") -> str:
    """Saves the run of an app that ended without doing so itself, and says what became of it."""
    from engine.runner import ThreadRun

    if live is None or not live.alive or not isinstance(live.handle, ThreadRun):
        return ""
    click.echo(f"saving {live.name} …", err=True)
    live.send("stop")
    live.handle.join(SAVE_SECONDS)
    live.drain()
    if live.state != "stopped":
        return f"{live.name}: {live.state}"
    return f"{live.name} is saved at step {live.history.step:,}; go on with it by: engine resume {live.name}"


def main() -> None:
    """Entry point of the `minimind-tui` script."""
    prepare()
    command()


if __name__ == "__main__":
    main()
