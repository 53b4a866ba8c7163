"""A reward model's opinion as a reward."""

from collections.abc import Callable, Sequence

from engine.exhaustion import exhausted
from engine.rewards.completion import Completion
from engine.text.messages import Message

ScoreAnswers = Callable[[list[tuple[tuple[Message, ...], str]]], list[float]]
"""Scores answers: (prompt, answer) pairs in, a number for each out."""


class ModelReward:
    """What a reward model says, cut to ± `clip` so that no answer can win by fooling it.

    Args:
        score: The model.
        clip: The most that an answer can get, and lose.
    """

    def __init__(self, score: ScoreAnswers, clip: float) -> None:
        self._score, self.low, self.high = score, -clip, clip

    def __call__(self, completions: Sequence[Completion]) -> list[object]:
        """The score of each completion, uncut, or the error that the model raised for it.

        Raises:
            RuntimeError, MemoryError: There is no room for the model; what is next is for the run to say.
        """
        try:
            scores = self._score([(completion.prompt, completion.text) for completion in completions])
            if len(scores) != len(completions):
                raise ValueError(f"the reward model gave {len(scores)} scores for {len(completions)} answers")
        except Exception as error:
            if exhausted(error):
                raise
            if len(completions) == 1:
                return [error]
            return [found for completion in completions for found in self([completion])]  # who is to blame?
        return list(scores)
