"""The cache of decoded images holds as long as the files that they come from do not change."""

import numpy as np
import pytest

from air_jax.data import Images
from air_jax.data.decoded import decoded

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of a set, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "data").write_bytes(b"abc")
    return folder


def counting(classes=None):
    calls = []

    def decode():
        calls.append(1)
        return Images(IMAGES, classes=classes)

    return decode, calls


def cached_files(folder):
    return list((folder.parent / "cache" / "air_jax" / "images").iterdir())


@pytest.mark.parametrize("classes", [None, np.array([3, 5], np.int32)])
def test_the_second_start_decodes_nothing(folder, classes):
    decode, calls = counting(classes)
    for _ in range(2):
        images = decoded("some/set", folder, decode)
        np.testing.assert_array_equal(images.images, IMAGES)
        assert images.images.dtype == np.uint8
        assert (images.classes is None) == (classes is None)
        np.testing.assert_array_equal(images.classes, classes)
    assert len(calls) == 1
    assert len(cached_files(folder)) == 1


def test_a_changed_file_is_decoded_again_and_replaces_the_old_cache(folder):
    decode, calls = counting()
    decoded("set", folder, decode)
    (folder / "data").write_bytes(b"abcd")
    decoded("set", folder, decode)
    assert len(calls) == 2
    assert len(cached_files(folder)) == 1


def test_a_damaged_cache_is_made_again(folder):
    decode, calls = counting()
    decoded("set", folder, decode)
    for damage in (b"", b"no archive", cached_files(folder)[0].read_bytes()[:-40]):
        cached_files(folder)[0].write_bytes(damage)
        np.testing.assert_array_equal(decoded("set", folder, decode).images, IMAGES)
    assert len(calls) == 4


def test_without_a_writable_cache_nothing_is_kept(folder):
    decode, calls = counting()
    (folder.parent / "cache").write_text("a file in place of the folder")
    for _ in range(2):
        np.testing.assert_array_equal(decoded("set", folder, decode).images, IMAGES)
    assert len(calls) == 2
