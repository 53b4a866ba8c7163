"""From a request to a run, and what makes a run impossible, inexact or damaged."""

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import CheckpointError, EngineError, Interrupted, OutOfMemory, UserError
from engine.runs.control import send
from engine.runs.events import ControlAcknowledged, Evaluated, Event, Finished, Progress, Resumed, Step, Warned
from engine.runs.folder import RunFolder, find_run, list_runs
from engine.session import TrainRequest, begin, carry, carry_out, check_request, decide, train
from engine.session.assemble import compile_model
from engine.stages.supervised import Supervised
from engine.training.device import Device
from tests.model.helpers import tiny
from tests.training.tiny import World, request, same_bits, tensors, told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def _resolved(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = run.read_json(run.resolved)["settings"]
    return found


def _warnings(run: RunFolder) -> list[str]:
    return [event.name for event in run.history() if isinstance(event, Warned)]


def test_a_run_explains_itself(world: World) -> None:
    run = world.begun("sft", num_threads=0, dtype="auto")
    settings = _resolved(run)
    assert settings["vocab_size"]["value"] == 320 and "tokenizer" in settings["vocab_size"]["origin"]
    assert settings["num_threads"]["value"] > 0 and settings["num_threads"]["origin"] == "adjusted: all cores"
    assert settings["dtype"]["value"] == "float32"
    assert settings["learning_rate"]["origin"] == "profile sft"
    environment = run.read_json(run.environment)
    assert environment["torch"] == torch.__version__ and environment["threads"] == settings["num_threads"]["value"]
    assert run.profile.read_text().startswith('stage = "sft"')
    assert sorted(path.name for path in run.tokenizer.iterdir()) == sorted(
        path.name for path in world.tokenizer.iterdir() if path.suffix in (".json", ".jinja")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 300}, "the tokenizer has 320"),
        ({"max_seq_len": 512}, "max_position_embeddings"),
        ({"device": "cuda:77"}, "cannot be used"),
        ({"num_key_value_heads": 3}, "not a multiple"),
    ],
)
def test_the_impossible_is_refused_before_there_is_a_folder(
    world: World, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        world.begun("sft", **changes)
    assert list_runs() == []


def test_a_request_is_checked_without_torch(world: World) -> None:
    """In a process of its own: what is wrong is said as it is when the run begins, and torch stays out."""
    good = request("sft", world.talks, world.tokenizer)
    script = f"""
import sys
from engine.errors import EngineError
from engine.session import TrainRequest, check_request
print(check_request({good!r}).model.vocab_size)
try:
    check_request(TrainRequest("there-is-none"))
except EngineError as error:
    print(error.what)
print("torch" in sys.modules)
import engine.session
print(engine.session.begin.__name__, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["320", "there is no profile 'there-is-none'", "False", "begin True"], (
        done.stderr
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "no-such"}, "there is no profile"),
        ({"data": "missing.jsonl"}, "does not exist"),
        ({"data": "starter:no.jsonl"}, "has no file"),
        ({"tokenizer": "."}, "no tokenizer.json"),
        ({"start_from": "nobody"}, "there is no run"),
        ({"assignments": ("max_seq_len=512",)}, "max_position_embeddings"),
        ({"assignments": ("vocab_size=300",)}, "the tokenizer has 320"),
        ({"assignments": ("batch_size=0",)}, "batch_size = 0"),
        ({"assignments": ("batch_sise=1",)}, "unknown setting"),
        ({"name": "a/b"}, "no run name"),
        ({"name": "taken"}, "exists already"),
    ],
)
def test_a_check_refuses_what_the_run_would_refuse(world: World, changes: dict[str, Any], message: str) -> None:
    world.begun("sft", "taken")
    good = request("sft", world.talks, world.tokenizer)
    for work in (check_request, begin):
        with pytest.raises(UserError, match=message):
            work(TrainRequest(**{**vars(good), **changes}))
    assert [run.name for run in list_runs()] == ["taken"]


def test_a_check_knows_what_a_checkpoint_brings(world: World) -> None:
    first = world.trained("pretrain", "first", max_steps=1)
    asked = request("sft", world.talks, world.tokenizer, "second", start_from="first")
    values = check_request(asked).values()
    assert values["from"] == values["tokenizer"] == str(first.select("newest"))
    check_request(TrainRequest(**{**vars(asked), "name": "first", "overwrite": True}))


def test_a_run_that_would_train_on_nothing_leaves_no_folder(world: World, tmp_path: Path) -> None:
    data = tmp_path / "useless.jsonl"
    data.write_text('{"conversations": [{"role": "user", "content": "hello?"}]}\n' * 3)
    with pytest.raises(UserError):
        train(request("sft", data, world.tokenizer))
    assert list_runs() == []


def test_a_disk_that_is_too_small_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="of disk"):
        train(request("sft", world.talks, world.tokenizer))
    assert list_runs() == []


def test_a_start_checkpoint_brings_its_shape_and_its_tokenizer(world: World, tmp_path: Path) -> None:
    world.trained("pretrain", "first", max_steps=1)
    run = begin(request("sft", world.talks, world.tokenizer, "second", start_from="first"))
    assert _resolved(run)["hidden_size"] == {"value": 16, "origin": "inherited first", "section": "model"}
    with pytest.raises(UserError, match="contradicts the checkpoint"):
        begin(request("sft", world.talks, world.tokenizer, "third", start_from="first", hidden_size=32))
    stretched = begin(
        request("sft", world.talks, world.tokenizer, "long", start_from="first", rope_scaling_factor=4.0, max_steps=1)
    )
    carry_out(stretched)
    config = json.loads((stretched.select("newest") / "config.json").read_text())
    assert config["rope_scaling"]["factor"] == 4.0


def test_a_run_is_not_replaced_by_one_that_starts_from_it(world: World) -> None:
    first = world.trained("pretrain", "first", max_steps=1)
    again = request("sft", world.talks, world.tokenizer, "first", start_from="first")
    with pytest.raises(UserError, match="lies in it"):
        begin(type(again)(**{**vars(again), "overwrite": True}))
    assert first.checkpoint_steps() == [1]


def test_resume_is_refused_where_it_would_be_inexact(world: World) -> None:
    run = world.trained("sft")
    before = run.events.read_bytes()
    environment = run.read_json(run.environment)
    for key, value in (("torch", "1.0"), ("threads", 7), ("device", "cuda:0"), ("cpu_capability", "NO AVX")):
        run.environment.write_text(json.dumps({**environment, key: value}))
        with pytest.raises(CheckpointError, match=rf"bit for bit: {key}: {value} then(.|\n)*--allow-inexact"):
            carry_out(run, resume=True)
    assert run.events.read_bytes() == before and run.state() == "done"  # refused: the run is as it was
    carry_out(run, resume=True, allow_inexact=True)
    assert "inexact_resume" in _warnings(run)


def test_changed_data_and_tokenizers_are_refused(world: World, tmp_path: Path) -> None:
    data = tmp_path / "talks.jsonl"
    data.write_bytes(world.talks.read_bytes())
    run = begin(request("sft", data, world.tokenizer))
    carry_out(run)
    with data.open("a") as file:
        file.write("\n")
    for allow in (False, True):
        with pytest.raises(CheckpointError, match="data file has changed"):
            carry_out(run, resume=True, allow_inexact=allow)
    data.write_bytes(world.talks.read_bytes())
    tokenizer = json.loads((run.tokenizer / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (run.tokenizer / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="tokenizer has changed"):
        carry_out(run, resume=True)
    data.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        carry_out(run, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_older_one_taken(world: World) -> None:
    settings: dict[str, Any] = {"max_steps": 9, "save_interval": 3, "keep_checkpoints": 2, "dropout": 0.1}
    whole = world.trained("sft", "whole", **settings)
    run, interrupt = world.begun("sft", "damaged", **settings), threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            interrupt.set()

    with pytest.raises(Interrupted):
        carry_out(run, interrupt=interrupt, listener=watch)
    assert run.checkpoint_steps() == [6, 7]
    path = run.checkpoint(7) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    carry_out(run, resume=True)
    [warned] = [event for event in run.history() if isinstance(event, Warned)]
    assert warned.name == "damaged_checkpoint" and "step 7: model.safetensors" in warned.message
    assert "going back to step 6" in warned.message
    assert same_bits(tensors(run), tensors(whole))
    assert list(told(run.history())) == list(told(whole.history()))
    assert (run.checkpoints / "damaged-step-00000007").is_dir()


def test_two_writers_are_refused(world: World) -> None:
    run = world.begun("sft")
    with run.lock(), pytest.raises(UserError, match="being run already"):
        carry_out(run)
    assert not run.events.exists()


def test_what_a_kill_left_behind_is_swept(world: World) -> None:
    run = world.begun("sft", max_steps=1)
    (run.checkpoints / ".saving-step-00000001").mkdir()
    carry_out(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000001"]


def test_a_command_during_the_encoding_is_heard(world: World) -> None:
    run = world.begun("sft")

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 0:
            send(run, "stop")

    assert carry_out(run, listener=listen)["steps"] == 0
    assert [e.command for e in run.history() if isinstance(e, ControlAcknowledged)] == ["stop"]


def test_an_interrupt_in_an_evaluation_does_not_lose_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"max_steps": 6, "eval_interval": 3}
    whole = world.trained("sft", "whole", **settings)
    run, interrupt = world.begun("sft", "cut", **settings), threading.Event()
    real = Supervised.evaluate

    def evaluate(self: Supervised) -> Any:
        interrupt.set()
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "evaluate", evaluate)
        with pytest.raises(Interrupted):
            carry_out(run, interrupt=interrupt)
    assert run.checkpoint_steps() == [3] and not any(isinstance(event, Evaluated) for event in run.history())
    carry_out(run, resume=True)
    assert list(told(run.history())) == list(told(whole.history()))
    assert same_bits(tensors(run), tensors(whole))


def test_a_finished_run_stays_finished(world: World) -> None:
    run = world.trained("sft")
    before, said = tensors(run), list(told(run.history()))
    summary = carry_out(run, resume=True)
    assert summary["status"] == "done" and summary["train_loss"] is not None and summary["tokens_per_second"] > 0
    assert same_bits(tensors(run), before) and list(told(run.history())) == said
    assert run.state() == "done" and sum(isinstance(event, Resumed) for event in run.history()) == 1


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 10, 48 << 10))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_file_that_cannot_grow_keeps_the_old_checkpoint(world: World) -> None:
    """The optimizer's file is the first that does not fit; the process ends with 1 and says what to do."""
    run, interrupt = world.begun("sft", max_steps=20), threading.Event()
    interrupt.set()
    with pytest.raises(Interrupted):
        carry_out(run, interrupt=interrupt)
    kept = {path.name: path.read_bytes() for path in run.checkpoint(0).iterdir()}
    command = [sys.executable, "-m", "engine", "resume", str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=_limited, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr and "engine resume sft" in done.stderr and "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in run.checkpoint(0).iterdir()} == kept
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000000"]
    last = run.history()[-1]
    assert isinstance(last, Finished) and (last.status, last.exit_code) == ("failed", 1)
    carry_out(run, resume=True)
    assert run.state() == "done"


def test_a_full_disk_under_the_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.begun("sft")
    real = carry.Reporter.__call__

    def full(self: Any, event: Event) -> None:
        if isinstance(event, Step | Finished):
            raise OSError(28, "No space left on device")
        real(self, event)

    monkeypatch.setattr(carry.Reporter, "__call__", full)
    with pytest.raises(EngineError, match="the disk is full") as caught:
        carry_out(run)
    assert caught.value.exit_code == 1 and not run.is_running()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 3),
        (torch.OutOfMemoryError("CUDA out of memory."), 3),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), 3),
        (RuntimeError("something else"), 1),
    ],
)
def test_failures_are_explained(world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Supervised, "loss", fail)
    run = world.begun("sft")
    with pytest.raises(EngineError) as caught:
        carry_out(run)
    assert caught.value.exit_code == code == run.history()[-1].exit_code  # type: ignore[attr-defined]
    assert isinstance(caught.value, OutOfMemory) == (code == 3)
    assert run.state() == "failed" and "Traceback" in run.log.read_text()


def test_what_was_asked_for_and_cannot_be_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: False)
    monkeypatch.setattr(decide, "can_compile", lambda device: False)
    run = world.begun("sft", dtype="bfloat16", compile=True, max_steps=1)
    settings = _resolved(run)
    assert settings["dtype"]["value"] == "float32" and "bfloat16 was asked for" in settings["dtype"]["origin"]
    assert settings["compile"]["value"] is False and "no compiler" in settings["compile"]["origin"]
    assert run.read_json(run.resolved)["unmet"] == ["dtype", "compile"]
    carry_out(run)
    assert _warnings(run) == ["dtype_adjusted", "compile_adjusted"]
    contented = world.begun("sft", "contented", dtype="auto", max_steps=1)
    assert contented.read_json(contented.resolved)["unmet"] == []
    assert find_run("sft").read_json(run.environment)["compile"] is False


def test_a_compiled_model_keeps_its_names() -> None:
    """Compilation itself is not waited for here: it happens at the first call."""
    model = tiny()
    names = list(model.state_dict())
    compile_model(model)
    assert list(model.state_dict()) == names
