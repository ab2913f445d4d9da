"""Streaming from the host gives the pairs, and the training, of images on the devices."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import REPOSITORY

from air_jax.data import Images
from air_jax.data.pairs import draw_pairs
from air_jax.data.stream import stream
from air_jax.training import feed, run
from air_jax.training.loop import dispatches
from air_jax.training.recipe import StepPlan

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 5, 4, 1), dtype=np.uint8)
SEGMENTATIONS = RNG.integers(0, 3, (30, 5, 4), dtype=np.uint8)
SET = Images(IMAGES, segmentations=SEGMENTATIONS)
SPANS = [(0, 3), (3, 1), (4, 2)]


def batches(num_devices, device_indices, spans=SPANS, images=SET):
    return list(stream(images, spans, seed=7, batch_size=8, num_devices=num_devices, device_indices=device_indices))


@pytest.mark.slow
def test_the_pairs_are_those_that_steps_draw_on_the_device():
    step = 0
    for pair in batches(1, [0]):
        assert pair.fixed.dtype == np.uint8
        for index in range(pair.fixed.shape[1]):
            key = jax.random.split(jax.random.fold_in(jax.random.key(7), step))[0]
            fixed, moving = map(np.asarray, draw_pairs(key, len(IMAGES), 8))
            expected = IMAGES[fixed], IMAGES[moving], SEGMENTATIONS[fixed], SEGMENTATIONS[moving]
            for found, array in zip(pair[:4], expected, strict=True):
                np.testing.assert_array_equal(found[0, index], array)
            step += 1
    assert step == 6


@pytest.mark.slow
def test_each_device_gets_its_share_and_each_process_those_of_its_devices():
    for all_four, last_two, whole in zip(batches(4, [0, 1, 2, 3]), batches(4, [2, 3]), batches(1, [0]), strict=True):
        for share, late, expected in zip(all_four[:4], last_two[:4], whole[:4], strict=True):
            assert share.shape[:3] == (4, expected.shape[1], 2)
            np.testing.assert_array_equal(np.concatenate(share, axis=1), expected[0])
            np.testing.assert_array_equal(late, share[2:])


def test_the_stream_can_start_at_any_step():
    (later,) = batches(1, [0], SPANS[2:])
    np.testing.assert_array_equal(later.fixed, batches(1, [0])[2].fixed)


def test_only_the_process_own_pairs_are_read():
    class Recorded:
        shape, reads = IMAGES.shape, []

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, index):
            self.reads.append(index.size)
            return IMAGES[index]

    batches(4, [1], images=Images(Recorded()))
    assert sorted(Recorded.reads) == sorted(2 * [2 * steps for _, steps in SPANS])


def test_dispatches_end_where_lines_are_logged():
    plan = StepPlan(num_train_steps=11, batch_size=8, log_every=4, eval_every=4)
    assert dispatches(3, plan) == [(3, 1), (4, 4), (8, 3)]
    assert dispatches(11, plan) == []


@pytest.mark.slow
def test_a_streamed_run_equals_a_resident_run_bit_for_bit(digits_config, tmp_path, monkeypatch):
    """Frames with segmentations in the loss; the streamed run is interrupted, and resumed with longer transfers."""
    images = np.random.default_rng(1).random((20, 2, 12, 14)).astype(np.float32)
    np.savez(tmp_path / "frames.npz", image=images, label=(images > 0.5).astype(np.uint8))
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    config = digits_config
    config.dataset.update({"name": str(tmp_path / "frames.npz"), "pairs": "frames", "num_validation": 4})
    config.loss.soft_dice = 1.0
    config.num_train_steps, config.log_every, config.eval_every = 8, 4, 4
    config.eval.num_pairs = config.eval.batch_size = 4
    run.train(config, tmp_path / "resident")
    config.streaming = True
    # First one step a transfer; then three steps of two pairs for each of four devices, float32 with segmentations.
    for config.num_train_steps, streamed_bytes in ((4, 1), (8, 2 * 2 * 3 * 12 * 14 * 5 + 1000)):
        monkeypatch.setattr(feed, "STREAMED_BYTES", streamed_bytes)
        run.train(config, tmp_path / "streamed")

    def lines(name):
        read = (json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if "second" not in key} for line in read]

    assert lines("streamed") == lines("resident")
    assert 0 < lines("streamed")[0]["soft_dice"] < 1
    of_last_step = [tmp_path / name / "checkpoints" / "8" / "params" for name in ("streamed", "resident")]
    with ocp.StandardCheckpointer() as checkpointer:
        jax.tree.map(np.testing.assert_array_equal, *map(checkpointer.restore, of_last_step))


def test_images_stay_on_the_device_while_they_fit():
    class Device:
        process_index = 0
        platform = "gpu"

        def __init__(self, memory):
            self.memory_stats = lambda: memory

    images = Images(IMAGES)
    assert feed.fits(images, [Device(None)])
    assert feed.fits(images, [Device({"bytes_limit": 2 * IMAGES.nbytes})])
    assert not feed.fits(images, [Device({"bytes_limit": 2 * IMAGES.nbytes - 2})])


@pytest.mark.parametrize(("num_devices", "expected"), [(1, True), (2, True), (3, False)])
def test_the_devices_of_a_cpu_share_its_memory(num_devices, expected, monkeypatch):
    memory = {"SC_PAGE_SIZE": 4, "SC_PHYS_PAGES": IMAGES.nbytes}  # room for four copies: half of it for two
    monkeypatch.setattr(feed.os, "sysconf", memory.__getitem__)
    assert feed.fits(Images(IMAGES), jax.devices()[:num_devices]) == expected


def test_the_documentation_names_the_key():
    assert "--config.streaming=True" in (REPOSITORY / "docs" / "devices.md").read_text()
