"""The documents tell the truth about the program."""

import re
import shlex
from pathlib import Path

import click
import pytest

from engine.cli import cli
from engine.runs.events import event_table
from engine.settings.registry import STAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("engine ")]


def test_the_table_of_events_is_the_code_s():
    assert event_table() in (ROOT / "docs" / "events.md").read_text(encoding="utf-8")


def test_readme_has_commands():
    assert len(commands()) >= 10


@pytest.mark.parametrize("line", commands())
def test_readme_commands_parse(line):
    arguments = shlex.split(line)[1:]
    group: click.Command = cli
    while isinstance(group, click.Group):
        context = click.Context(group)
        name = arguments.pop(0)
        found = group.get_command(context, name)
        assert found is not None, name
        group = found
    group.make_context(group.name, arguments)


def test_readme_lists_every_verb_and_stage():
    for verb in cli.list_commands(click.Context(cli)):
        assert f"`engine {verb}" in README or f"engine {verb} " in README, verb
    for stage in STAGES:
        assert f"`{stage}`" in README


def test_readme_pictures_exist():
    for picture in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / picture).exists(), picture
