"""Which change a run makes by itself, and which it may make."""

from typing import Any

import pytest

from engine.errors import DoesNotFit, OutOfMemory, UserError
from engine.memory.suggest import ORIGIN
from engine.runs.events import Adjusted
from engine.runs.folder import RunFolder
from engine.session.adjust import apply_suggestion, offer
from engine.session.fitting import adjust_to_fit, fitting_request
from engine.session.request import TrainRequest
from engine.settings.profile import Settings
from tests.training.tiny import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def suggested(*, fits: bool = True, **changes: Any) -> dict[str, Any]:
    return {"title": " ".join(f"{name}={value}" for name, value in changes.items()), "changes": changes, "fits": fits}


SHORTER = suggested(max_seq_len=24)
ADAPTER = suggested(lora_rank=8)
SMALLER = suggested(batch_size=2, accumulation_steps=4)
CHECKPOINTING = suggested(fits=False, gradient_checkpointing=True)


def settings_of(run: RunFolder) -> Settings:
    return Settings.from_json(run.read_json(run.resolved))


def ran_out(run: RunFolder, *suggestions: dict[str, Any]) -> OutOfMemory:
    return OutOfMemory("no memory left", plan={"suggestions": list(suggestions)}, run=run.name)


@pytest.mark.parametrize(
    ("suggestions", "chosen"),
    [
        ([CHECKPOINTING, SHORTER, SMALLER], ("max_seq_len=24",)),
        ([SMALLER, SHORTER], ("batch_size=2", "accumulation_steps=4")),
        ([CHECKPOINTING], ("gradient_checkpointing=true",)),
    ],
    ids=["the first that fits", "all of its settings", "what helps, where none fits"],
)
def test_a_new_run_takes_the_first_change_that_fits(suggestions: list[Any], chosen: tuple[str, ...]) -> None:
    asked = TrainRequest("cpu/sft", assignments=("batch_size=8",), fitted=("dtype=bfloat16",))
    found = fitting_request(asked, DoesNotFit("too large", plan={"suggestions": suggestions}))
    assert found is not None and found.fitted == ("dtype=bfloat16", *chosen) and found.assignments == asked.assignments


def test_where_nothing_helps_nothing_is_tried(world: World) -> None:
    assert fitting_request(TrainRequest("cpu/sft"), DoesNotFit("too large")) is None
    run = world.begun("pretrain", "hopeless")
    before = run.resolved.read_bytes()
    assert not adjust_to_fit(ran_out(run)) and run.resolved.read_bytes() == before


def test_a_run_that_has_learnt_takes_only_what_it_can_go_on_with(world: World) -> None:
    begun = world.begun("pretrain", "begun")
    assert adjust_to_fit(ran_out(begun, SHORTER, SMALLER)) and settings_of(begun).data.max_seq_len == 24
    learnt = world.trained("pretrain", "learnt", max_steps=1)
    assert adjust_to_fit(ran_out(learnt, ADAPTER, SHORTER, CHECKPOINTING, SMALLER))
    settings = settings_of(learnt)
    assert (settings.training.batch_size, settings.training.accumulation_steps) == (2, 4)
    assert settings.data.max_seq_len == 48 and settings.origins["batch_size"] == ORIGIN
    [said] = [event for event in learnt.history() if isinstance(event, Adjusted)]
    assert (said.step, said.changes, said.reason) == (1, SMALLER["changes"], ORIGIN)
    assert not adjust_to_fit(ran_out(learnt, ADAPTER, SHORTER))


def test_a_suggestion_by_number(world: World) -> None:
    run = world.trained("pretrain", "chosen", max_steps=1)
    with pytest.raises(UserError, match="has no suggestion 1: nothing is offered"):
        apply_suggestion(run, 1)
    offer(run, [SHORTER, SMALLER])
    with pytest.raises(UserError, match="has no suggestion 3: there are 2"):
        apply_suggestion(run, 3)
    before = run.resolved.read_bytes()
    with pytest.raises(UserError, match="cannot go on with max_seq_len=24") as caught:
        apply_suggestion(run, 1)
    assert "--from this one" in caught.value.hint and run.resolved.read_bytes() == before
    assert apply_suggestion(run, 2) == SMALLER["changes"]
    assert settings_of(run).training.batch_size == 2
