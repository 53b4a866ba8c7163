"""Begins runs, carries them out, and goes on with them."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from engine.errors import DoesNotFit, Interrupted, UserError
from engine.process import cores
from engine.runs.checkpoint import newest_whole, set_aside, sweep
from engine.runs.control import Inbox, StopNow
from engine.runs.events import Adjusted, Audited, Finished, Resumed, RunStarted
from engine.runs.folder import (
    RunFolder,
    check_name,
    create_run,
    forget_replaced,
    free_name,
    is_whole,
    restore_replaced,
)
from engine.session.assemble import build_model, compile_model, implementation, load_data
from engine.session.decide import decide, unmet
from engine.session.disk import check_disk
from engine.session.encoding import encode_settings
from engine.session.environment import check_environment, environment_of, tokenizer_fingerprint
from engine.session.keep import keep, kept_settings
from engine.session.memory import RunMemory
from engine.session.report import Listener, Reporter, explained
from engine.session.request import FITTED, TrainRequest, requested
from engine.settings.places import runs_folder
from engine.settings.profile import Settings, load_profile
from engine.stages.context import StageContext
from engine.text.audit import audit, refuse_if_useless
from engine.text.encode import Encoder
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer
from engine.training.device import pick_device, set_threads
from engine.training.loop import Loop
from engine.training.peak import matrix_flops_per_second
from engine.training.precision import Precision


def begin(request: TrainRequest) -> RunFolder:
    """Resolves a request and makes the run's folder; nothing is trained yet.

    Raises:
        UserError: The request cannot be carried out; no folder is left behind.
    """
    profile = load_profile(request.profile)
    asked = requested(request, profile)
    settings = decide(asked)
    environment = environment_of(settings)
    name = request.name or free_name(profile.name)
    check_name(name)
    _refuse_to_eat_itself(name, settings)
    run = create_run(name, overwrite=request.overwrite)
    try:
        run.profile.write_text(profile.source, encoding="utf-8")
        if "data" in settings.sections:
            shutil.copytree(settings.data.tokenizer, run.tokenizer, ignore=_only_tokenizer)
            environment["tokenizer_fingerprint"] = tokenizer_fingerprint(run)
            check_disk(run, settings)
            keep(run, settings)
        run.environment.write_text(json.dumps(environment, indent=1, ensure_ascii=False), encoding="utf-8")
        resolved = {"profile": profile.name, "unmet": unmet(asked, settings), **settings.to_json()}
        run.resolved.write_text(json.dumps(resolved, indent=1, ensure_ascii=False), encoding="utf-8")
    except BaseException as error:
        restore_replaced(run)
        if isinstance(error, OSError):
            raise explained(error, run) from error
        raise
    return run


def carry_out(
    run: RunFolder,
    *,
    resume: bool = False,
    allow_inexact: bool = False,
    force: bool = False,
    interrupt: threading.Event | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Trains a run that `begin` made, or goes on with one that ended early.

    Everything it has to say goes to the run's events, and to `listener` besides. `force` starts also what is not
    expected to fit into memory.

    Returns:
        The summary: run, status, steps, tokens, losses, speed, memory and the newest checkpoint.

    Raises:
        Interrupted: The interrupt was set; the last step boundary is saved.
        DoesNotFit: The run is not expected to fit; nothing was trained.
        OutOfMemory: It did not; its memory is given back, and the error's plan says what would.
        EngineError: It failed; the event `finished` says why, and the last checkpoint is whole. A resume that is
            refused leaves the run as it was.
    """
    resolved = run.read_json(run.resolved)
    settings = kept_settings(run, Settings.from_json(resolved))
    interrupt = interrupt or threading.Event()
    inbox = Inbox(run.control, interrupt, fresh=not resume)  # before the lock shows that someone listens
    with run.lock():
        sweep(run)
        differing = check_environment(run, settings, allow_inexact) if resume else []
        check_disk(run, settings)
        emit = Reporter(run, listener)
        try:
            with emit.ending():
                if "tokenizer" in settings.sections:
                    return _train_tokenizer(run, settings, emit)

                emit.held = resume  # one that is refused leaves the run as it was

                def announce() -> None:
                    emit.held = False
                    if resume:
                        _announce_resume(run, emit, differing)
                    _announce_changes(settings, resolved.get("unmet", []), emit, begins=not resume)

                summary = _train_model(run, settings, emit, inbox, announce, resume=resume, force=force)
        finally:
            if emit.memory:
                emit.memory.end()
            emit.close()
    if is_whole(run):
        forget_replaced(run)
    if summary["status"] == "stopped" and interrupt.is_set():
        raise Interrupted(f"interrupted at step {summary['steps']}; the checkpoint is saved", where=f"run {run.name}")
    return summary


