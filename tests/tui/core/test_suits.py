"""What a file can be used for comes from the registry."""

import dataclasses

import pytest

from engine.settings.registry import STAGES
from minimind_tui.core import suits as module
from minimind_tui.core.suits import stages_for, suits


def test_the_most_particular_stage_stands_first() -> None:
    stages = [stage.name for stage in stages_for("conversation")]
    assert stages[0] == "sft" and stages[-1] == "tokenizer" and stages.index("reason") < stages.index("mid-train")
    assert [stage.name for stage in stages_for("text", samples=True)] == ["pretrain", "mid-train", "distill"]


def test_a_stage_that_comes_later_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [stage.name for stage in stages_for("pair")] == ["dpo", "reward"]
    later = dataclasses.replace(STAGES["sft"], name="prefer", title="Prefer", reads=("pair",))
    monkeypatch.setattr(module, "STAGES", {**STAGES, "prefer": later})
    assert [stage.name for stage in stages_for("pair")] == ["dpo", "reward", "prefer"]


def test_the_amount_in_words() -> None:
    found = suits("prompt", {"prompt": 2000, "text": 1}, answers=1999, tokens=43_210, more=True)
    assert found.amount == "2,000+ prompts · 1+ text · 1,999 checkable · 43.2k tokens"
    assert suits("table", {"table": 1}).use.startswith("nothing yet")
