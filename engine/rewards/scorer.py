"""A reward model that scores answers: one of ours, or any sequence classifier that transformers can load."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from engine.errors import CheckpointError
from engine.model.attention import DocumentAttention
from engine.model.heads import ScalarModel, load_scalar_model
from engine.model.hf_config import ARCHITECTURES, read_json
from engine.rewards.model_reward import ScoreAnswers
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.shapes import Record
from engine.text.tokenizer import Tokenizer

_TOGETHER = 32
"""Answers that are scored at a time."""


def load_scorer(folder: Path, device: torch.device) -> ScoreAnswers:
    """What scores (prompt, answer) pairs with the reward model of a folder.

    Raises:
        CheckpointError: The folder holds no reward model, or one of a family that needs transformers, which is missing.
    """
    if read_json(folder / "config.json").get("model_type") in ARCHITECTURES:
        return RewardScorer(folder, device)
    return ForeignScorer(folder, device)


class RewardScorer:
    """A reward model of the families that are built here.

    Args:
        folder: A sequence classifier with its tokenizer.
        device: Where to compute.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._model: ScalarModel = load_scalar_model(folder).to(device).eval()
        self._device = device
        length = self._model.transformer.config.max_position_embeddings
        self._encoder = Encoder(Tokenizer.load(folder), EncodeSettings(length))

    @torch.no_grad()
    def __call__(self, answers: Sequence[tuple[tuple[Message, ...], str]]) -> list[float]:
        """The score of each answer, read where training reads it: at the end-of-turn token, the last trained one."""
        documents = [self._ids(prompt, text) for prompt, text in answers]
        scores: list[float] = []
        for start in range(0, len(documents), _TOGETHER):
            some = documents[start : start + _TOGETHER]
            bounds = np.cumsum([0, *map(len, some)])
            tokens = torch.tensor([token for ids in some for token in ids], device=self._device)
            positions = torch.tensor([place for ids in some for place in range(len(ids))], device=self._device)
            values = self._model(tokens, positions, DocumentAttention(bounds.tolist(), self._device))
            scores += values[torch.from_numpy(bounds[1:] - 1).to(self._device)].tolist()
        return scores

    def _ids(self, prompt: tuple[Message, ...], text: str) -> list[int]:
        row = Record(0, 0, "conversation", "minimind", messages=(*prompt, Message("assistant", text)))
        sample = self._encoder.encode_conversation(row)[-1]
        ends = [span.end for span in sample.spans if (span.role, span.kind) == ("assistant", "end")]
        ids: list[int] = sample.input_ids[: ends[-1] if ends else len(sample)].tolist()
        return ids


class ForeignScorer:
    """A sequence classifier with one label of any other family, by way of transformers.

    Args:
        folder: Its folder, with a tokenizer that has a chat template.
        device: Where to compute.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise CheckpointError(
                "this reward model is of a family that needs transformers",
                where=str(folder),
                hint="pip install transformers",
            ) from error
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = AutoModelForSequenceClassification.from_pretrained(folder).to(device).eval()
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"the reward model cannot be loaded: {error}", where=str(folder)) from error
        if self._model.config.num_labels != 1:
            raise CheckpointError(
                f"a reward model gives one number, this one gives {self._model.config.num_labels}", where=str(folder)
            )
        self._device = device

    @torch.no_grad()
    def __call__(self, answers: Sequence[tuple[tuple[Message, ...], str]]) -> list[float]:
        """The score of each answer, one at a time: no padding, so no question which token is the last."""
        scores = []
        for prompt, text in answers:
            messages = [{"role": each.role, "content": each.content} for each in prompt]
            messages.append({"role": "assistant", "content": text})
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False))
            ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt").to(self._device)
            scores.append(float(self._model(**ids).logits[0, 0]))
        return scores
