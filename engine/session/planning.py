"""A request's memory plan: what can be looked up is, the rest is assumed and said. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from engine.errors import EngineError, ProfileError, UserError
from engine.memory.history import learned_margin, speeds
from engine.memory.limits import Target, device_limit, parse_device
from engine.memory.plan import MemoryPlan
from engine.memory.planning import Margin, make_plan, peak_of
from engine.memory.steps import Facts, Rows
from engine.memory.tracing import trace as traced_step
from engine.model.config import ModelConfig, num_parameters
from engine.model.hf_config import read_config
from engine.process import LARGE_FOR_CPU, computes_bfloat16
from engine.references import checkpoint_folder, data_file, tokenizer_folder
from engine.session.companions import REFERENCES, companions
from engine.session.encoding import cache_request
from engine.session.request import TrainRequest, requested
from engine.session.shape import model_config, shape_settings
from engine.settings.profile import Profile, Settings, load_profile, parse_assignments, resolve
from engine.text.batching import split_rows
from engine.text.cache import cached_samples
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from engine.session.measuring import Speed

T = TypeVar("T")

_WRONG = ("max_seq_len", "vocab_size", "dropout", "lora_dropout", "--tokenizer", "--data", "--from")
"""Where errors lie that are no want of a file or a run."""
_VOCABULARY = 6400
"""Assumed where no tokenizer is known; MiniMind's."""


@dataclass(frozen=True)
class Draft:
    """Settings on the way to a plan.

    Attributes:
        settings: With what could be resolved; `dtype` is decided.
        facts: What was looked up.
        target: The device.
        notes: What was assumed.
        margin: What comes on top on such a device, as far as runs have told.
    """

    settings: Settings
    facts: Facts
    target: Target
    notes: list[str]
    margin: Margin


def plan_request(
    request: TrainRequest, device: str = "", *, trace: bool = False, speed: "Speed | None" = None
) -> MemoryPlan:
    """What a request would take.

    Args:
        request: What would be trained; what it names need not exist yet.
        device: `cpu:16GiB`, `cuda:8GiB`, `rtx3050` …; empty: the profile's.
        trace: Whether the real step is traced besides, in a process of its own.
        speed: What a few real steps have shown; else earlier runs are asked.

    Raises:
        UserError: The profile or the device cannot be, or the stage trains no model.
    """
    drafted = draft(request, device)
    plan = plan_draft(drafted, trace=trace)
    return replace(plan, time=measured_time(drafted, speed)) if speed else plan


def draft(request: TrainRequest, device: str = "") -> Draft:
    """Looks up what a plan needs; see `plan_request`."""
    profile, notes = load_profile(request.profile), []
    if "training" not in profile.stage.sections:
        raise UserError(f"stage {profile.stage.name} trains no model", where=request.profile)
    try:
        settings = requested(request, profile)
    except ProfileError:
        raise
    except EngineError as error:
        if error.where in _WRONG:
            raise
        settings = _as_far_as_known(request, profile)
        notes.append(f"planned without what is missing ({error.what})")
    target = parse_device(device or settings.training.device)
    return draft_settings(settings, target, notes)


def _as_far_as_known(request: TrainRequest, profile: Profile) -> Settings:
    """The settings of a request that cannot be carried out yet, with the places that are there.

    Raises:
        EngineError: What the request itself names is not there.
    """
    user: dict[str, Any] = dict(parse_assignments(request.assignments, profile.stage))
    looks: dict[str, tuple[str, Callable[[str], Path]]] = {
        "data": (request.data, data_file),
        "tokenizer": (request.tokenizer, tokenizer_folder),
        "from": (request.start_from, checkpoint_folder),
        **{name: ("", checkpoint_folder) for name in REFERENCES},
    }
    places: dict[str, str] = {}
    for name, (asked, look) in looks.items():
        named, own = asked or str(user.get(name, "")), str(profile.values.get(name, ("", ""))[0])
        if named:
            places[name] = str(look(named))
        elif own and (found := _looked_up(partial(look, own))):
            places[name] = str(found)
    user |= places
    if start := places.get("from"):
        user.setdefault("tokenizer", start)
        return resolve(profile, user, shape_settings(Path(start)), start)
    settings = resolve(profile, user)
    if "tokenizer" in places and settings.model.vocab_size is None:
        vocabulary = Tokenizer.load(Path(places["tokenizer"])).vocab_size
        settings = settings.replace({"vocab_size": vocabulary}, "adjusted: the tokenizer's")
    return settings


def draft_settings(settings: Settings, target: Target, notes: list[str], rows: Rows | None = None) -> Draft:
    """Looks up what settings name; `rows` where they are known."""
    if settings.model.vocab_size is None:
        notes.append(f"a vocabulary of {_VOCABULARY:,} tokens is assumed")
        settings = settings.replace({"vocab_size": _VOCABULARY}, "adjusted: assumed")
    assert settings.model.vocab_size is not None
    config = model_config(settings.model, settings.model.vocab_size)
    settings = decided(settings, target, config)
    rows = rows or _looked_up(lambda: _rows(settings))
    if rows is None:
        notes.append("the rows are not encoded yet: all are taken as full")
    others: dict[str, ModelConfig] = {}
    for name, folder in companions(settings).items():
        if shape := _looked_up(lambda folder=folder: read_config(folder)):  # type: ignore[misc]
            others[name] = shape
    if settings.values().get("teacher") is not None and "teacher" not in others:
        notes.append("the teacher is taken to be as large as the student")
    half = target.kind != "cpu" or computes_bfloat16()
    facts = Facts(config, target.kind, half, others, rows)
    return Draft(settings, facts, target, notes, learned_margin(target.kind))


