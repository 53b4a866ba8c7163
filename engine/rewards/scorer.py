"""A reward model that scores answers: one of ours, or any sequence classifier that transformers can load."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jinja2 import TemplateError
from numpy.typing import NDArray

from engine.clean import clean
from engine.errors import CheckpointError
from engine.model.attention import DocumentAttention
from engine.model.heads import ScalarModel, load_scalar_model, scores_end_of_turn
from engine.model.hf_config import ARCHITECTURES, read_json
from engine.text.batching import Batch
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.sample import Sample
from engine.text.shapes import Record
from engine.text.template import TemplateFailure
from engine.text.tokenizer import Tokenizer

_TOGETHER = 32
"""Answers that are scored at a time."""


def load_scorer(folder: Path, device: torch.device) -> "RewardScorer | ForeignScorer":
    """What scores (prompt, answer) pairs with the reward model of a folder.

    Raises:
        CheckpointError: The folder holds no reward model, or one of a family that needs transformers, which is missing.
    """
    if read_json(folder / "config.json").get("model_type") in ARCHITECTURES:
        return RewardScorer(folder, device)
    return ForeignScorer(folder, device)


class RewardScorer:
    """A reward model of the families that are built here.

    The score of one that was made here is read where training reads it: at the last trained token, the end of the turn.
    Any other is read at the last token of what its template renders, as transformers does.

    Args:
        folder: A sequence classifier with one label, with its tokenizer.
        device: Where to compute.

    Attributes:
        tokenizer: Its own.
        max_length: The most tokens that it reads.

    Raises:
        CheckpointError: The folder cannot be read or holds another model.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.tokenizer = Tokenizer.load(folder)
        self._model: ScalarModel = load_scalar_model(folder).to(device).eval()
        self._device, self._at_end_of_turn = device, scores_end_of_turn(folder)
        self.max_length = self._model.transformer.config.max_position_embeddings
        self._encoder = Encoder(self.tokenizer, EncodeSettings(self.max_length))

    def __call__(self, answers: Sequence[tuple[tuple[Message, ...], str]]) -> list[float]:
        """The score of each answer to a prompt."""
        samples = [self._sample(prompt, text) for prompt, text in answers]
        some = (samples[start : start + _TOGETHER] for start in range(0, len(samples), _TOGETHER))
        return [score for found in self.scores(map(_batch, some)) for score in found.tolist()]

    @torch.no_grad()
    def scores(self, batches: Iterable[Batch]) -> Iterator[NDArray[np.float64]]:
        """The score of each document, shape (documents,) a batch.

        Documents must be made with the model's own tokenizer and template, have a trained token and be no longer than
        `max_length`.
        """
        for batch in batches:
            bounds = batch.cu_seqlens
            positions = np.arange(len(batch.input_ids)) - np.repeat(bounds[:-1], np.diff(bounds))
            tokens, places = (torch.from_numpy(ids).to(self._device) for ids in (batch.input_ids, positions))
            values = self._model(tokens, places, DocumentAttention(bounds.tolist(), self._device))
            read = batch.last_trained() if self._at_end_of_turn else bounds[1:] - 1
            yield values.cpu().double().numpy()[read]

    def _sample(self, prompt: tuple[Message, ...], text: str) -> Sample:
        row = Record(0, 0, "conversation", "minimind", messages=(*prompt, Message("assistant", text)))
        sample = self._encoder.encode_answer(row)
        if not sample.trained:  # nothing said, and a template without an end-of-turn token
            sample.loss_weights[-1] = 1
        return sample


def _batch(samples: Sequence[Sample]) -> Batch:
    bounds = np.cumsum([0, *map(len, samples)])
    return Batch(
        np.concatenate([sample.input_ids for sample in samples]).astype(np.int64),
        np.concatenate([sample.loss_weights for sample in samples]),
        bounds,
        rows=np.zeros(len(samples), dtype=np.int64),
        samples=np.arange(len(samples)),
        slots=int(bounds[-1]),
    )


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
            model, loaded = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"the reward model cannot be loaded: {error}", where=str(folder)) from error
        if loaded["missing_keys"]:  # transformers draws what is not there
            raise CheckpointError(
                f"this is no sequence classifier: it has no {min(loaded['missing_keys'])}", where=str(folder),
                hint="take a reward model, or train one: engine train … with the stage reward",
            )  # fmt: skip
        self._model = model.to(device).eval()
        if self._model.config.num_labels != 1:
            raise CheckpointError(
                f"a reward model gives one number, this one gives {self._model.config.num_labels}", where=str(folder)
            )
        self._device = device

    def __call__(self, answers: Sequence[tuple[tuple[Message, ...], str]]) -> list[float]:
        """The score of each answer to a prompt."""
        return [self.score((*prompt, Message("assistant", text))) for prompt, text in answers]

    @torch.no_grad()
    def score(self, messages: Sequence[Message]) -> float:
        """The score of a conversation's last answer, alone: no padding, so no question which token is the last.

        Raises:
            TemplateFailure: The template refuses the conversation.
        """
        try:
            text = str(self._tokenizer.apply_chat_template([each.as_dict() for each in messages], tokenize=False))
        except TemplateError as error:
            raise TemplateFailure(clean(str(error), newlines=False)) from error
        ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt").to(self._device)
        return float(self._model(**ids).logits[0, 0])
