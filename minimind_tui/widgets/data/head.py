"""The lines above the rows: which file it is, what it holds, and what it can be used for."""

from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.figures import size
from minimind_tui.core.rows import Rows
from minimind_tui.core.suits import suits
from minimind_tui.widgets.states import MUTED


class DataHead(Static):
    """Two lines about the open file."""

    def show_nothing(self) -> None:
        """No file is open."""
        self.update("No file is open.")

    def show(self, rows: Rows, share: float, stage: str, tokens: int | None, work: str) -> None:
        """Shows what is known so far.

        Args:
            rows: The file.
            share: How much of it has been read, 0 to 1.
            stage: The stage that `s` starts; empty: none reads the file.
            tokens: In all, where they were counted.
            work: What goes on in the background.
        """
        shapes = rows.shapes or {rows.shape: 0}
        found = suits(rows.shape, shapes, answers=rows.answers, tokens=tokens, more=not rows.indexed)
        parts = [found.amount]
        parts += [f"{len(rows.quarantined):,} quarantined"] if rows.quarantined else []
        parts.append(size(rows.size))
        parts += [f"reading {share:.0%}"] if not rows.indexed else []
        first = Content.assemble(
            (clean(rows.path.name, newlines=False), "bold"),
            f"  {' · '.join(parts)}",
            (f"  {work}" if work else "", "$accent"),
        )
        uses = [
            Content.assemble((each.title, "bold underline"), (" (s starts it)", MUTED))
            if each.name == stage
            else Content(each.title)
            for each in sorted(found.stages, key=lambda each: each.name != stage)
        ]
        use = Content(" · ").join(uses) if uses else Content(found.use)
        said = Content.assemble(first, "\nsuits ", use)
        if said != self.content:
            self.update(said, layout=False)
