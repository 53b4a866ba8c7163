"""A reward that a user wrote: one function in a Python file."""

import copy
import inspect
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.clean import clean
from engine.errors import UserError
from engine.rewards.completion import Completion

_WANTED = "def reward(prompt: list[dict], answer: str, row: dict) -> float"


class PythonReward:
    """The function `reward(prompt, answer, row)` of a user's file.

    `prompt` is the conversation as dictionaries with `role` and `content`, `answer` what the model said, `row` the
    row's other fields with the expected `answer` and its `check`. The file may set LOW and HIGH, the range of the
    function's values, 0 and 1 if it does not. It runs as it is, with the rights of the process.

    Args:
        path: The file; it is loaded once.

    Attributes:
        low: The least that counts.
        high: The most.

    Raises:
        UserError: The file cannot be read or run, or lacks the function; file and line are named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        names = _run(self.path)
        self._reward = self._find_function(names.get("reward"))
        self.low, self.high = self._find_range(names)

    def __call__(self, completion: Completion) -> object:
        """What the function returns. It gets copies: nothing that it changes is seen by others.

        Raises:
            UserError: It raised; the line of the file is named.
        """
        row = {"answer": completion.answer, "check": completion.check, **copy.deepcopy(dict(completion.extra))}
        prompt = [copy.deepcopy(message.as_dict()) for message in completion.prompt]
        try:
            return self._reward(prompt, completion.text, row)
        except (Exception, SystemExit) as error:
            raise UserError(error_text(error), where=f"{self.path.name}{_line(error, self.path)}") from None

    def _find_function(self, found: object) -> Callable[..., object]:
        if not callable(found):
            raise UserError("the file defines no function reward", where=str(self.path), hint=f"define {_WANTED}")
        try:
            inspect.signature(found).bind([], "", {})
        except TypeError as error:
            raise UserError(
                f"reward does not take a prompt, an answer and a row: {error}",
                where=str(self.path),
                hint=f"define {_WANTED}",
            ) from None
        return found

    def _find_range(self, names: dict[str, Any]) -> tuple[float, float]:
        low, high = names.get("LOW", 0.0), names.get("HIGH", 1.0)
        if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)) or low >= high:
            raise UserError(
                "LOW and HIGH must be finite numbers, LOW the smaller one",
                where=str(self.path),
                hint="leave them out where reward returns 0 to 1",
            )
        return float(low), float(high)


def error_text(error: BaseException) -> str:
    """The kind and message of an error, short and safe for a terminal, even where it cannot say what it is."""
    return clean(traceback.format_exception_only(error)[-1].strip()[:300], newlines=False)


def _run(path: Path) -> dict[str, Any]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the file: {error.strerror}", where=str(path), hint="reward_python names a Python file"
        ) from None
    module = ModuleType("reward_file")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for the file's names
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise UserError(
            error_text(error), where=f"{path}{_line(error, path)}", hint="the file must load without errors"
        ) from None
    return module.__dict__


def _line(error: BaseException, path: Path) -> str:
    """`:12` where that is the line of the file at which an error came up, empty where it is not known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""
