"""What a user asks for, and the settings that follow from it. Torch is loaded only where it is needed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.references import checkpoint_folder, data_file, tokenizer_folder
from engine.runs.folder import check_name
from engine.session.companions import REFERENCES, keeps_start
from engine.session.shape import shape_settings
from engine.settings.places import runs_folder
from engine.settings.profile import Profile, Settings, load_profile, parse_assignments, resolve
from engine.text.tokenizer import Tokenizer

FITTED = "adjusted to fit"
"""The origin of values that were chosen before a run began."""


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for.

    Attributes:
        profile: A profile's name or path.
        data: Overrides the profile's data file.
        tokenizer: Overrides its tokenizer; without `start_from` the run then starts from random weights.
        start_from: Overrides what it starts from.
        assignments: `name=value` texts.
        name: The run's name; made from the profile's otherwise.
        overwrite: Replace a run of that name.
        fitted: `name=value` texts that were chosen so that the run fits; they count before the user's own.
    """

    profile: str
    data: str = ""
    tokenizer: str = ""
    start_from: str = ""
    assignments: tuple[str, ...] = field(default=())
    name: str = ""
    overwrite: bool = False
    fitted: tuple[str, ...] = field(default=())


def check_request(request: TrainRequest) -> Settings:
    """Checks a request as far as that goes without torch, so that a dialog can ask while it is filled in.

    What is left for the beginning of the run: the shape of the checkpoint that it starts from and what contradicts it,
    the device, and whether the data's rows can be used.

    Returns:
        The settings with names replaced by the places they stand for; a checkpoint's shape is not among them.

    Raises:
        EngineError: The run could not be started.
    """
    profile = load_profile(request.profile)
    if request.name:
        check_name(request.name)
        if not request.overwrite and (runs_folder() / request.name).exists():
            raise UserError(f"run {request.name} exists already", where="--name", hint="choose another name")
    return requested(request, profile)


def requested(request: TrainRequest, profile: Profile) -> Settings:
    """The settings that a request asks for; what only the device can tell is still open.

    Raises:
        UserError: The request cannot be carried out.
    """
    user: dict[str, Any] = parse_assignments(request.assignments, profile.stage)
    for name, value in (("data", request.data), ("tokenizer", request.tokenizer), ("from", request.start_from)):
        if value and name not in profile.stage.settings:
            raise UserError(f"stage {profile.stage.name} takes no {name}", where=f"--{name}")
        if value:
            user[name] = value
    if "tokenizer" in user and "from" not in user and "from" in profile.stage.settings:
        user["from"] = ""  # a tokenizer of the user's own: the profile's checkpoint would not know its tokens
    settings = resolve(profile, user)
    values = settings.values()
    if not values["data"]:
        raise UserError("no data file is named", where="data", hint="add --data FILE")
    places: dict[str, Any] = {"data": str(data_file(values["data"]))}
    places |= {name: str(checkpoint_folder(values[name])) for name in REFERENCES if values.get(name)}
    places |= {name: str(data_file(values[name])) for name in ("guard_data", "reward_python") if values.get(name)}
    if "data" not in settings.sections:
        return _with_places(settings, places)
    if not values["from"] and keeps_start(settings):
        usual = " or ".join(settings.stage.starts_from) or "a pretrained model"
        raise UserError(
            f"stage {settings.stage.name} needs a checkpoint to start from",
            where="from",
            hint=f"add --from RUN: {usual}",
        )
    for name in ("dropout", "lora_dropout"):
        if settings.stage.train_on == "prompt" and values[name]:
            raise UserError(
                f"{name} is {values[name]}: the policy that is trained would not be the one that answers",
                where=name,
                hint=f"--set {name}=0",
            )
    if not values.get("teacher", "-"):
        raise UserError("no teacher is named", where="teacher", hint="add --set teacher=RUN")
    if values["from"]:
        start = checkpoint_folder(values["from"])
        places |= {"from": str(start), "tokenizer": str(_same_tokenizer(user.get("tokenizer", ""), start))}
        settings = resolve(profile, user, shape_settings(start), values["from"])
    elif values["tokenizer"]:
        places["tokenizer"] = str(tokenizer_folder(values["tokenizer"]))
    else:
        raise UserError(
            "no tokenizer is named",
            where="tokenizer",
            hint="add --tokenizer DIR (engine tokenizer train makes one), or --from a checkpoint, which brings its own",
        )
    settings = _with_vocabulary(_with_places(settings, places))
    fitted = parse_assignments(request.fitted, profile.stage)
    return settings.replace(fitted, FITTED) if fitted else settings


def _with_places(settings: Settings, places: Mapping[str, Any]) -> Settings:
    """Names replaced by the paths they stand for; the origins stay."""
    for name, value in places.items():
        settings = settings.replace({name: value}, settings.origins[name])
    return settings


def _with_vocabulary(settings: Settings) -> Settings:
    """The tokenizer's vocabulary where none is asked for; refuses sizes that do not fit together."""
    tokens, length = Tokenizer.load(settings.data.tokenizer).vocab_size, settings.model.max_position_embeddings
    if settings.model.vocab_size is None:
        settings = settings.replace({"vocab_size": tokens}, "adjusted: the tokenizer's")
    elif settings.model.vocab_size < tokens:
        raise UserError(
            f"vocab_size is {settings.model.vocab_size}, the tokenizer has {tokens} tokens",
            where="vocab_size",
            hint="leave vocab_size out",
        )
    if settings.data.max_seq_len > length:
        raise UserError(
            f"max_seq_len is {settings.data.max_seq_len}, the model reads at most {length} tokens "
            "(max_position_embeddings)",
            where="max_seq_len",
            hint=f"--set max_seq_len={length}",
        )
    return settings


def _same_tokenizer(reference: str, start: Path) -> Path:
    """The checkpoint's tokenizer; another one is refused, since its ids would mean other words."""
    own = Tokenizer.load(start)
    if reference and Tokenizer.load(tokenizer_folder(reference)).fingerprint != own.fingerprint:
        raise UserError(
            "the tokenizer is not the one that the checkpoint was trained with",
            where="--tokenizer",
            hint=f"leave --tokenizer out: {start} brings its own",
        )
    return start
