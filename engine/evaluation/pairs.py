"""Preference pairs: which side a checkpoint prefers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import DataError, UserError
from engine.evaluation.scores import Scorer
from engine.model.heads import is_scalar_model
from engine.objectives.preference import calibration_error
from engine.rewards.scorer import ForeignScorer, load_scorer
from engine.text.batching import Batch, fill_batches
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.records import Record, open_records
from engine.text.store import SampleStore
from engine.text.template import TemplateFailure
from engine.text.tokenizer import Tokenizer

Values = NDArray[np.float64]
Watcher = Callable[[str, float], None]

_BATCH_TOKENS = 8192


def preferred_share(margins: Values) -> float:
    """The share of pairs whose chosen side scores higher; equal scores count half.

    Args:
        margins: Chosen less rejected score of each pair, shape (pairs,), at least one.
    """
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


def evaluate_pairs(
    folder: Path,
    data: Path,
    tell: Watcher,
    *,
    reference: Path | None = None,
    beta: float = 0.1,
    max_rows: int = 0,
    max_seq_len: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Compares the two sides of every pair of a file.

    Args:
        folder: The checkpoint's Hugging Face folder; it may hold a reward model.
        data: The file.
        tell: Told what is being done (`encoding`, `pairs`, `reference`) and how much of it is done (0 to 1).
        reference: What the checkpoint is compared with, as in DPO.
        beta: How much a nat of difference to the reference counts.
        max_rows: Only the first rows; 0: all.
        max_seq_len: The longest side; 0: what the checkpoints read, at most 2,048.
        device: Where.

    Returns:
        pairs, not_scored (rows that cannot be encoded, that lack an answer or have the same one twice), and
        pair_accuracy: the share of pairs whose chosen side scores higher.
        A language model's score is the log-probability of the answer; pair_accuracy_per_token is by its mean over the
        answer's tokens. With a reference: implicit_accuracy and implicit_margin, the mean, of the rewards
        β·log(policy / reference) (Rafailov et al., arXiv 2305.18290, section 4), and beta.
        Of a reward model: margin, the mean difference of its scores, and calibration_error, that of σ(difference).

    Raises:
        CheckpointError: A checkpoint cannot be read, or the two have different tokenizers.
        DataError: There is no pair to compare, or no chat template.
        UserError: `max_seq_len` is more than a checkpoint reads, or a reward model stands beside a reference.
            A reward model of a family that is not built here takes no `max_seq_len`.
    """

    def load(tokenizer: Tokenizer, limit: int) -> tuple[SampleStore, dict[str, int]]:
        """The samples, the two sides of a pair one after the other, and how many there are."""
        if max_seq_len > limit:
            raise UserError(f"max_seq_len is {max_seq_len}; no more than {limit} tokens are read", where=str(folder))
        tell("encoding", 0.0)
        settings = EncodeSettings(max_seq_len or min(2048, limit), "assistant")
        request = CacheRequest(data, folder, settings, {}, max_rows, ("pair",))
        store = load_samples(request, tokenizer, lambda done: tell("encoding", done))
        if not len(store):
            raise _nothing_to_compare(data)
        rows, pairs = store.meta["usable"] + len(store.meta["quarantined"]), len(store) // 2
        return store, {"pairs": pairs, "not_scored": rows - pairs}

    if is_scalar_model(folder):
        if reference:
            raise UserError("a reward model's scores need no reference", where=str(folder), hint="leave it out")
        judge = load_scorer(folder, torch.device(device))
        if isinstance(judge, ForeignScorer):
            if max_seq_len:
                raise UserError("this reward model reads whole conversations: leave max_seq_len out", where=str(folder))
            margins, counts = _foreign_margins(judge, data, max_rows, lambda done: tell("pairs", done))
        else:
            store, counts = load(judge.tokenizer, judge.max_length)
            margins = _margins(_score(judge.scores, store, lambda done: tell("pairs", done)))
        return counts | {
            "pair_accuracy": preferred_share(margins),
            "margin": float(margins.mean()),
            "calibration_error": calibration_error(torch.from_numpy(margins)),
        }
    policy = Scorer(folder, device=device)
    baseline = Scorer(reference, device=device) if reference else policy
    baseline.check(policy.tokenizer)
    store, counts = load(policy.tokenizer, min(policy.max_length, baseline.max_length))
    sums = _score(policy.sums, store, lambda done: tell("pairs", done))
    found = counts | {
        "pair_accuracy": preferred_share(_margins(sums)),
        "pair_accuracy_per_token": preferred_share(_margins(sums / store.columns["trained"].reshape(-1, 2))),
    }
    if reference:
        margins = beta * _margins(sums - _score(baseline.sums, store, lambda done: tell("reference", done)))
        found |= {"implicit_accuracy": preferred_share(margins), "implicit_margin": float(margins.mean()), "beta": beta}
    return found


def _foreign_margins(
    judge: ForeignScorer, data: Path, max_rows: int, progress: Callable[[float], None]
) -> tuple[Values, dict[str, int]]:
    """Chosen less rejected score of each pair, shape (pairs,), by messages, and how many there are."""
    progress(0.0)
    rows = list(open_records(data, max_rows=max_rows or None))
    margins: list[float] = []
    for done, row in enumerate(rows, 1):
        if isinstance(row, Record) and _has_two_answers(row):
            with suppress(TemplateFailure):
                margins.append(judge.score(row.messages) - judge.score(row.rejected))
        progress(done / len(rows))
    if not margins:
        raise _nothing_to_compare(data)
    return np.array(margins), {"pairs": len(margins), "not_scored": len(rows) - len(margins)}


def _has_two_answers(record: Record) -> bool:
    answered = all(side and side[-1].role == "assistant" for side in (record.messages, record.rejected))
    return record.shape == "pair" and answered and record.messages != record.rejected


def _nothing_to_compare(data: Path) -> DataError:
    return DataError("no pair has two answers to compare", where=str(data), hint="engine data audit says why")


def _margins(scores: Values) -> Values:
    """Chosen less rejected, shape (pairs,), of scores of shape (pairs, 2)."""
    margins: Values = scores[:, 0] - scores[:, 1]
    return margins


def _score(
    score: Callable[[Iterable[Batch]], Iterator[Values]], store: SampleStore, progress: Callable[[float], None]
) -> Values:
    """What a model thinks of both sides of each pair, shape (pairs, 2); pairs of like length are read together.

    Args:
        score: Gives a number a document, batch by batch.
        store: The samples.
        progress: Told how much is done; it may raise to end the work.
    """
    progress(0.0)
    order = np.argsort(store.lengths.reshape(-1, 2).max(axis=1), kind="stable")
    documents = np.stack([2 * order, 2 * order + 1], axis=1).ravel().tolist()
    parts: list[Values] = []
    done = 0
    for part in score(fill_batches(store, documents, _BATCH_TOKENS)):
        parts.append(part)
        done += len(part)
        progress(done / len(documents))
    scores = np.empty((len(order), 2))
    scores[order] = np.concatenate(parts).reshape(-1, 2)
    return scores
