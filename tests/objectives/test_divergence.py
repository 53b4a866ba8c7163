import math
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.objectives.divergence import CachedTeacher, Teacher, kl_estimate, linear_divergence

VOCABULARY = 17


def _case(tokens: int = 13, rows: int = VOCABULARY) -> dict[str, Tensor]:
    """A student, and a wider teacher of which only the first rows are tokens."""
    generator = torch.Generator().manual_seed(7)
    return {
        "hidden": torch.randn(tokens, 8, generator=generator),
        "head": torch.randn(rows, 8, generator=generator),
        "teacher_hidden": 0.4 * torch.randn(tokens, 12, generator=generator),
        "teacher_head": torch.randn(VOCABULARY + 3, 12, generator=generator),
        "weights": torch.tensor([0.0, 1.0, 10.0])[torch.randint(0, 3, (tokens,), generator=generator)],
    }


def _teacher(case: dict[str, Tensor]) -> Teacher:
    return Teacher(case["teacher_hidden"], case["teacher_head"], VOCABULARY)


def _cached(case: dict[str, Tensor], temperature: float, kept: int) -> CachedTeacher:
    logits = case["teacher_hidden"] @ case["teacher_head"][:VOCABULARY].T / temperature
    best = logits.log_softmax(dim=-1).topk(kept, dim=-1)
    return CachedTeacher(best.indices, best.values, VOCABULARY)


