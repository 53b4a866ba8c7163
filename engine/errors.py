"""Errors that a user can act on: what is wrong, where, and what to do."""

from collections.abc import Mapping
from typing import Any


class EngineError(Exception):
    """A failure with an explanation.

    Args:
        what: What went wrong, one sentence.
        where: The place: `file:line`, a profile key, a run.
        hint: What the user can do about it.
    """

    exit_code = 1
    """The process exit code that the command line ends with."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  → {self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"


class UserError(EngineError):
    """Bad arguments, profile or data; nothing was started."""

    exit_code = 2


class ProfileError(UserError):
    """A profile or a setting that cannot be used."""


class DataError(UserError):
    """A data file that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint, model folder or run that is missing, damaged or of another kind."""


class OutOfMemory(EngineError):
    """The machine or the device has no memory left for the run, or would have none.

    Args:
        what: See `EngineError`.
        where: The same.
        hint: The same.
        plan: As `engine plan --json`, with the suggestions that fit; empty where nothing could be planned.
        run: The run that can go on with one of them; empty where nothing is left of it.
    """

    exit_code = 3

    def __init__(
        self, what: str, *, where: str = "", hint: str = "", plan: Mapping[str, Any] | None = None, run: str = ""
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.plan: Mapping[str, Any] = plan or {}
        self.run = run


class DoesNotFit(OutOfMemory):
    """A run that is predicted not to fit; nothing was trained."""


class Interrupted(EngineError):
    """The run was asked to stop; its last step boundary is saved."""

    exit_code = 130
