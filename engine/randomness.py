"""Counter-based randomness: every random number is a function of the seed and of what it is for."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed in [0, 2^63) for one purpose, such as `derive_seed(42, "dropout", step, micro_batch)`.

    Nothing is drawn from a running stream, so there is no position to save and nothing to skip on resume.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
