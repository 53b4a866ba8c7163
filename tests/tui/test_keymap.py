"""Keys by id: the user's own, what clashes, and the table of the documentation."""

from pathlib import Path
from typing import ClassVar

import pytest
from textual.app import App
from textual.binding import Binding, BindingType

from minimind_tui.keymap import effective, is_key, known_keys, objections, problems, show_key, split_keys, table
from minimind_tui.state import read_keymap, save_keymap

_ROOT = Path(__file__).parents[2]


def test_every_binding_of_the_app_is_known_by_its_id() -> None:
    keys = known_keys()
    assert {"quit", "help", "area.train", "train.pause", "home.starter", "list.down", "dialog.stop"} <= set(keys)
    assert keys["train.pause"].keys == ("p",) and keys["train.pause"].group == "Train"
    assert keys["area.train"].group == "Everywhere" and keys["list.down"].group == "In a list"
    assert keys["dialog.stop"].in_dialog and not keys["train.stop"].in_dialog


def test_ids_say_what_they_do_and_avoid_the_terminals_own_keys() -> None:
    for key in known_keys().values():
        assert key.text, f"{key.id} has no description"
        assert not set(key.keys) & {"ctrl+b", "ctrl+a", "ctrl+s", "ctrl+z", "ctrl+i", "ctrl+m", "ctrl+h", "ctrl+c"}, key
        assert all(map(is_key, key.keys)), key


@pytest.mark.parametrize(
    ("id", "wanted", "said"),
    [
        ("train.pause", "space", ""),
        ("train.pause", "s", "train.pause (Pause) and train.stop (Stop & save): both on s"),
        ("train.pause", "6", "area.chat (Go to Chat) and train.pause (Pause): both on 6"),
        ("train.pause", "j", "list.down (Down) and train.pause (Pause): both on j"),
        ("train.pause", "ctlr+x", "no key 'ctlr+x'"),
        ("train.pause", "ctrl+m", "same as enter"),
        ("train.pause", "ctrl+z", "belongs to the shell"),
        ("train.pause", "ctrl+q", "quit (Quit) and train.pause (Pause): both on ctrl+q"),
        ("train.pause", " , ", "no key left"),
        ("quit", "x", "cannot be its key"),
        ("home.starter", "p", ""),
        ("dialog.stop", "p", ""),
        ("dialog.stop", "d", "dialog.detach (Keep running detached) and dialog.stop (Stop and save): both on d"),
    ],
)
def test_what_a_binding_cannot_have(id: str, wanted: str, said: str) -> None:
    found = objections(id, wanted, {})
    assert any(said in one for one in found) if said else not found, found


def test_a_key_that_another_binding_gives_up_is_free() -> None:
    assert objections("train.pause", "s", {"train.stop": "x"}) == []
    assert objections("train.pause", "x", {"train.stop": "x"})


def test_problems_of_a_keymap_are_named_and_the_rest_of_it_counts() -> None:
    overrides = {"train.puase": "x", "train.stop": "p", "train.save": "b"}
    found = problems(overrides)
    assert "there is no binding 'train.puase'" in found
    assert any("train.stop" in one and "both on p" in one for one in found)
    assert effective(overrides) == {"train.save": "b"}


def test_a_key_that_two_bindings_share_stays_with_the_one_that_is_not_moved() -> None:
    """Textual takes it from both."""
    assert effective({"train.pause": "space"}) == {"train.pause": "space", "train.go_on": "p"}


async def test_textual_follows_the_effective_keymap() -> None:
    said: list[str] = []

    class _App(App[None]):
        BINDINGS: ClassVar[list[BindingType]] = [
            Binding("p", "say('pause')", "Pause", id="train.pause"),
            Binding("p", "say('go on')", "Go on", id="train.go_on"),
        ]

        def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
            return parameters != ("pause",) or not said

        def action_say(self, text: str) -> None:
            said.append(text)

    app = _App()
    async with app.run_test() as pilot:
        app.set_keymap(effective({"train.pause": "space"}))
        await pilot.press("space", "space", "p")
    assert said == ["pause", "go on"]


def test_keys_as_people_write_them() -> None:
    assert split_keys("?, ctrl+x ,G") == ["question_mark", "ctrl+x", "G"]
    assert [show_key(key) for key in ("question_mark", "ctrl+p", "up", "shift+f5")] == ["?", "ctrl+p", "↑", "shift+f5"]


def test_both_ways_to_write_an_id_count(home: Path) -> None:
    (home / "keymap.toml").write_text('quit = "ctrl+x"\ntrain.pause = "x"\n"train.stop" = "b"\nodd = 3\n')
    keys, found = read_keymap()
    assert keys == {"quit": "ctrl+x", "train.pause": "x", "train.stop": "b"}
    assert len(found) == 1 and "odd = 3" in found[0]
    save_keymap({"train.pause": "x", "quit": "ctrl+x"})
    assert read_keymap() == ({"train.pause": "x", "quit": "ctrl+x"}, [])


def test_the_keyboard_table_is_that_of_the_bindings() -> None:
    """After a change of bindings: python -m minimind_tui.keymap > docs/keys.md"""
    assert (_ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == table()
