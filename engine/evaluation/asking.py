"""Questions put to a model: greedily once, and sampled as often as pass@k needs."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.evaluation.form import AnswerForm
from engine.evaluation.passes import Trials, mean_pass_at_k
from engine.evaluation.questions import Question, is_right, passes
from engine.generation.chat import ChatPartner
from engine.generation.generate import Generated, generate
from engine.generation.sampling import GREEDY, SamplingSettings
from engine.randomness import derive_seed
from engine.text.template import TemplateFailure

Progress = Callable[[float], None]

_TOGETHER = 512
"""Answers that are in memory at a time."""
_MOST_VALUES = 20
"""A label with more values is no label to count by."""
_SHOWN_WRONG = 10


@dataclass(slots=True)
class _Verdict:
    """How a question was answered.

    Attributes:
        right: Whether the greedy answer is the expected text.
        passed: Whether it passes the row's check.
        passes: How many of the sampled answers do.
    """

    right: bool = False
    passed: bool = False
    passes: int = 0


def ask(
    partner: ChatPartner,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    trials: Trials | None = None,
    answers: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Asks every question greedily and, where there are trials, that often again.

    Args:
        partner: The model.
        questions: At least one.
        max_new_tokens: How long an answer may be.
        batch_size: Questions at a time.
        trials: How often each is sampled, and how.
        answers: Whether every greedy answer is listed.
        progress: Told how much is done, 0 to 1.

    Returns:
        questions, not_asked (longer than the model reads, or refused by the template: they count as wrong),
        exact_match (the share of greedy answers that are the expected text), pass_at_1 (the share of them that passes
        the rows' checks) or, with trials, every pass_at_k of the sampled answers, samples and temperature; the figures
        of `AnswerForm` over the greedy answers; by (label → value → questions, exact_match, pass_at_1), wrong (the
        first ten that are not the expected text: prompt, expected, said).
        Where `answers` are wanted, all greedy ones in order: row, prompt, expected, said, right, passed, and
        stop_reason: `stop`, `length`, `context`, or empty where the question could not be asked.
        Questions without a known answer count in the form only; what needs one is None where no question has it.
    """
    rounds = 1 + (trials.samples if trials else 0)
    prompts = [_prompt(partner, question) for question in questions]
    verdicts = [_Verdict() for _ in questions]

    def answer(settings: SamplingSettings, number: int) -> Iterator[tuple[Question, _Verdict, Generated, str]]:
        """One round: every question's verdict, answer and its text."""
        settings = replace(settings, max_new_tokens=max_new_tokens, seed=derive_seed(settings.seed, "round", number))
        tell = _part(progress, number / rounds, 1 / rounds)
        given = _generate(partner, prompts, settings, batch_size, tell)
        for question, verdict, each in zip(questions, verdicts, given, strict=True):
            yield question, verdict, each, partner.tokenizer.decode(each.ids)

    form, listed, wrong = AnswerForm(), list[dict[str, Any]](), list[dict[str, Any]]()
    for question, verdict, each, said in answer(GREEDY, 0):
        if each.stop_reason:
            form.add(each.ids, said, truncated=each.stop_reason != "stop")
            verdict.right, verdict.passed = is_right(question, said), passes(question, said)
        entry = {"prompt": question.messages[-1].content, "expected": question.expected, "said": said}
        known = question.expected is not None
        if known and not verdict.right and len(wrong) < _SHOWN_WRONG:
            wrong.append(entry)
        if answers:
            marks = {"right": verdict.right, "passed": verdict.passed} if known else {"right": None, "passed": None}
            listed.append({"row": question.row, **entry, **marks, "stop_reason": each.stop_reason})
    if trials:
        for number in range(1, rounds):
            for question, verdict, each, said in answer(trials.sampling, number):
                verdict.passes += bool(each.stop_reason) and passes(question, said)
    judged = [pair for pair in zip(questions, verdicts, strict=True) if pair[0].expected is not None]
    return {
        "questions": len(questions),
        "not_asked": prompts.count([]),
        **_shares([verdict for _, verdict in judged], trials),
        **({"samples": trials.samples, "temperature": trials.sampling.temperature} if trials else {}),
        **form.figures(),
        "by": _by(judged, trials),
        "wrong": wrong,
        **({"answers": listed} if answers else {}),
    }


def _shares(verdicts: Sequence[_Verdict], trials: Trials | None) -> dict[str, float | None]:
    """exact_match and pass_at_k, pass_at_1 always."""
    if not verdicts:
        return {"exact_match": None, "pass_at_1": None}
    exact: dict[str, float | None] = {"exact_match": sum(verdict.right for verdict in verdicts) / len(verdicts)}
    if trials is None:
        return exact | {"pass_at_1": sum(verdict.passed for verdict in verdicts) / len(verdicts)}
    counts = [verdict.passes for verdict in verdicts]
    return exact | {f"pass_at_{k}": mean_pass_at_k(counts, trials.samples, k) for k in sorted({1, *trials.ks})}


def _by(judged: Sequence[tuple[Question, _Verdict]], trials: Trials | None) -> dict[str, Any]:
    """The shares of every value of every label."""
    groups: dict[str, dict[str, list[_Verdict]]] = defaultdict(lambda: defaultdict(list))
    for question, verdict in judged:
        for label, value in question.labels.items():
            groups[label][value].append(verdict)
    kept = {label: values for label, values in groups.items() if len(values) <= _MOST_VALUES}
    return {
        label: {value: {"questions": len(each), **_shares(each, trials)} for value, each in values.items()}
        for label, values in kept.items()
    }


def _prompt(partner: ChatPartner, question: Question) -> list[int]:
    """The token ids of a question; none where the model cannot be asked it."""
    try:
        ids = partner.prompt_ids(question.messages)
    except TemplateFailure:
        return []
    return ids if len(ids) < partner.model.config.max_position_embeddings else []


def _generate(
    partner: ChatPartner, prompts: Sequence[list[int]], settings: SamplingSettings, batch_size: int, progress: Progress
) -> Iterator[Generated]:
    """An answer to every prompt in order, an empty one without a reason to an empty prompt; they do not pile up."""
    for start in range(0, len(prompts), _TOGETHER):
        some = prompts[start : start + _TOGETHER]
        given = iter(
            generate(
                partner.model,
                [prompt for prompt in some if prompt],
                replace(settings, seed=derive_seed(settings.seed, "from", start)),
                partner.tokenizer.stop_ids,
                batch_size=batch_size,
                progress=_part(progress, start / len(prompts), len(some) / len(prompts)),
            )
        )
        yield from (next(given) if prompt else Generated([], "") for prompt in some)


def _part(progress: Progress | None, before: float, size: float) -> Progress:
    """Tells the whole work's progress from that of a part."""
    return lambda done: progress(before + size * done) if progress else None
