"""What all tests share: a home of their own, and a tiny tokenizer."""

import pytest

from engine.text.tokenizer import Tokenizer
from engine.text.tokenizer_training import train_tokenizer

BILINGUAL = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps in the sun.",
    "What is one plus two? One plus two is three. Who are you? I am a small model.",
    "从前有一只小狐狸，它住在森林里。小狐狸喜欢学习，也喜欢和朋友一起玩。",
    "一加二等于几？一加二等于三。你是谁？我是一个小模型。",
    "one\n\ntwo\n\nthree\n\n",
] * 4


@pytest.fixture(autouse=True)
def minimind_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, caches and data of every test go to a folder of its own."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The project's own kind of tokenizer, with its template, trained on a few lines."""
    return train_tokenizer(BILINGUAL, 500)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return str(folder)
