"""engine chat."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.clean import clean
from engine.cli.show import print_json, say
from engine.errors import EngineError, UserError

if TYPE_CHECKING:
    from engine.generation.chat import ChatPartner, Piece

_NO_ADAPTER = "none"


@click.command()
@click.argument("model")
@click.option("--adapter", "adapters", multiple=True, help="An adapter of MODEL; of several the first is used.")
@click.option("--prompt", help="Answer this and end; without it, talk.")
@click.option("--system", default="", help="A system prompt.")
@click.option("--complete", is_flag=True, help="Continue the prompt as running text, without the chat template.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the most probable token.")
@click.option("--top-k", type=int, default=0, help="Only the k most probable tokens; 0: all.")
@click.option("--top-p", type=float, default=0.95, show_default=True, help="Only the most probable tokens up to this.")
@click.option("--min-p", type=float, default=0.0, help="Only tokens this fraction as probable as the best.")
@click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: repeats become less probable.")
@click.option("--max-new-tokens", type=int, default=256, show_default=True, help="How long an answer may be.")
@click.option("--seed", type=int, default=0, help="Where the randomness comes from.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", help="Precision.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output; needs --prompt.")
def chat(
    model: str,
    adapters: tuple[str, ...],
    prompt: str | None,
    system: str,
    complete: bool,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    max_new_tokens: int,
    seed: int,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Talk with MODEL: a run (RUN, RUN@best, RUN@STEP) or a model folder."""
    if as_json and prompt is None:
        raise click.UsageError("--json needs --prompt")
    from engine.generation.chat import ChatPartner
    from engine.generation.sampling import SamplingSettings
    from engine.references import checkpoint_folder
    from engine.text.messages import Message
    from engine.training.device import DTYPES, pick_device

    settings = SamplingSettings(temperature, top_k, top_p, min_p, repetition_penalty, max_new_tokens, seed)
    partner = ChatPartner(checkpoint_folder(model), DTYPES[dtype], str(pick_device(device).torch_device))
    for adapter in reversed(adapters):  # a wrong one is refused before anything is said; the first is used at last
        _use(partner, adapter)
    opening = [Message("system", system)] if system else []

    def said(history: list[Message], text: str) -> "Iterator[Piece]":
        if complete:
            return partner.complete(text, settings)
        return partner.answer([*history, Message("user", text)], settings)

    if prompt is not None:
        pieces = list(said(opening, prompt)) if as_json else []
        if as_json:
            end = pieces[-1]
            text = "".join(piece.text for piece in pieces)
            print_json({"text": text, "tokens": end.tokens, "tokens_per_second": end.tokens_per_second,
                        "stop_reason": end.stop_reason})  # fmt: skip
        else:
            _show(said(opening, prompt))
        return
    say("Type a message; an empty line or ctrl+d ends. /new forgets the conversation.")
    if adapters:
        say("/adapter NAME talks through another adapter, /adapter none with the model alone.")
    history = list(opening)
    while True:
        line = _ask()
        if not line:
            return
        if line == "/new":
            history = list(opening)
            continue
        if line.split()[0] == "/adapter":
            _change_adapter(partner, line.removeprefix("/adapter").strip(), adapters)
            continue
        try:
            answer = _show(said(history, line))
        except UserError as error:  # a message that the model cannot read does not end the conversation
            say(str(error))
            continue
        history += [Message("user", line), Message("assistant", answer)]


def _change_adapter(partner: "ChatPartner", name: str, given: tuple[str, ...]) -> None:
    """Another adapter from now on, or none; without a name, which there are."""
    if not name:
        used = partner.adapter.folder if partner.adapter else _NO_ADAPTER
        say(f"in use: {used}; /adapter {' | '.join([*given, _NO_ADAPTER])}, or any other adapter of this model")
        return
    try:
        _use(partner, "" if name == _NO_ADAPTER else name)
    except EngineError as error:  # the one before stays
        say(str(error))


def _use(partner: "ChatPartner", adapter: str) -> None:
    from engine.model.loading import is_adapter
    from engine.references import checkpoint_folder

    if not adapter:
        partner.use(None)
        return
    path = Path(adapter).expanduser()
    folder = path if is_adapter(path) else checkpoint_folder(adapter)
    if not is_adapter(folder):
        raise UserError(f"{adapter} is a whole model, no adapter", hint=f"talk with it: engine chat {adapter}")
    partner.use(folder)


def _ask() -> str:
    try:
        return click.prompt("you", default="", show_default=False, prompt_suffix="> ", err=True).strip()
    except (EOFError, click.Abort):
        return ""


def _show(pieces: Iterator["Piece"]) -> str:
    """Prints an answer as it comes; ctrl+c keeps what was said."""
    text, end = "", None
    try:
        for piece in pieces:
            text, end = text + piece.text, piece
            sys.stdout.write(clean(piece.text))
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(" [stopped]")
    sys.stdout.write("\n")
    if end is not None:
        say(f"  {end.tokens} tokens, {end.tokens_per_second:.0f} tokens/s, {end.stop_reason or 'stopped'}")
    return text
