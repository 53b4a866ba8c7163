from engine.runs.events import Sampled
from minimind_tui.core.samples import SampleBook


def _said(step: int, prompt: str, text: str = "") -> Sampled:
    return Sampled(step=step, prompt=prompt, text=text or f"{prompt}{step}", stop_reason="stop")


_BOOK = SampleBook([_said(10, "a"), _said(10, "b"), _said(20, "a"), _said(20, "b"), _said(20, "a", "again"),
                    _said(30, "b")])  # fmt: skip


def test_a_step_shows_all_prompts_in_their_order_and_the_newer_answer() -> None:
    assert _BOOK.prompts == ["a", "b"] and _BOOK.steps == [10, 20, 30]
    assert [one.text for one in _BOOK.at(20)] == ["again", "b20"]
    assert [one.text for one in _BOOK.at(20, 1)] == ["b20"]
    assert _BOOK.at(30, 0) == [] and _BOOK.at(99) == []


def test_walking_through_the_steps_ends_in_following_the_newest() -> None:
    assert _BOOK.steps_of(0) == [10, 20]
    assert _BOOK.beside(None, None, -1) == 20
    assert _BOOK.beside(20, None, -1) == 10
    assert _BOOK.beside(10, None, -1) == 10
    assert _BOOK.beside(20, None, 1) is None
    assert _BOOK.beside(10, 0, 1) is None, "20 is the newest of this prompt"
    assert SampleBook().beside(None, None, -1) is None
