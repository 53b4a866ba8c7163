"""How rows are read as samples: stage, tokenizer, chat template and length. Call `Reader` from a thread."""

import hashlib
import shutil
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.errors import DataError, UserError
from engine.references import load_tokenizer
from engine.settings.places import cache_folder
from engine.settings.profile import build
from engine.settings.registry import STAGES, StageInfo
from engine.text.cache import CacheRequest
from engine.text.encode import Encoder, EncodeSettings
from engine.text.inspect import UNLIMITED
from engine.text.starter import STARTER_FILES
from engine.text.tokenizer import Tokenizer
from minimind_tui.core.browse import UNUSABLE, reason
from minimind_tui.core.suits import stages_for

_FALLBACK = "sft"
"""Whose settings hold for rows of a shape that no stage reads yet."""


@dataclass(frozen=True)
class Reading:
    """How rows become samples.

    Attributes:
        shape: Of the file's rows.
        stage: A stage's name; empty where no stage reads the shape yet.
        tokenizer: A folder or a run; empty: the newest run's.
        template: A jinja file; empty: the tokenizer's own.
        max_seq_len: Tokens; 0 is the whole row.
    """

    shape: str
    stage: str = ""
    tokenizer: str = ""
    template: str = ""
    max_seq_len: int = 0

    @property
    def info(self) -> StageInfo | None:
        """The registry's entry of the stage."""
        return STAGES.get(self.stage)

    @property
    def title(self) -> str:
        """The stage in a word."""
        return self.stage or f"{self.shape}s"

    @property
    def source(self) -> tuple[str, str]:
        """What decides which tokenizer is loaded."""
        return self.tokenizer, self.template

    def default(self, setting: str) -> Any:
        """The stage's default of a setting."""
        return STAGES.get(self.stage, STAGES[_FALLBACK]).settings[setting].default

    def settings(self, *, whole: int = UNLIMITED) -> EncodeSettings:
        """What the encoder is told: the stage's own defaults, and this length; `whole` stands for a whole row's."""
        stage = STAGES.get(self.stage, STAGES[_FALLBACK])
        values = build(stage, {}).values()
        drawn = {field.name: values[field.name] for field in fields(EncodeSettings) if field.name in values}
        return EncodeSettings(**(drawn | {"max_seq_len": self.max_seq_len or whole, "train_on": stage.train_on}))


def first_reading(path: Path, shape: str, wanted: Reading) -> Reading:
    """A reading of another file, as much like the wanted one as the file's shape allows."""
    names = [stage.name for stage in stages_for(shape, samples=True)]
    made_for = next((file.stage for file in STARTER_FILES if file.name == path.name and file.shape == shape), "")
    stage = next((name for name in (wanted.stage, made_for, *names) if name in names), "")
    return replace(wanted, shape=shape, stage=stage)


class Reader:
    """Reads rows in one way; loads the tokenizer, and on a first start makes one, so it belongs into a thread.

    Args:
        reading: The way.
        before: A reader whose tokenizer is taken over if it is the same.

    Attributes:
        reading: The way.
        tokenizer: With the chosen template.
        name: The tokenizer's, for people; uncleaned.
        encoder: For looking at rows.
        folder: Where the tokenizer lies, for processes that encode.

    Raises:
        EngineError: There is no such tokenizer or template, or it cannot be used.
    """

    def __init__(self, reading: Reading, before: "Reader | None" = None) -> None:
        self.reading = reading
        if before is None or before.reading.source != reading.source:
            self.tokenizer, self.folder, self.name = _load(reading)
        else:
            self.tokenizer, self.folder, self.name = before.tokenizer, before.folder, before.name
        self.encoder = Encoder(self.tokenizer, reading.settings())

    @cached_property
    def sample_length(self) -> int:
        """The longest sample of the cache: whole rows are cut as the stage would cut them."""
        return self.reading.max_seq_len or int(self.reading.default("max_seq_len"))

    @cached_property
    def reencoder(self) -> Encoder:
        """Encodes as the cache does."""
        return Encoder(self.tokenizer, self.reading.settings(whole=self.sample_length))

    def request(self, path: Path) -> CacheRequest:
        """What the token cache is asked for."""
        info = self.reading.info
        settings = self.reading.settings(whole=self.sample_length)
        return CacheRequest(path, self.folder, settings, {}, shapes=info.reads if info else (self.reading.shape,))


def check_length(text: str) -> int:
    """A length that was typed.

    Raises:
        UserError: It is no number, or too small.
    """
    if not text.strip().isdigit() or 0 < int(text) < 4:
        raise UserError(f"{text!r} is no length", hint="0 shows whole rows; otherwise 4 or more tokens")
    return min(int(text), 1_000_000)


def _load(reading: Reading) -> tuple[Tokenizer, Path, str]:
    """The tokenizer, where it lies, and what it is called: a run's by the run."""
    tokenizer, folder = load_tokenizer(reading.tokenizer)
    name = folder.parent.name if folder.name == "tokenizer" else folder.name
    if reading.template:
        folder = _with_template(folder, reading.template)
        tokenizer = Tokenizer.load(folder)
    return tokenizer, folder, name


def _with_template(folder: Path, typed: str) -> Path:
    """A folder of the cache with that tokenizer and another chat template: processes that encode find both there."""
    try:
        template = Path(typed).expanduser().read_text(encoding="utf-8")
    except UNUSABLE as error:
        raise DataError(
            f"the template cannot be read: {reason(error)}", where=typed, hint="a jinja file in UTF-8"
        ) from error
    name = hashlib.blake2b(f"{folder}|{template}".encode(), digest_size=12).hexdigest()
    copy = cache_folder() / "templates" / name
    copy.mkdir(parents=True, exist_ok=True)
    for part in folder.glob("*.json"):
        shutil.copyfile(part, copy / part.name)
    (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
    return copy
