"""How a student learns from a teacher's distributions."""

from typing import Literal

from engine.settings.fields import Section, setting


class DistillSettings(Section):
    """White-box distillation: α·cross-entropy + (1 − α)·T²·KL."""

    teacher: str = setting(
        "",
        controls="The run or model folder to learn from; it must have the student's tokenizer.",
        high="A far larger teacher: slow, and more than a small student can follow.",
        low="Empty: refused.",
        start="your best larger model",
    )  # fmt: skip
    teacher_dtype: Literal["float32", "bfloat16", "float16"] = setting(
        "float32",
        controls="The precision of the teacher's weights and products.",
        high="float32: exact, twice the memory.",
        low="bfloat16: half the memory; slow where the hardware lacks it.",
        start="bfloat16",
    )  # fmt: skip
    alpha: float = setting(
        0.5, ge=0, le=1, unit="share",
        controls="The share of the cross-entropy with the data; the rest is the divergence to the teacher.",
        high="1: the teacher says nothing.",
        low="0: only the teacher counts, also where it is wrong.",
        start="0.5",
    )  # fmt: skip
    temperature: float = setting(
        1.5, gt=0, le=100,
        controls="Softens both distributions, so that the teacher's second and third choices count.",
        high="Everything looks alike.",
        low="Below 1: only the first choice counts.",
        start="1.5",
    )  # fmt: skip
    direction: Literal["forward", "reverse"] = setting(
        "forward",
        controls="forward: KL(teacher ‖ student), covers all the teacher would say. reverse: KL(student ‖ teacher).",
        high="reverse: the student keeps to what it is sure the teacher would say.",
        low="forward: a small student spreads itself thin.",
        start="forward",
    )  # fmt: skip
    teacher_top_k: int = setting(
        0, ge=0, le=100_000, unit="tokens",
        controls="Keeps the teacher's k most probable tokens, from one pass before the run; 0: asks it each step.",
        high="Disk: 8 bytes × k a token.",
        low="Below 20: much of what the teacher knows is lost. 0: the teacher stays in memory.",
        start="0; 50 where the teacher does not fit beside the student",
    )  # fmt: skip
