"""engine data curate: new rows made with a model's answers, or the better ones of a file."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from tqdm import tqdm

from engine.cli.data_files import map_option, mapping_of
from engine.cli.show import number, print_json, print_table, print_text, say
from engine.errors import UserError
from engine.settings.profile import build, parse_assignments
from engine.settings.registry import find_stage
from engine.settings.rewards import RewardSettings
from engine.settings.suggest import nearest

if TYPE_CHECKING:
    from engine.curation.recipe import Asking
    from engine.rewards.reward_set import RewardSet

C = TypeVar("C", bound=Callable[..., Any])

_SHOWN = 20
_FIGURES = (
    "rows", "asked", "answers", "truncated", "kept", "mean_reward", "mean_reward_kept", "pass_at_1",
)  # fmt: skip


@click.group()
def curate() -> None:
    """Make rows to train on: a model's best answers, pairs, corrections, a teacher's answers; or filter a file."""


def _together(*options: Callable[[C], C]) -> Callable[[C], C]:
    """Several options as one decorator; they stand in the help in this order."""

    def add(command: C) -> C:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_file = click.argument("file", type=click.Path())
_out = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new file, JSON lines."
)
_device = click.option("--device", default="auto", help="auto, cpu, cuda, mps.")
_saving = _together(
    map_option,
    click.option("--overwrite", is_flag=True, help="Replace what has the name already."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
)
_set_option = click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE",
    help="A setting of the rewards, such as rewards={answer=1.0,format=0.5} or reward_length_max=200; repeatable.",
)  # fmt: skip


def _asking_options(temperature: float) -> Callable[[C], C]:
    """The options of all recipes that ask a model."""
    return _together(
        _file,
        click.option("--model", required=True, help="Who answers: a run, a checkpoint of it, or a model's folder."),
        _out,
        click.option(
            "--temperature", type=click.FloatRange(min=0), default=temperature, show_default=True,
            help="Of the answers; 0 takes the most probable token.",
        ),
        click.option(
            "--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True,
            help="How long an answer may be; what is cut off is not used.",
        ),
        click.option("--max-rows", type=click.IntRange(min=0), default=0, help="Only the first rows; 0: all."),
        click.option("--seed", type=int, default=0, help="Another seed gives other answers."),
        click.option(
            "--batch-size", type=click.IntRange(min=1), default=64, show_default=True,
            help="Answers at a time; changes none.",
        ),
        _device,
        _saving,
    )  # fmt: skip


@curate.command()
@_asking_options(1.0)
@click.option("-k", "copies", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Answers a prompt.")
@click.option("--min-reward", type=float, help="What the best answer must reach; else: more than the lowest possible.")
@_set_option
def best(copies: int, min_reward: float | None, assignments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Keep the best of MODEL's k answers to each prompt.

    The prompts of FILE are asked; of a conversation the last reply is asked for. The answer with the highest reward
    makes a conversation (rejection sampling).
    """
    from engine.curation.best import best_of

    asking, rewards = _asking(given, copies), _rewards(assignments, given["device"])
    with _progress() as show:
        found = best_of(asking, rewards, min_reward, show)
    _report(found, as_json)


