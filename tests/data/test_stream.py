"""Streaming from the host: the same pairs, the same training, in every device's share."""

import json

import jax
import numpy as np
import pytest
from helpers import REPOSITORY

from air_jax.data import Images
from air_jax.data.pairs import draw_pairs
from air_jax.data.stream import stream
from air_jax.training import feed, loop
from air_jax.training.run import train

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 1), dtype=np.uint8)
SET = Images(IMAGES)
SPANS = [(0, 3), (3, 1), (4, 2)]


def batches(num_devices, device_indices, spans=SPANS):
    items = stream(SET, spans, seed=7, batch_size=8, num_devices=num_devices, device_indices=device_indices)
    return [(pair.fixed, pair.moving) for pair in items]


def test_the_pairs_are_those_that_steps_draw_on_the_device():
    step = 0
    for fixed, moving in batches(1, [0]):
        assert fixed.dtype == np.uint8
        for index in range(fixed.shape[1]):
            key = jax.random.split(jax.random.fold_in(jax.random.key(7), step))[0]
            for found, expected in zip((fixed, moving), draw_pairs(key, len(IMAGES), 8), strict=True):
                np.testing.assert_array_equal(found[0, index], IMAGES[np.asarray(expected)])
            step += 1
    assert step == 6


def test_each_device_gets_its_share_and_a_process_only_its_devices():
    whole = batches(1, [0])
    for all_four, last_two, one in zip(batches(4, [0, 1, 2, 3]), batches(4, [2, 3]), whole, strict=True):
        for part, late, expected in zip(all_four, last_two, one, strict=True):
            assert part.shape[:3] == (4, expected.shape[1], 2)
            np.testing.assert_array_equal(np.concatenate(part, axis=1), expected[0])
            np.testing.assert_array_equal(late, part[2:])


def test_it_starts_anywhere():
    later = batches(1, [0], SPANS[2:])
    np.testing.assert_array_equal(later[0][0], batches(1, [0])[2][0])


def test_only_what_is_asked_for_is_read():
    class Recorded:
        shape, reads = IMAGES.shape, []

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, index):
            self.reads.append(index.size)
            return IMAGES[index]

    list(stream(Images(Recorded()), SPANS, seed=7, batch_size=8, num_devices=4, device_indices=[1]))
    assert sorted(Recorded.reads) == sorted(2 * [2 * steps for _, steps in SPANS])


def test_dispatches_end_where_lines_are_logged():
    assert list(loop.dispatches(3, 11, 4)) == [(3, 1), (4, 4), (8, 3)]
    assert list(loop.dispatches(8, 8, 4)) == []


@pytest.mark.parametrize("streamed_bytes", [1, 2 * 2 * 784 * 3])
def test_a_streamed_run_is_a_resident_one_bit_for_bit(digits_config, tmp_path, monkeypatch, streamed_bytes):
    """Interrupted and resumed besides; with one step a transfer, or with some."""
    monkeypatch.setattr(feed, "STREAMED_BYTES", streamed_bytes)
    digits_config.num_train_steps, digits_config.log_every, digits_config.eval_every = 8, 4, 4
    resident = train(digits_config, tmp_path / "resident")
    digits_config.streaming, digits_config.num_train_steps = True, 4
    train(digits_config, tmp_path / "streamed")
    digits_config.num_train_steps = 8
    streamed = train(digits_config, tmp_path / "streamed")

    def lines(name):
        read = (json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if "second" not in key} for line in read]

    assert lines("streamed") == lines("resident")
    assert {**streamed, "seconds_per_pair": 0} == {**resident, "seconds_per_pair": 0}


def test_images_stay_on_the_device_while_they_fit():
    class Device:
        process_index = 0
        platform = "gpu"

        def __init__(self, memory):
            self.memory_stats = lambda: memory

    assert feed.fits(SET, [Device(None)])
    assert feed.fits(SET, [Device({"bytes_limit": 2 * IMAGES.nbytes})])
    assert not feed.fits(SET, [Device({"bytes_limit": 2 * IMAGES.nbytes - 2})])


@pytest.mark.parametrize(("num_devices", "expected"), [(1, True), (2, True), (3, False)])
def test_the_devices_of_a_cpu_share_its_memory(num_devices, expected, monkeypatch):
    memory = {"SC_PAGE_SIZE": 4, "SC_PHYS_PAGES": IMAGES.nbytes}  # room for four copies: half of it for two
    monkeypatch.setattr(feed.os, "sysconf", memory.__getitem__)
    assert feed.fits(SET, jax.devices()[:num_devices]) == expected


def test_the_documentation_names_the_key():
    assert "--config.streaming=True" in (REPOSITORY / "docs" / "devices.md").read_text()
