"""Several adapters on one base that is loaded once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.errors import CheckpointError
from engine.generation import chat as module
from engine.generation.chat import ChatPartner
from engine.model.adapters import save_adapter
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.fingerprint import fingerprint
from engine.model.hf_config import write_config
from engine.model.lora import LoraConfig, adapted, adapters, attach, detach
from engine.model.transformer import Transformer
from engine.text.tokenizer import Tokenizer
from tests.model.helpers import SHAPE, hidden_of

IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
TOKENS = torch.arange(20) * 7 % 90


class Models:
    """A base, two adapters of it, and an adapter of another base of the same shape."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self.base, self.one, self.two, self.foreign = (folder / name for name in ("base", "one", "two", "foreign"))
        self.bare = folder / "bare"
        self._tokenizer = tokenizer
        config = ModelConfig(**{**SHAPE, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 512})
        torch.manual_seed(0)
        model = Transformer(config)
        self.base.mkdir()
        save_pretrained(self.base, model, **IDS)
        tokenizer.save(self.base)
        self._save(self.one, model, 1)
        self._save(self.two, model, 2)
        self._save(self.foreign, Transformer(config), 3)
        # peft's own folders say nothing about the base: only their shapes can be told
        narrow = Transformer(ModelConfig(**{**SHAPE, "vocab_size": 90, "hidden_size": 16}))
        self._save(self.bare, narrow, 4)
        (self.bare / "base.json").unlink()

    def _save(self, folder: Path, model: Transformer, seed: int) -> None:
        folder.mkdir()
        torch.manual_seed(seed)
        attach(model, LoraConfig(4, 8.0))
        for layer in adapters(model).values():
            nn.init.normal_(layer.lora_B, std=0.2)
        write_config(folder, model.config, **IDS, dtype="float32")
        save_adapter(folder, model, str(self.base), fingerprint(model))
        self._tokenizer.save(folder)
        detach(model)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Models:
    return Models(tmp_path_factory.mktemp("models"), tokenizer)


def _logits(partner: ChatPartner) -> Tensor:
    return partner.model.logits(hidden_of(partner.model, TOKENS)).detach()


def test_adapters_are_changed_without_reading_the_base_again(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {folder: _logits(ChatPartner(folder)) for folder in (models.base, models.one, models.two)}
    assert not torch.equal(alone[models.one], alone[models.two])
    partner = ChatPartner(models.base)
    assert (partner.base, partner.adapter) == (models.base, None)

    def read(*_: object) -> None:
        raise AssertionError("the base is loaded already")

    monkeypatch.setattr(module, "load_model", read)
    monkeypatch.setattr(module, "load_pretrained", read)
    for folder in (models.one, models.two, models.one):
        partner.use(folder)
        assert partner.adapter is not None and partner.adapter.folder == folder
        assert torch.equal(_logits(partner), alone[folder])
    partner.use(None)
    assert not adapted(partner.model) and torch.equal(_logits(partner), alone[models.base])


def test_a_partner_may_begin_as_an_adapter(models: Models) -> None:
    partner = ChatPartner(models.one)
    assert partner.base == models.base
    partner.use(models.two)
    assert torch.equal(_logits(partner), _logits(ChatPartner(models.two)))


def test_another_base_s_adapter_is_refused_and_nothing_changes(models: Models) -> None:
    partner = ChatPartner(models.one)
    before = _logits(partner)
    for folder, why in ((models.foreign, "another base"), (models.bare, "another shape"), (models.base, "adapter")):
        with pytest.raises(CheckpointError, match=why):
            partner.use(folder)
        assert partner.adapter is not None and partner.adapter.folder == models.one
        assert torch.equal(_logits(partner), before)


def test_a_rounded_base_knows_its_adapters(models: Models) -> None:
    partner = ChatPartner(models.base, torch.bfloat16)
    partner.use(models.one)
    assert torch.equal(_logits(partner), _logits(ChatPartner(models.one, torch.bfloat16)))
    with pytest.raises(CheckpointError, match="another base"):
        partner.use(models.foreign)
