"""What a stage is given when a run of it begins."""

from dataclasses import dataclass

from engine.model.transformer import Transformer
from engine.runs.control import Inbox
from engine.settings.profile import Settings
from engine.text.encode import Encoder
from engine.text.store import SampleStore
from engine.training.device import Device
from engine.training.precision import Precision


@dataclass(frozen=True)
class StageContext:
    """Settings, model and data of a run, and the inbox that long work asks whether it may go on."""

    settings: Settings
    model: Transformer
    store: SampleStore
    encoder: Encoder
    device: Device
    precision: Precision
    inbox: Inbox
