"""What can be said about one run: how it stands, what it was made of, what it was told. Torch-free, without Textual."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.runs.events import Sampled
from engine.runs.folder import RunFolder
from engine.runs.lineage import ancestry, place_name, started_from
from engine.runs.summary import RunSummary
from engine.session.companions import REFERENCES
from minimind_tui.core.last_words import last_lines, ran_out
from minimind_tui.core.library import stage_of

PLACES = ("data", "tokenizer", "from", *REFERENCES)
"""Settings that name files and folders."""
USER = "user"
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class RunDetails:
    """One run in words.

    Attributes:
        plight: What happened to a run that did not end as planned and what can be done; empty otherwise.
        facts: Pairs of a label and a text.
        changed: The settings that neither the default nor the profile gave, by their origin.
        samples: What the model said at the last evaluation.
    """

    summary: RunSummary
    plight: str
    facts: tuple[tuple[str, str], ...]
    changed: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    samples: tuple[Sampled, ...]


def details(summary: RunSummary, runs: Sequence[RunSummary]) -> RunDetails:
    """Everything about a run; it reads files, so call it from a thread."""
    return RunDetails(summary, _plight(summary), tuple(_facts(summary, runs)), _changed(summary), _samples(summary.run))


def _plight(summary: RunSummary) -> str:
    saved = summary.checkpoints[-1:]
    again = f"r goes on from step {saved[0]:,}" if saved else "it has no checkpoint: r begins it again"
    if summary.state in ("failed", "interrupted") and (event := ran_out(summary.run)) is not None:
        return f"Out of memory in {event.phase}: {event.what}\nF shows what would fit; {again} as it is."
    if summary.state == "interrupted":
        return (
            "Its process is gone without a word: killed by the system, or the power failed. "
            f"Nothing saved is lost; {again}."
        )
    if summary.state == "failed":
        return f"{summary.error}\nlog: {summary.run.log}\n{again}"
    if summary.state == "stopped":
        return f"Stopped at step {summary.step:,}; {again}."
    return f"Carried by {_holder(summary.run)}." if summary.state == "running" else ""


def _holder(run: RunFolder) -> str:
    try:
        held = json.loads(run.lock_file.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _facts(summary: RunSummary, runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    stage = stage_of(summary)
    facts = [("stage", " · ".join(part for part in (stage.title if stage else summary.stage, summary.profile) if part))]
    if past := ancestry(summary.place("from")):
        facts.append(("from", " ← ".join(past)))
    facts += [(name.replace("_", " "), place_name(summary.place(name))) for name in REFERENCES if summary.place(name)]
    if made := [other.name for other in started_from(runs, summary.run)]:
        facts.append(("led to", ", ".join(made)))
    facts.append(("data", summary.place("data") or "–"))
    if (tokenizer := summary.place("tokenizer")) and tokenizer != summary.place("from"):
        facts.append(("tokenizer", place_name(tokenizer)))
    if summary.checkpoints:
        facts.append(("saved", ", ".join(f"{step:,}" + " (best)" * (step == summary.best_step)
                                         for step in summary.checkpoints)))  # fmt: skip
    return [*facts, ("folder", str(summary.run.path))]


def _changed(summary: RunSummary) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, entry in summary.settings.items():
        origin = str(entry.get("origin", ""))
        if name not in PLACES and origin != "default" and not origin.startswith("profile "):
            groups.setdefault(origin, []).append((name, value_text(entry.get("value"))))
    own_first = sorted(groups.items(), key=lambda group: (group[0] != USER, group[0].startswith("inherited")))
    return tuple((_origin_name(origin), tuple(entries)) for origin, entries in own_first)


def _origin_name(origin: str) -> str:
    """An origin for people: a path to a checkpoint becomes its run."""
    word, _, place = origin.partition(" ")
    return f"{word} from {place_name(place)}" if word == "inherited" else origin


def value_text(value: Any) -> str:
    """A setting's value."""
    if value is None:
        return "not set"
    if isinstance(value, str):
        return value or '""'
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _samples(run: RunFolder) -> tuple[Sampled, ...]:
    found: list[Sampled] = []
    for line in last_lines(run.samples, _TAIL_BYTES):
        try:
            raw = json.loads(line)
            found.append(Sampled(time=0.0, step=int(raw["step"]), prompt=str(raw["prompt"]), text=str(raw["text"]),
                                 stop_reason=str(raw["stop_reason"])))  # fmt: skip
        except (ValueError, KeyError, TypeError, RecursionError):  # torn, at the end or where the tail begins
            continue
    return tuple(sample for sample in found if sample.step == found[-1].step)
