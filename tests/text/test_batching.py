from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.text.batching import Sampler, fill_batches, make_batch, pack, split_rows
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Record
from engine.text.store import SampleStore, collect
from engine.text.tokenizer import Tokenizer


@pytest.fixture
def store(tokenizer: Tokenizer, tmp_path: Path) -> SampleStore:
    texts = ["dog " * (1 + 7 * row % 11) + str(row) for row in range(37)]
    records = [Record(row, row + 1, "text", "text", text=text) for row, text in enumerate(texts)]
    SampleStore.write(
        tmp_path / "s", collect(records, Encoder(tokenizer, EncodeSettings(64)), ("text",)), tokenizer.vocab_size
    )
    return SampleStore(tmp_path / "s")


@pytest.fixture
def make(store: SampleStore) -> Callable[..., Sampler]:
    def build(batch_size: int, accumulation_steps: int, packing: bool = False, seed: int = 3) -> Sampler:
        return Sampler(
            store, np.arange(len(store)), batch_size=batch_size, accumulation_steps=accumulation_steps,
            max_seq_len=64, packing=packing, seed=seed,
        )  # fmt: skip

    return build


def documents(sampler: Sampler, step: int) -> list[int]:
    return [int(index) for rows in sampler.micro_batches(step) for row in rows for index in row]


@pytest.mark.parametrize("packing", [False, True])
def test_a_step_holds_the_same_documents_however_it_is_split(make: Callable[..., Sampler], packing: bool) -> None:
    whole, *others = (make(batch, steps, packing) for batch, steps in ((8, 1), (4, 2), (2, 4), (1, 8)))
    for step in range(2 * whole.steps_per_epoch):
        for other in others:
            assert documents(other, step) == documents(whole, step)


