"""One run from request to result: settings resolved, folder made, data encoded and audited, stage trained."""

import json
import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from engine.errors import CheckpointError, EngineError, Interrupted, UserError
from engine.model.config import ModelConfig, YaRN, num_parameters
from engine.model.families import load_pretrained, read_config
from engine.model.transformer import Transformer
from engine.randomness import derive_seed
from engine.references import checkpoint_folder, data_file, tokenizer_folder
from engine.runs.checkpoint import newest_whole
from engine.runs.events import Audited, Event, Finished, Progress, Resumed, RunStarted, Sampled, Warned
from engine.runs.folder import EventWriter, RunFolder, create_run, free_name
from engine.settings.model import ModelSettings
from engine.settings.profile import Profile, Settings, load_profile, parse_assignments, resolve
from engine.settings.registry import StageInfo
from engine.stages.context import StageContext
from engine.text.audit import audit, refuse_if_useless
from engine.text.cache import CacheRequest, data_fingerprint, load_samples
from engine.text.encode import Encoder, EncodeSettings
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer
from engine.training.device import pick_device, pick_dtype, set_threads
from engine.training.distributed import world_size
from engine.training.loop import Loop
from engine.training.peak import matrix_flops_per_second
from engine.training.precision import Precision

_INHERITED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "qk_norm", "tie_word_embeddings",
)  # fmt: skip
_LEAST_FREE_BYTES = 64 << 20
_CHECKPOINT_BYTES = 12
"""Bytes a parameter: fp32 weights and AdamW's two moments."""

Listener = Callable[[Event], None]


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


