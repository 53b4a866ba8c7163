"""Models that a run needs all along beside the one it trains: which, and where they come from. Torch-free."""

from pathlib import Path

from engine.settings.profile import Settings

REFERENCES = {"teacher": "teacher", "reward_model": "reward_model", "critic_from": "critic"}
"""Settings that name a checkpoint, beside `from`, and what the run calls what it keeps of it."""


def companions(settings: Settings) -> dict[str, Path]:
    """The folders that a run keeps, by the name it keeps them under."""
    values = settings.values()
    found = {kept: Path(values[name]) for name, kept in REFERENCES.items() if values.get(name)}
    if values.get("from") and keeps_start(settings):
        found["start"] = Path(values["from"])
    return found


def keeps_start(settings: Settings) -> bool:
    """Whether the checkpoint that a run starts from is its reference, or the base of its adapter."""
    values = settings.values()
    return settings.stage.keeps_start or bool(values.get("lora_rank")) or bool(values.get("kl_coefficient"))
