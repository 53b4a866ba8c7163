import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from engine.errors import CheckpointError, DataError
from engine.text.decoding import BYTE_ALPHABET
from engine.text.tokenizer import TAGS, Tokenizer
from engine.text.tokenizer_training import train_tokenizer
from tests.text import tokenizer_folders as folders
from tests.text.tokenizer_folders import HARD_TEXTS, MARKERS, TEXTS

KINDS: list[Callable[[Path], Path]] = [folders.qwen, folders.sentencepiece, folders.metaspace]


def own(folder: Path) -> Path:
    train_tokenizer(TEXTS, 400).save(folder)
    return folder


@pytest.fixture(scope="module", params=[own, *KINDS], ids=lambda kind: kind.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return request.param(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train_tokenizer(TEXTS, 400)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(folders.qwen(tmp_path_factory.mktemp("qwen")))


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_ids_equal_those_of_transformers(folder: Path, tokenizer: Tokenizer, text: str) -> None:
    expected = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.tokenize(text).ids == expected
    assert tokenizer.tokenize_batch([text]) == [expected]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_a_text_without_markers_has_the_same_ids_on_every_path(tokenizer: Tokenizer, text: str) -> None:
    for marker in [*tokenizer.control_tokens, *tokenizer.tags]:
        text = text.replace(marker, "-")
    real = tokenizer.tokenize(text)
    assert tokenizer.tokenize(text, markers=False) == real
    assert tokenizer.tokenize(text, literal=[(0, len(text))]) == real
    assert tokenizer.tokenize_batch([text, text], markers=False) == [real.ids, real.ids]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_without_literal_content_the_shielded_path_gives_the_same_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.tokenize(text, literal=[(0, 0)]) == tokenizer.tokenize(text)


def test_a_literal_marker_is_ordinary_text_inside_its_sentence(tokenizer: Tokenizer) -> None:
    added = {**tokenizer.control_tokens, **tokenizer.tags}
    for marker, id_ in added.items():
        text = f"so {marker} is text\n{marker}{marker}!"
        literal = [(3, 3 + len(marker))]
        tokens = tokenizer.tokenize(text, literal=literal)
        assert tokens.ids.count(id_) == 2
        assert not (set(tokens.ids) - {id_}) & set(added.values())
        start, end = literal[0]
        assert sum(first < end and last > start for first, last in tokens.offsets) > 1 or marker == "</s>"
        before, after = text.rindex(marker, 0, -1 - len(marker)), len(text) - 1
        cut = tokens.ids.index(id_)
        assert tokens.ids[:cut] == tokenizer.tokenize(text[:before], markers=False).ids or "mask" in marker
        assert tokens.offsets[-1] == (after, after + 1)


def test_no_text_can_make_a_marker_where_markers_are_off(tokenizer: Tokenizer) -> None:
    added = {**tokenizer.control_tokens, **tokenizer.tags}
    unknown = {added.get(tokenizer.special_tokens.get("unk_token", ""))}
    text = "".join(f"{marker}{marker} {marker}\n" for marker in added) + "".join(HARD_TEXTS)
    for ids in (
        tokenizer.tokenize(text, markers=False).ids,
        tokenizer.tokenize(text, literal=[(0, len(text))]).ids,
        tokenizer.tokenize_batch([text], markers=False)[0],
        *(tokenizer.tokenize(marker, markers=False).ids for marker in added),
    ):
        assert ids and not set(ids) & (set(added.values()) - unknown)


def test_a_marker_in_the_model_vocabulary_is_reachable_only_as_a_marker(qwen: Tokenizer, tmp_path: Path) -> None:
    state = json.loads((folders.qwen(tmp_path) / "tokenizer.json").read_text())
    assert set(MARKERS) <= set(state["model"]["vocab"]) and state["model"]["ignore_merges"]
    for marker in MARKERS:
        assert len(qwen.tokenize(marker).ids) == 1
        assert len(qwen.tokenize(marker, markers=False).ids) > 1
        assert qwen.decode(qwen.tokenize(marker, markers=False).ids) == marker


def test_literal_ranges_may_touch_overlap_and_cut_markers(ours: Tokenizer) -> None:
    text = "<think><think><think>"
    think = ours.tags["<think>"]
    assert ours.tokenize(text, literal=[(7, 14), (0, 7)]).ids.count(think) == 1
    assert ours.tokenize(text, literal=[(0, 10), (5, 14)]).ids.count(think) == 1
    assert ours.tokenize(text, literal=[(3, 4)]).ids.count(think) == 2
    assert ours.decode(ours.tokenize(text, literal=[(3, 4)]).ids) == text


def test_reserved_characters_cannot_smuggle_a_marker(ours: Tokenizer) -> None:
    reserved = chr(0x10FFFD)
    assert ours.decode(ours.tokenize(reserved * 8, markers=False).ids) == reserved * 8
    with pytest.raises(DataError, match=r"U\+10FFFD"):
        ours.tokenize(reserved * 8 + "<think>", literal=[(8, 15)])


def test_offsets_are_characters_of_the_text(tokenizer: Tokenizer) -> None:
    text = "it is 😀 <|im_end|>你好"
    for tokens in (tokenizer.tokenize(text), tokenizer.tokenize(text, literal=[(8, 18)])):
        assert len(tokens.ids) == len(tokens.offsets)
        assert tokens.offsets == sorted(tokens.offsets)
        assert {place for start, end in tokens.offsets for place in range(start, end)} == set(range(len(text)))
        assert all(start == 6 and end <= 8 for start, end in tokens.offsets if start <= 6 < end and end > 7)


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_decoding_returns_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.tokenize(text, markers=False).ids
    if "é" in text and tokenizer.tokenize("e\u0301").ids == tokenizer.tokenize("é").ids:
        text = text.replace("e\u0301", "é").replace("Å", "Å")  # an NFC tokenizer
    if tokenizer.tokenize(" a").ids == tokenizer.tokenize("a").ids:
        text = text.removeprefix(" ")  # the first space cannot be told from the one put before every text
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.texts(ids)) == text
    stream = tokenizer.stream()
    assert "".join([*(stream.feed([id_]) for id_ in ids), stream.flush()]) == text


def test_decoding_equals_transformers(folder: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.tokenize("<|im_start|>你好 it's 😀<|im_end|>").ids
    reference = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(ids) == reference.decode(ids)
    assert tokenizer.decode(ids, skip_control=True).strip() == reference.decode(ids, skip_special_tokens=True).strip()


def test_bytes_of_tokens_are_the_bytes_of_the_text(ours: Tokenizer) -> None:
    text = "鑫 😀 é <think>"
    ids = ours.tokenize(text).ids
    assert b"".join(map(ours.token_bytes, ids)) == text.encode()
    assert ours.token_bytes(ours.tags["<think>"]) == b"<think>"
    assert ours.token_bytes(ours.vocab_size) == b""
    assert {ours.token_bytes(id_) for id_ in range(ours.vocab_size)} >= {bytes([byte]) for byte in range(256)}


def test_byte_fallback_tokens_are_bytes(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(folders.sentencepiece(tmp_path))
    ids = tokenizer.tokenize("鑫").ids
    assert [tokenizer.token_bytes(id_) for id_ in ids] == [b" ", b"\xe9", b"\x91", b"\xab"]
    assert tokenizer.texts(ids) == ["", "", "", "鑫"]


def test_a_split_character_stands_on_its_last_token(ours: Tokenizer) -> None:
    ids = ours.tokenize("😀").ids
    assert len(ids) == 4
    assert ours.texts(ids) == ["", "", "", "😀"]
    assert ours.texts(ids[:3]) == ["", "", "\ufffd"]
    assert ours.texts([ids[0], *ours.tokenize("a").ids]) == ["", "\ufffda"]
    assert ours.texts([]) == []


def test_a_stream_never_splits_a_character(ours: Tokenizer) -> None:
    stream = ours.stream(skip_control=True)
    ids = ours.tokenize("鑫<|im_end|>").ids
    assert [stream.feed([id_]) for id_ in ids] == ["", "", "鑫", ""]
    assert stream.feed(ids[:2]) == "" and stream.flush() == "\ufffd"


def test_skipping_control_keeps_tags(ours: Tokenizer) -> None:
    ids = ours.tokenize("<|im_start|>assistant\n<think>x</think>y<|im_end|>").ids
    assert ours.decode(ids, skip_control=True) == "assistant\n<think>x</think>y"


def test_byte_alphabet_is_the_library_s() -> None:
    assert set(BYTE_ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_ALPHABET.values()) == list(range(256))


def test_saved_folder_loads_in_transformers(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    ours, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.fingerprint == tokenizer.fingerprint
    assert ours.special_tokens == tokenizer.special_tokens
    assert theirs.chat_template == tokenizer.chat_template
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.eos_id and theirs.pad_token_id == tokenizer.pad_id
    original = AutoTokenizer.from_pretrained(folder)
    for text in HARD_TEXTS:
        assert theirs(text)["input_ids"] == original(text)["input_ids"]
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.tokenize(text).ids
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "hi"}]
        assert theirs.apply_chat_template(messages, tokenize=False) == "<|im_start|>user\nhi<|im_end|>\n"


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_model_beside_it_changes_nothing_for_transformers(ours: Tokenizer, tmp_path: Path, model_type: str) -> None:
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in HARD_TEXTS:
        assert theirs(text)["input_ids"] == ours.tokenize(text).ids


def test_special_ids_of_our_own(ours: Tokenizer) -> None:
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (None, 2, 0)
    assert ours.stop_ids == {0, 2}
    assert (ours.document_start, ours.document_end) == (0, 0)
    assert list(ours.tags) == list(TAGS) and list(ours.control_tokens) == MARKERS
    assert ours.special_tokens == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def test_special_ids_as_the_folder_says(tmp_path: Path) -> None:
    folder = folders.sentencepiece(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    tokenizer = Tokenizer.load(folder)
    im_end = tokenizer.control_tokens["<|im_end|>"]
    assert tokenizer.stop_ids == {5, 7, 2, im_end}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, im_end, None)
    assert (tokenizer.document_start, tokenizer.document_end) == (1, im_end)


def test_tokens_that_only_the_configuration_names_are_added_as_in_transformers(tmp_path: Path) -> None:
    folder = own(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    size = Tokenizer.load(folder).vocab_size
    config["added_tokens_decoder"] = {str(size): {"content": "<|extra|>", **flags}}
    config["pad_token"] = "[PAD]"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.control_tokens["<|extra|>"] == size == theirs.convert_tokens_to_ids("<|extra|>")
    assert tokenizer.pad_id == size + 1 == theirs.pad_token_id
    assert tokenizer.vocab_size == len(theirs)


@pytest.mark.parametrize("where", ["string", "list", "file"])
def test_chat_template_is_found_wherever_it_stands(tmp_path: Path, where: str) -> None:
    folder = folders.metaspace(tmp_path)
    assert Tokenizer.load(folder).chat_template is None
    named = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes {{ messages }}"}]
    template = {"string": "yes {{ messages }}", "list": named, "file": "no"}[where]
    folders.write(folder, Backend.from_file(str(folder / "tokenizer.json")), chat_template=template)
    if where == "file":
        (folder / "chat_template.jinja").write_text("yes {{ messages }}")
    assert Tokenizer.load(folder).chat_template == "yes {{ messages }}"


def test_fingerprint_follows_ids_and_not_the_template(ours: Tokenizer, tmp_path: Path) -> None:
    ours.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))
    other = Tokenizer.load(tmp_path)
    assert other.fingerprint == ours.fingerprint and other.template_digest != ours.template_digest
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    assert Tokenizer.load(tmp_path).fingerprint != ours.fingerprint
    assert train_tokenizer(TEXTS[:-1], 399).fingerprint != ours.fingerprint


def test_missing_and_damaged_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path / "nowhere")
    good = own(tmp_path)
    state, config = ((good / name).read_text() for name in ("tokenizer.json", "tokenizer_config.json"))
    broken = json.loads(state)
    broken["model"]["merges"].append(["no", "such"])
    moved = json.loads(state)
    moved["added_tokens"][3]["id"] = 390
    unigram = json.loads(state) | {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}
    for name, content in [
        ("tokenizer.json", state[:1000]),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", json.dumps(broken)),
        ("tokenizer.json", json.dumps(moved)),
        ("tokenizer.json", json.dumps(unigram)),
        ("tokenizer.json", json.dumps(json.loads(state) | {"added_tokens": [1]})),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", '{"chat_template": [1]}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}'),
        ("tokenizer_config.json", '{"model_max_length": "long"}'),
        ("generation_config.json", '{"eos_token_id": ["a"]}'),
        ("special_tokens_map.json", "\xff"),
    ]:
        (good / name).write_text(content, encoding="latin-1")
        with pytest.raises(CheckpointError) as caught:
            Tokenizer.load(good)
        assert str(tmp_path) in caught.value.where and caught.value.hint, (name, content[:50])
        (good / "tokenizer.json").write_text(state)
        (good / "tokenizer_config.json").write_text(config)
        (good / "generation_config.json").unlink(missing_ok=True)
    (good / "special_tokens_map.json").unlink()
    Tokenizer.load(good)


def test_lone_surrogates_are_refused(ours: Tokenizer) -> None:
    for call in (
        lambda: ours.tokenize("a\ud800"),
        lambda: ours.tokenize("a\ud800", markers=False),
        lambda: ours.tokenize("a\ud800", literal=[(0, 1)]),
        lambda: ours.tokenize_batch(["fine", "a\ud800"]),
    ):
        with pytest.raises(DataError, match="lone surrogate at character 1"):
            call()
