"""Climbs the ladder of one seed; what is done is not done again."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, Interrupted
from engine.evaluation.evaluate import evaluate
from engine.files import write_whole
from engine.ladder.results import Result, Results, run_name
from engine.ladder.rungs import Rung
from engine.model.attention import DocumentAttention
from engine.model.families import load_pretrained
from engine.model.fingerprint import fingerprint
from engine.model.loading import is_adapter, load_model
from engine.model.lora import detach
from engine.model.transformer import Transformer
from engine.references import data_file
from engine.runs.events import RunStarted
from engine.runs.folder import RunFolder, find_run
from engine.runs.history import metrics_of
from engine.session import TrainRequest
from engine.settings.profile import load_profile
from engine.settings.values import value_text
from engine.text.records import open_records
from engine.text.shortcuts import shortcut_audit
from engine.training.device import pick_device

Train = Callable[[TrainRequest], Mapping[str, Any]]

MAX_NEW_TOKENS = 64
"""How long an answer may be; the longest expected one of the starter world has about half as many tokens."""
_TOGETHER = 128


def climb(
    ladder: Mapping[str, Rung],
    seed: int,
    names: Iterable[str],
    *,
    again: bool = False,
    train: Train,
    tell: Callable[[str], None],
) -> list[str]:
    """Climbs rungs, and those that they need. Each result is on disk before the next rung begins.

    A rung that fails is kept as failed; only those that need it are left out. It is tried again the next time.

    Args:
        ladder: All rungs by name, each after those that it needs.
        seed: The seed of every run.
        names: The rungs that are wanted.
        again: Whether these are repeated where they are done. What was made of them is no longer done then.
        train: Carries a run out and returns its summary.
        tell: Told in a sentence what is being done.

    Returns:
        The rungs that were wanted or needed and are not done.

    Raises:
        Interrupted: A run was told to stop; what was finished is kept.
    """
    results, named = Results(ladder, seed), set(names)
    wanted = [name for name in ladder if name in _with_needs(ladder, named)]
    for name in wanted:
        if results.is_done(name) and not (again and name in named):
            tell(f"{name}: done already")
            continue
        if missing := [need for need in ladder[name].needs if not results.is_done(need)]:
            tell(f"{name}: left out, for there is no {', '.join(missing)}")
            continue
        tell(f"{name}: seed {seed}")
        began = time.time()
        try:
            result = _climbed(ladder[name], results, train, tell)
        except Interrupted:
            raise
        except Exception as error:
            text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            result = Result(run_name(seed, name), began, time.time(), error=text)
            tell(f"{name}: failed: {text}")
        results.put(name, result)
    return [name for name in wanted if not results.is_done(name)]


def _with_needs(ladder: Mapping[str, Rung], names: Iterable[str]) -> set[str]:
    return {each for name in names for each in (name, *_with_needs(ladder, ladder[name].needs))}


def _climbed(rung: Rung, results: Results, train: Train, tell: Callable[[str], None]) -> Result:
    """Trains a rung and measures it, and the rungs that it is compared with where that was not done yet."""
    began, clock = time.time(), time.perf_counter()
    request, notes = _request(rung, results), dict[str, Any]()
    if rung.plan:
        request, notes = rung.plan(results, request)
    summary = train(request)
    if summary["status"] != "done":
        raise Interrupted("the run was stopped; the ladder goes on from this rung", where=f"run {request.name}")
    trained = time.perf_counter()
    run = find_run(request.name)
    figures = _figures(run, summary)
    if rung.start and is_adapter(run.select("newest")):
        start = find_run(run_name(results.seed, rung.start)).select("newest")
        figures["base_unchanged"] = base_unchanged(run.select("newest"), start)
    measured: dict[str, Any] = {}
    for line in rung.lines:
        file, before = line.figure.file, rung.before(line)
        if file and file not in measured:
            measured[file] = _measured(run, file, tell)
        if file and before and results.is_done(before):
            known = results.result(before)
            if file not in known.measured:
                found = {**known.measured, file: _measured(find_run(known.run), file, tell)}
                results.put(before, replace(known, measured=found))
    measuring = time.perf_counter() - trained
    return Result(run.name, began, time.time(), trained - clock, measuring, figures, measured, notes)


def _request(rung: Rung, results: Results) -> TrainRequest:
    """Its profile is one of the rung's own, so that nothing takes a run of the ladder for the newest of a profile."""
    profile = results.folder / f"{rung.name}.toml"
    write_whole(profile, f"extends = {json.dumps(rung.profile)}\n")
    runs = {setting: run_name(results.seed, other) for setting, other in rung.uses.items()}
    seeded = {"seed": results.seed} if "seed" in load_profile(rung.profile).stage.settings else {}
    settings = {**rung.settings, **runs, **seeded}
    assignments = tuple(f"{name}={value_text(value)}" for name, value in settings.items())
    name = run_name(results.seed, rung.name)
    return TrainRequest(str(profile), assignments=assignments, name=name, overwrite=True)


def _figures(run: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The last value of every metric, the summary, and the share of the parameters that is trained."""
    history = run.history()
    started = next(event for event in history if isinstance(event, RunStarted))
    share = started.trainable_parameters / started.parameters if started.parameters else None
    last = {name: points[-1][1] for name, points in metrics_of(history).items()}
    return {**last, **summary, "trainable_share": share}


def _measured(run: RunFolder, file: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """What a run's last checkpoint makes of a file; of pairs also what could be told without a model."""
    tell(f"{run.name}: measured on {file}")
    path, device = data_file(file), str(pick_device("auto").torch_device)
    checkpoint = run.select("newest")
    found = evaluate(checkpoint, path, max_new_tokens=MAX_NEW_TOKENS, batch_size=_TOGETHER, device=device)
    return found | (shortcut_audit(open_records(path).records()) if found["shape"] == "pair" else {})


@torch.no_grad()
def base_unchanged(adapter: Path, start: Path) -> bool:
    """Whether an adapter's model is, once that is taken out, the one that it began from: weights and logits alike."""
    base, model = load_pretrained(start), load_model(adapter)
    same = fingerprint(model) == fingerprint(base)
    detach(model)
    return same and torch.equal(_logits(model), _logits(base))


def _logits(model: Transformer) -> torch.Tensor:
    """Of the first tokens of the vocabulary, read as one document, shape (tokens, vocabulary)."""
    tokens = torch.arange(min(256, model.config.vocab_size, model.config.max_position_embeddings))
    hidden = model.eval()(tokens, tokens, DocumentAttention([0, len(tokens)], tokens.device))
    return torch.nn.functional.linear(hidden, model.head_weight)