def train(
    request: TrainRequest,
    *,
    force: bool = False,
    interrupt: threading.Event | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """`begin` and `carry_out`; a run whose data or settings turn out useless leaves no folder behind."""
    run = begin(request)
    with forget_if_useless(run):
        return carry_out(run, force=force, interrupt=interrupt, listener=listener)


@contextmanager
def forget_if_useless(run: RunFolder) -> Iterator[None]:
    """Removes the folder of a run that turned out impossible before anything was trained; a replaced one comes back.

    One that failed otherwise stays, and what it was to replace is kept aside until something was made of it.
    """
    try:
        yield
    except (UserError, DoesNotFit):
        if not run.checkpoint_steps():
            restore_replaced(run)
        raise
    finally:
        if is_whole(run):
            forget_replaced(run)


def _refuse_to_eat_itself(name: str, settings: Settings) -> None:
    """Replacing a run by one that starts from it would destroy what it starts from."""
    values = settings.values()
    for key in ("data", "tokenizer", "from"):
        if values.get(key) and Path(values[key]).resolve().is_relative_to((runs_folder() / name).resolve()):
            raise UserError(
                f"run {name} cannot be replaced: the new run's {key} lies in it",
                where=values[key],
                hint="choose another --name",
            )


def _only_tokenizer(folder: str, names: list[str]) -> list[str]:
    """For copytree: everything that is no part of a tokenizer."""
    wanted = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
              "generation_config.json"}  # fmt: skip
    return [name for name in names if name not in wanted]


def _announce_resume(run: RunFolder, emit: Reporter, differing: list[str]) -> None:
    """Says from where the run goes on: its newest whole checkpoint. Damaged ones are set aside."""
    step, complaints = newest_whole(run)
    set_aside(run, -1 if step is None else step)
    emit(Resumed(from_step=step or 0))
    back = "the run begins again" if step is None else f"going back to step {step}"
    for complaint in complaints:
        emit.warn("damaged_checkpoint", f"{complaint}; {back}")
    for difference in differing:
        emit.warn("inexact_resume", difference)


def _announce_changes(settings: Settings, unmet: list[str], emit: Reporter, *, begins: bool) -> None:
    """Says which settings became something else than was asked for."""
    values = settings.values()
    for name in unmet:
        emit.warn(f"{name}_adjusted", f"{name} = {values[name]}: {settings.origins[name]}")
    fitted = {name: values[name] for name, origin in settings.origins.items() if origin == FITTED}
    if fitted and begins:
        emit(Adjusted(step=0, changes=fitted, reason=FITTED))


def _checked_data(
    run: RunFolder, settings: Settings, tokenizer: Tokenizer, emit: Reporter, inbox: Inbox
) -> tuple[SampleStore, dict[str, Any]]:
    """The run's samples, and what the audit says of them."""
    data, what, shown = settings.data, "encoding the data", 0.0

    def progress(done: float) -> None:
        nonlocal shown
        inbox.hurry()
        if done > shown:
            emit.progress(what, done)
            shown = done

    emit.progress(what, shown)
    try:
        store = load_data(run, settings, tokenizer, progress)
    except StopNow as error:
        raise Interrupted("interrupted before the first step; nothing was trained", where=f"run {run.name}") from error
    result = audit(store, max_seq_len=data.max_seq_len, val_fraction=data.val_fraction, vocab_size=tokenizer.vocab_size)
    refuse_if_useless(result, data.data, asks=settings.stage.train_on == "prompt")
    return store, result


