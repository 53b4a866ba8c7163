"""What a user asks for, and the settings that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.model.config import ModelConfig
from engine.model.families import read_config
from engine.references import checkpoint_folder, data_file, tokenizer_folder
from engine.session.decide import decide
from engine.settings.profile import Profile, Settings, parse_assignments, resolve
from engine.text.tokenizer import Tokenizer

_INHERITED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "qk_norm", "tie_word_embeddings",
)  # fmt: skip


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
    """

    profile: str
    data: str = ""
    tokenizer: str = ""
    start_from: str = ""
    assignments: tuple[str, ...] = field(default=())
    name: str = ""
    overwrite: bool = False


def settings_of(request: TrainRequest, profile: Profile) -> Settings:
    """The settings of a request: names replaced by the places they stand for, everything open decided.

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
    if "data" not in settings.sections:
        return _with_places(settings, places)
    if values["from"]:
        start = checkpoint_folder(values["from"])
        shape = _shape_settings(read_config(start))
        settings = resolve(profile, user, shape, values["from"])
        places |= {"from": str(start), "tokenizer": str(_same_tokenizer(user.get("tokenizer", ""), start))}
    elif values["tokenizer"]:
        places["tokenizer"] = str(tokenizer_folder(values["tokenizer"]))
    else:
        raise UserError(
            "no tokenizer is named",
            where="tokenizer",
            hint="add --tokenizer DIR (engine tokenizer train makes one), or --from a checkpoint, which brings its own",
        )
    return decide(_with_places(settings, places))


def _with_places(settings: Settings, places: Mapping[str, Any]) -> Settings:
    """Names replaced by the paths they stand for; the origins stay."""
    for name, value in places.items():
        settings = settings.replace({name: value}, settings.origins[name])
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


def _shape_settings(config: ModelConfig) -> dict[str, Any]:
    """What a run inherits from a checkpoint; a position code that is not stretched yet may be stretched now."""
    shape = {name: getattr(config, name) for name in _INHERITED}
    if config.rope_scaling is not None:
        shape["rope_scaling_factor"] = float(config.rope_scaling.factor)
        shape["rope_scaling_length"] = config.rope_scaling.original_max_position_embeddings
    # biases everywhere are Llama's and Qwen3's affair: the checkpoint's own shape is built, whatever stands here
    return shape | {"attention_bias": config.attention_bias == "qkv"}
