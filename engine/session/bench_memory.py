"""Planned against measured memory, for every stage that trains a model: real short runs on made-up rows.

Each run has a process and a home of its own, so that what it holds is its own, and nothing is learnt from another.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import engine
from engine.errors import EngineError, UserError
from engine.memory.history import RECORD, Record
from engine.session.request import TrainRequest
from engine.settings.registry import find_stage
from engine.settings.suggest import nearest
from engine.settings.values import value_text

_TOGETHER = 2
"""Runs at a time."""
_ROWS, _ANSWER = 64, 64


@dataclass(frozen=True)
class _Shape:
    """A model and how it is trained.

    Attributes:
        vocabulary: Tokens of the tokenizer.
        model: Settings of the model.
        run: Other settings.
        dropout: In stages that allow it.
    """

    vocabulary: int
    model: Mapping[str, Any]
    run: Mapping[str, Any]
    dropout: float = 0.0


def _model(hidden: int, layers: int, heads: tuple[int, int], inner: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1], "intermediate_size": inner, "max_position_embeddings": 512, **more,
    }  # fmt: skip


SHAPES: dict[str, _Shape] = {
    "small": _Shape(1000, _model(64, 2, (4, 2), 192), {"batch_size": 16, "max_seq_len": 256}),
    "bfloat16": _Shape(
        3000, _model(128, 4, (4, 2), 384), {"batch_size": 8, "max_seq_len": 256, "dtype": "bfloat16"}
    ),
    "accumulation": _Shape(
        6400, _model(192, 3, (6, 3), 512, qk_norm=False, tie_word_embeddings=False),
        {"batch_size": 6, "max_seq_len": 192, "accumulation_steps": 2}, dropout=0.1,
    ),
    "experts": _Shape(
        1000, _model(96, 3, (4, 4), 256, num_experts=4, num_experts_per_tok=2, num_shared_experts=1),
        {"batch_size": 12, "max_seq_len": 128},
    ),
    "checkpointing": _Shape(
        500, _model(256, 4, (4, 1), 704),
        {"batch_size": 16, "max_seq_len": 256, "gradient_checkpointing": True, "accumulation_steps": 2},
    ),
}  # fmt: skip
"""Small enough to train in a second, different in what decides the peak."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("pretrain", "mid-train", "sft", "lora", "reason", "distill")},
    "distill, top-k": ("distill", {"teacher_top_k": 16}),
    "dpo": ("dpo", {}),
    "dpo, precomputed": ("dpo", {"reference_log_probs": "precomputed"}),
    "reward": ("reward", {}),
    "ppo": ("ppo", {"mini_batches": 1}),
    "ppo, shared critic": ("ppo", {"mini_batches": 1, "critic": "shared"}),
    "grpo": ("grpo", {"num_generations": 4}),
    "spo": ("spo", {"initial_rollouts": 2}),
}
"""The stages, some in two ways."""


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        variant: One of `VARIANTS`.
        shape: One of `SHAPES`.
        record: What it said of its memory.
        traced_bytes: Its peak as traced; None: see `reason`.
        reason: Why there is no trace.
    """

    variant: str
    shape: str
    record: Record
    traced_bytes: int | None
    reason: str = ""

    @property
    def trace_error(self) -> float | None:
        """How far the trace was off, as a share of what was measured."""
        measured = self.record.measured_bytes
        return self.traced_bytes / measured - 1 if measured and self.traced_bytes else None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        own = {"error": self.record.error, "trace_error": self.trace_error, "within": self.record.within}
        return {"variant": self.variant, "shape": self.shape, "reason": self.reason, **asdict(self.record),
                "traced_bytes": self.traced_bytes, **own}  # fmt: skip


def bench_memory(stages: Sequence[str], tell: Callable[[str], None]) -> list[Case]:
    """Makes the runs and compares.

    Args:
        stages: Which; all if empty.
        tell: Told each run that is done.

    Raises:
        UserError: There is no such stage, or it trains no model.
        EngineError: A run failed.
    """
    known = [stage for stage, _ in VARIANTS.values()]
    if unknown := [name for name in stages if name not in known]:
        raise UserError(
            f"there is no plan for a stage {unknown[0]!r}", where="--stages", hint=nearest(unknown[0], known)
        )
    chosen = [name for name, (stage, _) in VARIANTS.items() if not stages or stage in stages]
    with TemporaryDirectory() as folder, ThreadPoolExecutor(_TOGETHER) as pool:
        worlds = {name: _World(Path(folder) / name, shape) for name, shape in SHAPES.items()}
        jobs = [(variant, shape) for variant in chosen for shape in SHAPES]

        def run(job: tuple[str, str]) -> Case:
            variant, shape = job
            case = _measured(variant, shape, worlds[shape].request(*VARIANTS[variant]), Path(folder) / "-".join(job))
            tell(f"{variant}, {shape}: closed form {_percent(case.record.error)}, trace {_percent(case.trace_error)}")
            return case

        return list(pool.map(run, jobs))


class _World:
    """Rows, a tokenizer and a checkpoint for a shape.

    Args:
        folder: Where they are made.
        shape: The shape.
    """

    def __init__(self, folder: Path, shape: _Shape) -> None:
        from engine.text.tokenizer_training import train_tokenizer

        self._folder, self._shape, self._dice = folder, shape, random.Random(0)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._words = ["".join(self._dice.choices(letters, k=4)) for _ in range(2 * shape.vocabulary)]
        folder.mkdir()
        tokenizer = train_tokenizer([self._said(50, 50) for _ in range(400)], shape.vocabulary)
        tokenizer.save(folder / "tokenizer")
        for reads, row in (("text", self._text), ("conversation", self._talk), ("pair", self._pair),
                           ("prompt", self._prompt)):  # fmt: skip
            lines = [json.dumps(row()) + "\n" for _ in range(_ROWS)]
            (folder / f"{reads}.jsonl").write_text("".join(lines), encoding="utf-8")
        self._start()

    def _start(self) -> None:
        """The checkpoint: a model with random weights."""
        from engine.model.families import save_pretrained
        from engine.model.transformer import Transformer
        from engine.session.shape import model_config
        from engine.settings.model import ModelSettings
        from engine.text.tokenizer import Tokenizer

        folder = self._folder / "start"
        tokenizer = Tokenizer.load(self._folder / "tokenizer")
        tokenizer.save(folder)
        config = model_config(ModelSettings(**self._shape.model), tokenizer.vocab_size)
        ids: dict[str, Any] = {
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
            "pad_token_id": tokenizer.pad_id,
        }
        save_pretrained(folder, Transformer(config), **ids)

    def request(self, stage: str, changes: Mapping[str, Any]) -> TrainRequest:
        """A run of a stage: two steps, or one round; nothing is evaluated."""
        profile = self._folder / f"{stage}.toml"
        profile.write_text(f'stage = "{stage}"\n', encoding="utf-8")
        own = find_stage(stage)
        run = {"max_steps": 2, "val_fraction": 0.0, "eval_interval": 0, "sample_tokens": 0, "device": "cpu",
               "dtype": "float32", **self._shape.run}  # fmt: skip
        start = "" if stage == "pretrain" else str(self._folder / "start")
        if stage == "pretrain":
            run |= {**self._shape.model, "packing": True}
        if own.train_on == "prompt":
            answers = int(changes.get("num_generations", 1))
            run |= {"batch_size": max(2, run["batch_size"] // answers), "max_seq_len": _ANSWER, "truncated": "score",
                    "max_new_tokens": _ANSWER, "max_steps": 1, "rewards": {"length": 1.0}}  # fmt: skip
        elif own.reads != ("pair",):
            run["dropout"] = self._shape.dropout
        if stage == "distill":
            run["teacher"] = start
        assignments = tuple(f"{name}={value_text(value)}" for name, value in {**run, **changes}.items())
        tokenizer = "" if start else str(self._folder / "tokenizer")
        return TrainRequest(str(profile), str(self._folder / f"{own.reads[0]}.jsonl"), tokenizer, start, assignments)

    # Rows

    def _said(self, least: int, most: int) -> str:
        return " ".join(self._dice.choices(self._words, k=self._dice.randint(least, most)))

    def _text(self) -> dict[str, Any]:
        return {"text": self._said(8, 160)}

    def _talk(self) -> dict[str, Any]:
        return {"conversations": [*self._asked(), {"role": "assistant", "content": self._said(4, 140)}]}

    def _pair(self) -> dict[str, Any]:
        asked = self._asked()
        return {side: [*asked, {"role": "assistant", "content": self._said(4, 80)}] for side in ("chosen", "rejected")}

    def _prompt(self) -> dict[str, Any]:
        return {"prompt": self._said(2, 20), "answer": self._said(1, 1)}

    def _asked(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._said(2, 20)}]


def _measured(variant: str, shape: str, request: TrainRequest, home: Path) -> Case:
    """Makes a run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.session.bench_memory"], input=json.dumps(asdict(request)), text=True,
        capture_output=True, cwd=Path(engine.__path__[0]).parent, env={**os.environ, "MINIMIND_HOME": str(home)},
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise EngineError(f"the run ended with {done.returncode}: {last[0]}", where=f"{variant}, {shape}")
    answer = json.loads(done.stdout)
    return Case(variant, shape, Record(**answer["record"]), answer["traced_bytes"], answer["reason"])


