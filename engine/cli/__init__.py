"""The command line: arguments into calls, results into text or JSON. Nothing heavy loads until a verb needs it."""

import os
import sys

import click

from engine.clean import clean
from engine.cli.lazy import LazyGroup
from engine.errors import EngineError
from engine.process import prepare

_VERBS = {
    "stages": ("engine.cli.stages:stages", "List the stages of the ladder."),
    "starter": ("engine.cli.starter:starter", "Train the starter ladder and talk with the result."),
    "profile": ("engine.cli.profile:profile", "List, show, check and compare profiles."),
    "data": ("engine.cli.data:data", "Look at data: inspect, audit, starter; make files: split, mix, convert, curate."),
    "tokenizer": ("engine.cli.tokenizer:tokenizer", "Train and evaluate tokenizers."),
    "plan": ("engine.cli.plan:plan", "Tell whether a run will fit, and what to change if not."),
    "train": ("engine.cli.train:train", "Train a stage from a profile."),
    "resume": ("engine.cli.train:resume", "Go on with a run that ended early."),
    "runs": ("engine.cli.runs:runs", "List, show, compare and control runs."),
    "chat": ("engine.cli.chat:chat", "Talk with a checkpoint."),
    "eval": ("engine.cli.evaluate:evaluate", "Measure a checkpoint on a file."),
    "import": ("engine.cli.exchange:import_", "Turn model weights from elsewhere into a checkpoint folder."),
    "export": ("engine.cli.exchange:export", "Write a run's model as a clean folder for use elsewhere."),
    "bench": ("engine.cli.bench:bench", "Measure speed, and what every stage learns, on this machine."),
    "doctor": ("engine.cli.doctor:doctor", "What this machine has, measured, with advice."),
}


@click.group(cls=LazyGroup, verbs=_VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="minimind-tui", prog_name="engine")
@click.option("--home", type=click.Path(file_okay=False), help="Where runs and data live (also MINIMIND_HOME).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(home: str | None, debug: bool) -> None:
    """Train small language models, from raw text to a chat partner.

    Exit codes: 0 done, 1 the run failed, 2 bad arguments, profile or data, 3 out of memory, 130 interrupted with the
    checkpoint saved.
    """
    if home:
        os.environ["MINIMIND_HOME"] = home


def main() -> None:
    """Entry point of the `engine` script."""
    prepare()
    debug = "--debug" in sys.argv
    try:
        cli(standalone_mode=False)
    except EngineError as error:
        if debug:
            raise
        click.echo(f"engine: {clean(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if debug:
            raise
        kind = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        click.echo(clean(f"engine: {place}{kind}\n  → engine --debug … shows where it happened"), err=True)
        sys.exit(1)
        sys.exit(1)
