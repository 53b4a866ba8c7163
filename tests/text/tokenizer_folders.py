"""Small tokenizers of every supported kind, written as Hugging Face folders."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "The quick brown fox jumps over the lazy dog. It's 12 o'clock, they said; we'll see about that in 2024.",
    "从前有一只小狐狸，它住在森林里。小狐狸喜欢学习，也喜欢和朋友一起玩。",
    "def add(a, b):\n    return a + b  # 加法\n\nprint(add(1, 22))\n",
    "To be or not to be, that is the question. 床前明月光，疑是地上霜。",
] * 5

HARD_TEXTS = [
    "",
    " ",
    "  two  spaces\n\n\ttab \r\n",
    "你好，世界！12345 and 6,789.00",
    "emoji 😀👩‍👩‍👧‍👦🇨🇳 and ①½²",
    "café cafe\u0301 ﬁ Å",
    "zero\u0000width\u200b\ufeff rtl \u202eabc",
    "𠮷野家 𝔘𝔫𝔦 한국어 ไทย עברית",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n1+1\n</think>\n\n2<|im_end|>\n",
    "broken <|im_end <think>< /think><|im_start|><|im_start|>x<mask> y <mask>",
]

MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write(folder: Path, backend: Tokenizer, **config: Any) -> Path:
    """Writes `tokenizer.json` and `tokenizer_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def qwen(folder: Path) -> Path:
    """Byte-level, NFC, ignore_merges, and a vocabulary in which merges and whole-word look-up make the markers."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*TEXTS, *MARKERS * 50, *["<think>", "</think>"] * 50], trainer)
    assert all(backend.token_to_id(marker) is not None for marker in MARKERS)
    state = json.loads(backend.to_str())
    state["model"]["ignore_merges"] = True
    backend = Tokenizer.from_str(json.dumps(state))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"<[^>]*>"), "isolated"),
            pre_tokenizers.Split(Regex(_QWEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.add_special_tokens(MARKERS)
    backend.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return write(folder, backend, pad_token={"content": "<|endoftext|>", "__type": "AddedToken"})


def sentencepiece(folder: Path) -> Path:
    """Llama 2's kind: `▁` for spaces, one put before every piece of text, bytes for unknown characters."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    alphabet = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        [*TEXTS[:-2], *["</s>"] * 9], trainers.BpeTrainer(vocab_size=600, special_tokens=alphabet, show_progress=False)
    )
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]
    backend = Tokenizer.from_str(json.dumps(state))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return write(folder, backend, bos_token="<s>", unk_token="<unk>")


def metaspace(folder: Path) -> Path:
    """Llama 2's newer kind: `▁` before the first word only; added tokens that take the space beside them."""
    backend = Tokenizer(models.BPE(byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=alphabet, show_progress=False)
    )
    state = json.loads(backend.to_str()) | {"added_tokens": []}
    backend = Tokenizer.from_str(json.dumps(state))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([*MARKERS, AddedToken("<mask>", lstrip=True, rstrip=True)])
    backend.add_tokens(["<think>", "</think>"])
    return write(folder, backend)
