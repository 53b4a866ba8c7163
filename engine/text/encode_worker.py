"""Encodes one chunk of a file: a JSON job on standard input, a part on disk.

Run as `python -m engine.text.encode_worker`.
"""

import json
import sys
from pathlib import Path

from engine.errors import EngineError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Chunk, open_records
from engine.text.store import collect
from engine.text.tokenizer import Tokenizer


def main() -> None:
    """Does the job."""
    job = json.load(sys.stdin)
    encoder = Encoder(Tokenizer.load(job["tokenizer"]), EncodeSettings(**job["settings"]))
    records = open_records(job["data"], mapping=job["mapping"])
    (part,) = collect(records.iterate(Chunk(*job["chunk"])), encoder, tuple(job["shapes"]), sys.maxsize)
    part.save(Path(job["out"]))


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:
        sys.exit(str(error))
