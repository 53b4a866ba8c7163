"""engine doctor: the report and the document."""

import json
import subprocess
import sys

import pytest

from engine.cli import main


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are timed once each: how fast they are is not what is tested."""
    monkeypatch.setattr("engine.session.doctor._SECONDS", 0.0)


def _doctor(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["engine", "doctor", *options])
    main()


def test_the_document_has_a_part_for_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _doctor(monkeypatch, "--json")
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == [
        "python", "torch", "platform", "device", "memory", "threads", "precision", "compile", "disk", "advice",
        "seconds",
    ]  # fmt: skip
    assert found["compile"] == {"tried": False, "works": None, "seconds": None}
    assert found["advice"] and not err


def test_the_report_names_what_was_found_and_what_was_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "\x1b[31mclose")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # torch finds out that it was not built for it
    _doctor(monkeypatch)
    out = capsys.readouterr().out
    lines = out.splitlines()
    for name in ("software", "cuda:0", "cpu", "memory", "threads", "float32", "bfloat16", "float16", "compile", "disk"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert next(line for line in lines if line.startswith("cuda:0 ")).split("  ")[-1].startswith("cannot be used: ")
    assert "not tried; `engine doctor --full` tries it" in out
    assert "OMP_PROC_BIND=␛[31mclose" in out
    assert "\nadvice\n  - cuda:0 cannot be used" in out and "set device=cpu" in out


def test_full_tries_to_compile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("engine.session.doctor.can_compile", lambda device: False)  # as where there is no compiler
    _doctor(monkeypatch, "--full")
    out, err = capsys.readouterr()
    assert "compile   does not work, tried in" in out and "  - torch.compile does not work" in out
    assert "trying torch.compile" in err


def test_its_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom engine.cli import main\nsys.argv = ['engine', 'doctor', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--full" in done.stdout