def main() -> None:
    """Makes the run that is described on standard input, and says what became of it on standard output."""
    from engine.session.carry import train
    from engine.session.trace_worker import answer

    raw = json.load(sys.stdin)
    run = Path(train(TrainRequest(**raw | {"assignments": tuple(raw["assignments"])}), force=True)["path"])
    settings = json.loads((run / "resolved.json").read_text(encoding="utf-8"))
    traced = answer({"settings": settings, "run": str(run)})
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    peak = traced.get("peak")
    total = peak and peak["weights"] + peak["companions"] + peak["optimizer"] + peak["work"]
    print(json.dumps({"record": record, "traced_bytes": total, "reason": traced.get("error", "")}))


# The tables


def tables(cases: Sequence[Case]) -> str:
    """What was found as two Markdown tables: by stage, then run by run."""
    stages = [(variant, [case for case in cases if case.variant == variant]) for variant in VARIANTS]
    by_stage = _table(
        ("stage", "closed form: worst", "mean", "trace: worst", "mean", "process in its range"),
        [_summed(variant, own) for variant, own in stages if own] + [_summed("all", cases)],
    )
    runs = _table(
        ("stage", "shape", "measured", "closed form", "", "trace", "", "process", "expected"), map(_row, cases)
    )
    return f"{by_stage}\n\n{runs}"


