"""One run from request to result: settings resolved, folder made, data encoded and audited, stage trained.

A request can be made and checked without torch; it is loaded with the first of the other names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.session.request import TrainRequest, check_request
from engine.session.shape import model_config

if TYPE_CHECKING:
    from engine.session.carry import begin, carry_out, forget_if_useless, train

__all__ = ["TrainRequest", "begin", "carry_out", "check_request", "forget_if_useless", "model_config", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("engine.session.carry"), name)
