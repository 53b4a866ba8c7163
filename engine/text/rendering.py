"""A sandboxed jinja2 environment that renders chat templates as transformers does."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT = 16 * 2**20
"""The longest text a template may render for one row, in characters."""

_TODAY = datetime.datetime(2025, 1, 1)
"""What templates take for the current time: samples must not depend on the day they were made."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """One text wanted of a template.

    Attributes:
        messages: Messages as the template reads them: role, content, and the optional keys that are set.
        tools: JSON schemas of the tools, or None.
        add_generation_prompt: Whether the header of an assistant turn follows.
        options: Further variables, such as `enable_thinking`.
    """

    messages: list[dict[str, Any]]
    tools: Any = None
    add_generation_prompt: bool = False
    options: dict[str, Any] = field(default_factory=dict)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks what the model says: renders its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def compile_template(source: str) -> Template:
    """Compiles a chat template with the functions and filters that transformers offers.

    Raises:
        TemplateError: The source is no template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": _TODAY.strftime}
    return environment.from_string(source)


def render_all(template: Template, special_tokens: Mapping[str, str], requests: Sequence[RenderRequest]) -> list[str]:
    """Renders the requests of one row.

    Raises:
        TemplateError: The template refuses, or renders more than `MAX_OUTPUT` characters.
        Exception: Whatever else a template can bring about.
    """
    texts, room = [], MAX_OUTPUT
    for request in requests:
        variables = {"tools": request.tools, "documents": None, **special_tokens, **request.options}
        pieces = []
        for piece in template.generate(
            messages=request.messages, add_generation_prompt=request.add_generation_prompt, **variables
        ):
            room -= len(piece)
            if room < 0:
                raise TemplateError(f"the template renders more than {MAX_OUTPUT} characters")
            pieces.append(piece)
        texts.append("".join(pieces))
    return texts


def explain(error: Exception) -> str:
    """One line on an exception that a template brought about."""
    return f"{type(error).__name__}: {error}"[:500]


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own filter would escape HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
