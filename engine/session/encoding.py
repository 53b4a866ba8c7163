"""How a run's rows become samples, and where these are kept. Torch-free."""

from dataclasses import fields
from pathlib import Path

from engine.settings.profile import Settings
from engine.text.cache import CacheRequest
from engine.text.encode import EncodeSettings


def encode_settings(settings: Settings) -> EncodeSettings:
    """How the run's records become samples."""
    values = settings.values()
    drawn = {field.name: values[field.name] for field in fields(EncodeSettings) if field.name in values}
    return EncodeSettings(**drawn, train_on=settings.stage.train_on)


def cache_request(settings: Settings, tokenizer: Path | None = None) -> CacheRequest:
    """The samples that the settings want; `tokenizer` where it lies elsewhere than they say, as in a run's folder."""
    data = settings.data
    return CacheRequest(
        data=Path(data.data),
        tokenizer=tokenizer or Path(data.tokenizer),
        settings=encode_settings(settings),
        mapping=data.mapping,
        max_rows=data.max_rows,
        shapes=settings.stage.reads,
    )
