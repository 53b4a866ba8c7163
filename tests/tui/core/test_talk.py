"""Real answers of tiny models, without a screen."""

import time
from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.references import checkpoint_folder
from minimind_tui.core.library import Library
from minimind_tui.core.sampling import Sampling
from minimind_tui.core.talk import ALTERNATIVES, Partners, Question, Round, Speaker, find_speaker, newest, offers
from minimind_tui.core.transcript import STOPPED, turn_of_round
from tests.tui.chat_runs import put_chat_runs

LONG = Sampling(max_new_tokens=100_000, greedy=True)
SHORT = Sampling(max_new_tokens=6, greedy=True)


def _question(reference: str, sampling: Sampling = SHORT, **values: object) -> Question:
    return Question(reference, (("user", "the cat"),), sampling, 0, **values)  # type: ignore[arg-type]


def _finish(asked: Round) -> None:
    end = time.monotonic() + 60
    while asked.alive:
        assert time.monotonic() < end
        asked.drain()
        time.sleep(0.01)
    asked.drain()


def test_who_can_be_talked_with(home: Path) -> None:
    put_chat_runs(home)
    assert {offer.reference: offer.completes for offer in offers(Library().runs())} == {
        "tiny-pretrain@newest": True, "tiny-chat@newest": False,
    }  # fmt: skip
    speaker = find_speaker("tiny-chat@newest")
    assert (speaker.name, speaker.step, speaker.completes, str(speaker)) == ("tiny-chat", 1, False, "tiny-chat step 1")
    folder = find_speaker(str(checkpoint_folder("tiny-pretrain")))
    assert (folder.name, folder.completes) == ("tiny-pretrain", True), "a run's folder is known for what it is"
    copy = home / "copy"
    copy.symlink_to(checkpoint_folder("tiny-chat"))
    assert find_speaker(str(copy)) == Speaker(str(copy), copy, "copy", None, False)
    for wrong in ("none@newest", str(home), "tiny-chat@77"):
        with pytest.raises(CheckpointError):
            find_speaker(wrong)
    assert [newest(run) for run in ("a", "a@best", "/a/b", "")] == ["a@newest", "a@best", "/a/b", ""]


def test_an_answer_is_stopped_gone_on_with_and_compared(home: Path) -> None:
    put_chat_runs(home)
    partners = Partners()
    asked = Round(partners, [_question("tiny-chat@newest", LONG), _question("tiny-pretrain@newest")])
    end = time.monotonic() + 60
    while not asked.answers[0].text and time.monotonic() < end:
        asked.drain()
    asked.stop()
    _finish(asked)
    turn = turn_of_round(asked)
    assert turn.stop_reason == STOPPED and turn.text and turn.partial and turn.pending
    assert turn.rival is not None and turn.rival.completes and turn.rival.count == 6
    assert len(turn.tokens) == turn.count and len(turn.tokens[0].choices) == ALTERNATIVES
    assert "".join(token.text for token in turn.tokens) == turn.text
    assert turn.seed is None, "greedy draws nothing"

    on = Round(partners, [_question("tiny-chat@newest", opening=turn.text, tokens=turn.tokens)])
    _finish(on)
    longer = turn_of_round(on)
    assert longer.text.startswith(turn.text) and longer.given == "" and longer.count == len(longer.tokens)
    edited = Round(partners, [_question("tiny-chat@newest", opening="an old")])
    _finish(edited)
    assert turn_of_round(edited).given == "an old"
    assert turn_of_round(edited).text.startswith("an old")


def test_a_failure_is_told_and_ends_the_round(home: Path) -> None:
    asked = Round(Partners(), [_question("nobody@newest"), _question("nobody@newest")])
    _finish(asked)
    assert isinstance(asked.error, CheckpointError) and len(asked.answers) == 1


def test_the_newest_checkpoint_is_looked_up_for_every_question(home: Path) -> None:
    put_chat_runs(home)
    before = find_speaker("tiny-chat@newest").folder
    before.rename(before.with_name("step-00000009"))
    asked = Round(Partners(), [_question("tiny-chat@newest")])
    _finish(asked)
    assert asked.error is None and asked.answers[0].speaker is not None and asked.answers[0].speaker.step == 9
