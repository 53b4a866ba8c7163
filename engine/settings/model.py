"""The shape of the model."""

from pydantic import model_validator

from engine.settings.fields import Section, setting


class ModelSettings(Section):
    """Size and kind of the transformer. A run that starts from a checkpoint inherits all of it."""

    hidden_size: int = setting(
        512, ge=8, le=65536, unit="features",
        controls="The width of the model: how many numbers stand for each token between layers.",
        high="Memory and time grow with its square; a small data set is learnt by heart.",
        low="Below about 256 real text stays garbled, however long it trains.",
        start="512",
    )  # fmt: skip
    num_hidden_layers: int = setting(
        8, ge=1, le=512, unit="layers",
        controls="The depth: how many transformer blocks follow one another.",
        high="Slower for each token, harder to train without warm-up; generation slows down most.",
        low="Two or three steps of reasoning about a sentence do not fit into one or two layers.",
        start="8",
    )  # fmt: skip
    num_attention_heads: int = setting(
        8, ge=1, le=512, unit="heads",
        controls="How many places each layer can look at independently.",
        high="Heads become narrow (below 32 features) and lose precision.",
        low="Fewer relations between words can be followed at a time.",
        start="8",
    )  # fmt: skip
    num_key_value_heads: int = setting(
        2, ge=1, le=512, unit="heads",
        controls="How many key and value heads are shared by the attention heads (GQA); divides their number.",
        high="A larger cache while generating, slightly better quality.",
        low="The smallest cache; a little quality is lost at one.",
        start="2",
    )  # fmt: skip
    head_dim: int | None = setting(
        None, ge=2, le=1024, unit="features",
        controls="The width of one head; unset: hidden_size / num_attention_heads.",
        high="Attention costs more than the layer gains.",
        low="Positions and meanings share too few features.",
        start="unset (64)",
    )  # fmt: skip
    intermediate_size: int | None = setting(
        None, ge=8, le=262144, unit="features",
        controls="The inner width of the feed-forward part; unset: 8/3 of hidden_size, rounded up to 64.",
        high="Most parameters and time go there, attention is starved.",
        low="Fewer facts can be stored.",
        start="unset (1408)",
    )  # fmt: skip
    vocab_size: int | None = setting(
        None, ge=16, le=1_000_000, unit="tokens",
        controls="Rows of the embedding table; unset: the tokenizer's number of tokens.",
        high="In a small model the embedding eats the parameters.",
        low="Refused: smaller than the tokenizer's, some tokens would have no row.",
        start="unset (6400)",
    )  # fmt: skip
    max_position_embeddings: int = setting(
        32768, ge=16, le=10_000_000, unit="tokens",
        controls="The longest text the model may ever be asked to read.",
        high="Nothing is allocated for it; it only promises what was not trained.",
        low="Generation stops at this length.",
        start="32768",
    )  # fmt: skip
    rope_theta: float = setting(
        1e6, gt=1,
        controls="The base of the rotary position code: how slowly positions turn.",
        high="Near positions are hard to tell apart in short training texts.",
        low="Far positions look alike; long texts suffer.",
        start="1000000",
    )  # fmt: skip
    rope_scaling_factor: float = setting(
        1.0, ge=1, le=64,
        controls="YaRN: by what factor the position code is stretched beyond rope_scaling_length; 1 is off.",
        high="Short texts get worse.",
        low="1: texts longer than those trained on fall apart.",
        start="1",
    )  # fmt: skip
    rope_scaling_length: int = setting(
        2048, ge=16, unit="tokens",
        controls="YaRN: the length the model was trained for before stretching.",
        high="Stretching starts too late.",
        low="Positions that were learnt well are disturbed.",
        start="2048",
    )  # fmt: skip
    rms_norm_eps: float = setting(
        1e-6, gt=0, lt=1,
        controls="The small number that keeps normalisation from dividing by zero.",
        high="Small activations are flattened.",
        low="Overflow in half precision.",
        start="1e-6",
    )  # fmt: skip
    qk_norm: bool = setting(
        True,
        controls="Normalises queries and keys before attention (Qwen3, MiniMind-3).",
        high="On: a little slower, attention stays calm at high learning rates.",
        low="Off (Llama, MiniMind2): needs a gentler learning rate.",
        start="true",
    )  # fmt: skip
    attention_bias: bool = setting(
        False,
        controls="Adds biases to the query, key and value projections (Qwen2).",
        high="On: parameters that small models do not need.",
        low="Off: right for everything but Qwen2 shapes.",
        start="false",
    )  # fmt: skip
    tie_word_embeddings: bool = setting(
        True,
        controls="Uses one table for reading and for predicting tokens.",
        high="On: saves vocab_size × hidden_size parameters.",
        low="Off: the second table is worth it only in large models.",
        start="true",
    )  # fmt: skip
    dropout: float = setting(
        0.0, ge=0, lt=1,
        controls="The share of activations that is switched off at random while training.",
        high="Learning slows down; attention takes the slow path and more memory.",
        low="0 is right while the data is seen only a few times.",
        start="0",
    )  # fmt: skip

    num_experts: int = setting(
        0, ge=0, le=1024, unit="experts",
        controls="Mixture of experts: how many feed-forward parts each layer has to choose from; 0 is a dense model.",
        high="Memory and checkpoints grow with it, and each expert sees fewer tokens; a token takes no longer.",
        low="0: every token passes through everything. Two or three are hardly a choice.",
        start="0",
    )  # fmt: skip
    num_experts_per_tok: int = setting(
        2, ge=1, le=1024, unit="experts",
        controls="How many experts each token passes through (top-k), if there are any.",
        high="Time grows with it; with all of them nothing is saved.",
        low="1 is the fastest; the router then learns from one expert at a time.",
        start="2",
    )  # fmt: skip
    num_shared_experts: int = setting(
        0, ge=0, le=64, unit="experts",
        controls="Experts that every token passes through beside those chosen for it (DeepSeek, MiniMind2).",
        high="Time grows with it, and the choice matters less. No transformers class has these shapes.",
        low="0: what all tokens need is learnt by every expert anew.",
        start="0",
    )  # fmt: skip
    moe_intermediate_size: int | None = setting(
        None, ge=8, le=262144, unit="features",
        controls="The inner width of one expert; unset: intermediate_size. That divided by num_experts_per_tok takes a "
        "dense model's time.",
        high="Memory grows with it times num_experts, time with it times num_experts_per_tok.",
        low="Each expert stores little.",
        start="unset",
    )  # fmt: skip
    norm_topk_prob: bool | None = setting(
        None,
        controls="Divides the weights of a token's experts by their sum; unset: where a token takes several.",
        high="On: the output keeps its size. Refused with one expert a token: its weight would be 1 whatever the "
        "router says, and the text would teach it nothing.",
        low="Off: the output shrinks with the router's doubt.",
        start="unset",
    )  # fmt: skip
    router_aux_loss_coef: float = setting(
        0.01, ge=0, le=10,
        controls="The weight of the loss that spreads tokens over experts: 1 a token when they are balanced, the "
        "layers' mean.",
        high="The router serves balance instead of the text.",
        low="A few experts take all tokens, the others learn nothing.",
        start="0.01",
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelSettings":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) is not a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
                f"({self.num_attention_heads}); set head_dim to keep them"
            )
        if (self.head_dim or self.hidden_size // self.num_attention_heads) % 2:
            raise ValueError("head_dim is odd; rotary positions need an even number of features a head")
        if self.qk_norm and self.attention_bias:
            raise ValueError("qk_norm and attention_bias together: no model family has both")
        if self.num_experts:
            self._check_experts()
        elif self.num_shared_experts:
            raise ValueError("num_shared_experts without num_experts: a dense model has no experts")
        return self

    def _check_experts(self) -> None:
        if self.num_experts == 1:
            raise ValueError("num_experts is 1: one expert is a dense model, take 0")
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok ({self.num_experts_per_tok}) is more than num_experts ({self.num_experts})"
            )
        if self.norm_topk_prob and self.num_experts_per_tok == 1:
            raise ValueError(
                "norm_topk_prob with one expert a token: its weight would be divided by itself, and no gradient of the "
                "language model would reach the router; leave it unset"
            )
        if self.attention_bias:
            raise ValueError("attention_bias and num_experts together: no model family has both")

    @property
    def resolved_head_dim(self) -> int:
        """`head_dim`, or its default from the width and the heads."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def resolved_intermediate_size(self) -> int:
        """`intermediate_size`, or 8/3 of the width rounded up to a multiple of 64 (as in MiniMind2)."""
        return self.intermediate_size or 64 * ((int(8 * self.hidden_size / 3) + 63) // 64)

    @property
    def resolved_moe_intermediate_size(self) -> int:
        """`moe_intermediate_size`, or the width that a dense model would have."""
        return self.moe_intermediate_size or self.resolved_intermediate_size

    @property
    def resolved_norm_topk_prob(self) -> bool:
        """`norm_topk_prob`, or whether a token takes several experts: one alone must keep its probability."""
        return self.num_experts_per_tok > 1 if self.norm_topk_prob is None else self.norm_topk_prob
