"""Many pairs of files: each as if it were registered by itself, failures, a second start, the summary."""

import csv
import types

import numpy as np
import PIL.Image
import pytest

from air_jax import UserError, io
from air_jax.file_batches import groups, run
from air_jax.file_batches.options import BatchOptions
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files

pytestmark = pytest.mark.slow

SHAPES = {"a": ((22, 23), (21, 24)), "b": ((26, 28), (24, 27)), "c": ((27, 21), (22, 26))}
SETTINGS = {"affine": "rigid", "refine_steps": 10}


def write(path, shape, row):
    rows, columns = np.indices(shape)
    image = np.exp(-((rows - row) ** 2 + (columns - 10) ** 2) / 30) + 0.2 * np.sin((rows - row) / 3)
    io.write_image(path, image.astype(np.float32), np.eye(3))


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of near sizes, one with a missing file, and one with a constant image."""
    rows = ["fixed,moving,output"]
    for name, (fixed, moving) in SHAPES.items():
        write(tmp_path / f"{name}_fixed.nii.gz", fixed, 9)
        write(tmp_path / f"{name}_moving.nii.gz", moving, 11)
        rows.append(f"{name}_fixed.nii.gz,{name}_moving.nii.gz,{name}")
    io.write_image(tmp_path / "constant.nii.gz", np.ones((20, 20), np.float32), np.eye(3))
    rows += ["a_fixed.nii.gz,nowhere.nii.gz,missing", "a_fixed.nii.gz,constant.nii.gz,constant"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return BatchOptions(tmp_path / "out", pairs=tmp_path / "pairs.csv", **SETTINGS)


def test_pairs_come_out_as_by_themselves_and_are_skipped_the_second_time(pairs, without_report, monkeypatch, capsys):
    batches = []
    solve = run.solve

    def counted(batch, *arguments, **options):
        batches.append(len(batch))
        return solve(batch, *arguments, **options | {"compile_ahead": False})

    monkeypatch.setattr(run, "solve", counted)
    with pytest.raises(UserError, match=r"2 of 5 pairs failed; .*summary\.csv says why"):
        run.register_batch(pairs)
    assert batches == [3]
    printed = capsys.readouterr().out
    assert "missing: " in printed
    assert "nowhere.nii.gz: not found" in printed
    assert "4 of 4  " in printed
    with (pairs.output_dir / "summary.csv").open() as file:
        rows = {row["output"]: row for row in csv.DictReader(file)}
    assert [row["status"] for row in rows.values()] == ["done", "done", "done", "failed", "failed"]
    assert "is constant" in rows["constant"]["message"]
    assert float(rows["a"]["ncc_overlap_after"]) > float(rows["a"]["ncc_overlap_before"])
    width, height = PIL.Image.open(pairs.output_dir / "summary.png").size
    assert width > 600
    assert height > 100
    assert not (pairs.output_dir / "missing").exists()

    files = (pairs.pairs.parent / f"a_{side}.nii.gz" for side in ("fixed", "moving"))
    alone = register_files(Options(*files, pairs.pairs.parent / "alone", **SETTINGS))
    fields = [io.read_field(folder / "displacement.nii.gz")[0] for folder in (
        pairs.output_dir / "a", pairs.pairs.parent / "alone")]  # fmt: skip
    assert fields[0].shape == (*SHAPES["a"][0], 2)
    np.testing.assert_allclose(fields[0], fields[1], atol=0.05)
    assert float(rows["a"]["mse_overlap_after"]) == pytest.approx(alone["after"]["mse_overlap"], abs=1e-4)
    before, _ = io.read_field(pairs.output_dir / "b" / "displacement.nii.gz")

    times = {name: (pairs.output_dir / name / "scores.json").stat().st_mtime_ns for name in SHAPES}
    (pairs.output_dir / "b" / "warped.nii.gz").unlink()
    with pytest.raises(UserError, match="2 of 5 pairs failed"):
        run.register_batch(pairs)
    again = {name: (pairs.output_dir / name / "scores.json").stat().st_mtime_ns for name in SHAPES}
    assert [name for name in SHAPES if times[name] != again[name]] == ["b"]
    after, _ = io.read_field(pairs.output_dir / "b" / "displacement.nii.gz")
    np.testing.assert_allclose(after, before, atol=0.05)
    assert "2 of 5 pairs are finished" in capsys.readouterr().out


def pair_of(shape, spacing=1.0, workdir=None):
    """A stand-in for a read pair with working grids of one shape."""
    side = types.SimpleNamespace(volume=types.SimpleNamespace(spacing=np.full(len(shape), spacing)))
    inputs = types.SimpleNamespace(shape=shape, moving_shape=shape, fixed=side, moving=side)
    return types.SimpleNamespace(inputs=inputs, affine="affine", options=types.SimpleNamespace(workdir=workdir))


def test_near_sizes_are_one_group_and_far_ones_are_not():
    found = []
    pairs = {"a": pair_of((32, 40, 36)), "b": pair_of((36, 32, 40)), "large": pair_of((60, 60, 60))}
    groups.add_to_groups(found, pairs | {"other_levels": pair_of((28, 40, 36))})
    assert {tuple(sorted(group.names)): group.shape for group in found} == {
        ("large",): (60, 60, 60),
        ("a", "b"): (36, 40, 40),
        ("other_levels",): (28, 40, 36),
    }
    # A group that is compiled keeps its grid.
    for group in found:
        group.batch_size, group.names = 1, []
    groups.add_to_groups(found, {"c": pair_of((36, 36, 36)), "d": pair_of((40, 40, 40))})
    assert [group.names for group in found if group.shape == (36, 40, 40)] == [["c"]]
    assert len(found) == 4


def test_batches_are_equal_and_few():
    assert groups.batch_size(20, 100, 1_000) == 10
    assert groups.batch_size(21, 100, 1_000) == 7
    assert groups.batch_size(3, 5_000, 1_000) == 1
