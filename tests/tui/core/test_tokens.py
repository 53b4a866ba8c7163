from itertools import pairwise

import pytest
from rich.cells import cell_len

from minimind_tui.core.tokens import DIVERGENCE, DOCUMENT, PART, Layout, TokenSheet, width_of


def sheet(
    *texts: str, roles: list[str] | None = None, weights: list[float] | None = None, **more: object
) -> TokenSheet:
    count = len(texts)
    return TokenSheet(texts, roles or ["text"] * count, weights or [1.0] * count, [False] * count, **more)  # type: ignore[arg-type]


def shown(layout: Layout) -> list[str]:
    return ["".join(text for _, text, _, _ in line.pieces) for line in layout.lines]


def test_lines_break_between_tokens_and_only_a_longer_one_is_cut() -> None:
    assert shown(Layout(sheet("one", " two", " three"), 8)) == ["one two", " three"]
    assert shown(Layout(sheet("ab", "cdefghijkl", "mn"), 4)) == ["ab", "cdef", "ghij", "klmn"]
    long = Layout(sheet("ab", "cdefghijkl", "mn"), 4)
    assert [*long.lines_of(1)] == [1, 2, 3] and long.first_lines == [0, 1, 3]


def test_newlines_end_lines_and_keep_their_cell() -> None:
    layout = Layout(sheet("a\n", "b", "\n\n", "c"), 20)
    assert shown(layout) == ["a\n", "b\n", "\n", "c"]
    assert [*layout.lines_of(2)] == [1, 2]
    assert shown(Layout(sheet("a\n"), 20)) == ["a\n"]


def test_wide_characters_are_measured_in_cells() -> None:
    layout = Layout(sheet("你好", "世界", "😀", "a"), 7)
    assert shown(layout) == ["你好", "世界😀a"]
    assert [(column, cells) for _, _, column, cells in layout.lines[1].pieces] == [(0, 4), (4, 2), (6, 1)]
    assert shown(Layout(sheet("你好世界"), 5)) == ["你好", "世界"]


def test_a_split_character_stands_together_and_each_of_its_tokens_has_a_cell() -> None:
    layout = Layout(sheet("abcd", "", "", "", "😀", "e"), 8)
    assert shown(layout) == ["abcd", f"{PART * 3}😀e"]
    assert [(token, column) for token, _, column, _ in layout.lines[1].pieces] == [
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 3),
        (5, 5),
    ]
    assert layout.first_lines == [0, 1, 1, 1, 1, 1]
    assert shown(Layout(sheet("a", *[""] * 7), 3)) == [f"a{PART * 2}", PART * 3, PART * 2]
    assert shown(Layout(sheet("", "", "", "😀"), 2)) == [PART * 2, PART, "😀"]
    cut = Layout(sheet("a", "", "b", roles=["user", "user", "assistant"]), 9)
    assert shown(cut) == [f"a{PART}", "b"]
    assert sheet("a", "", "😀").character(1) == "😀"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x9b2J", "<9B>2J"),
        ("a\u202eb", "a<U+202E>b"),
        ("\r", "␍"),
        ("\u0301x", "◌\u0301x"),
        ("e\u0301", "e\u0301"),
        ("\u200b", "<U+200B>"),
        ("👩\u200d", "👩<U+200D>"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("🏽", "<U+1F3FD>"),
        ("🇨", "◌🇨"),
        ("🇨🇳", "◌🇨🇳"),
        ("\ud800", "<U+D800>"),
        ("[red]", "[red]"),
    ],
)
def test_hostile_and_shapeless_characters_become_visible_and_join_with_no_neighbour(text: str, expected: str) -> None:
    layout = Layout(sheet("a", text, "b"), 40)
    assert shown(layout) == [f"a{expected}b"]
    assert all(cells > 0 for _, _, _, cells in layout.lines[0].pieces)
    assert layout.lines[0].pieces[2][2] == 1 + cell_len(expected)


def test_a_tab_takes_a_cell() -> None:
    layout = Layout(sheet("a\tb", "c"), 10)
    assert [(text, cells) for _, text, _, cells in layout.lines[0].pieces] == [("a\tb", 3), ("c", 1)]


def test_roles_documents_and_diverging_sides_begin_lines() -> None:
    turns = Layout(sheet("a", "b", "c", roles=["user", "assistant", "assistant"]), 10)
    assert shown(turns) == ["a", "bc"]
    assert [(line.role, line.begins) for line in turns.lines] == [("user", True), ("assistant", True)]
    packed = Layout(sheet("a", "b", "c", "", roles=[*["text"] * 3, "pad"], starts=(0, 2)), 10)
    assert shown(packed) == ["ab", "c", "_"]
    assert [line.sign for line in packed.lines] == [DOCUMENT, DOCUMENT, ""]
    pair = Layout(sheet("a\n", "b", "c", dimmed=1), 10)
    assert shown(pair) == ["a\n", "bc"] and [line.sign for line in pair.lines] == ["", DIVERGENCE]
    assert [line.sign for line in Layout(sheet("a", "b", dimmed=2), 10).lines] == [""]


def test_every_token_is_somewhere_and_no_line_is_too_long_at_any_width() -> None:
    texts = [
        "the",
        " cat",
        "\n\n",
        "你好世界",
        "",
        "",
        "😀",
        "\t",
        " a very long token indeed",
        "e\u0301",
        "\r\n",
        "",
        "x",
    ]
    one = sheet(*texts, starts=(0, 5), dimmed=3)
    for width in range(2, 40):
        layout = Layout(one, width)
        tokens = [token for line in layout.lines for token, _, _, _ in line.pieces]
        assert sorted({*tokens}) == [*range(len(one))] and tokens == sorted(tokens)
        for line in layout.lines:
            assert line.pieces
            for (_, _, column, cells), (_, _, following, _) in pairwise(line.pieces):
                assert column + cells == following
            assert (
                sum(width_of(text) for _, text, _, _ in line.pieces) == sum(piece[3] for piece in line.pieces) <= width
            )
        for index in range(len(one)):
            assert layout.token_at(layout.first_lines[index], layout.column_of(index)) == index


def test_hot_tokens_carry_signs_where_there_are_no_colours() -> None:
    hot = sheet("a", "b", "c", "d", heat=(0.0, None, 0.5, 1.0))
    assert shown(Layout(hot, 20, heat_signs=True)) == ["ab▒c█d"]
    assert shown(Layout(hot, 20)) == ["abcd"]
    assert [hot.heat_step(index) for index in range(4)] == [0, None, 3, 5]


def test_a_place_beyond_the_ends_of_a_line_is_its_first_or_last_token() -> None:
    layout = Layout(sheet("ab", "cd\n", "e"), 9)
    assert [layout.token_at(line, column) for line, column in ((0, -3), (0, 99), (1, 50), (-1, 0), (9, 0))] == [
        0,
        1,
        2,
        0,
        2,
    ]


def test_borders_of_the_mask() -> None:
    masked = sheet(*"abcdef", weights=[0, 0, 1, 10, 0, 1])
    assert [masked.border(index, 1) for index in range(6)] == [2, 2, 4, 4, 5, 5]
    assert [masked.border(index, -1) for index in range(6)] == [0, 1, 2, 2, 2, 4]


def test_no_tokens_make_no_lines() -> None:
    assert Layout(sheet(), 10).lines == []
