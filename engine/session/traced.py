"""A run's stage on tensors that hold nothing, and the peak of the step that it rehearses."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.errors import EngineError, UserError
from engine.memory.allocated import step_peak
from engine.memory.kernels import worked_in
from engine.memory.peak import StepPeak
from engine.memory.tracker import Tracker
from engine.model import moe
from engine.model.config import ModelConfig
from engine.model.heads import ScalarModel
from engine.model.hf_config import read_config
from engine.model.lora import LoraConfig, attach
from engine.model.transformer import Transformer
from engine.runs.control import Inbox
from engine.runs.folder import RunFolder
from engine.session.assemble import implementation
from engine.session.companions import companions
from engine.session.encoding import cache_request, encode_settings
from engine.session.shape import model_config, stretched
from engine.settings.lora import LoraSettings
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from engine.settings.rewards import RewardSettings
from engine.stages.base import M, ModelStage
from engine.stages.context import StageContext
from engine.stages.precomputed import Ask, Columns, Precomputed
from engine.text.cache import cached_samples
from engine.text.encode import Encoder
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer
from engine.training.device import Device
from engine.training.precision import Precision
from engine.training.rehearsal import rehearse


def traced_peak(described: Mapping[str, Any], run: str | None) -> StepPeak:
    """The peak of a run's largest step on a CPU; tokens are taken to be spread evenly over experts.

    Args:
        described: What `Settings.to_json` gave; `dtype` and `vocab_size` are decided.
        run: The folder of a run that was begun, which keeps its companions; None: they lie where the settings say.

    Raises:
        EngineError: Something that the shapes depend on is missing.
    """
    settings = Settings.from_json(described)
    folder = RunFolder(Path(run)) if run else _Planned(runs_folder() / ".planned", companions(settings))
    tokenizer = Tokenizer.load(folder.tokenizer if run else settings.data.tokenizer)
    encoder = Encoder(tokenizer, encode_settings(settings))
    store = _cached(settings, tokenizer) or FullRows(settings)
    device = Device(torch.device("cpu"))
    precision = Precision(settings.training.dtype, device)
    with FakeTensorMode(allow_non_fake_inputs=True), _spread_evenly():
        model = _model(settings, folder)
        context = StageContext(
            settings, model, store, encoder, device, precision, Inbox(folder.control, threading.Event(), fresh=True),
            folder, warn=lambda name, message: None, progress=lambda what, done: None,
        )  # fmt: skip
        own: Any = implementation(settings.stage)
        stage = type("Traced", (_ShapesAlone, own), {})(context)
        with Tracker(worked_in) as tracker:
            rehearse(stage, precision)
        return step_peak(stage, tracker.peak_bytes)


@dataclass(frozen=True)
class _Planned(RunFolder):
    """A run that was not begun: its companions are still where they come from."""

    sources: Mapping[str, Path] = field(default_factory=dict)

    def companion(self, name: str) -> Path:
        return self.sources.get(name, super().companion(name))


class _ShapesAlone(ModelStage):
    """What a stage reads, without the reading; it stands before the stage's own class."""

    def read_model(self, folder: Path) -> Transformer:
        return Transformer(read_config(folder))

    def read_scalar_model(self, folder: Path) -> ScalarModel:
        return ScalarModel(Transformer(replace(read_config(folder), tie_word_embeddings=True)))

    def placed(self, module: M, dtype: torch.dtype = torch.float32) -> M:
        # nn.Module.to swaps tensors, which those that hold nothing do not allow
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                if weight.dtype != dtype:
                    setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=weight.requires_grad))
        return module

    def ask_once(
        self, folder: str, model: Transformer, key: Sequence[object], columns: Columns, *, ask: Ask, what: str
    ) -> Precomputed:
        return _Unasked(self.store, columns)

    def make_guard(self) -> None:
        return None

    def make_judge(self) -> SimpleNamespace:
        asked = "model" in self.settings.part(RewardSettings).rewards
        folder = self.context.run.companion("reward_model")
        return SimpleNamespace(companions=[self.read_scalar_model(folder)] if asked else [])


class _Unasked(Precomputed):
    """Zeros in the place of answers."""

    def __init__(self, store: SampleStore, columns: Columns) -> None:
        self._ends = np.concatenate([[0], np.cumsum(store.columns["trained"], dtype=np.int64)])
        whole = int(self._ends[-1])
        self._arrays = [np.broadcast_to(np.zeros(1, kind), (whole, *shape)) for kind, shape in columns.values()]


class FullRows(SampleStore):
    """As many rows as an optimizer step takes, each as long as it may be, with every token trained.

    Args:
        settings: Of the run whose data were not encoded yet.
    """

    def __init__(self, settings: Settings) -> None:
        training, data, asks = settings.training, settings.data, settings.stage.train_on == "prompt"
        together = 2 if settings.stage.reads == ("pair",) else 1
        rows = np.repeat(np.arange(training.batch_size * training.accumulation_steps), together)
        self.lengths = np.full(len(rows), data.max_seq_len)
        self.columns = {
            "lengths": self.lengths, "rows": rows, "keys": np.ones(len(rows)),
            "trained": np.full(len(rows), 0 if asks else data.max_seq_len - 1),
        }  # fmt: skip
        self._ids = np.arange(data.max_seq_len) % (settings.model.vocab_size or 1)
        self._first = data.max_seq_len if asks else 1

    def ids(self, index: int) -> NDArray[np.int64]:
        """Ids that there are."""
        return self._ids

    def weights(self, index: int) -> NDArray[np.float32]:
        """1 but for the first token; a prompt has none."""
        return (np.arange(len(self._ids)) >= self._first).astype(np.float32)


def _cached(settings: Settings, tokenizer: Tokenizer) -> SampleStore | None:
    """The run's samples where its data have been encoded before."""
    try:
        return cached_samples(cache_request(settings), tokenizer)
    except EngineError:  # no such file
        return None


def _model(settings: Settings, run: RunFolder) -> Transformer:
    """The model that `engine.session.assemble.build_model` would build."""
    training, lora = settings.training, settings.part(LoraSettings)
    model = Transformer(_config(settings, run))
    if lora.lora_rank:
        attach(model, LoraConfig(lora.lora_rank, lora.lora_alpha, lora.lora_dropout, tuple(lora.lora_targets)))
    model.gradient_checkpointing = training.gradient_checkpointing
    return model


def _config(settings: Settings, run: RunFolder) -> ModelConfig:
    shape, kept, start = settings.model, run.companion("start"), settings.data.start_from
    if not start:
        if shape.vocab_size is None:
            raise UserError("the size of the vocabulary is not known", where="vocab_size")
        return model_config(shape, shape.vocab_size)
    config = read_config(kept if kept.is_dir() else start)
    return replace(
        config,
        dropout=shape.dropout,
        rope_scaling=config.rope_scaling or stretched(shape),
        router_aux_loss_coef=shape.router_aux_loss_coef if config.num_experts else 0.0,
    )


@contextmanager
def _spread_evenly() -> Iterator[None]:
    """Each expert gets its share of the tokens: a tensor that holds nothing does not say where they go."""

    def shares(chosen: Tensor, experts: int) -> list[int]:
        share, left = divmod(chosen.numel(), experts)
        return [share + (expert < left) for expert in range(experts)]

    counted, moe.tokens_by_expert = moe.tokens_by_expert, shares
    try:
        yield
    finally:
        moe.tokens_by_expert = counted
