"""What start checkpoints and tokenizers say of themselves. Without Textual."""

from typing import Any


class Lookups:
    """What start checkpoints and tokenizers say, read once until `forget`."""

    def __init__(self) -> None:
        self._shapes: dict[str, dict[str, Any]] = {}
        self._vocabularies: dict[str, int] = {}

    def forget(self) -> None:
        """Reads everything anew from now on: runs may have come."""
        self._shapes.clear()
        self._vocabularies.clear()

    def shape(self, reference: str) -> dict[str, Any]:
        """The settings that a run inherits from a checkpoint.

        Raises:
            EngineError: There is none, or it cannot be read.
        """
        if reference not in self._shapes:
            from engine.references import checkpoint_folder
            from engine.session.shape import shape_settings

            self._shapes[reference] = shape_settings(checkpoint_folder(reference))
        return self._shapes[reference]

    def vocabulary(self, reference: str) -> int:
        """How many tokens a tokenizer has.

        Raises:
            EngineError: There is none, or it cannot be read.
        """
        if reference not in self._vocabularies:
            from engine.references import tokenizer_folder
            from engine.text.tokenizer import Tokenizer

            self._vocabularies[reference] = Tokenizer.load(tokenizer_folder(reference)).vocab_size
        return self._vocabularies[reference]
