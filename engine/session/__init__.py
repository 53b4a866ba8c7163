"""One run from request to result: settings resolved, folder made, data encoded and audited, stage trained."""

from engine.session.assemble import model_config
from engine.session.carry import begin, carry_out, forget_if_useless, train
from engine.session.request import TrainRequest

__all__ = ["TrainRequest", "begin", "carry_out", "forget_if_useless", "model_config", "train"]
