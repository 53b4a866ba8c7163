import math

from textual.app import App, ComposeResult

from minimind_tui.core.series import Series
from minimind_tui.widgets.curve import Curve


class _OneCurve(App[None]):
    CSS = "Curve { width: 60; height: 12; }"

    def compose(self) -> ComposeResult:
        yield Curve()


def _series(*values: float) -> Series:
    series = Series()
    for step, value in enumerate(values):
        series.append(step, value)
    return series


def _text(curve: Curve) -> str:
    return "\n".join(curve.render_line(y).text for y in range(curve.content_size.height))


async def test_no_data_says_so_and_strange_data_is_survived() -> None:
    async with _OneCurve().run_test(size=(80, 24)) as pilot:
        curve = pilot.app.query_one(Curve)
        assert "no points yet" in _text(curve)
        for values in ([math.nan], [math.inf, -math.inf], [0.0, -1.0], [1.0, math.nan, 2.0]):
            for log_y in (False, True):
                curve.show("loss", "", [_series(*values)], log_y=log_y)
                await pilot.pause()
                widths = {curve.render_line(y).cell_length for y in range(curve.content_size.height)}
                assert widths == {curve.content_size.width}


async def test_wide_characters_and_markup_in_titles_are_only_titles() -> None:
    async with _OneCurve().run_test(size=(80, 24)) as pilot:
        curve = pilot.app.query_one(Curve)
        curve.show("损失 [/b] 😀", "[red]", [_series(1.0, 2.0)])
        await pilot.pause()
        assert curve.border_title is not None and "损失" in curve.border_title
        assert "┤" in _text(curve)


async def test_a_drawing_is_kept_until_something_changes() -> None:
    async with _OneCurve().run_test(size=(80, 24)) as pilot:
        curve, series = pilot.app.query_one(Curve), _series(3.0, 2.0, 1.0)
        curve.show("loss", "1", [series])
        first = curve.render_line(0)
        curve.show("loss", "1", [series])
        assert curve.render_line(0) is first
        series.append(3, 0.5)
        curve.show("loss", "0.5", [series])
        assert curve.render_line(0) is not first


async def test_a_tiny_widget_draws_nothing_and_does_not_fail() -> None:
    async with _OneCurve().run_test(size=(80, 24)) as pilot:
        curve = pilot.app.query_one(Curve)
        curve.styles.width, curve.styles.height = 4, 3
        curve.show("loss", "", [_series(1.0, 2.0)])
        await pilot.pause()
        assert _text(curve).strip() == ""
