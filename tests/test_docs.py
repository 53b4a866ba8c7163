"""The documents tell the truth about the program."""

import re
import shlex
from pathlib import Path

import click
import pytest

from engine.cli import cli
from engine.rewards.registry import REWARDS
from engine.runs.events import event_table
from engine.settings.registry import STAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPLAINED = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", EXPLAINED, re.M | re.S))
PLURALS = {"text": "text", "conversation": "conversations", "pair": "pairs", "prompt": "prompts"}


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


def test_readme_lists_every_verb():
    for verb in cli.list_commands(click.Context(cli)):
        assert f"`engine {verb}" in README or f"engine {verb} " in README, verb


def test_the_ladder_is_the_registry_s():
    table = README.partition("## The ladder")[2].partition("\n\n[")[0]
    rows = [row.split(" | ")[:3] for row in re.findall(r"^\| (`.*) \|$", table, re.M)]
    assert rows == [
        [f"`{name}`", " or ".join(PLURALS[shape] for shape in stage.reads), ", ".join(stage.starts_from) or "–"]
        for name, stage in STAGES.items()
    ]


def test_the_rewards_are_the_registry_s():
    plain = README.replace("`", "").replace("−", "-")
    for reward in REWARDS.values():
        assert f"| {reward.name} | {reward.purpose} | {reward.low:g} | {reward.high:g} |" in plain


def test_every_stage_is_explained():
    *stages, last = SECTIONS
    assert (stages, last) == (list(STAGES), "Warnings")


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_what_is_explained_of_a_stage_is_there(stage):
    known = {*stage.settings, *(metric.name for metric in stage.metrics)}
    named = re.findall(r"^\| `(\w+)` \|", SECTIONS[stage.name], re.M)
    assert named and set(named) <= known
    text = re.sub(r"\s+", " ", SECTIONS[stage.name])
    for word in (*(PLURALS[shape] for shape in stage.reads if shape != "conversation"), *stage.starts_from):
        assert re.search(rf"\b{word}\b", text), word


def test_every_warning_is_explained():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "engine").rglob("*.py"))
    given = re.findall(r"(?:Warned\(name=|\.warn(?:_once)?\(\s*)\"(\w+)\"", source)
    assert len(given) >= 10
    assert [name for name in given if f"`{name}`" not in SECTIONS["Warnings"]] == []


def test_readme_pictures_exist():
    for picture in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / picture).exists(), picture
