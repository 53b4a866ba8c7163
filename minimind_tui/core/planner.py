"""Memory plans of settings on the screen. Torch-free and without Textual.

What settings name is read from disk, once until `forget`; the plan itself follows in closed form, fast enough for every
keystroke. Call it from a thread.
"""

import threading
from dataclasses import replace
from typing import Any

from engine.errors import EngineError
from engine.memory.limits import parse_device
from engine.references import checkpoint_folder, data_file, tokenizer_folder
from engine.session.companions import REFERENCES
from engine.session.encoding import encode_settings
from engine.session.planning import Draft as Drafted
from engine.session.planning import decided, draft_settings, plan_draft
from engine.session.shape import model_config
from engine.settings.profile import Settings
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.memory import Memory, read_plan

_FACTS = ("data", "tokenizer", "mapping", "max_rows", "val_fraction", "vocab_size", *REFERENCES)
"""Settings on which it depends what is looked up."""
_BELONGS = {"data": data_file, "tokenizer": tokenizer_folder, "from": checkpoint_folder,
            **dict.fromkeys(REFERENCES, checkpoint_folder)}  # fmt: skip
"""How the places are found that settings name."""


class Planner:
    """Plans what is being edited.

    Args:
        lookups: Knows vocabularies.
    """

    def __init__(self, lookups: Lookups) -> None:
        self._lookups, self._lock = lookups, threading.Lock()
        self._known: tuple[object, Drafted] | None = None

    def forget(self) -> None:
        """Reads everything anew from now on: runs may have come, and rows may have been encoded."""
        self._known = None

    def draft(self, settings: Settings, device: str, best: str) -> Drafted:
        """Settings with all that a plan needs besides.

        Args:
            settings: With the shape of their start checkpoint, where that is there.
            device: What it is planned for; empty: what the settings say.
            best: What `auto` stands for here.

        Raises:
            EngineError: There is no such device, or no such model.
        """
        wanted = device or settings.training.device
        target = parse_device(best if wanted == "auto" else wanted)
        settings, notes = self._with_places(settings)
        values = settings.values()
        key = [target.kind, encode_settings(settings), *(values.get(name) for name in _FACTS)]
        with self._lock:
            if self._known is None or self._known[0] != key:
                self._known = key, draft_settings(settings, target, notes)
            known = self._known[1]
        vocabulary = known.facts.config.vocab_size
        config = model_config(settings.model, vocabulary)
        settings = decided(settings.replace({"vocab_size": vocabulary}, ""), target, config)
        return replace(known, settings=settings, facts=replace(known.facts, config=config), target=target)

    def _with_places(self, settings: Settings) -> tuple[Settings, list[str]]:
        """The settings with places for names, and what of them is not there; of the start checkpoint that is known."""
        values, places, notes = settings.values(), dict[str, Any](), list[str]()
        for name, find in _BELONGS.items():
            if values.get(name):
                try:
                    places[name] = str(find(values[name]))
                except EngineError as error:
                    notes += [f"planned without what is missing ({error.what})"] if name != "from" else []
        if "from" in places:
            places["tokenizer"] = places["from"]
        if values["vocab_size"] is None and places.get("tokenizer"):
            try:
                places["vocab_size"] = self._lookups.vocabulary(places["tokenizer"])
            except EngineError as error:
                notes.append(error.what)
        return settings.replace(places, ""), notes


def quick_plan(drafted: Drafted) -> Memory | None:
    """The closed form for the longest rows.

    Raises:
        EngineError: Nobody knows how much memory the device has.
    """
    return read_plan(plan_draft(drafted, suggestions=False, exact=False).to_json())


def full_plan(drafted: Drafted) -> Memory | None:
    """The closed form for the batches that are really formed, with changes that help.

    Raises:
        EngineError: As `quick_plan`.
    """
    return read_plan(plan_draft(drafted).to_json())
