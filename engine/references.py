"""What a name on the command line or in a profile stands for: runs, checkpoints, model folders, starter files."""

from pathlib import Path

from engine.errors import CheckpointError, DataError, EngineError
from engine.runs.events import Finished
from engine.runs.folder import RunFolder, find_run, list_runs
from engine.settings.places import home, starter_folder
from engine.text.starter import STARTER_FILES, write_starter
from engine.text.tokenizer import Tokenizer
from engine.text.tokenizer_training import train_tokenizer

_STARTER, _NEWEST = "starter:", "newest:"
STARTER_VOCABULARY = 1536


def data_file(reference: str) -> Path:
    """The file that `data` names; `starter:NAME` is written with its world on first use.

    Raises:
        DataError: There is no such file.
    """
    if reference.startswith(_STARTER):
        return starter_file(reference.removeprefix(_STARTER))
    path = Path(reference).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"the data file {what}", where=str(path), hint="name one file")
    return path.absolute()


def starter_file(name: str) -> Path:
    """A file of the starter world."""
    if name not in {file.name for file in STARTER_FILES}:
        names = ", ".join(file.name for file in STARTER_FILES)
        raise DataError(f"the starter world has no file {name!r}", hint=names)
    path = starter_folder() / name
    if not path.exists():
        write_starter(starter_folder())
    return path


def newest_run(profile: str) -> RunFolder:
    """The newest finished run of a profile.

    Raises:
        CheckpointError: There is none.
    """
    for run in list_runs():
        try:
            fits = run.read_json(run.resolved).get("profile") == profile
        except EngineError:  # damaged: not the one that is looked for
            continue
        if fits and any(isinstance(event, Finished) and event.status == "done" for event in run.history()[-1:]):
            return run
    raise CheckpointError(f"no finished run of profile {profile} yet", hint=f"make one: engine train {profile}")


def checkpoint_folder(reference: str) -> Path:
    """The Hugging Face folder that `RUN`, `RUN@best`, `RUN@STEP`, `newest:PROFILE` or a path names.

    Raises:
        CheckpointError: There is none.
    """
    if reference.startswith(_NEWEST):
        return newest_run(reference.removeprefix(_NEWEST)).select("newest")
    path = Path(reference).expanduser()
    if (path / "config.json").is_file():
        return path.absolute()
    if path.is_dir() and not (path / "resolved.json").is_file():
        raise CheckpointError(
            "the folder is neither a model nor a run", where=str(path), hint="a model's folder holds a config.json"
        )
    name, _, which = reference.rpartition("@") if "@" in reference and not path.is_dir() else (reference, "", "newest")
    return find_run(name).select(which)


def tokenizer_folder(reference: str) -> Path:
    """The tokenizer folder that a path, a run or `newest:PROFILE` names.

    Raises:
        CheckpointError: There is none.
    """
    if reference.startswith(_NEWEST):
        return newest_run(reference.removeprefix(_NEWEST)).tokenizer
    path = Path(reference).expanduser()
    if (path / "tokenizer.json").is_file():
        return path.absolute()
    if path.is_dir() and not (path / "resolved.json").is_file():
        raise CheckpointError(
            "the folder holds no tokenizer.json",
            where=str(path),
            hint="engine tokenizer train FILE --out DIR makes one",
        )
    run = find_run(reference.partition("@")[0])
    if not (run.tokenizer / "tokenizer.json").is_file():
        raise CheckpointError(f"run {run.name} has no tokenizer yet", where=str(run.path))
    return run.tokenizer


def default_tokenizer() -> Path:
    """The tokenizer for looking at data when none is named: the newest run's, or the starter world's own."""
    for run in list_runs():
        if (run.tokenizer / "tokenizer.json").is_file():
            return run.tokenizer
    folder = home() / "data" / "starter-tokenizer"
    if not (folder / "tokenizer.json").is_file():
        from engine.stages.tokenizer import file_texts

        train_tokenizer(file_texts(starter_file("pretrain.jsonl"), {}, 0), STARTER_VOCABULARY).save(folder)
    return folder


def load_tokenizer(reference: str) -> tuple[Tokenizer, Path]:
    """The tokenizer of a reference, or the default one, with its folder."""
    folder = tokenizer_folder(reference) if reference else default_tokenizer()
    return Tokenizer.load(folder), folder
