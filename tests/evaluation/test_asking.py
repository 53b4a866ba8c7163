"""Questions asked of a tiny model, greedily and sampled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine.evaluation import asking
from engine.evaluation.asking import ask
from engine.evaluation.passes import Trials, mean_pass_at_k
from engine.evaluation.questions import Question
from engine.generation.chat import ChatPartner
from engine.generation.generate import Generated, generate
from engine.generation.sampling import GREEDY, SamplingSettings
from engine.text.messages import Message
from engine.text.tokenizer import Tokenizer
from tests.evaluation.helpers import save_model

FREE = SamplingSettings(temperature=1.0, top_p=1.0)


@pytest.fixture(scope="module")
def partner(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> ChatPartner:
    return ChatPartner(save_model(tmp_path_factory.mktemp("model"), tokenizer))


def _questions(expected: Sequence[str | None], text: str = "one plus {}?") -> list[Question]:
    return [
        Question((Message("user", text.format(row)),), each, True, {"size": "short"}, row, each or "", "exact")
        for row, each in enumerate(expected)
    ]


def _greedy(partner: ChatPartner, questions: Sequence[Question], length: int) -> list[Generated]:
    prompts = [partner.prompt_ids(question.messages) for question in questions]
    return generate(partner.model, prompts, replace(GREEDY, max_new_tokens=length), partner.tokenizer.stop_ids)


def test_questions_that_cannot_be_asked_count_as_wrong(partner: ChatPartner) -> None:
    questions = [*_questions(["never said"]), *_questions(["never said"], "who? " * 200)]
    questions[1].labels["size"] = "long"
    found = ask(partner, questions, max_new_tokens=4, answers=True)
    assert (found["questions"], found["not_asked"], found["exact_match"], found["pass_at_1"]) == (2, 1, 0, 0)
    assert found["wrong"][1]["said"] == "" and found["answers"][1]["stop_reason"] == ""
    assert found["by"]["size"]["long"] == {"questions": 1, "exact_match": 0, "pass_at_1": 0}
    assert found["mean_tokens"] == len(_greedy(partner, questions[:1], 4)[0].ids)  # only what was said has a form
    silent = ask(partner, _questions([""], "who? " * 200), max_new_tokens=4, trials=Trials(2, (), FREE))
    assert (silent["not_asked"], silent["exact_match"], silent["pass_at_1"]) == (1, 0, 0)


def test_the_form_is_that_of_the_greedy_answers(partner: ChatPartner) -> None:
    questions = _questions(["never said"] * 7)
    given = _greedy(partner, questions, 6)
    found = ask(partner, questions, max_new_tokens=6, trials=Trials(2, (1,), FREE))
    tokens = [token for answer in given for token in answer.ids]
    pairs = [pair for answer in given for pair in zip(answer.ids, answer.ids[1:], strict=False)]
    assert found["mean_tokens"] == pytest.approx(len(tokens) / 7)
    assert found["truncated_rate"] == sum(answer.stop_reason != "stop" for answer in given) / 7 > 0
    assert found["distinct_1"] == len(set(tokens)) / len(tokens)
    assert found["distinct_2"] == len(set(pairs)) / len(pairs) > found["distinct_1"]
    assert found["format_rate"] == 0 and 0 <= found["repetition_rate"] < 1


def test_pass_at_1_of_greedy_answers_is_by_the_check(partner: ChatPartner) -> None:
    said = [partner.tokenizer.decode(answer.ids) for answer in _greedy(partner, _questions(["?"] * 3), 3)]
    questions = _questions([said[0], said[1], "never said"])
    found = ask(partner, questions, max_new_tokens=3, answers=True)
    assert found["exact_match"] == found["pass_at_1"] == pytest.approx(2 / 3)
    assert [(each["right"], each["passed"]) for each in found["answers"]] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    strict = [replace(question, expected=f"{question.expected}, in words") for question in questions]
    found = ask(partner, strict, max_new_tokens=3)
    assert (found["exact_match"], found["pass_at_1"]) == (0, pytest.approx(2 / 3))


def test_pass_at_k_is_estimated_from_the_samples(partner: ChatPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = [[] for _ in range(6)]

    def passes(question: Question, said: str) -> bool:
        heard[question.row].append(said)
        return said < "m"

    monkeypatch.setattr(asking, "passes", passes)
    questions = _questions(["never said"] * 6)
    found = ask(partner, questions, max_new_tokens=4, trials=Trials(5, (2, 5), FREE))
    assert [len(set(said)) > 2 for said in heard] == [True] * 6  # a question's samples differ
    assert len({said[1] for said in heard}) > 2  # and so do those of different questions
    right = [sum(said < "m" for said in each[1:]) for each in heard]  # the first is the greedy one
    assert 0 < sum(right) < 30
    for k in (1, 2, 5):
        assert found[f"pass_at_{k}"] == pytest.approx(mean_pass_at_k(right, 5, k))
        assert found["by"]["size"]["short"][f"pass_at_{k}"] == found[f"pass_at_{k}"]
    assert (found["samples"], found["temperature"]) == (5, 1.0)


def test_how_answers_are_split_changes_nothing(partner: ChatPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [partner.tokenizer.decode(answer.ids) for answer in _greedy(partner, _questions(["?"] * 7), 3)]
    trials, questions = Trials(3, (1, 3), replace(FREE, temperature=0.5)), _questions(said)
    told: list[float] = []
    whole = ask(partner, questions, max_new_tokens=3, trials=trials, answers=True, progress=told.append)
    assert told == pytest.approx([0.25, 0.5, 0.75, 1])
    assert ask(partner, questions, max_new_tokens=3, trials=trials, answers=True, batch_size=2) == whole
    monkeypatch.setattr(asking, "_TOGETHER", 3)
    told.clear()
    greedy = ask(partner, questions, max_new_tokens=3, answers=True, progress=told.append)
    assert greedy["answers"] == whole["answers"] and greedy["exact_match"] == 1
    assert told == pytest.approx([3 / 7, 6 / 7, 1])


def test_samples_without_chance_pass_as_the_greedy_answer(partner: ChatPartner) -> None:
    said = [partner.tokenizer.decode(answer.ids) for answer in _greedy(partner, _questions(["?"] * 4), 3)]
    found = ask(
        partner,
        _questions([*said[:3], "never"]),
        max_new_tokens=3,
        trials=Trials(3, (3,), replace(FREE, temperature=0)),
    )
    assert found["pass_at_1"] == found["pass_at_3"] == found["exact_match"] == 0.75


def test_questions_without_a_known_answer_only_have_a_form(partner: ChatPartner) -> None:
    found: dict[str, Any] = ask(partner, _questions([None, None]), max_new_tokens=2, answers=True)
    assert (found["exact_match"], found["pass_at_1"], found["wrong"]) == (None, None, [])
    assert {(each["right"], each["passed"]) for each in found["answers"]} == {(None, None)}
    assert found["mean_tokens"] > 0


def test_right_answers_are_counted_where_some_are_known(partner: ChatPartner) -> None:
    found = ask(partner, _questions([None, "never said"]), max_new_tokens=2)
    assert (found["questions"], found["exact_match"], len(found["wrong"])) == (2, 0, 1)
    assert found["by"]["size"]["short"]["questions"] == 1
