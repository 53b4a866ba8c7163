from pathlib import Path

from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from engine.settings.registry import STAGES
from minimind_tui.core.offers import Offers, checkpoints


def _run(name: str, stage: str, steps: tuple[int, ...] = (), best: int | None = None) -> RunSummary:
    return RunSummary(run=RunFolder(Path("/runs") / name), stage=stage, profile="", state="done", step=1, total=1,
                      tokens=0, metrics={}, metric=None, best=None, checkpoints=steps, best_step=best, began=0, said=0,
                      error="", resolved={})  # fmt: skip


_RUNS = [_run("talks", "sft", (5, 9), 5), _run("reads", "pretrain", (8,), 8), _run("empty", "pretrain")]


def test_what_a_stage_usually_starts_from_stands_first() -> None:
    assert Offers(_RUNS).of("from", STAGES["sft"]) == ["reads", "talks", "talks@best"]


def test_data_that_the_stage_can_read() -> None:
    data = Offers([]).of("data", STAGES["sft"])
    assert data[0] == "starter:sft.jsonl" and "starter:dpo.jsonl" not in data
    assert not any("eval" in name for name in data)


def test_data_of_the_shape_that_a_stage_reads_first_stands_first() -> None:
    assert Offers([]).of("data", STAGES["ppo"])[0] == "starter:rlaif.jsonl"


def test_other_models_that_a_run_needs_are_checkpoints_the_advised_stage_s_first() -> None:
    offers = Offers([*_RUNS, _run("judge", "reward", (4,))])
    assert offers.of("reward_model", STAGES["grpo"])[0] == "judge"
    assert offers.of("critic_from", STAGES["ppo"])[0] == "judge"
    assert offers.of("teacher", STAGES["distill"]) == ["talks", "talks@best", "reads", "judge"]


def test_every_checkpoint_of_a_run() -> None:
    assert checkpoints(_RUNS[0]) == ["talks", "talks@best", "talks@9", "talks@5"]
    assert checkpoints(_RUNS[2]) == ["empty"]


def test_tokenizers_are_runs_that_made_one(tmp_path: Path) -> None:
    (tmp_path / "words" / "tokenizer").mkdir(parents=True)
    made = _run("words", "tokenizer")
    made = RunSummary(**{**made.__dict__, "run": RunFolder(tmp_path / "words")})
    assert Offers([made, *_RUNS]).of("tokenizer", STAGES["pretrain"]) == ["words"]