def _tables(case: dict[str, Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher from full logits in float64."""
    pairs = ((case["hidden"], case["head"]), (case["teacher_hidden"], case["teacher_head"]))
    student, teacher = (
        (hidden.double() @ head.double()[:VOCABULARY].T / temperature).log_softmax(dim=-1) for hidden, head in pairs
    )
    return student, teacher


def _grouped(table: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of the kept tokens and of "any other"."""
    others = table.scatter(1, ids, -math.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([table.gather(1, ids), others], dim=-1)


def _kl(student: Tensor, teacher: Tensor, reverse: bool) -> Tensor:
    first, second = (student, teacher) if reverse else (teacher, student)
    return (first.exp() * (first - second)).sum(dim=-1)


def _reference(case: dict[str, Tensor], temperature: float, reverse: bool, kept: int | None = None) -> Tensor:
    student, teacher = _tables(case, temperature)
    if kept is not None:
        ids = teacher.topk(kept, dim=-1).indices
        student, teacher = _grouped(student, ids), _grouped(teacher, ids)
    return (_kl(student, teacher, reverse) * case["weights"]).sum()


def _ours(case: dict[str, Tensor], temperature: float, reverse: bool, kept: int | None = None, **more: Any) -> Tensor:
    teacher = _teacher(case) if kept is None else _cached(case, temperature, kept)
    return linear_divergence(
        case["hidden"], case["head"], teacher, case["weights"], temperature=temperature, reverse=reverse, **more
    )


def _with_gradients(
    function: Any, case: dict[str, Tensor], *arguments: Any, **more: Any
) -> tuple[Tensor, list[Tensor | None]]:
    case = dict(case)
    for name in ("hidden", "head"):
        case[name] = case[name].detach().clone().requires_grad_()
    value = function(case, *arguments, **more)
    value.backward()
    return value.detach().double(), [case["hidden"].grad, case["head"].grad]


def _assert_same(ours: tuple[Tensor, list[Tensor | None]], theirs: tuple[Tensor, list[Tensor | None]]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    for mine, wanted in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


# The estimators


def test_estimators_by_hand() -> None:
    """r = 2: k1 = ln 2 and k3 = 1/2 − 1 + ln 2; r = 1/2: k1 = −ln 2 and k3 = 2 − 1 − ln 2."""
    log_ratio = torch.tensor([math.log(2), -math.log(2), 0.0])
    assert kl_estimate(log_ratio, "k1").tolist() == pytest.approx([math.log(2), -math.log(2), 0.0])
    assert kl_estimate(log_ratio, "k3").tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2), 0.0])


def test_k3_is_never_negative_and_keeps_what_is_small() -> None:
    assert (kl_estimate(torch.linspace(-8, 8, 4001), "k3") >= 0).all()
    # x²/2 − x³/6, which exp(−x) − 1 + x loses in float32
    assert kl_estimate(torch.tensor(1e-4), "k3").item() == pytest.approx(5e-9, rel=1e-3)


def _two_policies() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_expectation_is_the_divergence(estimator: str) -> None:
    """Over all tokens, weighted by how often the policy draws them."""
    logits, other = _two_policies()
    policy, reference = logits.log_softmax(dim=0), other.log_softmax(dim=0)
    expected = (policy.exp() * kl_estimate(policy - reference, estimator)).sum()
    torch.testing.assert_close(expected, (policy.exp() * (policy - reference)).sum())


def test_k3_spreads_less_than_k1() -> None:
    logits, other = _two_policies()
    policy, reference = (0.2 * logits).log_softmax(dim=0), (0.2 * other).log_softmax(dim=0)

    def variance(estimator: str) -> float:
        values, likely = kl_estimate(policy - reference, estimator), policy.exp()
        return (likely * (values - (likely * values).sum()) ** 2).sum().item()

    assert variance("k3") < 0.5 * variance("k1")


def test_only_k3_pulls_as_a_loss() -> None:
    """On tokens drawn beforehand, k1 has no gradient on average, k3 that of KL(other ‖ policy)."""

    def mean_gradient(estimator: str) -> Tensor:
        logits, other = _two_policies()
        policy, reference = logits.log_softmax(dim=0), other.log_softmax(dim=0)
        (policy.detach().exp() * kl_estimate(policy - reference, estimator)).sum().backward()
        assert logits.grad is not None
        return logits.grad

    logits, other = _two_policies()
    torch.testing.assert_close(mean_gradient("k1"), torch.zeros(6, dtype=torch.float64))
    # d KL(other ‖ policy) / d logits = policy − other
    torch.testing.assert_close(mean_gradient("k3"), (logits.softmax(dim=0) - other.softmax(dim=0)).detach())


# Of whole distributions


@pytest.mark.parametrize("reverse", [False, True])
def test_by_hand(reverse: bool) -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2), weight 2."""
    hidden, head = torch.tensor([[1.0]]), torch.zeros(2, 1, requires_grad=True)
    teacher = Teacher(torch.tensor([[1.0]]), torch.tensor([[math.log(3)], [0.0]]), 2)
    value = linear_divergence(hidden, head, teacher, torch.tensor([2.0]), temperature=1.0, reverse=reverse)
    value.backward()
    assert head.grad is not None
    if reverse:
        # Σ p·ln(p/q) = ½·ln(2/3) + ½·ln 2 = ½·ln(4/3); slope p·(ln(p/q) − KL): ½·(ln(2/3) − ½·ln(4/3)) = −¼·ln 3
        assert value.item() == pytest.approx(2 * 0.5 * math.log(4 / 3))
        assert head.grad[:, 0].tolist() == pytest.approx([-0.5 * math.log(3), 0.5 * math.log(3)])
    else:
        # Σ q·ln(q/p) = ¾·ln(3/2) + ¼·ln(1/2); slope p − q = (−¼, ¼)
        assert value.item() == pytest.approx(2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
        assert head.grad[:, 0].tolist() == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_equals_full_logits(chunk: int, temperature: float, reverse: bool) -> None:
    case = _case()
    _assert_same(
        _with_gradients(_ours, case, temperature, reverse, chunk=chunk),
        _with_gradients(_reference, case, temperature, reverse),
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kept", [1, 5, VOCABULARY - 1])
def test_cached_equals_full_logits_over_its_outcomes(kept: int, reverse: bool) -> None:
    case = _case()
    _assert_same(
        _with_gradients(_ours, case, 1.5, reverse, kept, chunk=4),
        _with_gradients(_reference, case, 1.5, reverse, kept),
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kept", [VOCABULARY - 1, VOCABULARY])
def test_cached_with_every_token_is_the_teacher(kept: int, reverse: bool) -> None:
    case = _case()
    _assert_same(_with_gradients(_ours, case, 2.0, reverse, kept), _with_gradients(_ours, case, 2.0, reverse))


@pytest.mark.parametrize("reverse", [False, True])
def test_cached_is_at_most_the_teacher(reverse: bool) -> None:
    case = _case()
    found = [_ours(case, 1.0, reverse, kept).item() for kept in (1, 2, 5, 10, VOCABULARY - 1)]
    assert found == sorted(found)
    assert found[0] < found[-1] == pytest.approx(_ours(case, 1.0, reverse).item(), rel=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_cached_is_the_teacher_where_the_student_spreads_the_rest_alike(reverse: bool) -> None:
    """Teacher (½, ⅙, ⅙, ⅙) and student (¼, ¼, ¼, ¼) agree on how the last three share theirs."""
    teacher_logits, ones = torch.tensor([[0.5], [1 / 6], [1 / 6], [1 / 6]]).log(), torch.ones(1, 1)
    whole = Teacher(ones, teacher_logits, 4)
    part = CachedTeacher(torch.tensor([[0]]), torch.tensor([[0.5]]).log(), 4)
    head = torch.zeros(4, 1)
    values = [
        linear_divergence(ones, head, teacher, torch.ones(1), temperature=1.0, reverse=reverse).item()
        for teacher in (whole, part)
    ]
    # ½·ln 2 + ½·ln(2/3), or ¼·ln(1/2) + ¾·ln(3/2)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5) if reverse else 0.5 * math.log(4 / 3)
    assert values == pytest.approx([expected, expected], rel=1e-5)


def test_a_confident_student_is_still_told_of_the_rest() -> None:
    """The teacher leaves 1 % to tokens of which the student is sure that they never come (10⁻⁹ of its probability)."""
    head = torch.tensor([[21.0], [0.0], [0.0]], requires_grad=True)
    teacher = CachedTeacher(torch.tensor([[0]]), torch.tensor([[0.99]]).log(), 3)
    linear_divergence(torch.ones(1, 1), head, teacher, torch.ones(1), temperature=1.0).backward()
    assert head.grad is not None
    # p − q: 1 − 0.99 on the kept token, −0.01 on the rest, which its two tokens share
    assert head.grad[:, 0].tolist() == pytest.approx([0.01, -0.005, -0.005], rel=1e-3)


@pytest.mark.parametrize("kept", [None, 5])
def test_rows_beyond_the_vocabulary_get_no_gradient(kept: int | None) -> None:
    case = _case(rows=VOCABULARY + 4)
    ours = _with_gradients(_ours, case, 1.0, False, kept, chunk=4)
    _assert_same(ours, _with_gradients(_reference, case, 1.0, False, kept))
    assert ours[1][1] is not None and not ours[1][1][VOCABULARY:].any()


def test_student_that_is_the_teacher_has_nothing_to_learn() -> None:
    case = _case()
    case["teacher_hidden"], case["teacher_head"] = case["hidden"], case["head"]
    for reverse in (False, True):
        value, gradients = _with_gradients(_ours, case, 2.0, reverse)
        assert value.item() == pytest.approx(0.0, abs=1e-5)
        assert all(each is not None and each.abs().max() < 1e-5 for each in gradients)


def test_gradients_times_temperature_squared_keep_their_size() -> None:
    """Trap 17: for logits small against a high temperature, T²·KL has the slope (student − teacher)/vocabulary."""
    student, teacher = torch.tensor([[0.3], [-0.3]], requires_grad=True), torch.tensor([[-0.1], [0.1]])
    ones, temperature = torch.ones(1, 1), 100.0
    value = linear_divergence(ones, student, Teacher(ones, teacher, 2), torch.ones(1), temperature=temperature)
    (value * temperature**2).backward()
    assert student.grad is not None
    assert student.grad[:, 0].tolist() == pytest.approx([0.4 / 2, -0.4 / 2], rel=1e-3)


@pytest.mark.parametrize("kept", [None, 5])
@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_one_side_frozen(frozen: str, kept: int | None) -> None:
    free = "head" if frozen == "hidden" else "hidden"
    case = _case()
    case[free].requires_grad_()
    _ours(case, 1.0, False, kept, chunk=4).backward()
    assert case[frozen].grad is None
    again = _case()
    again[free].requires_grad_()
    _reference(again, 1.0, False, kept).backward()
    torch.testing.assert_close(case[free].grad, again[free].grad, rtol=1e-4, atol=1e-4)


def test_both_sides_frozen_has_no_graph() -> None:
    assert not _ours(_case(), 1.0, False).requires_grad


def test_bfloat16_student_and_teacher_in_its_own_precision() -> None:
    case = _case(tokens=64)
    for name in ("hidden", "head", "teacher_hidden", "teacher_head"):
        case[name] = case[name] * 0.5
    expected = _with_gradients(_reference, case, 1.0, False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = _with_gradients(_ours, case, 1.0, False, chunk=10, dtype=torch.bfloat16)
        own = torch.full((64, VOCABULARY), -math.log(VOCABULARY))
        values = _teacher(case).divergence(own, slice(0, 64), 1.0, False)[0]
    assert ours[0].item() == pytest.approx(expected[0].item(), rel=5e-3)
    for mine, wanted in zip(ours[1], expected[1], strict=True):
        assert mine is not None and wanted is not None and mine.dtype == torch.float32
        assert torch.linalg.vector_norm(mine - wanted) / torch.linalg.vector_norm(wanted) < 0.02
    # The student's precision does not become the teacher's
    torch.testing.assert_close(values, _kl(own, _tables(case, 1.0)[1].float(), False))


@pytest.mark.parametrize("kept", [None, 5])
def test_no_tokens_give_zero_with_a_live_graph(kept: int | None) -> None:
    case = _case(tokens=0)
    value, gradients = _with_gradients(_ours, case, 1.0, False, kept)
    assert value.item() == 0
    assert all(each is not None and not each.any() for each in gradients)
