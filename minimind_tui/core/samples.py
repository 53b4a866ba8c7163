"""What a model said to the same prompts as it learnt. Torch-free and without Textual."""

from collections.abc import Sequence

from engine.runs.events import Sampled


class SampleBook:
    """Samples by prompt and step; of a prompt that was asked twice at a step the newer answer counts.

    Attributes:
        prompts: In the order in which they were first asked.
        steps: In rising order.
    """

    def __init__(self, samples: Sequence[Sampled] = ()) -> None:
        self._said = {(sample.step, sample.prompt): sample for sample in samples}
        self.prompts = list(dict.fromkeys(sample.prompt for sample in samples))
        self.steps = sorted({sample.step for sample in samples})

    def at(self, step: int, prompt: int | None = None) -> list[Sampled]:
        """What was said at a step: to one prompt, or to all in their order."""
        asked = self.prompts if prompt is None else self.prompts[prompt : prompt + 1]
        return [self._said[step, text] for text in asked if (step, text) in self._said]

    def steps_of(self, prompt: int | None) -> list[int]:
        """The steps at which a prompt was asked; None: any prompt."""
        return [step for step in self.steps if self.at(step, prompt)]

    def beside(self, step: int | None, prompt: int | None, by: int) -> int | None:
        """The step so many samplings later (`by` below 0: earlier); None stands for the newest, whichever that is."""
        steps = self.steps_of(prompt)
        if not steps:
            return None
        place = (steps.index(step) if step in steps else len(steps) - 1) + by
        return None if place >= len(steps) - 1 else steps[max(0, place)]
