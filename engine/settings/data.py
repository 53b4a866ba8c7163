"""What is read, and how it becomes samples."""

from engine.settings.fields import Section, setting


class DataSettings(Section):
    """Files, lengths and the split, for every stage that trains a model."""

    data: str = setting(
        "",
        controls="The file to train on; `starter:NAME` is a file of the starter world.",
        high="Large files take longer to encode the first time; after that the token cache opens at once.",
        low="Empty: name it with --data.", start="your file",
    )  # fmt: skip
    tokenizer: str = setting(
        "",
        controls="The tokenizer's folder or run; with a start checkpoint, the checkpoint's own is used.",
        high="A large vocabulary puts most parameters of a small model into its embedding.",
        low="Empty, and no start checkpoint: refused.", start="a tokenizer of 6,400 tokens",
    )  # fmt: skip
    start_from: str = setting(
        "", alias="from",
        controls="The run or model folder whose weights training starts from; its shape is inherited.",
        high="A larger model than the card holds: the shape cannot be changed afterwards.",
        low="Empty: random weights.", start="the stage before",
    )  # fmt: skip
    mapping: dict[str, str] = setting(
        {},
        controls="Which columns of the file hold which field, where looking does not find them.",
        high="A column that rows lack: each such row is quarantined with the column's name.",
        low="Empty: the shape is found by looking.", start="unset",
    )  # fmt: skip
    max_rows: int = setting(
        0, ge=0, unit="rows",
        controls="Reads only the first rows of the file, for a quick look; 0 reads all.",
        high="The whole file is read, as with 0.",
        low="Too few to learn from; a few thousand show whether a run works at all.", start="0",
    )  # fmt: skip
    max_seq_len: int = setting(
        512, ge=4, le=1_000_000, unit="tokens",
        controls="The longest sample; longer texts are split into windows, conversations lose their oldest turns.",
        high="Memory for activations grows with it; attention time with its square.",
        low="Turns are cut: the audit counts how many rows.",
        start="512",
    )  # fmt: skip
    val_fraction: float = setting(
        0.02, ge=0, le=0.5, unit="share of rows",
        controls="How much of the data is kept for validation, chosen by a hash of the prompt.",
        high="Less data to learn from.",
        low="0: no validation loss, learning by heart goes unseen.",
        start="0.02",
    )  # fmt: skip


class ConversationSettings(DataSettings):
    """Conversations whose answers are learnt, with MiniMind's augmentations."""

    system_prompt_ratio: float = setting(
        0.0, ge=0, le=1, unit="share of rows",
        controls="Puts a random system prompt before this share of the conversations that have none (MiniMind: 0.2).",
        high="The model expects a system prompt.",
        low="0: the file as it is.",
        start="0",
    )  # fmt: skip
    empty_think_ratio: float = setting(
        1.0, ge=0, le=1, unit="share of rows",
        controls="Keeps empty think blocks in this share of the rows and removes them from the others (MiniMind: 0.2).",
        high="1: the template's text as it is.",
        low="0: answers never start with an empty think block, generation prompts may.",
        start="1",
    )  # fmt: skip


class DocumentSettings(ConversationSettings):
    """Documents that are learnt token by token."""

    packing: bool = setting(
        True,
        controls="Fills rows of max_seq_len with several whole documents, each isolated from the others.",
        high="On: hardly any slot is wasted; a row counts as one of batch_size.",
        low="Off: batch_size counts documents; short rows make small steps.",
        start="true",
    )  # fmt: skip
    parse_special_tokens: bool = setting(
        False,
        controls="Whether markers that stand literally in raw pretraining text become special tokens.",
        high="On: text from the internet can forge turns.",
        low="Off: right, unless the file was written with markers on purpose (MiniMind2's pretrain_hq).",
        start="false",
    )  # fmt: skip
