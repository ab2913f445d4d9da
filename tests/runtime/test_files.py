"""Atomic writing of files, and the cache folder."""

import os
import stat
from pathlib import Path

import pytest

from air_jax.runtime import files


def test_text_is_replaced_with_the_usual_permissions(tmp_path):
    path = tmp_path / "file.json"
    for text in ("first", "größer: µ\n"):
        files.replace_text(path, text)
        assert path.read_bytes() == text.encode()
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file.json", "plain"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")

    def write_half():
        with files.replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("name", ["file.json.partial", "file.json", ".0123.partial"])
def test_a_planted_symlink_is_not_written_through(tmp_path, monkeypatch, name):
    """The link has a name that could be guessed, the name of the file itself, or by chance the temporary name."""
    victim, path = tmp_path / "victim", tmp_path / "file.json"
    victim.write_text("private")
    (tmp_path / name).symlink_to(victim)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0123")
    if name == ".0123.partial":
        with pytest.raises(FileExistsError):
            files.replace_text(path, "new")
        assert (tmp_path / name).is_symlink()
    else:
        files.replace_text(path, "new")
        assert path.read_text() == "new"
        assert not path.is_symlink()
    assert victim.read_text() == "private"


def test_the_temporary_name_is_unpredictable(tmp_path):
    names = []
    for _ in range(2):
        with files.replacing(tmp_path / "file.json"):
            names += [file.name for file in tmp_path.glob(".*.partial")]
    assert len(set(names)) == 2


def test_the_cache_folder_is_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert files.cache_folder() == Path("/some/cache/air_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/some/home")
    assert files.cache_folder() == Path("/some/home/.cache/air_jax")


def test_without_a_home_the_cache_is_a_private_temporary_folder(monkeypatch, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    files._temporary_folder.cache_clear()
    folder = files.cache_folder()
    assert files.cache_folder() == folder
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert folder.parent.stat().st_uid == os.getuid()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "set HOME or XDG_CACHE_HOME" in said
    files._temporary_folder().cleanup()
    files._temporary_folder.cache_clear()
