"""engine starter: the whole ladder on the starter world, headless."""

import json
from typing import Any

import click

from engine.cli.show import print_json, say

LADDER = ("starter/tokenizer", "starter/pretrain", "starter/sft")
_QUESTIONS = (("eval_phrasing.jsonl", 3), ("eval_arithmetic.jsonl", 2), ("eval_identity.jsonl", 1))


@click.command()
@click.option("--again", is_flag=True, help="Train anew even where a finished run of the profile exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def starter(again: bool, as_json: bool) -> None:
    """Train the starter ladder (tokenizer, pretrain, sft) and talk with the result; finished rungs are not repeated."""
    from engine.cli.train import carry
    from engine.errors import CheckpointError
    from engine.generation.chat import ChatPartner
    from engine.generation.sampling import GREEDY
    from engine.references import newest_run, starter_file
    from engine.session import TrainRequest, train
    from engine.text.messages import Message

    for profile in LADDER:
        try:
            run = None if again else newest_run(profile)
        except CheckpointError:
            run = None
        if run is not None:
            say(f"{profile}: done already, run {run.name}")
            continue
        say(f"{profile}: training")
        carry(lambda interrupt, listener, name=profile: train(  # type: ignore[misc]
            TrainRequest(name), interrupt=interrupt, listener=listener))  # fmt: skip
    run = newest_run(LADDER[-1])
    partner = ChatPartner(run.select("newest"))
    chat: list[dict[str, Any]] = []
    for file, count in _QUESTIONS:
        lines = starter_file(file).read_text(encoding="utf-8").splitlines()
        for line in lines[:: max(1, len(lines) // count)][:count]:
            question, expected = json.loads(line)["conversations"][-2:]
            said = "".join(piece.text for piece in partner.answer([Message("user", question["content"])], GREEDY))
            chat.append({"prompt": question["content"], "text": said, "expected": expected["content"]})
    if as_json:
        print_json({"run": run.name, "chat": chat})
        return
    click.echo(f"A short chat with {run.name}, in words it was not trained on:")
    for turn in chat:
        click.echo(f"  you> {turn['prompt']}\n  model> {turn['text']}")
    click.echo(f"Go on: engine chat {run.name}")
