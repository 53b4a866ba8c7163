"""Rows as questions, and what they say."""

from dataclasses import replace

from engine.rewards.checks import final_answer
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.shapes import as_prompt
from engine.text.strict_json import BadRow


def question_of(record: Record) -> Record:
    """What a row asks, as a prompt whose answer is what a right reply gives, None where that is not known.

    A conversation asks for its last reply. Where the row has no answer of its own, the reply's final answer is the
    right one, unless there are tools: then a call would be right, which no text can be compared with.

    Raises:
        BadRow: Nobody asks anything.
    """
    if record.shape not in ("prompt", "conversation"):
        raise BadRow("running text asks nothing" if record.shape == "text" else "a pair is answered already")
    prompt = as_prompt(record)
    answer = record.answer
    if answer is None and prompt.answer is not None and not record.tools:
        answer = final_answer(prompt.answer)
    return replace(prompt, answer=answer if answer and answer.strip() else None)


def reply_text(message: Message) -> str:
    """A reply as the model would write it, its reasoning between think tags."""
    if not message.reasoning_content:
        return message.content
    return f"<think>\n{message.reasoning_content}\n</think>\n\n{message.content}"


def last_words(record: Record) -> list[str]:
    """What a row ends with: its text or last turn; of a pair those of both sides, the chosen one first."""
    if record.shape == "text":
        return [record.text]
    sides = (record.messages, record.rejected) if record.shape == "pair" else (record.messages,)
    return [reply_text(side[-1]) for side in sides]
