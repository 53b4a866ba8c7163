"""The command line from end to end: what scripts and the app rely on."""

import json
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from engine.cli import main
from engine.cli.show import print_table
from engine.cli.train import _signals
from engine.runs.folder import find_run
from engine.runs.history import metrics_of

PEOPLE = ("Mira", "Jon", "Ana", "Leo", "Eva", "Tom", "Ida", "Max")
JOBS = ("tailor", "baker", "sailor", "painter")
SMALL = (
    "hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "num_key_value_heads=1", "max_seq_len=64",
    "batch_size=4", "log_interval=1", "dtype=float32", "num_threads=1", "sample_tokens=8",
)  # fmt: skip


@pytest.fixture
def engine(monkeypatch, capsys):
    """Runs `engine …` in this process; returns exit code, standard output and standard error."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return json.loads(out) if "--json" in arguments and not code else (out, err)

    return run


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "text.jsonl"
    rows = [{"text": f"{p} is a {j}. {p} 是好人。"} for p in PEOPLE for j in JOBS]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Is {p} a {j}?"},
                {"role": "assistant", "content": f"{p} is a {j}."},
            ]
        }
        for p in PEOPLE
        for j in JOBS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def words(engine, texts, tmp_path):
    folder = tmp_path / "words"
    engine("tokenizer", "train", texts, "--vocab-size", 300, "--out", folder)
    return folder


def small(*more):
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys\nfrom engine.cli import main\nsys.argv = ['engine', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'tokenizers', 'jinja2', 'textual'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in ("stages", "train", "resume", "runs", "chat", "eval", "import", "export", "bench", "data", "profile"):
        assert verb in done.stdout


def test_the_ladder_from_text_to_chat(engine, texts, talks, words, tmp_path):
    base = engine("train", "cpu/pretrain", "--data", texts, "--tokenizer", words, "--name", "base", "--json",
                  *small("max_steps=6", "eval_interval=3", "save_interval=3", "val_fraction=0.2"))  # fmt: skip
    assert base["status"] == "done" and base["steps"] == 6 and base["run"] == "base"
    assert base["train_loss"] > 0 and base["val_loss"] > 0 and base["val_bits_per_byte"] > 0
    assert base["tokens"] > 0 and base["tokens_per_second"] > 0 and base["peak_bytes"] > 0
    tuned = engine("train", "cpu/sft", "--data", talks, "--from", "base", "--name", "tuned", "--json",
                   "--set", "max_steps=40", "--set", "learning_rate=5e-3", "--set", "max_seq_len=64",
                   "--set", "num_threads=1", "--set", "val_fraction=0")  # fmt: skip
    shown = engine("runs", "show", "tuned", "--json")
    assert shown["checkpoint"] == tuned["checkpoint"]
    assert shown["state"] == "done" and shown["step"] == 40
    assert shown["settings"]["hidden_size"] == {"value": 32, "origin": "inherited base", "section": "model"}
    answer = engine(
        "chat", "tuned", "--prompt", "Is Mira a tailor?", "--temperature", 0, "--max-new-tokens", 12, "--json"
    )
    assert answer.keys() == {"text", "tokens", "tokens_per_second", "stop_reason"}
    assert answer["stop_reason"] in ("stop", "length") and 0 < answer["tokens"] <= 12
    measured = engine("eval", "tuned", "--data", talks, "--max-rows", 8, "--max-new-tokens", 16, "--json")
    assert measured["questions"] == 8 and 0 <= measured["exact_match"] <= 1 and measured["bits_per_byte"] > 0
    engine("export", "tuned", tmp_path / "out", "--dtype", "bfloat16")
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    engine("import", tmp_path / "out", tmp_path / "back")
    same = engine("chat", tmp_path / "back", "--prompt", "Is Mira a tailor?", "--temperature", 0, "--json")
    assert isinstance(same["text"], str)
    listed = engine("runs", "list", "--json")
    assert {run["run"] for run in listed} == {"base", "tuned"}
    compared = engine("runs", "compare", "base", "base", "--json")
    assert compared["settings"] == {} and compared["metrics"]["loss"]["largest_difference"] == 0


def test_stages_name_the_ladder(engine):
    stages = engine("stages", "--json")
    assert [stage["name"] for stage in stages][:4] == ["tokenizer", "pretrain", "mid-train", "sft"]
    assert all(stage.keys() == {"name", "title", "reads", "starts_from", "purpose"} for stage in stages)


def test_inspect_shows_every_token(engine, talks, words):
    with talks.open("a", encoding="utf-8") as file:
        file.write('{"messages": 3}\n{"messages": [{"role": "user", "content": "你好😀"}, '
                   '{"role": "assistant", "content": "好"}]}\n')  # fmt: skip
    row = len(PEOPLE) * len(JOBS)
    shown = engine("data", "inspect", talks, "--row", row, "--tokenizer", words, "--json")
    assert (shown["row"], shown["line"], shown["stage"]) == (row, row + 2, "sft")
    tokens = shown["tokens"]
    whole = "<|im_start|>user\n你好😀<|im_end|>\n<|im_start|>assistant\n好<|im_end|>\n"
    assert "".join(token["text"] for token in tokens) == whole
    assert b"".join(bytes.fromhex(token["bytes"]) for token in tokens).decode() == whole
    assert "".join(token["text"] for token in tokens if token["weight"]) == "好<|im_end|>"
    assert shown["trained"] == sum(token["weight"] > 0 for token in tokens) and shown["total"] == len(tokens)
    assert shown["truncated"] == 0 and shown["problems"] == []
    every = engine("data", "inspect", talks, "--row", 0, "--stage", "mid-train", "--tokenizer", words, "--json")
    assert every["trained"] == every["total"] - 1


def test_inspect_takes_the_settings_that_make_samples(engine, talks, words):
    options = ("data", "inspect", talks, "--tokenizer", words)
    plain = engine(*options, "--json")
    prompted = engine(*options, "--set", "system_prompt_ratio=1", "--set", "seed=5", "--json")
    assert {token["role"] for token in plain["tokens"]} == {"user", "assistant"}
    assert {token["role"] for token in prompted["tokens"]} == {"system", "user", "assistant"}
    assert plain["trained"] == prompted["trained"]
    assert plain["tokens"][0]["special"] and "nothing before it" in plain["tokens"][0]["why"]
    _, err = engine(*options, "--set", "learning_rate=1", code=2)
    assert "learning_rate is not used here" in err


def test_inspect_shows_pairs_side_by_side(engine, words, tmp_path):
    path = tmp_path / "pairs.jsonl"
    side = [[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": name}] for name in ("Mira", "Jon")]
    path.write_text(json.dumps({"chosen": side[0], "rejected": side[1]}) + "\n")
    shown = engine("data", "inspect", path, "--row", 0, "--tokenizer", words, "--json")
    said = {name: "".join(t["text"] for t in shown[name]["tokens"] if t["weight"]) for name in ("chosen", "rejected")}
    assert said == {"chosen": "Mira<|im_end|>", "rejected": "Jon<|im_end|>"}


def test_audit_counts_and_names_bad_lines(engine, talks, words):
    with talks.open("ab") as file:
        file.write(b'{"messages": [\n\xff\xfe\n{"messages": [{"role": "user", "content": "alone"}]}\n')
    found = engine("data", "audit", talks, "--tokenizer", words, "--max-seq-len", 256, "--json")
    count = len(PEOPLE) * len(JOBS)
    assert (found["rows"], found["usable"]) == (count + 3, count + 1)
    assert [entry["line"] for entry in found["quarantined"]] == [count + 1, count + 2]
    assert found["rows_without_trained_tokens"] == 1 and found["truncated_rows"] == 0
    assert 0 < found["trained_share"] < 1 and 0 <= found["packed_padding_share"] < found["padding_share"] < 1


def test_audit_takes_the_settings_that_make_samples(engine, words, tmp_path):
    path = tmp_path / "marked.jsonl"
    path.write_text('{"text": "<|im_start|>Mira<|im_end|>"}\n' * 3 + '{"messages": [\n')
    plain = engine("data", "audit", path, "--tokenizer", words, "--json")
    parsed = engine("data", "audit", path, "--tokenizer", words, "--set", "parse_special_tokens=true", "--json")
    assert parsed["tokens"] < plain["tokens"]
    first = engine("data", "audit", path, "--tokenizer", words, "--max-rows", 2, "--json")
    assert (first["usable"], first["quarantined"]) == (2, [])
    _, err = engine("data", "audit", path, "--tokenizer", words, "--set", "learning_rate=1", code=2)
    assert "learning_rate is not used here" in err
    _, err = engine("data", "audit", path, "--tokenizer", words, "--stage", "tokenizer", code=2)
    assert "makes no samples" in err


def test_a_template_that_cannot_be_read_is_said(engine, talks, words, tmp_path):
    bad = tmp_path / "bad.jinja"
    bad.write_bytes(b"\xff\xfe")
    for template in (bad, tmp_path / "missing.jinja"):
        _, err = engine("data", "inspect", talks, "--tokenizer", words, "--template", template, code=2)
        assert "the template cannot be read" in err and str(template) in err


def test_columns_of_a_table_stand_below_each_other(capsys):
    print_table(("text", "role"), [("好吗", "user"), ("ab", None), ("e\u0301😀", "x")])
    assert capsys.readouterr().out == "text  role\n好吗  user\nab\ne\u0301😀   x\n"


def test_a_tokenizer_run_tells_its_metric_and_is_not_trained_twice(engine, texts):
    trained = engine("train", "cpu/tokenizer", "--data", texts, "--set", "vocab_size=300", "--name", "t", "--json")
    assert trained["characters_per_token"] == trained["languages"]["all"]["characters_per_token"] > 1
    shown = engine("runs", "show", "t", "--json")
    assert shown["metrics"] == {"characters_per_token": trained["characters_per_token"]}
    assert shown["tokenizer"] == trained["tokenizer"]
    before = len(find_run("t").history())
    assert engine("resume", "t", "--json") == trained
    assert len(find_run("t").history()) == before


def test_a_finished_run_is_resumed_politely(engine, texts, words):
    done = engine("train", "cpu/pretrain", "--data", texts, "--tokenizer", words, "--name", "a", "--json",
                  *small("max_steps=2"))  # fmt: skip
    run = find_run("a")
    before = len(run.history())
    out, err = engine("resume", "a")
    assert "nothing to resume" in err and done["checkpoint"] in out and len(run.history()) == before
    assert engine("resume", "a", "--json") == done
    _, err = engine("runs", "send", "a", "pause", code=2)
    assert "nobody listens" in err
    shutil.rmtree(run.checkpoints)
    assert engine("resume", "a", "--json")["steps"] == 2 and run.checkpoint_steps() == [2]


def test_a_list_shows_the_newest_numbers_and_leaves_damaged_runs_out(engine, texts, words):
    engine("train", "cpu/pretrain", "--data", texts, "--tokenizer", words, "--name", "a",
           *small("max_steps=5", "eval_interval=2", "val_fraction=0.2"))  # fmt: skip
    run = find_run("a")
    [listed] = engine("runs", "list", "--json")
    newest = {name: points[-1][1] for name, points in metrics_of(run.history()).items()}
    assert (
        listed["metrics"] == newest and listed["state"] == "done" and (listed["step"], listed["total_steps"]) == (5, 5)
    )
    run.resolved.write_text("{")
    out, err = engine("runs", "list")
    assert "a is left out" in err and "pretrain" not in out


def test_a_second_interrupt_does_not_wait():
    interrupt = threading.Event()
    with _signals(interrupt):
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.is_set()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_failures_nobody_thought_of_are_said_without_a_traceback(engine, texts, words, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error", "somewhere")

    monkeypatch.setattr("engine.references.data_file", fail)
    _, err = engine("data", "inspect", texts, code=1)
    assert err.startswith("engine: somewhere: Input/output error") and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "starter/pretrian"], "did you mean 'starter/pretrain'"),
        (["train", "cpu/pretrain"], "no data file"),
        (["train", "cpu/pretrain", "--data", "nowhere.jsonl"], "does not exist"),
        (["train", "cpu/pretrain", "--set", "learningrate=1"], "did you mean 'learning_rate'"),
        (["data", "inspect", "nowhere.jsonl"], "does not exist"),
        (["runs", "show", "nothing"], "no run"),
        (["resume", "nothing"], "no run"),
        (["chat", "nothing", "--prompt", "hi"], "no run"),
        (["eval", "nothing", "--data", "x"], "no run"),
        (["profile", "show", "nothing"], "no profile"),
        (["bench", "train", "--profile", "starter/tokenizer"], "has no model"),
        (["train"], "Missing argument"),
        (["sing"], "No such command"),
    ],
)
def test_bad_arguments_end_with_2_and_say_why(engine, arguments, message):
    _, err = engine(*arguments, code=2)
    assert message in err and "Traceback" not in err


def test_a_run_that_would_train_on_nothing_is_refused_and_leaves_nothing(engine, words, tmp_path):
    path = tmp_path / "empty.jsonl"
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hello?"}]}
    path.write_text((json.dumps(row) + "\n") * 4)
    _, err = engine("train", "cpu/sft", "--data", path, "--tokenizer", words, "--name", "void", *small(), code=2)
    assert "nothing to train on" in err
    assert engine("runs", "list", "--json") == []


def test_another_tokenizer_than_the_checkpoint_s_is_refused(engine, texts, talks, words, tmp_path):
    engine("train", "cpu/pretrain", "--data", texts, "--tokenizer", words, "--name", "base", *small("max_steps=1"))
    engine("tokenizer", "train", talks, "--vocab-size", 290, "--out", tmp_path / "other")
    _, err = engine("train", "cpu/sft", "--data", talks, "--from", "base", "--tokenizer", tmp_path / "other", code=2)
    assert "not the one that the checkpoint was trained with" in err
    _, err = engine("train", "cpu/sft", "--data", talks, "--from", "base", "--set", "hidden_size=64", code=2)
    assert "contradicts the checkpoint" in err
    _, err = engine("train", "cpu/pretrain", "--data", texts, "--tokenizer", words, "--name", "base", *small(), code=2)
    assert "exists already" in err


def test_profiles_can_be_listed_shown_checked_and_compared(engine):
    assert any(each["name"] == "starter/sft" for each in engine("profile", "list", "--json"))
    shown = engine("profile", "show", "minimind3/sft", "--json")
    assert shown["settings"]["learning_rate"]["value"] == 1e-5
    assert shown["settings"]["learning_rate"]["origin"] == "profile minimind3/sft"
    assert engine("profile", "diff", "minimind2/sft", "minimind3/sft", "--json")["max_seq_len"] == {
        "one": 340,
        "other": 768,
    }
    out, _ = engine("profile", "check", "cpu/sft")
    assert "valid" in out
    assert engine("profile", "check", "cpu/sft", "--json") == {"profile": "cpu/sft", "stage": "sft", "valid": True}


def test_the_starter_world_is_written(engine, tmp_path):
    written = engine("data", "starter", tmp_path / "world", "--json")
    assert written["files"]["pretrain.jsonl"] > 1000
    assert (tmp_path / "world" / "sft.jsonl").exists()


def test_generation_can_be_benchmarked(engine):
    shape = [part for s in ("hidden_size=32", "num_hidden_layers=1", "intermediate_size=64") for part in ("--set", s)]
    found = engine("bench", "generate", "--repeats", 1, "--new-tokens", 4, "--dtype", "float32", "--json", *shape)
    assert found["variants"]["float32"]["tokens_per_second"] > 0
    found = engine("bench", "train", "--repeats", 1, "--length", 16, "--batch-size", 2, "--dtype", "float32", "--alone",
                   "--json", *shape)  # fmt: skip
    assert found["variants"]["engine float32"]["mfu"] > 0


def test_a_run_is_replaced_only_by_one_that_works(engine, texts, words, tmp_path):
    train = ("train", "cpu/pretrain", "--tokenizer", words, "--name", "base")
    engine(*train, "--data", texts, *small("max_steps=1"))
    useless = tmp_path / "useless.jsonl"
    useless.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    engine(*train, "--data", useless, "--overwrite", *small("max_steps=1"), code=2)
    assert engine("runs", "show", "base", "--json")["step"] == 1
    engine(*train, "--data", texts, "--overwrite", *small("max_steps=2"))
    assert engine("runs", "show", "base", "--json")["step"] == 2
    assert [run["run"] for run in engine("runs", "list", "--json")] == ["base"]


def test_an_interrupted_run_gives_its_summary_and_ends_with_130(texts, words):
    arguments = ["train", "cpu/pretrain", "--data", str(texts), "--tokenizer", str(words), "--name", "long", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments, *small("max_steps=100000", "save_interval=1")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "checkpoint saved" in line:
            break
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    summary = json.loads(out)
    assert summary["status"] == "stopped" and summary["steps"] >= 1 and summary["checkpoint"]
