from pathlib import Path

import pytest

from engine.errors import UserError
from engine.session import TrainRequest, train
from engine.session.planning import plan_request
from engine.settings.profile import Settings, load_profile
from minimind_tui.core import planner as module
from minimind_tui.core.forms import Draft
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.planner import Planner, full_plan, quick_plan
from minimind_tui.core.sketch import sketch


def _settings(reference: str, **changes: str) -> Settings:
    draft = Draft(load_profile(reference), reference)
    for name, text in changes.items():
        assert not draft.enter(name, text)
    settings = sketch(draft.stage, draft.asked, Lookups()).settings
    assert settings is not None
    return settings


@pytest.mark.parametrize("profile", ["cpu/pretrain", "cpu/dpo", "cpu/grpo", "minimind2/sft-104m"])
def test_it_says_what_the_command_line_says(home: Path, profile: str) -> None:
    plan = quick_plan(Planner(Lookups()).draft(_settings(profile), "rtx3050", "cpu"))
    said = plan_request(TrainRequest(profile), "rtx3050")
    assert plan is not None and (plan.peak, plan.high) == (said.peak_bytes, said.high_bytes)
    assert plan.limit == said.limit_bytes and plan.parts and plan.method == "formula"


def test_rows_that_were_encoded_are_known(home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    planner = Planner(Lookups())
    before = planner.draft(_settings("tiny/pretrain"), "", "cpu")
    assert before.facts.rows is None and "not encoded yet" in " ".join(before.notes)
    train(TrainRequest("tiny/pretrain", assignments=("max_steps=1",)))
    assert planner.draft(_settings("tiny/pretrain"), "", "cpu").facts.rows is None, "it was looked up already"
    planner.forget()
    after = planner.draft(_settings("tiny/pretrain"), "", "cpu")
    assert after.facts.rows is not None and after.facts.config.vocab_size == 300 and not after.notes
    said, plan = plan_request(TrainRequest("tiny/pretrain"), "cpu"), full_plan(after)
    assert plan is not None and plan.peak == said.peak_bytes
    assert [change.title for change in plan.changes] == [suggestion.title for suggestion in said.suggestions]


def test_typing_looks_nothing_up_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    original = module.draft_settings
    monkeypatch.setattr(module, "draft_settings", lambda *given: looked.append(given) or original(*given))
    planner = Planner(Lookups())
    peaks = []
    for size in ("4", "8", "16"):
        plan = quick_plan(planner.draft(_settings("cpu/pretrain", batch_size=size), "cuda:8GiB", "cpu"))
        assert plan is not None
        peaks.append(plan.peak)
    wider = quick_plan(planner.draft(_settings("cpu/pretrain", hidden_size="1024"), "cuda:8GiB", "cpu"))
    assert wider is not None and peaks == sorted(set(peaks)) and wider.peak > peaks[0]
    assert len(looked) == 1
    planner.draft(_settings("cpu/pretrain", max_seq_len="64"), "cuda:8GiB", "cpu")
    assert len(looked) == 2, "other rows"


def test_the_device_is_that_of_the_settings_of_this_machine_or_another(home: Path) -> None:
    planner = Planner(Lookups())
    assert planner.draft(_settings("cpu/pretrain"), "", "cpu").target.kind == "cpu"
    assert planner.draft(_settings("minimind2/sft"), "", "mps").target.kind == "mps", "auto is what torch says"
    assert planner.draft(_settings("minimind2/sft"), "rtx3090", "cpu").target.name == "rtx3090"
    with pytest.raises(UserError, match="unknown device"):
        planner.draft(_settings("cpu/pretrain"), "rtx", "cpu")
