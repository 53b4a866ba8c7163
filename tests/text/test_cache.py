import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError, EngineError
from engine.settings.places import cache_folder
from engine.text import cache
from engine.text.cache import CacheRequest, data_fingerprint, load_samples
from engine.text.encode import EncodeSettings
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]


def write(path: Path, texts: list[str], bad: tuple[int, ...] = ()) -> Path:
    rows = [json.dumps({"text": text}) for text in texts]
    lines = [row for number, row in enumerate(rows) for row in (["{broken"] if number in bad else []) + [row]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def request_(tmp_path: Path, tokenizer_folder: str) -> CacheRequest:
    data = write(tmp_path / "data.jsonl", [f"the dog sleeps {number} 从前" for number in range(60)], bad=(3, 40))
    return CacheRequest(data, Path(tokenizer_folder), EncodeSettings(16), {})


def content(store: SampleStore) -> tuple[Any, ...]:
    """All that a store holds."""
    files = {path.name: path.read_bytes() for path in store.folder.iterdir() if path.name != "meta.json"}
    return files, store.meta


def test_the_second_time_nothing_is_encoded(
    request_: CacheRequest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_samples(request_, tokenizer)
    monkeypatch.setattr(cache, "_build", None)
    assert content(load_samples(request_, tokenizer)) == content(first)
    assert [entry["line"] for entry in first.meta["quarantined"]] == [4, 42]
    assert first.meta["usable"] == 60


def test_everything_that_decides_the_samples_is_in_the_key(
    request_: CacheRequest, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.jsonl", ["another"])
    changed = [
        request_,
        replace(request_, data=other),
        replace(request_, settings=EncodeSettings(17)),
        replace(request_, settings=EncodeSettings(16, "all")),
        replace(request_, settings=EncodeSettings(16, parse_special_tokens=True)),
        replace(request_, settings=EncodeSettings(16, system_prompt_ratio=0.5)),
        replace(request_, settings=EncodeSettings(16, empty_think_ratio=0.5)),
        replace(request_, settings=EncodeSettings(16, system_prompt_ratio=0.5, seed=1)),
        replace(request_, mapping={"text": "body"}),
        replace(request_, max_rows=5),
        replace(request_, shapes=("text",)),
    ]
    keys = [each.key(tokenizer) for each in changed]
    state, template = tokenizer._state(), tokenizer.chat_template
    special = dict(tokenizer.special_tokens)
    for variant in (
        Tokenizer(state, special_tokens=special, chat_template=f"{template} "),
        Tokenizer(state, special_tokens=special | {"bos_token": "<think>"}, chat_template=template),
        Tokenizer(state, special_tokens=special, chat_template=template, stop_ids=[7]),
    ):
        keys.append(request_.key(variant))
    assert len(set(keys)) == len(keys)
    assert request_.key(Tokenizer.load(request_.tokenizer)) == keys[0]
    without_dice = replace(request_, settings=EncodeSettings(16, seed=1))
    assert without_dice.key(tokenizer) == keys[0], "nothing is drawn, so every seed shares the cache"


def test_data_rewritten_with_the_same_size_and_times_is_read_again(
    request_: CacheRequest, tokenizer: Tokenizer
) -> None:
    before = request_.data.stat()
    old = load_samples(request_, tokenizer)
    digest = data_fingerprint(request_.data)
    request_.data.write_text(request_.data.read_text(encoding="utf-8").replace("dog", "fox"), encoding="utf-8")
    os.utime(request_.data, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = request_.data.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert data_fingerprint(request_.data) != digest
    new = load_samples(request_, tokenizer)
    assert "fox" in tokenizer.decode(new.ids(0)) and "dog" in tokenizer.decode(old.ids(0))


def test_the_digest_of_a_file_at_rest_is_remembered(request_: CacheRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_FRESH_SECONDS", -1e9)
    digest = data_fingerprint(request_.data)
    (memo,) = (cache_folder() / "digests").iterdir()
    assert memo.read_text() == digest == data_fingerprint(request_.data)
    memo.write_text("remembered")
    assert data_fingerprint(request_.data) == "remembered"


def test_data_that_changes_while_it_is_read_is_refused(
    request_: CacheRequest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = cache.collect

    def changing(*args: Any) -> Any:
        write(request_.data, ["changed"])
        return collect(*args)

    monkeypatch.setattr(cache, "collect", changing)
    with pytest.raises(DataError, match="changed while"):
        load_samples(request_, tokenizer)


def test_worker_processes_make_the_very_same_store(
    request_: CacheRequest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [
        {"text": "the dog " * (number % 9 + 1)}
        if number % 3
        else {"messages": [{"role": "user", "content": str(number)}, {"role": "assistant", "content": "fox"}]}
        for number in range(90)
    ]
    rows[50] = {
        "messages": [{"role": "user", "content": "\U0010fffd<|im_end|>"}, {"role": "assistant", "content": "x"}]
    }
    request_.data.write_text("\n".join(["{", *map(json.dumps, rows)]), encoding="utf-8")
    request_ = replace(request_, settings=EncodeSettings(24, system_prompt_ratio=0.5, seed=5))
    alone = load_samples(request_, tokenizer)
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(cache, "_PARALLEL_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    shares: list[float] = []
    together = load_samples(request_, tokenizer, shares.append)
    assert content(together) == content(alone)
    assert len(shares) > 2 and max(shares) == 1.0
    assert [entry["line"] for entry in alone.meta["quarantined"]] == [1, 52]


def test_a_worker_that_fails_is_told(
    request_: CacheRequest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "_PARALLEL_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(EngineError, match=r"encoding failed: .*none: there is no tokenizer\.json"):
        load_samples(replace(request_, tokenizer=tmp_path / "none"), tokenizer)
    assert not list((cache_folder() / "tokens").glob("*.building"))


def test_max_rows_and_mapping(request_: CacheRequest, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert load_samples(replace(request_, max_rows=7), tokenizer).meta["usable"] == 7
    path = tmp_path / "mapped.jsonl"
    path.write_text(json.dumps({"body": "dog"}) + "\n", encoding="utf-8")
    assert load_samples(replace(request_, data=path, mapping={"text": "body"}), tokenizer).meta["usable"] == 1


def test_a_file_without_a_row_of_the_wanted_shape_is_refused(request_: CacheRequest, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="not one usable row of conversation among 62"):
        load_samples(replace(request_, shapes=("conversation",)), tokenizer)
    assert not [path for path in (cache_folder() / "tokens").iterdir() if path.is_dir()]


_SCRIPT = """
import sys
from pathlib import Path
from engine.text import cache, store
from engine.text.encode import EncodeSettings
from engine.text.tokenizer import Tokenizer
folder = Path(sys.argv[2])
build, add = cache._build, store.Part.add
def counted(*args):
    print("building", flush=True)
    build(*args)
def slow(*args):
    add(*args)
    if "--hang" in sys.argv:
        import time
        print("hanging", flush=True)
        time.sleep(600)
cache._build, store.Part.add = counted, slow
request = cache.CacheRequest(Path(sys.argv[1]), folder, EncodeSettings(16), {})
print(len(cache.load_samples(request, Tokenizer.load(folder))), flush=True)
"""


def start(request: CacheRequest, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SCRIPT, str(request.data), str(request.tokenizer), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_share_one_build(request_: CacheRequest) -> None:
    processes = [start(request_) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(output.count("building") for output in outputs) == 1
    assert len({output[-1] for output in outputs}) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_kill_during_a_build_leaves_no_half_cache(request_: CacheRequest, tokenizer: Tokenizer) -> None:
    process = start(request_, "--hang")
    assert process.stdout is not None
    while process.stdout.readline() != "hanging\n":
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    tokens = cache_folder() / "tokens"
    assert list(tokens.glob("*.building")) and not (tokens / request_.key(tokenizer)).exists()
    assert load_samples(request_, tokenizer).meta["usable"] == 60
    assert not list(tokens.glob("*.building"))
