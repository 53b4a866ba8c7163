"""One line that stands out: a warning that was not seen yet, or how a run ended that did not end well."""

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.live import Live

_HINT = " a: seen "


class AlertLine(Static):
    """Hidden while there is nothing to say; warnings stay until they are dismissed."""

    _shown: tuple[object, ...] = ()

    def show(self, live: Live | None) -> None:
        """Shows what is off with a run."""
        said, hint = _said(live) if live is not None else ("", "")
        if (key := (said, hint, self.screen.size)) == self._shown:
            return
        self._shown = key
        self.display = bool(said)
        self.set_class(said.startswith("✗"), "-error")
        room = max(10, self.screen.size.width - cell_len(hint) - 2)  # it is as wide as the screen, and may be hidden
        line = Content(clean(said, newlines=False)).truncate(room, ellipsis=True, pad=True)
        self.update(Content.assemble(line, (hint, "bold")), layout=False)


def _said(live: Live) -> tuple[str, str]:
    history = live.history
    if live.shortage:
        event = history.ran_out
        when = f" in {event.phase}, step {event.step:,}: {event.what}" if event else ""
        return f"✗ {live.shortage}{when}", " F: what would fit "
    if live.state == "interrupted":
        back = "begin again" if history.saved_step is None else f"go on from step {history.saved_step:,}"
        return "✗ interrupted: its process is gone without a word", f" r: {back} "
    if history.unseen:
        alerts = list(history.unseen.values())
        newest = alerts[-1]
        times = f" ×{newest.count}" if newest.count > 1 else ""
        more = f" (+{len(alerts) - 1} more)" if len(alerts) > 1 else ""
        return f"▲ {newest.name}{times}{more}, step {newest.step:,}: {newest.message}", _HINT
    if live.state == "failed" and history.finished is not None:
        return f"✗ failed: {history.finished.error.strip().partition(chr(10))[0]}", ""
    return "", ""
