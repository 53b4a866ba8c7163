"""The rewards that need nothing but the answer and its row: a number for one completion each."""

from engine.errors import UserError
from engine.rewards.checks import TAGS, can_check, is_correct, is_well_formed
from engine.rewards.completion import Completion
from engine.rewards.language import language_of
from engine.rewards.repetition import repeated_share


def answer_reward(completion: Completion) -> float:
    """How right the answer is by the row's own check, 0 to 1.

    Raises:
        UserError: The row has no expected answer.
    """
    if completion.check == "reasoning_gym" and can_check(completion.check, completion.extra):
        return is_correct(completion.text, completion.answer or "", completion.check, completion.extra)
    return is_correct(completion.text, _expected(completion), completion.check, completion.extra)


def exact_reward(completion: Completion) -> float:
    """1 where the final answer equals the expected one, whatever the row's check.

    Raises:
        UserError: The row has no expected answer.
    """
    return is_correct(completion.text, _expected(completion), "exact", completion.extra)


def number_reward(completion: Completion) -> float:
    """1 where the final answer has the value of the expected one, whatever the row's check.

    Raises:
        UserError: The row has no expected answer.
    """
    return is_correct(completion.text, _expected(completion), "number", completion.extra)


def format_reward(completion: Completion) -> float:
    """1 for a well-formed `<think>…</think><answer>…</answer>`, else 0."""
    return float(is_well_formed(completion.text))


def tags_reward(completion: Completion) -> float:
    """0.25 for each of the four tags that occurs exactly once."""
    return sum(0.25 for tag in TAGS if completion.text.count(tag) == 1)


def length_reward(completion: Completion, shortest: int, longest: int) -> float:
    """1 from `shortest` to `longest` tokens, falling in a straight line to 0 at no token and at 2 · `longest`."""
    tokens = len(completion.ids)
    if tokens < shortest:
        return tokens / shortest
    return max(0.0, 1.0 - max(0, tokens - longest) / longest)


def repetition_reward(completion: Completion) -> float:
    """Minus the share of token trigrams that came before, −1 to 0."""
    return 0.0 - repeated_share(completion.ids)


def language_reward(completion: Completion) -> float:
    """1 where the answer is in the language of the last question, else 0.

    An answer without words (a number, a formula) fits every question, no answer fits none; a question without words
    takes every language.
    """
    if not completion.text.strip():
        return 0.0
    questions = [message.content for message in completion.prompt if message.role == "user"]
    asked, said = language_of(questions[-1] if questions else ""), language_of(completion.text)
    return float(asked is None or said is None or asked == said)


def _expected(completion: Completion) -> str:
    if completion.answer is None or not completion.answer.strip():
        raise UserError("the row has no expected answer")
    return completion.answer
