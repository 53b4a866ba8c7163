"""How a tokenizer is trained."""

from engine.settings.fields import Section, setting


class TokenizerSettings(Section):
    """The tokenizer stage: text in, a tokenizer folder out."""

    data: str = setting(
        "",
        controls="The file whose text the tokenizer is trained on; `starter:NAME` is a file of the starter world.",
        high="Gigabytes of text take minutes and change little; max_rows limits them.",
        low="Empty: name it with --data.", start="the pretraining file",
    )  # fmt: skip
    mapping: dict[str, str] = setting(
        {},
        controls="Which columns of the file hold which field, where looking does not find them.",
        high="A column that rows lack: each such row is quarantined with the column's name.",
        low="Empty: the shape is found by looking.", start="unset",
    )  # fmt: skip
    max_rows: int = setting(
        0, ge=0, unit="rows",
        controls="Reads only the first rows of the file; 0 reads all.",
        high="The whole file is read, as with 0.",
        low="Rare words never get tokens of their own.", start="0",
    )  # fmt: skip
    vocab_size: int = setting(
        6400, ge=270, le=1_000_000, unit="tokens",
        controls="How many tokens the tokenizer has.",
        high="The embedding eats a small model's parameters.",
        low="Texts become long: more tokens for the same words.",
        start="6400",
    )  # fmt: skip
