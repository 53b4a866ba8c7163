"""How a model is trained: steps, learning rate, precision, and when to look, say and save."""

from typing import Literal

from engine.settings.fields import Section, setting


class TrainingSettings(Section):
    """The loop and the optimizer, the same for every stage that trains a model."""

    learning_rate: float = setting(
        5e-4, gt=0, le=10,
        controls="The size of an optimizer step, at its highest.",
        high="The loss jumps up or becomes NaN; what was learnt before is forgotten.",
        low="The loss hardly falls; the run ends before anything is learnt.",
        start="5e-4 for pretraining, 1e-5 for fine-tuning a big model",
    )  # fmt: skip
    lr_schedule: Literal["cosine", "linear", "constant"] = setting(
        "cosine",
        controls="How the learning rate moves after warm-up: cosine or linear down to min_lr_ratio, or constant.",
        high="constant: the end of the run stays restless.",
        low="cosine and linear: a run cut short never saw its low rates.",
        start="cosine",
    )  # fmt: skip
    min_lr_ratio: float = setting(
        0.1, ge=0, le=1, unit="share of learning_rate",
        controls="Where the learning rate ends.",
        high="No settling at the end.",
        low="0: the last steps do nothing.",
        start="0.1",
    )  # fmt: skip
    warmup_steps: int = setting(
        0, ge=0, unit="steps",
        controls="Steps over which the learning rate rises from zero; half of the run at most.",
        high="A short run spends itself on warming up.",
        low="0: the first steps may throw the weights off.",
        start="5 % of the steps",
    )  # fmt: skip
    batch_size: int = setting(
        32, ge=1, le=1_000_000, unit="rows",
        controls="Rows in one forward and backward pass. Memory follows it.",
        high="Out of memory.",
        low="Small passes use the machine badly; raise accumulation_steps to keep the effective batch.",
        start="8 rows of 512",
    )  # fmt: skip
    accumulation_steps: int = setting(
        1, ge=1, le=1_000_000, unit="passes",
        controls="Passes that are gathered into one optimizer step; effective batch = batch_size × accumulation_steps.",
        high="Few updates in the same time.",
        low="1: the effective batch is batch_size.",
        start="4",
    )  # fmt: skip
    epochs: int = setting(
        1, ge=1, le=1_000_000, unit="passes over the data",
        controls="How often the data is seen.",
        high="Learnt by heart: validation loss rises while training loss falls.",
        low="1 is right for large data.",
        start="1 for pretraining, 2–3 for fine-tuning",
    )  # fmt: skip
    max_steps: int = setting(
        0, ge=0, unit="steps",
        controls="Ends the run after this many optimizer steps, rounds of several being made whole; 0: epochs decide.",
        high="More passes over the same data.",
        low="A quick look only.",
        start="0",
    )  # fmt: skip
    weight_decay: float = setting(
        0.1, ge=0, le=10,
        controls="How strongly weight matrices are pulled to zero (never norms, biases or embeddings).",
        high="Underfitting.",
        low="0: large weights in long runs.",
        start="0.1",
    )  # fmt: skip
    adam_beta1: float = setting(
        0.9, ge=0, lt=1,
        controls="AdamW's memory of the direction.",
        high="Slow to turn.", low="Noisy steps.", start="0.9",
    )  # fmt: skip
    adam_beta2: float = setting(
        0.95, ge=0, lt=1,
        controls="AdamW's memory of the size of gradients.",
        high="0.999 (MiniMind): reacts late to spikes.", low="Restless step sizes.", start="0.95",
    )  # fmt: skip
    adam_eps: float = setting(
        1e-8, gt=0, lt=1,
        controls="AdamW's guard against dividing by zero.",
        high="Rare tokens hardly learn.", low="Tiny gradients take full steps.", start="1e-8",
    )  # fmt: skip
    grad_clip: float = setting(
        1.0, ge=0, unit="norm",
        controls="The largest gradient norm that a step may have; 0 switches clipping off.",
        high="A bad batch can throw the weights off.",
        low="Every step is cut: the learning rate loses its meaning.",
        start="1.0",
    )  # fmt: skip
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        controls="The precision of the computation; weights are always kept in float32.",
        high="float32: exact, twice the memory and time on most devices.",
        low="float16: small gradients need a scaler; bfloat16 needs a device that has it.",
        start="bfloat16",
    )  # fmt: skip
    device: str = setting(
        "auto",
        controls="Where to compute: auto, cpu, cuda, cuda:1, mps.",
        high="A card that is not there is refused.",
        low="cpu: works everywhere, ten to a hundred times slower than a card.", start="auto",
    )  # fmt: skip
    num_threads: int = setting(
        0, ge=0, le=4096, unit="threads",
        controls="Processor threads; 0 takes all cores. It is part of what makes a run repeatable.",
        high="More than there are cores: much slower.",
        low="Slower.",
        start="0",
    )  # fmt: skip
    compile: bool = setting(
        False,
        controls="Compiles the model before the run (torch.compile).",
        high="On: half a minute before the first step, then up to 1.4 times as fast where it pays.",
        low="Off: starts at once.",
        start="false",
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False,
        controls="Keeps only each layer's input and computes the rest again on the way back.",
        high="On: about two thirds less memory for a third more time.",
        low="Off: all activations are kept.",
        start="false",
    )  # fmt: skip
    loss_chunk_size: int = setting(
        1024, ge=1, unit="tokens",
        controls="How many tokens' logits exist at a time while the loss is computed.",
        high="Memory: chunk × vocabulary × 4 bytes, twice.",
        low="Many small products; slower.",
        start="1024",
    )  # fmt: skip
    seed: int = setting(
        42, ge=0, le=2**63 - 1,
        controls="Where all randomness comes from: weights, order, dropout, sampling.",
        high="Any number is as good as another.", low="0 is a seed like any other.",
        start="any; try three before believing a small difference",
    )  # fmt: skip
    max_non_finite: int = setting(
        5, ge=1, unit="steps in a row",
        controls="How many steps in a row may be skipped for a non-finite loss or gradient before the run stops.",
        high="Hours of skipped steps.", low="One bad row ends the run.", start="5",
    )  # fmt: skip
    log_interval: int = setting(
        10, ge=1, unit="steps",
        controls="How often a step is reported.",
        high="Coarse curves.", low="1: large event files in long runs.", start="10",
    )  # fmt: skip
    eval_interval: int = setting(
        200, ge=0, unit="steps",
        controls="How often validation loss and samples are made; 0: only at the end.",
        high="Overfitting is seen late.", low="Time goes into looking.", start="200",
    )  # fmt: skip
    eval_rows: int = setting(
        256, ge=0, unit="rows",
        controls="How many validation rows are used at each evaluation; 0: all.",
        high="Slow evaluations.", low="Noisy validation loss.", start="256",
    )  # fmt: skip
    save_interval: int = setting(
        500, ge=0, unit="steps",
        controls="How often a checkpoint is written; 0: only at the end and when asked.",
        high="More is lost when the power fails.", low="Time and disk go into saving.", start="500",
    )  # fmt: skip
    keep_checkpoints: int = setting(
        2, ge=1, unit="checkpoints",
        controls="How many of the newest checkpoints are kept; the best one is kept besides.",
        high="Disk: each takes 12 bytes a parameter.", low="1: no way back.", start="2",
    )  # fmt: skip
    sample_prompts: list[str] = setting(
        [],
        controls="What the model is asked at each evaluation; empty: prompts from the validation rows.",
        high="Many prompts slow every evaluation down.",
        low="Empty: what the model says to rows it has not seen.", start="two or three questions you care about",
    )  # fmt: skip
    sample_tokens: int = setting(
        64, ge=0, unit="tokens",
        controls="How long the sampled answers may be; 0: no samples.",
        high="Slow evaluations.", low="Answers are cut.", start="64",
    )  # fmt: skip
