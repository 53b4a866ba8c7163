"""Models in from elsewhere and out to elsewhere."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from engine.errors import UserError
from engine.model.config import num_parameters
from engine.model.families import load_pretrained, save_pretrained
from engine.model.hf_config import describe
from engine.model.loading import load_model
from engine.model.lora import merge
from engine.model.minimind_pth import load_minimind
from engine.model.transformer import Transformer
from engine.text.tokenizer import Tokenizer

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def import_model(source: Path, out: Path, tokenizer: Path | None, heads: int | None) -> dict[str, Any]:
    """Reads a Hugging Face folder or a MiniMind .pth file and writes it as a checkpoint folder in float32.

    Args:
        source: The folder or file.
        out: The folder to write.
        tokenizer: A tokenizer folder; the source's own otherwise.
        heads: Attention heads, for a .pth file that does not say.

    Raises:
        CheckpointError: The source is damaged or of another kind.
        UserError: There is no tokenizer, or it has more tokens than the model.
    """
    model = load_pretrained(source) if source.is_dir() else load_minimind(source, num_attention_heads=heads)
    if tokenizer is None and not (source / "tokenizer.json").is_file():
        raise UserError("the source has no tokenizer", where=str(source), hint="add --tokenizer DIR")
    words = Tokenizer.load(source if tokenizer is None else tokenizer)
    if words.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {words.vocab_size} tokens, the model {model.config.vocab_size}", where="--tokenizer"
        )
    return _write(model, words, out, torch.float32)


def export_model(checkpoint: Path, out: Path, dtype: str | None) -> dict[str, Any]:
    """Writes a checkpoint as a folder that holds the model and its tokenizer and nothing else; an adapter is merged.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    model = load_model(checkpoint)
    merge(model)
    return _write(model, Tokenizer.load(checkpoint), out, _DTYPES[dtype or "float32"])


def _write(model: Transformer, tokenizer: Tokenizer, out: Path, dtype: torch.dtype) -> dict[str, Any]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise UserError(f"the folder cannot be made: {error.strerror}", where=str(out)) from error
    try:
        tokenizer.save(work)
        save_pretrained(
            work, model, bos_token_id=tokenizer.bos_id, eos_token_id=sorted(tokenizer.stop_ids),
            pad_token_id=tokenizer.pad_id, dtype=dtype,
        )  # fmt: skip
        work.chmod(0o755)
        if out.exists():
            out.rmdir()
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    parameters = sum(num_parameters(model.config).values())
    return {
        "out": str(out),
        "model": describe(model.config),
        "parameters": parameters,
        "dtype": str(dtype).split(".")[1],
    }