def _summed(name: str, cases: Sequence[Case]) -> tuple[str, ...]:
    errors = ([case.record.error for case in cases], [case.trace_error for case in cases])
    within = [case.record.within for case in cases if case.record.within is not None]
    return (name, *(cell for each in errors for cell in _worst(each)), f"{sum(within)} of {len(within)}")


def _worst(errors: Sequence[float | None]) -> Iterator[str]:
    known = [abs(error) for error in errors if error is not None]
    yield _percent(max(known, default=None), signed=False)
    yield _percent(fmean(known) if known else None, signed=False)


def _row(case: Case) -> tuple[str, ...]:
    own = case.record
    return (
        case.variant, case.shape, _mib(own.measured_bytes), _mib(own.predicted_bytes), _percent(own.error),
        _mib(case.traced_bytes) if case.traced_bytes else case.reason, _percent(case.trace_error),
        _mib(own.resident_bytes), f"{_mib(own.low_bytes)} to {_mib(own.high_bytes)}",
    )  # fmt: skip


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ("---", *["--:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mib(count: int | None) -> str:
    return "–" if count is None else f"{count / 2**20:,.1f} MiB"


def _percent(share: float | None, *, signed: bool = True) -> str:
    return "–" if share is None else f"{share:+.2%}" if signed else f"{share:.2%}"


if __name__ == "__main__":
    main()