def decided(settings: Settings, target: Target, config: ModelConfig) -> Settings:
    """With the precision that `auto` means on the device; the run itself asks the device."""
    if settings.training.dtype != "auto":
        return settings
    large = target.kind != "cpu" or (computes_bfloat16() and sum(num_parameters(config).values()) >= LARGE_FOR_CPU)
    return settings.replace({"dtype": "bfloat16" if large else "float32"}, settings.origins["dtype"])


def plan_draft(drafted: Draft, *, suggestions: bool = True, exact: bool = True, trace: bool = False) -> MemoryPlan:
    """What a draft would take; `trace` asks the real step besides, which takes seconds."""
    target, notes = drafted.target, list(drafted.notes)
    found = None
    if trace:
        traced = traced_step(drafted.settings)
        breakdown, phase = peak_of(drafted.settings, drafted.facts)
        if traced.peak is None:
            notes.append(f"no trace: {traced.reason}")
        elif phase == "update":
            found = (breakdown.corrected(traced.peak.peak_bytes), phase)
        else:
            what = "answers in the making take" if phase == "rollout" else "an evaluation takes"
            notes.append(f"{what} more than the step that was traced, and is planned in closed form")
    plan = make_plan(
        drafted.settings,
        drafted.facts,
        found=found,
        method="trace" if found else "formula",
        device=target.name,
        limit_bytes=device_limit(target),
        margin=drafted.margin,
        exact=exact,
        suggestions=suggestions,
    )
    time = time_of(drafted.settings, drafted.facts) if suggestions else {}  # at every keystroke nothing is read
    return replace(plan, notes=[*plan.notes, *notes], time=time)


def time_of(settings: Settings, facts: Facts) -> dict[str, Any]:
    """Speed and length of the whole run, from earlier runs of models of like size here; empty figures where none is
    known.
    """
    parameters = sum(num_parameters(facts.config).values())
    known = speeds(settings.stage.name, facts.device, parameters)
    if not known:
        return {"tokens_per_second": None, "seconds": None, "source": "no earlier run"}
    speed, spread = float(np.median(known)), (float(min(known)), float(max(known)))
    tokens = tokens_of(settings, facts)
    return {
        "tokens_per_second": speed,
        "seconds": tokens / speed if tokens else None,
        "seconds_range": [tokens / spread[1], tokens / spread[0]] if tokens else None,
        "source": f"{len(known)} earlier run{'s' if len(known) > 1 else ''}",
    }


def measured_time(drafted: Draft, speed: "Speed") -> dict[str, Any]:
    """Speed and length of the whole run by a few real steps; where steps are of unknown length, by their number."""
    steps, tokens = drafted.settings.training.max_steps, tokens_of(drafted.settings, drafted.facts)
    seconds = tokens / speed.tokens_per_second if tokens else steps * speed.seconds_per_step or None
    shares = (speed.fastest / speed.seconds_per_step, speed.slowest / speed.seconds_per_step)
    return {
        "tokens_per_second": speed.tokens_per_second,
        "seconds": seconds,
        "seconds_range": [seconds * share for share in shares] if seconds else None,
        "source": "a few real steps",
    }


def tokens_of(settings: Settings, facts: Facts) -> float | None:
    """How many tokens the run reads; None where that depends on rows or answers that are not known."""
    training = settings.training
    if facts.rows is None or not len(facts.rows.lengths) or settings.stage.train_on == "prompt":
        full = training.batch_size * training.accumulation_steps * settings.data.max_seq_len
        known = training.max_steps and settings.stage.train_on != "prompt"
        return float(training.max_steps * full) if known else None
    lengths = np.minimum(facts.rows.lengths, settings.data.max_seq_len)
    if not training.max_steps:
        return float(training.epochs * lengths.sum())
    effective = training.batch_size * training.accumulation_steps
    packing = bool(settings.values().get("packing"))
    rows = (
        lengths.sum() / settings.data.max_seq_len
        if packing
        else len(lengths) / (2 if settings.stage.reads == ("pair",) else 1)
    )
    return float(training.max_steps * effective * lengths.sum() / max(rows, 1.0))


def rows_of(store: SampleStore, settings: Settings) -> Rows:
    """The rows of a store that are learnt from, and the held-out ones, those first that are looked at."""
    lengths, trained, keys = store.lengths, store.columns["trained"], store.columns["keys"]
    chosen, held_out = split_rows(keys, settings.data.val_fraction)
    held_out = held_out[np.argsort(keys[held_out], kind="stable")]
    return Rows(lengths[chosen], trained[chosen], Rows(lengths[held_out], trained[held_out]))


def _rows(settings: Settings) -> Rows | None:
    """Of data that have been encoded before."""
    data = settings.data
    if not data.data or not data.tokenizer:
        return None
    store = cached_samples(cache_request(settings), Tokenizer.load(Path(data.tokenizer)))
    return rows_of(store, settings) if store is not None else None


def _looked_up(look: Callable[[], T]) -> T | None:
    """What is there; nothing where it is not, since a plan is made of what may not exist yet."""
    try:
        return look()
    except (EngineError, OSError):
        return None