def _train_model(
    run: RunFolder,
    settings: Settings,
    emit: Reporter,
    inbox: Inbox,
    announce: Callable[[], None],
    *,
    resume: bool,
    force: bool,
) -> dict[str, Any]:
    """Puts the parts together, restores the newest checkpoint if there is one, and trains."""
    training = settings.training
    threads, device = set_threads(training.num_threads), pick_device(training.device)
    tokenizer = Tokenizer.load(run.tokenizer)
    store, audited = _checked_data(run, settings, tokenizer, emit, inbox)
    memory = RunMemory(run, settings, device, store)
    if not force:
        memory.refuse_if_too_large(resume=resume)
    memory.begin()
    emit.memory, inbox.look = memory, memory.look
    announce()
    emit(Audited(audit=audited))
    if settings.data.val_fraction and not audited["val_samples"]:
        emit.warn("no_validation", "all rows share one prompt: there is nothing to validate on")
    steps = run.checkpoint_steps()
    saved = run.checkpoint(steps[-1]) if steps else None
    model = build_model(run, settings, saved).to(device.torch_device)
    model.gradient_checkpointing = training.gradient_checkpointing
    precision = Precision(training.dtype, device)
    encoder = Encoder(tokenizer, encode_settings(settings))
    context = StageContext(settings, model, store, encoder, device, precision, inbox, run, emit.warn, emit.progress)
    try:
        stage = implementation(settings.stage)(context)
    except StopNow as error:
        raise Interrupted("interrupted before the first step; nothing was trained", where=f"run {run.name}") from error
    tokens = training.batch_size * settings.data.max_seq_len
    peak = matrix_flops_per_second(model.config, tokens, precision.dtype, device)
    if training.compile:
        compile_model(model)
    emit.phase = lambda: "rehearsal"
    emit(memory.rehearse(stage, precision))
    loop = Loop(stage, run, device, precision, emit, inbox, peak, memory.look)
    if saved is not None:
        loop.restore(saved)
    emit(
        RunStarted(
            stage=settings.stage.name,
            total_steps=loop.total_steps,
            parameters=_count(stage.modules, trainable=False),
            trainable_parameters=_count(stage.modules, trainable=True),
            device=device.describe(),
            dtype=training.dtype,
            threads=threads,
        )
    )
    emit.phase = lambda: loop.doing
    status = loop.train()
    summary = _summary(run, loop, status, memory.finish(loop.state.tokens_per_second if status == "done" else None))
    emit(Finished(status=status, step=loop.state.step, summary=summary, exit_code=0 if status == "done" else 130))
    return summary


def _count(modules: Mapping[str, nn.Module], *, trainable: bool) -> int:
    """Parameters of what a stage trains; one that two modules share counts once."""
    found = {parameter for module in modules.values() for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in found if parameter.requires_grad or not trainable)


def _summary(run: RunFolder, loop: Loop, status: str, memory: dict[str, Any]) -> dict[str, Any]:
    state, steps = loop.state, run.checkpoint_steps()
    return {
        "run": run.name,
        "path": str(run.path),
        "status": status,
        "steps": state.step,
        "tokens": state.tokens,
        "train_loss": state.last.get("loss"),
        "val_loss": state.last.get("val_loss"),
        "val_bits_per_byte": state.last.get("val_bits_per_byte"),
        "metrics": state.last,
        "tokens_per_second": state.tokens_per_second,
        **memory,
        "skipped_steps": state.skipped,
        "checkpoint": str(run.checkpoint(steps[-1])) if steps else None,
    }


def _train_tokenizer(run: RunFolder, settings: Settings, emit: Reporter) -> dict[str, Any]:
    emit(RunStarted(stage=settings.stage.name, total_steps=1, parameters=0, trainable_parameters=0,
                    device="cpu", dtype="", threads=cores()))  # fmt: skip
    work = implementation(settings.stage)
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