def begin(request: TrainRequest) -> RunFolder:
    """Resolves a request and makes the run's folder; nothing is trained yet.

    Raises:
        UserError: The request cannot be carried out; no folder is left behind.
    """
    profile = load_profile(request.profile)
    settings = _resolve(profile, request)
    run = create_run(request.name or free_name(profile.name), overwrite=request.overwrite)
    try:
        run.profile.write_text(profile.source, encoding="utf-8")
        if "data" in settings.sections:
            shutil.copytree(settings.data.tokenizer, run.tokenizer, ignore=_only_tokenizer)
        environment = _environment(settings)
        run.environment.write_text(json.dumps(environment, indent=1, ensure_ascii=False), encoding="utf-8")
        resolved = {"profile": profile.name, **settings.to_json()}
        run.resolved.write_text(json.dumps(resolved, indent=1, ensure_ascii=False), encoding="utf-8")
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def carry_out(
    run: RunFolder,
    *,
    resume: bool = False,
    allow_inexact: bool = False,
    interrupt: threading.Event | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Trains a run that `begin` made, or goes on with one that ended early.

    Everything it has to say goes to the run's events, and to `listener` besides.

    Returns:
        The summary: run, status, steps, tokens, losses, speed, memory and the newest checkpoint.

    Raises:
        EngineError: It failed; the event `finished` says why, and the last checkpoint is whole.
    """
    settings = Settings.from_json(run.read_json(run.resolved))
    with run.lock(), _Reporter(run, listener) as emit:
        try:
            if "tokenizer" in settings.sections:
                return _train_tokenizer(run, settings, emit)
            return _train_model(run, settings, emit, resume, allow_inexact, interrupt or threading.Event())
        except Interrupted as error:
            emit.finish("stopped", error)
            raise
        except EngineError as error:
            emit.finish("failed", error)
            raise
        except Exception as error:
            emit.log.exception("the run failed")
            failure = EngineError(
                f"{type(error).__name__}: {error}", where=str(run.log), hint="the log has the details"
            )
            emit.finish("failed", failure)
            raise failure from error


def train(
    request: TrainRequest, *, interrupt: threading.Event | None = None, listener: Listener | None = None
) -> dict[str, Any]:
    """`begin` and `carry_out`; a run whose data or settings turn out useless leaves no folder behind."""
    run = begin(request)
    with forget_if_useless(run):
        return carry_out(run, interrupt=interrupt, listener=listener)


@contextmanager
def forget_if_useless(run: RunFolder) -> Iterator[None]:
    """Removes the folder of a run that turned out impossible before anything was trained."""
    try:
        yield
    except UserError:
        if not run.checkpoint_steps():
            shutil.rmtree(run.path, ignore_errors=True)
        raise


class _Reporter:
    """Writes events, the samples file and the log of a run."""

    def __init__(self, run: RunFolder, listener: Listener | None) -> None:
        self._run, self._listener = run, listener
        self.step = 0

    def __enter__(self) -> "_Reporter":
        self._writer = EventWriter(self._run)
        self.log = logging.Logger(f"engine.run.{self._run.name}")
        self._handler = logging.FileHandler(self._run.log, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.log.addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._handler.close()

    def __call__(self, event: Event) -> None:
        self._writer(event)
        self.step = getattr(event, "step", self.step)
        if isinstance(event, Sampled):
            line = {"step": event.step, "prompt": event.prompt, "text": event.text, "stop_reason": event.stop_reason}
            with self._run.samples.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        elif event.type != "step":
            level = logging.WARNING if event.type in ("warned", "non_finite_step") else logging.INFO
            self.log.log(
                level, "%s %s", event.type, {k: v for k, v in vars(event).items() if k not in ("time", "audit")}
            )
        if self._listener:
            self._listener(event)

    def progress(self, what: str, done: float) -> None:
        self(Progress(what=what, done=done))

    def warn(self, name: str, message: str) -> None:
        self(Warned(name=name, message=message, step=self.step))

    def finish(self, status: str, error: EngineError) -> None:
        self(Finished(status=status, step=self.step, error=str(error), exit_code=error.exit_code))


def _resolve(profile: Profile, request: TrainRequest) -> Settings:
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
    settings = _with_places(settings, places)
    tokenizer = Tokenizer.load(settings.data.tokenizer)
    vocab_size = settings.model.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"vocab_size is {vocab_size}, the tokenizer has {tokenizer.vocab_size} tokens",
            where="vocab_size",
            hint="leave vocab_size out",
        )
    return _decide(settings, vocab_size)


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
    shape = {name: getattr(config, name) for name in _INHERITED}
    return shape | {"attention_bias": config.attention_bias != "none"}


def _decide(settings: Settings, vocab_size: int) -> Settings:
    """Device, threads and precision are settled before the run and written down."""
    training = settings.training
    device = pick_device(training.device)
    config = model_config(settings.model, vocab_size)
    parameters = sum(num_parameters(config).values())
    decided: dict[str, Any] = {
        "vocab_size": vocab_size,
        "device": str(device.torch_device),
        "dtype": pick_dtype(training.dtype, device, parameters),
        "num_threads": training.num_threads or os.cpu_count() or 1,
    }
    reasons = {"vocab_size": "the tokenizer's", "dtype": "what this device has", "num_threads": "all cores"}
    values = settings.values()
    for name, value in decided.items():
        if values[name] != value:
            settings = settings.replace({name: value}, f"adjusted: {reasons.get(name, 'found here')}")
    return settings


def model_config(shape: ModelSettings, vocab_size: int) -> ModelConfig:
    """The model that the settings describe."""
    scaling = YaRN(shape.rope_scaling_factor, shape.rope_scaling_length) if shape.rope_scaling_factor > 1 else None
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.resolved_head_dim,
        intermediate_size=shape.resolved_intermediate_size,
        max_position_embeddings=shape.max_position_embeddings,
        rope_theta=shape.rope_theta,
        rope_scaling=scaling,
        rms_norm_eps=shape.rms_norm_eps,
        qk_norm=shape.qk_norm,
        attention_bias="qkv" if shape.attention_bias else "none",
        tie_word_embeddings=shape.tie_word_embeddings,
        dropout=shape.dropout,
    )


def _only_tokenizer(folder: str, names: list[str]) -> list[str]:
    """For copytree: everything that is no part of a tokenizer."""
    wanted = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
              "generation_config.json"}  # fmt: skip
    return [name for name in names if name not in wanted]


def _environment(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {
        "engine": version("minimind-tui"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "data_fingerprint": data_fingerprint(Path(settings.values()["data"])),
        "started": time.time(),
    }
    if "training" in settings.sections:
        training = settings.training
        found |= {
            "device": training.device,
            "threads": training.num_threads,
            "compile": training.compile,
            "world_size": world_size(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "tokenizer_fingerprint": Tokenizer.load(settings.data.tokenizer).fingerprint,
        }
    return found


_EXACT = ("torch", "machine", "system", "device", "threads", "compile", "world_size", "cpu_capability")


def _check_environment(run: RunFolder, settings: Settings, allow_inexact: bool, emit: _Reporter) -> None:
    """What makes a resume inexact is refused, or named when it is allowed."""
    before = run.read_json(run.environment)
    now = _environment(settings)
    if before.get("data_fingerprint") != now["data_fingerprint"]:
        raise CheckpointError(
            "the data file has changed since the run began",
            where=settings.data.data,
            hint="put the old file back, or start a new run with --from this one",
        )
    differing = [
        f"{key}: {before.get(key)} then, {now.get(key)} now" for key in _EXACT if before.get(key) != now.get(key)
    ]
    if differing and not allow_inexact:
        raise CheckpointError(
            f"the run cannot go on bit for bit: {'; '.join(differing)}",
            where=str(run.environment),
            hint="add --allow-inexact to go on all the same",
        )
    for difference in differing:
        emit.warn("inexact_resume", difference)


def encode_settings(stage: StageInfo, settings: Settings) -> EncodeSettings:
    """How the run's records become samples."""
    data = settings.data
    return EncodeSettings(
        max_seq_len=data.max_seq_len,
        train_on=stage.train_on,
        parse_special_tokens=data.parse_special_tokens,
        system_prompt_ratio=data.system_prompt_ratio,
        empty_think_ratio=data.empty_think_ratio,
        seed=settings.training.seed,
    )


def _load_data(run: RunFolder, settings: Settings, tokenizer: Tokenizer, emit: _Reporter) -> SampleStore:
    stage, data = settings.stage, settings.data
    request = CacheRequest(
        data=Path(data.data),
        tokenizer=run.tokenizer,
        settings=encode_settings(stage, settings),
        mapping=data.mapping,
        max_rows=data.max_rows,
        shapes=stage.reads,
    )
    emit.progress("encoding the data", 0.0)
    store = load_samples(request, tokenizer, lambda done: emit.progress("encoding the data", done))
    result = audit(store, max_seq_len=data.max_seq_len, val_fraction=data.val_fraction, vocab_size=tokenizer.vocab_size)
    refuse_if_useless(result, data.data)
    emit(Audited(audit=result))
    if data.val_fraction and not result["val_samples"]:
        emit.warn("no_validation", "all rows share one prompt: there is nothing to validate on")
    return store


def _build_model(settings: Settings) -> Transformer:
    """The start checkpoint's model, or random weights that are a function of the seed."""
    training = settings.training
    if settings.data.start_from:
        loaded = load_pretrained(settings.data.start_from)
        if not settings.model.dropout:
            return loaded
        model = Transformer(replace(loaded.config, dropout=settings.model.dropout))
        model.load_state_dict(loaded.state_dict())
        return model
    torch.manual_seed(derive_seed(training.seed, "weights"))
    assert settings.model.vocab_size is not None
    return Transformer(model_config(settings.model, settings.model.vocab_size))


def _train_model(
    run: RunFolder,
    settings: Settings,
    emit: _Reporter,
    resume: bool,
    allow_inexact: bool,
    interrupt: threading.Event,
) -> dict[str, Any]:
    training = settings.training
    if resume:
        _check_environment(run, settings, allow_inexact, emit)
    threads = set_threads(training.num_threads)
    device = pick_device(training.device)
    tokenizer = Tokenizer.load(run.tokenizer)
    encoder = Encoder(tokenizer, encode_settings(settings.stage, settings))
    store = _load_data(run, settings, tokenizer, emit)
    model = _build_model(settings).to(device.torch_device)
    model.gradient_checkpointing = training.gradient_checkpointing
    precision = Precision(training.dtype, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _check_disk(run, parameters, training.keep_checkpoints)
    stage = _stage_class(settings.stage)(StageContext(settings, model, store, encoder, device, precision))
    micro_tokens = min(4096, training.batch_size * settings.data.max_seq_len)
    peak = matrix_flops_per_second(model.config, micro_tokens, precision.dtype, device)
    if training.compile:
        model.compile()
    model.train()
    loop = Loop(stage, run, device, precision, emit, interrupt, peak)
    if resume:
        _restore(run, loop, emit)
    emit(
        RunStarted(
            stage=settings.stage.name,
            total_steps=loop.total_steps,
            parameters=parameters,
            trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            device=device.describe(),
            dtype=training.dtype,
            threads=threads,
        )
    )
    status = loop.train()
    summary = _summary(run, loop, status, device.peak_memory())
    emit(Finished(status=status, step=loop.state.step, summary=summary, exit_code=0 if status == "done" else 130))
    return summary


def _stage_class(stage: StageInfo) -> Callable[[StageContext], Any]:
    module, _, name = stage.implementation.partition(":")
    found: Callable[[StageContext], Any] = getattr(import_module(module), name)
    return found


def _restore(run: RunFolder, loop: Loop, emit: _Reporter) -> None:
    folder, complaints = newest_whole(run)
    for complaint in complaints:
        emit.warn("damaged_checkpoint", f"{complaint}; going back to an older one")
    if folder is not None:
        loop.restore(folder)
    emit(Resumed(from_step=loop.state.step))


def _check_disk(run: RunFolder, parameters: int, keep: int) -> None:
    """A run whose checkpoints will not fit is refused before it begins."""
    needed = (keep + 2) * _CHECKPOINT_BYTES * parameters + _LEAST_FREE_BYTES
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise UserError(
            f"the checkpoints need {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free",
            where=str(run.checkpoints),
            hint="free some space, lower keep_checkpoints, or set MINIMIND_HOME to another disk",
        )


def _summary(run: RunFolder, loop: Loop, status: str, peak_bytes: int) -> dict[str, Any]:
    last, steps = loop.state.last, run.checkpoint_steps()
    return {
        "run": run.name,
        "path": str(run.path),
        "status": status,
        "steps": loop.state.step,
        "tokens": loop.state.tokens,
        "train_loss": last.get("loss"),
        "val_loss": last.get("val_loss"),
        "val_bits_per_byte": last.get("val_bits_per_byte"),
        "tokens_per_second": last.get("tokens_per_second"),
        "peak_bytes": peak_bytes,
        "skipped_steps": loop.state.skipped,
        "checkpoint": str(run.checkpoint(steps[-1])) if steps else None,
    }


def _train_tokenizer(run: RunFolder, settings: Settings, emit: _Reporter) -> dict[str, Any]:
    module, _, name = settings.stage.implementation.partition(":")
    work = getattr(import_module(module), name)
    emit(RunStarted(stage=settings.stage.name, total_steps=1, parameters=0, trainable_parameters=0,
                    device="cpu", dtype="", threads=os.cpu_count() or 1))  # fmt: skip
    found = work(settings.tokenizer, Path(settings.tokenizer.data), run.tokenizer, emit.progress)
    summary = {
        "run": run.name,
        "path": str(run.path),
        "status": "done",
        "steps": 1,
        "tokenizer": str(run.tokenizer),
        **found,
    }
    emit(Finished(status="done", step=1, summary=summary))
    return summary
