"""How a run's rows become samples. Torch-free."""

from dataclasses import fields

from engine.settings.profile import Settings
from engine.text.encode import EncodeSettings


def encode_settings(settings: Settings) -> EncodeSettings:
    """How the run's records become samples."""
    values = settings.values()
    drawn = {field.name: values[field.name] for field in fields(EncodeSettings) if field.name in values}
    return EncodeSettings(**drawn, train_on=settings.stage.train_on)
