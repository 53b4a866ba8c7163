"""Loss normalisation under gradient accumulation: divided by the trained tokens of the whole optimizer step."""

from typing import Any

import pytest
import torch

from engine.session import carry_out
from engine.training.update import Updater
from tests.training.tiny import OF_STAGE, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the loop has gathered when each optimizer step is about to be made, as one vector a step."""
    gathered: list[torch.Tensor] = []
    make = Updater.__init__

    def watched(self: Updater, *args: Any) -> None:
        make(self, *args)

        def keep(*_: Any) -> None:
            found = [parameter.grad for _, parameter in self.named]
            gathered.append(torch.cat([gradient.flatten().double() for gradient in found if gradient is not None]))

        self.optimizer.register_step_pre_hook(keep)

    monkeypatch.setattr(Updater, "__init__", watched)
    return gathered


_SUPERVISED = [("sft", {"packing": False}), ("pretrain", {"packing": True}), ("mid-train", {"packing": False}),
               ("sft", {"packing": True, "num_experts": 4, "num_experts_per_tok": 2})]  # fmt: skip
_SINGLE_PASS = {"grpo": {"updates_per_rollout": 1}, "ppo": {"ppo_epochs": 1, "mini_batches": 1}, "spo": {"epochs": 2}}
_OTHERS = [(stage, _SINGLE_PASS.get(stage, {})) for stage in OF_STAGE]
_OTHERS += [("dpo", {"loss_type": "sigmoid_norm", "sft_weight": 0.3}), ("grpo", {"loss_type": "grpo"}),
            ("grpo", {"loss_type": "dr_grpo", "kl_coefficient": 0.1})]  # fmt: skip


@pytest.mark.parametrize(("stage", "settings"), [*_SUPERVISED, *_OTHERS])
def test_micro_batches_do_not_matter(
    world: World, gradients: list[torch.Tensor], stage: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of an epoch, the last and partial one included; clipping off, the weights frozen in place."""
    world.start()
    by_split: dict[tuple[int, int], list[torch.Tensor]] = {}
    for rows, passes in ((8, 1), (4, 2), (2, 4), (1, 8)):
        gradients.clear()
        changes = {"batch_size": rows, "accumulation_steps": passes, "grad_clip": 0, "max_steps": 0, **settings}
        # so small a rate leaves the weights equal to the last bit: the gradients of all steps can be compared
        carry_out(world.begun(stage, f"{stage}-{rows}x{passes}", learning_rate=1e-30, weight_decay=0.0, **changes))
        by_split[rows, passes] = list(gradients)
    whole = by_split.pop((8, 1))
    assert len(whole) > 1
    for split in by_split.values():
        assert len(split) == len(whole)
        for mine, its in zip(split, whole, strict=True):
            assert torch.linalg.vector_norm(mine - its) <= 1e-6 * torch.linalg.vector_norm(its)


def test_the_last_window_is_smaller_and_ragged(world: World) -> None:
    """Otherwise the test above would show little."""
    from engine.text.batching import Sampler, split_rows
    from engine.text.store import SampleStore

    run = world.trained("sft", "shape", batch_size=1, accumulation_steps=8, packing=False, max_steps=1)
    from engine.session.assemble import load_data
    from engine.settings.profile import Settings
    from engine.text.tokenizer import Tokenizer

    settings = Settings.from_json(run.read_json(run.resolved))
    store: SampleStore = load_data(run, settings, Tokenizer.load(run.tokenizer), lambda _: None)
    train, _ = split_rows(store.columns["keys"], settings.data.val_fraction)
    sampler = Sampler(
        store, train, batch_size=1, accumulation_steps=8, max_seq_len=48, packing=False, seed=settings.training.seed
    )
    last = sampler.step(sampler.steps_per_epoch - 1)
    assert len(last) < 8
    assert len({float(batch.loss_weights.sum()) for batch in last}) > 1
