"""engine profile list, show, check, diff."""

import json
from pathlib import Path
from typing import Any

import click

from engine.cli.show import print_json, print_table, say
from engine.errors import CheckpointError, ProfileError
from engine.runs.folder import find_run
from engine.settings.profile import Settings, build, list_profiles, load_profile, parse_assignments, resolve
from engine.settings.registry import STAGES, StageInfo, find_stage


@click.group()
def profile() -> None:
    """Profiles: settings in TOML, each value with its origin."""


@profile.command("list")
@click.option("--stage", default="", help="Only profiles of this stage.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def list_(stage: str, as_json: bool) -> None:
    """List the built-in profiles and your own."""
    wanted = find_stage(stage).name if stage else ""
    loaded = []
    for name in list_profiles():
        try:
            loaded.append(load_profile(name))
        except ProfileError as error:  # one of the user's own
            say(f"profile {name} is left out: {error}")
    chosen = [each for each in loaded if wanted in ("", each.stage.name)]
    if as_json:
        print_json([{"name": each.name, "stage": each.stage.name, "title": each.title} for each in chosen])
    else:
        print_table(("profile", "stage", "title"), [(each.name, each.stage.name, each.title) for each in chosen])


def _settings(reference: str, assignments: tuple[str, ...] = ()) -> Settings:
    loaded = load_profile(reference)
    return resolve(loaded, parse_assignments(assignments, loaded.stage))


_ASSIGN = click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting; repeatable.")


@profile.command()
@click.argument("name")
@_ASSIGN
@click.option("--answers", is_flag=True, help="With what each setting controls, too high, too low, a start for 8 GB.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def show(name: str, assignments: tuple[str, ...], answers: bool, as_json: bool) -> None:
    """Show every value of a profile with its origin. NAME may also be a stage: its defaults."""
    stage: StageInfo | None = STAGES.get(name)
    if stage is not None:
        settings = build(stage, {key: (v, "user") for key, v in parse_assignments(assignments, stage).items()})
    else:
        settings = _settings(name, assignments)
    infos, values = settings.stage.settings, settings.values()
    if as_json:
        print_json(
            {
                "stage": settings.stage.name,
                "settings": {
                    key: {"value": values[key], "origin": settings.origins[key], **_described(infos[key])}
                    for key in values
                },
            }
        )
        return
    click.echo(f"stage {settings.stage.name}: {settings.stage.purpose}")
    for section in settings.stage.sections:
        click.echo(f"\n[{section}]")
        for key, info in infos.items():
            if info.section != section:
                continue
            click.echo(f"{key} = {json.dumps(values[key], ensure_ascii=False)}    # {settings.origins[key]}")
            if answers:
                for title in ("controls", "high", "low", "start"):
                    click.echo(f"    {title}: {getattr(info, title)}")


def _described(info: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(info).items() if key != "name"}


@profile.command()
@click.argument("name")
@_ASSIGN
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def check(name: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Check a profile: unknown keys, wrong types, impossible combinations."""
    settings = _settings(name, assignments)
    if as_json:
        print_json({"profile": name, "stage": settings.stage.name, "valid": True})
        return
    click.echo(f"{name}: a profile for {settings.stage.name}; all values are valid")


@profile.command()
@click.argument("one")
@click.argument("other")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def diff(one: str, other: str, as_json: bool) -> None:
    """Show what differs between two profiles, two runs, or a profile and a run."""
    ours, theirs = _profile_or_run(one).values(), _profile_or_run(other).values()
    names = [*ours, *(name for name in theirs if name not in ours)]
    rows = [(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]
    if as_json:
        print_json({name: {"one": mine, "other": its} for name, mine, its in rows})
    else:
        print_table(("setting", one, other), rows)


def _profile_or_run(reference: str) -> Settings:
    """The settings of a profile; of a run, by name or folder, where no profile is called so."""
    if reference not in list_profiles() and Path(reference).suffix != ".toml":
        try:
            run = find_run(reference)
        except CheckpointError:
            return _settings(reference)  # says which profile may have been meant
        return Settings.from_json(run.read_json(run.resolved))
    return _settings(reference)
