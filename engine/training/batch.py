"""From a flat batch of numbers to tensors that the model takes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.model.attention import DocumentAttention
from engine.text.batching import Batch


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on its device.

    Attributes:
        tokens: int64 (tokens,).
        positions: int64 (tokens,), from 0 in each document.
        attention: Isolates the documents.
        sources: Positions whose next token is trained, int64 (trained,).
        targets: Those next tokens, int64 (trained,).
        weights: Their weights, float32 (trained,).
        documents: The document that each of them belongs to, int64 (trained,).
        bounds: Document boundaries, int64 (documents + 1,).
    """

    tokens: Tensor
    positions: Tensor
    attention: DocumentAttention
    sources: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor
    bounds: Tensor


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Moves a batch; only positions that are trained keep a target."""
    bounds = batch.cu_seqlens
    lengths = np.diff(bounds)
    positions = np.arange(len(batch.input_ids)) - np.repeat(bounds[:-1], lengths)
    trained = np.flatnonzero(batch.loss_weights)
    return DeviceBatch(
        tokens=torch.from_numpy(batch.input_ids).to(device),
        positions=torch.from_numpy(positions).to(device),
        attention=DocumentAttention(bounds.tolist(), device),
        sources=torch.from_numpy(trained - 1).to(device),
        targets=torch.from_numpy(batch.input_ids[trained]).to(device),
        weights=torch.from_numpy(batch.loss_weights[trained]).to(device),
        documents=torch.from_numpy(np.searchsorted(bounds, trained, side="right") - 1).to(device),
        bounds=torch.from_numpy(bounds).to(device),
    )
