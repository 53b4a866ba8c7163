"""A storm of resizes ends with the size that the terminal has.

A screen of Textual 8.2 that is laid out for a new size sends itself a resize event of that size. While sizes follow
each other quickly, such an event may come after a newer one: then the screen goes back to a size that is past, sends
itself that one again, and chases the two in turn for ever, or stays with the wrong one. Here an event of a past size
is answered by one of the size that is.
"""

from textual.events import Resize
from textual.screen import Screen

_resized = Screen._on_resize


async def _on_resize(screen: Screen[object], event: Resize) -> None:
    now = screen.app.size
    if event.size == now:
        await _resized(screen, event)
    else:
        event.stop()
        screen.post_message(Resize(now, now))


Screen._on_resize = _on_resize  # type: ignore[method-assign, assignment]
