"""Errors that a user can act on: what is wrong, where, and what to do."""


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
    """The machine or the device had no memory left for the run."""

    exit_code = 3


class Interrupted(EngineError):
    """The run was asked to stop; its last step boundary is saved."""

    exit_code = 130
