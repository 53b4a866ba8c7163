"""One row as people and programs see it: every token with its text, role and weight."""

from collections.abc import Sequence
from typing import Any

from engine.errors import UserError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Record
from engine.text.sample import Sample
from engine.text.tokenizer import Tokenizer

_UNLIMITED = 1 << 30


def inspect_record(
    record: Record,
    tokenizer: Tokenizer,
    *,
    stage: str,
    train_on: str,
    max_seq_len: int = 0,
    template: str | None = None,
) -> dict[str, Any]:
    """The samples of a record, token by token.

    Returns:
        row, line, shape, stage, and then for texts and conversations tokens (each id, text, bytes in hex, role, kind,
        weight), total, trained, truncated (tokens cut) and problems; for pairs the same under chosen and rejected.
        Texts concatenate to the exact string: a split character stands on its last token. Where a row makes several
        samples (a long text's windows, a template that rewrites history) tokens are the first sample's, and samples
        holds the others. A long running text is shown whole, its windows in windows.

    Raises:
        UserError: The length is too small.
        TemplateFailure: The chat template cannot render the row.
    """
    if max_seq_len and max_seq_len < 4:
        raise UserError(f"max_seq_len is {max_seq_len}; it must be 4 or more", where="max_seq_len")
    encoder = Encoder(tokenizer, EncodeSettings(max_seq_len or _UNLIMITED, train_on), template)
    head: dict[str, Any] = {"row": record.row, "line": record.line, "shape": record.shape, "stage": stage}
    if record.shape == "pair":
        pair = encoder.encode_pair(record)
        sides = {"chosen": show_sample(pair.chosen, tokenizer), "rejected": show_sample(pair.rejected, tokenizer)}
        return head | sides
    if record.shape == "prompt":
        prompt = encoder.encode_prompt(record)
        return (
            head
            | show_sample(prompt.sample, tokenizer, wants_training=False)
            | {"answer": prompt.answer, "check": prompt.check}
        )
    if record.shape == "text":
        whole = encoder.document(record.text, record.row)
        windows = [len(window) for window in encoder.encode_text(record.text, record.row)]
        return head | show_sample(whole, tokenizer) | ({"windows": windows} if len(windows) > 1 else {})
    samples = encoder.encode_conversation(record)
    shown = head | show_sample(samples[0], tokenizer)
    return shown | ({"samples": [show_sample(each, tokenizer) for each in samples[1:]]} if len(samples) > 1 else {})


def show_sample(sample: Sample, tokenizer: Tokenizer, *, wants_training: bool = True) -> dict[str, Any]:
    """A sample's tokens for JSON."""
    ids = sample.input_ids.tolist()
    owners: Sequence[tuple[str, str]] = [
        (span.role, span.kind) for span in sample.spans for _ in range(span.end - span.start)
    ]
    tokens = [
        {
            "id": id_,
            "text": text,
            "bytes": tokenizer.token_bytes(id_).hex(),
            "role": role,
            "kind": kind,
            "weight": weight,
        }
        for id_, text, (role, kind), weight in zip(
            ids, tokenizer.texts(ids), owners, sample.loss_weights.tolist(), strict=True
        )
    ]
    problems = [*sample.problems]
    if wants_training and not sample.trained:
        problems.append("nothing in this row is trained")
    if sample.truncated:
        problems.append(f"{sample.truncated} tokens were cut to fit")
    return {
        "tokens": tokens,
        "total": len(ids),
        "trained": sample.trained,
        "truncated": sample.truncated,
        "problems": problems,
    }
