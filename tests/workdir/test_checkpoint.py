import shutil

import jax
import numpy as np
import optax
import pytest

from air_jax.errors import UserError
from air_jax.workdir.checkpoint import Checkpoints, restore_best_params

PARAMS = {"layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)}}
OPT_STATE = optax.adam(1e-3).init(PARAMS)


def params_of(step):
    return jax.tree.map(lambda leaf: leaf + np.float32(step), PARAMS)


def write(folder, dices):
    with Checkpoints(folder) as checkpoints:
        for step, dice in dices.items():
            opt_state = jax.tree.map(lambda leaf, step=step: np.asarray(leaf) + np.asarray(step, leaf.dtype), OPT_STATE)
            checkpoints.save(step, params_of(step), opt_state, {"dice": dice})


def steps_in(folder):
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    write(tmp_path / "c", {1: 0.1, 2: 0.9, 3: 0.2, 4: 0.4, 5: 0.3})
    assert steps_in(tmp_path / "c") == {2, 4, 5}
    with Checkpoints(tmp_path / "c") as checkpoints:
        step, params, opt_state = checkpoints.restore_newest(PARAMS, OPT_STATE)
        assert step == 5
        assert_equal(params, params_of(5))
        assert jax.tree.structure(opt_state) == jax.tree.structure(OPT_STATE)
        assert int(opt_state[0].count) == 5
    step, params = restore_best_params(tmp_path / "c")
    assert step == 2
    assert_equal(params, params_of(2))


def test_an_empty_folder_holds_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_newest(PARAMS, OPT_STATE) is None
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        restore_best_params(tmp_path / "c")


def test_a_missing_folder_is_not_made_by_reading(tmp_path):
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        restore_best_params(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def cut_every_file_short(step_folder):
    for path in step_folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_data_short(step_folder):
    for path in step_folder.rglob("*"):
        if path.is_file() and ("/d/" in str(path) or path.stat().st_size > 500):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_parameters(step_folder):
    shutil.rmtree(step_folder / "params")


def lose_the_commit_file(step_folder):
    """As in a folder that was being copied, or a run that was killed while it wrote."""
    (commit,) = step_folder.glob("commit_success*")
    commit.unlink()


def empty_the_folder(step_folder):
    shutil.rmtree(step_folder)
    step_folder.mkdir()


@pytest.mark.parametrize(
    "damage", [cut_every_file_short, cut_the_data_short, lose_the_parameters, lose_the_commit_file, empty_the_folder]
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, damage):
    folder = tmp_path / "c"
    write(folder, {1: 0.5, 2: 0.6, 3: 0.7})
    damage(folder / "3")
    with Checkpoints(folder) as checkpoints:
        step, params, _ = checkpoints.restore_newest(PARAMS, OPT_STATE)
        assert step == 2
        assert_equal(params, params_of(2))
        assert "step 3 is damaged" in capsys.readouterr().out
        # The step is free to be written again.
        checkpoints.save(3, params_of(3), OPT_STATE, {"dice": 0.8})
    step, params = restore_best_params(folder)
    assert step == 3
    assert_equal(params, params_of(3))


def test_when_none_can_be_read_the_run_stops_instead_of_starting_again(tmp_path):
    folder = tmp_path / "c"
    write(folder, {1: 0.5, 2: 0.6})
    for step in "12":
        lose_the_parameters(folder / step)
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError, match="none of the 2 checkpoints can be read"):
        checkpoints.restore_newest(PARAMS, OPT_STATE)
    assert steps_in(folder) == {1, 2}


@pytest.mark.parametrize("damage", [cut_every_file_short, lose_the_parameters, lose_the_commit_file])
def test_reading_a_damaged_best_checkpoint_takes_the_next_best_and_changes_nothing(tmp_path, damage):
    folder = tmp_path / "c"
    write(folder, {1: 0.9, 2: 0.2, 3: 0.3})
    damage(folder / "1")
    assert restore_best_params(folder)[0] == 3
    assert steps_in(folder) == {1, 2, 3}


def _array_files(folder):
    """The files with the bytes of arrays, larger than a kilobyte."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > 1000]


@pytest.mark.slow
def test_no_flipped_bit_of_the_arrays_goes_unnoticed(tmp_path, capsys):
    """Each bit in a copy of its own: the checkpoint is read as it was written, or as damaged."""
    rng = np.random.default_rng(0)
    params, opt_state = ({"w": rng.random((40, 30), np.float32)} for _ in range(2))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, params, opt_state, {"dice": 0.5})
    unread = 0
    for number in range(40):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "c", copy)
        files = _array_files(copy / "3" / "params")
        path = files[number % len(files)]
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            _, found = restore_best_params(copy)
            np.testing.assert_array_equal(found["w"], params["w"])
        except UserError:
            unread += 1
    assert unread > 20


def test_changed_scores_and_parameters_that_are_not_finite_are_noticed(tmp_path, capsys):
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)}, {}, {"dice": 0.5})
        checkpoints.save(2, {"w": np.array([1, np.nan])}, {}, {"dice": 0.9})
        checkpoints.save(3, {"w": np.zeros(3)}, {}, {"dice": 0.4})
    scores = tmp_path / "c" / "3" / "metrics" / "metrics"
    scores.write_text(scores.read_text().replace("0.4", "0.8"))
    step, params = restore_best_params(tmp_path / "c")
    assert step == 1
    np.testing.assert_array_equal(params["w"], np.ones(3))
    printed = capsys.readouterr().out
    assert "parameters are not finite" in printed
    assert "the checksum of scores differs" in printed


def test_a_checkpoint_of_another_config_is_refused(tmp_path):
    with Checkpoints(tmp_path / "c", identity={"seed": 1, "old": 2}) as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)}, {}, {"dice": 0.5})
    with Checkpoints(tmp_path / "c", identity={"seed": 1, "new": 2}) as checkpoints:
        assert checkpoints.restore_newest({"w": np.ones(3)}, {})[0] == 1
    with (
        Checkpoints(tmp_path / "c", identity={"seed": 7}) as checkpoints,
        pytest.raises(UserError, match=r"another config: seed \(1 there, 7 now\)"),
    ):
        checkpoints.restore_newest({"w": np.ones(3)}, {})


def test_a_checkpoint_without_validation_is_the_newest_and_not_the_best(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)}, {}, {"dice": 0.0})
        checkpoints.save(2, {"w": np.zeros(3)}, {}, None)
    assert restore_best_params(tmp_path / "c")[0] == 1
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_newest({"w": np.ones(3)}, {})[0] == 2
