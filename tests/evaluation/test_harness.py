"""The adapter for lm-evaluation-harness, as far as it goes without the data of its tasks."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.evaluation.harness import arguments, run_harness


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError) as caught:
        run_harness(tmp_path, ["arc_easy"])
    assert "minimind-tui[lm-eval]" in caught.value.hint


def test_the_folder_is_what_the_harness_loads(tmp_path: Path) -> None:
    found = arguments(tmp_path, ("arc_easy", "piqa"), limit=0, batch_size=4, device="cpu")
    assert found["model"] == "hf" and found["model_args"] == {"pretrained": str(tmp_path)}
    assert found["tasks"] == ["arc_easy", "piqa"] and found["limit"] is None
    assert arguments(tmp_path, ["piqa"], limit=5, batch_size=4, device="cpu")["limit"] == 5


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_takes_the_arguments(tmp_path: Path) -> None:
    from lm_eval import simple_evaluate

    found = arguments(tmp_path, ["piqa"], limit=1, batch_size=1, device="cpu")
    inspect.signature(simple_evaluate).bind(**found)
