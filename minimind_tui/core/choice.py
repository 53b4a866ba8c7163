"""What the start dialog was told: the request for a run, its command line, and its checks. Without Textual."""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.errors import CheckpointError, DataError, EngineError
from engine.references import checkpoint_folder
from engine.session import TrainRequest, check_request
from engine.session.companions import REFERENCES
from engine.text.records import open_records

DATA, FROM, NAME, TOKENIZER, SETTINGS, PROFILE = "data", "start-from", "name", "tokenizer", "sets", "profiles"
"""The dialog's fields, besides one for each setting of `REFERENCES`, which is called like it."""

_TITLES = {"data": "data", "from": "start from", "name": "name", "tokenizer": "tokenizer", "set": "settings"}
_SAID_THERE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^add --data FILE$"), "name a file under data; ctrl+o there chooses one"),
    (re.compile(r"^add --from RUN: "), "name one under start from: "),
    (re.compile(rf"^add --set ({'|'.join(REFERENCES)})=RUN$"), lambda match: f"name one under {label(match[1])}"),
    (re.compile(r"^add --tokenizer DIR \(engine tokenizer train makes one\), or --from a checkpoint"),
     "name one under tokenizer, or under start from a checkpoint"),
    (re.compile(r"\bmake one: engine train (\S+)"), r"start a run of profile \1 first"),
    (re.compile(r"\bleave --(\w+) out"), r"leave \1 empty"),
    (re.compile(r"(?:write )?--set ([\w.]+=\S+)"), r"write \1 under settings"),
)  # fmt: skip
_FLAG = re.compile(r"--(data|from|name|tokenizer|set)\b")


@dataclass(frozen=True)
class Choice:
    """A run that is to be started.

    Attributes:
        profile: A profile's name or path.
        data: Overrides the profile's data file; empty: its own.
        assignments: `name=value` texts.
        name: The run's name; empty: made from the profile's.
        tokenizer: Overrides the tokenizer.
        start_from: Overrides what it starts from.
    """

    profile: str
    data: str = ""
    assignments: tuple[str, ...] = ()
    name: str = ""
    tokenizer: str = ""
    start_from: str = ""

    def command(self) -> str:
        """The command line that starts the same run."""
        given = [("--data", self.data), ("--from", self.start_from), ("--name", self.name)]
        given += [("--tokenizer", self.tokenizer), *[("--set", assignment) for assignment in self.assignments]]
        words = [word for flag, value in given if value for word in (flag, value)]
        return shlex.join(["engine", "train", self.profile, *words])

    def check(self) -> None:
        """Checks what can be checked before the run is made; it reads files, so it belongs into a thread.

        Raises:
            EngineError: The run cannot be started.
        """
        for name, reference in split_references(self.assignments)[0].items():
            try:
                checkpoint_folder(reference)
            except CheckpointError as error:
                raise CheckpointError(error.what, where=name, hint=error.hint) from error
        request = TrainRequest(self.profile, self.data, self.tokenizer, self.start_from, self.assignments, self.name)
        settings = check_request(request)
        values, stage = settings.values(), settings.stage
        found = open_records(values["data"], mapping=values["mapping"]).shape
        if found not in stage.reads:
            raise DataError(
                f"its rows are of shape {found}, stage {stage.name} reads {' or '.join(stage.reads)}",
                where=values["data"],
                hint="choose another file, or another stage",
            )


def label(setting: str) -> str:
    """What the dialog calls a setting of `REFERENCES`."""
    return setting.replace("_", " ")


def split_references(assignments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The values of `REFERENCES` among `name=value` texts, and the other texts."""
    named, others = dict[str, str](), list[str]()
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if equals and name.strip() in REFERENCES:
            named[name.strip()] = value.strip()
        else:
            others.append(assignment)
    return named, others


def field_of(error: EngineError) -> str:
    """The dialog's field that an error is about; empty where that cannot be told."""
    where = error.where
    flag = _FLAG.match(where)
    name = flag[1] if flag else where
    by_name = {"data": DATA, "from": FROM, "name": NAME, "tokenizer": TOKENIZER, "set": SETTINGS}
    by_name |= {reference: reference for reference in REFERENCES}
    if name in by_name:
        return by_name[name]
    if "run name" in error.what:
        return NAME
    if isinstance(error, DataError):
        return DATA
    if isinstance(error, CheckpointError):
        return TOKENIZER if "tokenizer" in error.what else FROM
    return SETTINGS if "--set" in error.what else ""


def advice(error: EngineError) -> str:
    """An error's hint in the dialog's words: fields instead of flags."""
    hint = error.hint
    for pattern, said in _SAID_THERE:
        hint = pattern.sub(said, hint)
    return _FLAG.sub(lambda match: _TITLES[match[1]], hint)