@pytest.mark.parametrize("packing", [False, True])
def test_every_document_once_an_epoch_in_another_order(
    make: Callable[..., Sampler], store: SampleStore, packing: bool
) -> None:
    sampler = make(2, 2, packing)
    steps = sampler.steps_per_epoch
    assert steps == -(-len(sampler.units) // 4)
    epochs = [
        [index for step in range(epoch * steps, (epoch + 1) * steps) for index in documents(sampler, step)]
        for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(len(store)))
    assert epochs[0] != epochs[1]
    assert sampler.epoch(steps) == 1.0


def test_the_order_depends_on_the_seed_alone(make: Callable[..., Sampler]) -> None:
    one, same, other = make(4, 1), make(4, 1), make(4, 1, seed=4)
    backwards = [documents(same, step) for step in reversed(range(20))][::-1]
    assert backwards == [documents(one, step) for step in range(20)]
    assert documents(other, 0) != documents(one, 0)


def test_the_last_step_takes_what_is_left(make: Callable[..., Sampler]) -> None:
    sampler = make(4, 2)
    assert [len(rows) for rows in sampler.micro_batches(sampler.steps_per_epoch - 1)] == [4, 1]


def test_rows_of_like_length_stand_together(make: Callable[..., Sampler], store: SampleStore) -> None:
    lengths = [[int(store.lengths[row[0]]) for row in rows] for rows in make(4, 4).micro_batches(0)]
    flat = [length for rows in lengths for length in rows]
    assert flat == sorted(flat, reverse=True)


def test_batches_are_flat_documents(make: Callable[..., Sampler], store: SampleStore) -> None:
    for packing in (False, True):
        sampler = make(3, 2, packing)
        for rows, batch in zip(sampler.micro_batches(1), sampler.step(1), strict=True):
            indices = [int(index) for row in rows for index in row]
            assert batch.rows.tolist() == store.columns["rows"][indices].tolist()
            assert batch.slots == 64 * len(rows)
            for place, index in enumerate(indices):
                start, end = batch.cu_seqlens[place], batch.cu_seqlens[place + 1]
                assert batch.input_ids[start:end].tolist() == store.ids(index).tolist()
                assert batch.loss_weights[start:end].tolist() == store.weights(index).tolist()
                assert batch.loss_weights[start] == 0
            assert batch.cu_seqlens[-1] == len(batch.input_ids) <= batch.slots


def test_packing_by_hand() -> None:
    lengths = np.array([6, 5, 4, 5, 3, 10], dtype=np.int64)
    rows = pack(lengths, np.arange(6), 10)
    # 4 fits best beside 6; 5 beside 5; 3 opens a row, 10 fills one.
    assert [row.tolist() for row in rows] == [[0, 2], [1, 3], [4], [5]]


def test_packing_places_everything_and_wastes_little() -> None:
    lengths = np.random.default_rng(0).integers(5, 300, 20_000)
    rows = pack(lengths, np.random.default_rng(1).permutation(len(lengths)), 512)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    filled = np.array([int(lengths[row].sum()) for row in rows])
    assert filled.max() <= 512
    assert 1 - filled.sum() / (512 * len(rows)) < 0.01


def test_the_split_is_by_key() -> None:
    keys = np.array([0.01, 0.5, 0.01, 0.9, 0.3])
    train, held_out = split_rows(keys, 0.1)
    assert (train.tolist(), held_out.tolist()) == ([1, 3, 4], [0, 2])
    train, held_out = split_rows(keys, 0.001)  # at least one prompt is held out
    assert held_out.tolist() == [0, 2]
    assert split_rows(keys, 0)[1].tolist() == split_rows(np.array([0.2, 0.2]), 0.5)[1].tolist() == []


def test_make_batch_of_one_document(store: SampleStore) -> None:
    batch = make_batch(store, np.array([5]), slots=64)
    assert batch.cu_seqlens.tolist() == [0, store.lengths[5]]


def test_batches_are_filled_up_to_the_room(store: SampleStore) -> None:
    lengths = store.lengths[:12].tolist()
    room = max(lengths) + 5
    batches = list(fill_batches(store, range(12), room))
    assert np.concatenate([batch.input_ids for batch in batches]).tolist() == [
        token for index in range(12) for token in store.ids(index).tolist()
    ]
    sizes = [len(batch.input_ids) for batch in batches]
    assert max(sizes) <= room and len(sizes) > 1
    firsts = [int(batch.cu_seqlens[1]) for batch in batches]  # none of them had room before
    assert all(size + first > room for size, first in zip(sizes, firsts[1:], strict=False))
    assert [len(batch.rows) for batch in fill_batches(store, range(3), 1)] == [1, 1, 1]
    assert list(fill_batches(store, [], 100)) == []


def test_a_batch_falls_apart_into_its_documents(store: SampleStore) -> None:
    whole = make_batch(store, np.array([3, 0, 7]), slots=500)
    for index, part in zip((3, 0, 7), whole.documents(), strict=True):
        alone = make_batch(store, np.array([index]), slots=int(store.lengths[index]))
        assert part.slots == alone.slots
        for name in ("input_ids", "loss_weights", "cu_seqlens", "rows"):
            assert getattr(part, name).tolist() == getattr(alone, name).tolist()


@pytest.mark.parametrize("packing", [False, True])
def test_the_largest_micro_batches_of_a_run(make: Callable[..., Sampler], store: SampleStore, packing: bool) -> None:
    """Found without making them: the one with the most tokens, and the one with the largest sum of squares."""
    sampler = make(3, 2, packing)
    for steps in (1, 4, 3 * sampler.steps_per_epoch):
        every = [np.concatenate(rows) for step in range(steps) for rows in sampler.micro_batches(step)]
        found = [np.concatenate(rows) for rows in sampler.largest(steps)]
        assert max(store.lengths[rows].sum() for rows in found) == max(store.lengths[rows].sum() for rows in every)
        squares = [(store.lengths[rows] ** 2).sum() for rows in every]
        assert max((store.lengths[rows] ** 2).sum() for rows in found) == max(squares)
        assert 1 <= len(found) <= 2
