from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.memory.steps import Rows
from engine.session.planning import Draft as Drafted
from engine.settings.profile import load_profile, resolve
from minimind_tui.core.fit_table import MOST, fit_table
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.planner import Planner, quick_plan


def _drafted(device: str, **changes: int) -> Drafted:
    settings = resolve(load_profile("cpu/pretrain")).replace(changes, "user")
    return Planner(Lookups()).draft(settings, device, "cpu")


def test_what_fits_is_what_the_plan_says(home: Path) -> None:
    table = fit_table(_drafted("cuda:3GiB", batch_size=3))
    assert table.length == 512 and table.lengths == (64, 128, 256, 512, 1024, 2048, 4096)
    assert (table.batch, table.batches[:5]) == (3, (1, 2, 3, 4, 8)) and not table.of_data
    for column, (length, most) in enumerate(zip(table.lengths, table.most, strict=True)):
        for batch, fits in ((most, True), (most + 1, False)):
            if batch:
                plan = quick_plan(_drafted("cuda:3GiB", batch_size=batch, max_seq_len=length))
                assert plan is not None and plan.fits == fits, (length, batch)
        bordering = [row for row in range(len(table.batches)) if table.borders(row, column)]
        assert len(bordering) == (1 if most else 0)
        assert all(table.batches[row] <= most for row in bordering)
    assert list(table.most) == sorted(table.most, reverse=True) and table.batches[-1] > table.most[3]


def test_the_search_ends_somewhere(home: Path) -> None:
    assert fit_table(_drafted("h200")).most[0] == MOST
    table = fit_table(_drafted("cuda:100MiB"))
    assert set(table.most) == {0} and not any(table.borders(0, column) for column in range(7))


def test_rows_that_may_be_cut_are_longer_at_greater_lengths(home: Path) -> None:
    drafted = _drafted("cuda:3GiB", packing=False)
    short = Rows(np.full(5000, 60), np.full(5000, 59))
    table = fit_table(replace(drafted, facts=replace(drafted.facts, rows=short)))
    assert table.of_data and len(set(table.most)) == 1, "all of them are shorter than any of the lengths"
    cut = Rows(np.full(5000, 512), np.full(5000, 511))
    assert fit_table(replace(drafted, facts=replace(drafted.facts, rows=cut))).most == fit_table(drafted).most
