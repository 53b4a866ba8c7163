"""Plans of runs that are never made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.memory.plan import MemoryPlan
from engine.memory.planning import Margin, make_plan
from engine.memory.steps import Facts, Rows
from engine.session.shape import model_config
from engine.settings.profile import Settings, load_profile, resolve

MIB = 1 << 20
BARE = Margin(program=0, least=0, fast=1.0, tight=1.0, checkpointing=0)
"""As if a process held nothing but what is allocated."""
SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 256, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 500, "max_position_embeddings": 1024, "dtype": "float32"}  # fmt: skip


def settings_of(stage: str, **changes: Any) -> Settings:
    """A small model's, of the profile for CPUs."""
    start = {} if stage == "pretrain" else {"from": "start"}
    return resolve(load_profile(f"cpu/{stage}"), {**SMALL, **start, **changes})


def rows_of(lengths: Sequence[int], trained: float = 1.0) -> Rows:
    """Rows of these lengths, a share of whose tokens is trained."""
    array = np.array(lengths, dtype=np.int64)
    return Rows(array, (array * trained).astype(np.int64))


def facts_of(settings: Settings, rows: Rows | None = None) -> Facts:
    """What is known of the model, and of its rows."""
    return Facts(model_config(settings.model, settings.model.vocab_size or 0), "cpu", True, {}, rows)


def plan_of(
    settings: Settings, limit: float, rows: Rows | None = None, margin: Margin = BARE, **how: Any
) -> MemoryPlan:
    """A plan under a limit of so many MiB."""
    facts = facts_of(settings, rows)
    return make_plan(settings, facts, device="cpu", limit_bytes=int(limit * MIB), margin=margin, **how)
