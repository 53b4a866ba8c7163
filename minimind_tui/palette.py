"""What the command palette offers: every action of the app that has a key here, then Textual's own."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from textual.app import App, SystemCommand
from textual.command import CommandPalette
from textual.screen import Screen

_OWN = ("Quit", "Keys")
"""Commands of Textual's that the app has itself."""


class Palette(CommandPalette):
    """The toolkit's palette, which ends the app when a page is turned before its list is laid out."""

    def _action_command_list(self, action: str) -> None:
        with suppress(KeyError):
            super()._action_command_list(action)


def key_commands(app: App[Any], screen: Screen[Any]) -> Iterator[SystemCommand]:
    """A command for each action of the screen and of the app, and for those of the focused pane that say in a sentence
    what they do; the movements within a list or a pane do not.
    """
    seen: set[str] = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        wanted = active.node in (screen, app) or active.tooltip
        if binding.id and binding.description and wanted and binding.action not in seen:
            seen.add(binding.action)
            yield SystemCommand(
                binding.description,
                " · ".join(part for part in (f"key {app.get_key_display(binding)}", active.tooltip) if part),
                lambda action=binding.action, node=active.node: app.call_later(app.run_action, action, node),
            )


def toolkit_commands(commands: Iterator[SystemCommand]) -> Iterator[SystemCommand]:
    """Textual's commands without those that stand in the list already."""
    return (one for one in commands if one.title not in _OWN)