@curate.command()
@_asking_options(1.0)
@click.option("-k", "copies", type=click.IntRange(2, 10_000), default=8, show_default=True, help="Answers a prompt.")
@click.option(
    "--min-gap", type=click.FloatRange(min=0, min_open=True), default=0.1, show_default=True,
    help="How far the rewards of best and worst must lie apart.",
)  # fmt: skip
@_set_option
def pairs(copies: int, min_gap: float, assignments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Prefer the best of MODEL's k answers to the worst.

    The prompts of FILE are asked; of a conversation the last reply is asked for. The answers with the highest and the
    lowest reward make a pair.
    """
    from engine.curation.pairs import preference_pairs

    asking, rewards = _asking(given, copies), _rewards(assignments, given["device"])
    with _progress() as show:
        found = preference_pairs(asking, rewards, min_gap, show)
    _report(found, as_json)


@curate.command()
@_asking_options(0.0)
def corrections(as_json: bool, **given: Any) -> None:
    """Prefer a row's own answer to MODEL's wrong one.

    The prompts of FILE are asked; of a conversation the last reply is asked for. What is wrong is for the row's check
    to say; what MODEL gets right makes no pair.
    """
    from engine.curation.corrections import correction_pairs

    with _progress() as show:
        found = correction_pairs(_asking(given), show)
    _report(found, as_json)


@curate.command()
@_asking_options(0.0)
def distil(as_json: bool, **given: Any) -> None:
    """Let a teacher, MODEL, answer each prompt.

    The prompts of FILE are asked; of a conversation the last reply is asked for. Answers make conversations.
    """
    from engine.curation.distil import distil as ask_teacher

    with _progress() as show:
        found = ask_teacher(_asking(given), show)
    _report(found, as_json)


@curate.command("filter")
@_file
@_out
@click.option("--min-chars", type=click.IntRange(min=0), default=0, help="The fewest characters of a reply.")
@click.option("--max-chars", type=click.IntRange(min=0), default=0, help="The most; 0: any number.")
@click.option("--min-tokens", type=click.IntRange(min=0), default=0, help="The fewest tokens of a reply.")
@click.option("--max-tokens", type=click.IntRange(min=0), default=0, help="The most; 0: any number.")
@click.option("--tokenizer", default="", help="Counts them: a tokenizer folder or run; otherwise the newest run's.")
@click.option("--language", type=click.Choice(["en", "zh"]), help="The language of replies; en: any in latin letters.")
@click.option("--min-reward", type=float, help="The least reward: the row's own column, or what --set gives.")
@_set_option
@click.option("--no-duplicates", "distinct", is_flag=True, help="Drop rows that say the same as an earlier one.")
@click.option(
    "--diversity", type=click.FloatRange(0, 1), default=0.0,
    help="Drop a row that is less far from an earlier one: 0.3 drops what shares over 70 % of the word triples.",
)  # fmt: skip
@_device
@_saving
def filter_(
    file: str,
    out: Path,
    tokenizer: str,
    language: str | None,
    assignments: tuple[str, ...],
    device: str,
    pairs: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    **limits: Any,
) -> None:
    """Keep the rows of FILE that pass every filter.

    They stay as they are, byte for byte. A reply is a row's last turn or text; of a pair, both sides. Rewards are those
    of a pair's chosen side.
    """
    from engine.curation.filtering import Filters, filter_rows, stored_rewards
    from engine.references import data_file, load_tokenizer

    filters = Filters(language=language or "", **limits)
    if assignments and filters.min_reward is None:
        raise UserError("rewards filter nothing without a least one", where="--set", hint="add --min-reward")
    counter, judge, rewards = None, stored_rewards, None
    if assignments or filters.needs_tokens:
        counter, folder = load_tokenizer(tokenizer)
        if not tokenizer:
            say(f"tokenizer: {folder}")
    if assignments and counter:
        from engine.curation.judging import RowJudge, troubles

        rewards = _rewards(assignments, device)
        judge = RowJudge(rewards, counter)
    with _progress() as show:
        found = filter_rows(
            data_file(file), out, filters, tokenizer=counter, judge=judge, mapping=mapping_of(pairs),
            overwrite=overwrite, progress=show,
        )  # fmt: skip
    _report(found | (troubles(rewards) if rewards else {}), as_json)


def _asking(given: Mapping[str, Any], copies: int = 1) -> "Asking":
    from engine.curation.recipe import Asking
    from engine.generation.settings import SamplingSettings
    from engine.references import checkpoint_folder, data_file
    from engine.training.device import pick_device

    return Asking(
        data_file(given["file"]),
        given["out"],
        checkpoint_folder(given["model"]),
        given["model"],
        SamplingSettings(
            temperature=given["temperature"], top_p=1.0, max_new_tokens=given["max_new_tokens"], seed=given["seed"]
        ),
        copies,
        given["batch_size"],
        str(pick_device(given["device"]).torch_device),
        mapping_of(given["pairs"]),
        given["max_rows"],
        given["overwrite"],
    )


def _rewards(assignments: tuple[str, ...], device: str) -> "RewardSet":
    """The rewards that `--set` names.

    Raises:
        UserError: It names another setting, or a value that it cannot have.
        CheckpointError: There is no such reward model.
    """
    from engine.references import checkpoint_folder
    from engine.rewards.reward_set import RewardSet
    from engine.rewards.scorer import load_scorer
    from engine.training.device import pick_device

    for name in (assignment.partition("=")[0].strip() for assignment in assignments):
        if name not in RewardSettings.model_fields:
            hint = nearest(name, RewardSettings.model_fields) or f"there are {', '.join(RewardSettings.model_fields)}"
            raise UserError(f"{name!r} is no setting of the rewards", where=f"--set {name}", hint=hint)
    stage = find_stage("grpo")  # any that has rewards
    given = parse_assignments(assignments, stage)
    settings = build(stage, {name: (value, "user") for name, value in given.items()}).part(RewardSettings)
    judge = None
    if "model" in settings.rewards:
        judge = load_scorer(checkpoint_folder(settings.reward_model), pick_device(device).torch_device)
    return RewardSet(settings, model=judge)


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None]]:
    """A bar of rows on standard error, where that is a terminal."""
    with tqdm(file=sys.stderr, unit=" rows", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _report(found: Mapping[str, Any], as_json: bool) -> None:
    """What came of it: the result on standard output, what went wrong on standard error."""
    _say_troubles(found)
    if as_json:
        print_json(found)
        return
    rows = [(name, number(found[name])) for name in found if name in _FIGURES or name.startswith("pass_at_")]
    rows += [(f"dropped: {reason}", number(count)) for reason, count in found["dropped"].items()]
    shortcuts = found.get("shortcuts", {})
    rows += [(name, number(shortcuts[name])) for name in ("length_accuracy", "word_accuracy") if shortcuts]
    print_table(("what", "value"), rows)
    for name in ("length", "word") if shortcuts else ():
        print_text(f"{name}: {shortcuts['meaning'][name]}")
    print_text(f"{found['kept']:,} rows in {found['out']}")


def _say_troubles(found: Mapping[str, Any]) -> None:
    bad = found["quarantined"]
    if bad:
        say(f"{found['file']}: {len(bad):,} lines cannot be used")
    for entry in bad[:_SHOWN]:
        say(f"  line {entry['line']}: {entry['reason']}")
    if len(bad) > _SHOWN:
        say(f"  … and {len(bad) - _SHOWN:,} more (--json lists all)")
    for what, count in found.get("lost", {}).items():
        say(f"lost: {what}, in {count:,} rows")
    for name, failed in found.get("failures", {}).items():
        say(f"reward {name} failed for {failed['answers']:,} answers, the last time: {failed['last']}")
    for name, count in found.get("fallbacks", {}).items():
        say(f"check {name} cannot be done: {count:,} answers were compared with the expected one instead")
