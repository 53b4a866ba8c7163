"""What a stage is given when a run of it begins."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.model.transformer import Transformer
from engine.runs.control import Inbox
from engine.runs.folder import RunFolder
from engine.settings.profile import Settings
from engine.text.encode import Encoder
from engine.text.store import SampleStore
from engine.training.device import Device
from engine.training.precision import Precision


@dataclass(frozen=True)
class StageContext:
    """Settings, model and data of a run, and its ways in and out.

    Attributes:
        settings: All of them, checked.
        model: What is trained.
        store: The samples of the data.
        encoder: What made them.
        device: Where to compute.
        precision: How.
        inbox: Asked by long work whether it may go on.
        run: The run's folder: what the run keeps of other models, and what it writes beside its events.
        warn: Takes the stable name of a warning and what it says.
        progress: Takes what goes on before the first step, and which share of it is done.
    """

    settings: Settings
    model: Transformer
    store: SampleStore
    encoder: Encoder
    device: Device
    precision: Precision
    inbox: Inbox
    run: RunFolder
    warn: Callable[[str, str], None]
    progress: Callable[[str, float], None]
