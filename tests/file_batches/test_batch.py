"""Many pairs of files: each as if it were registered by itself, failures, a second start, the summary."""

import csv
import types

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from air_jax import UserError, io
from air_jax.file_batches import groups, run
from air_jax.file_batches.options import BatchOptions, list_pairs
from air_jax.file_registration.folder import output_folder
from air_jax.file_registration.guides import Guides, stack_guides
from air_jax.file_registration.guiding import Guiding
from air_jax.file_registration.options import Options
from air_jax.file_registration.outputs import Maps
from air_jax.file_registration.pair import read_pair
from air_jax.file_registration.run import register_files
from air_jax.optimize import Constraints, Guidance

pytestmark = pytest.mark.slow

SHAPES = {"a": ((22, 23), (21, 24)), "b": ((24, 20), (23, 22)), "c": ((20, 24), (22, 21))}
TOLERANCE = 0.05  # voxels: batches sum in another order, and an optimisation amplifies rounding errors
SETTINGS = {"affine": "translation", "refine_steps": 1}


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
    batches.clear()
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
    np.testing.assert_allclose(fields[0], fields[1], atol=TOLERANCE)
    assert float(rows["a"]["mse_overlap_after"]) == pytest.approx(alone["after"]["mse_overlap"], abs=1e-4)
    before, _ = io.read_field(pairs.output_dir / "b" / "displacement.nii.gz")

    times = {name: (pairs.output_dir / name / "scores.json").stat().st_mtime_ns for name in SHAPES}
    (pairs.output_dir / "b" / "warped.nii.gz").unlink()
    with pytest.raises(UserError, match="2 of 5 pairs failed"):
        run.register_batch(pairs)
    assert batches == [1]
    again = {name: (pairs.output_dir / name / "scores.json").stat().st_mtime_ns for name in SHAPES}
    assert [name for name in SHAPES if times[name] != again[name]] == ["b"]
    after, _ = io.read_field(pairs.output_dir / "b" / "displacement.nii.gz")
    np.testing.assert_allclose(after, before, atol=TOLERANCE)
    assert "2 of 5 pairs are finished" in capsys.readouterr().out


def test_volumes_of_one_batch_come_out_as_by_themselves(tmp_path):
    pairs, generator = [], np.random.default_rng(0)
    for index, shapes in enumerate([((13, 15, 11), (14, 12, 10)), ((16, 14, 9), (13, 16, 12))]):
        for side, shape in zip(("fixed", "moving"), shapes, strict=True):
            smooth = ndimage.gaussian_filter(generator.normal(size=shape), 2)
            io.write_image(tmp_path / f"{side}{index}.nii.gz", smooth.astype(np.float32), np.eye(4))
        files = (tmp_path / f"{side}{index}.nii.gz" for side in ("fixed", "moving"))
        pairs.append(read_pair(Options(*files, tmp_path / "out", affine="none", refine_steps=1)))
    together = run.solve(pairs, lambda step: None, compile_ahead=False)
    for pair, maps in zip(pairs, together, strict=True):
        assert pair.inputs.shape == pair.inputs.moving_shape == (16, 16, 16)
        (alone,) = run.solve([pair], lambda step: None, compile_ahead=False)
        assert np.abs(alone.deformation).max() > 0.3
        np.testing.assert_allclose(maps.deformation, alone.deformation, atol=TOLERANCE)
        np.testing.assert_allclose(maps.inverse, alone.inverse, atol=TOLERANCE)


def test_guided_pairs_of_one_batch_come_out_as_by_themselves(tmp_path):
    """Landmarks are those of each pair; pairs with another number of them have a batch of their own."""
    points = {"p0": [(4, 4), (11, 9)], "p1": [(12, 5), (5, 12)], "p2": [(8, 8)]}
    lines = ["fixed,moving,guide_landmarks,fixed_guide_landmarks"]
    for index, (name, rows) in enumerate(points.items()):
        for ending, shift in (("", 0), ("_moved", 2)):
            text = "\n".join(["x,y", *(f"{x + shift},{y}" for x, y in rows)])
            (tmp_path / f"{name}{ending}.csv").write_text(text)
        write(tmp_path / f"f{index}.nii.gz", (16, 16), 6 + index)
        write(tmp_path / f"m{index}.nii.gz", (16, 16), 8)
        lines.append(f"f{index}.nii.gz,m{index}.nii.gz,{name}_moved.csv,{name}.csv")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    guiding = Guiding(restrict="1,0", guide_weight=1.0)
    settings = {"affine": "none", "similarity": "mse", "refine_steps": 1, "guiding": guiding}
    listed = list_pairs(BatchOptions(tmp_path, pairs=tmp_path / "pairs.csv", **settings))
    pairs = {name: read_pair(options) for name, options in listed.items()}
    batches = list(groups.Groups(2**20).batches(pairs))
    assert [(len(batch.names), batch.size) for batch in batches] == [(2, 2), (1, 1)]
    together = run.solve([pairs[name] for name in batches[0].names], lambda step: None, compile_ahead=False)
    assert np.abs(together[0].deformation - together[1].deformation).max() > 0.1
    for name, maps in zip(batches[0].names, together, strict=True):
        (alone,) = run.solve([pairs[name]], lambda step: None, compile_ahead=False)
        np.testing.assert_allclose(maps.deformation, alone.deformation, atol=1e-3)
        assert np.all(np.asarray(maps.deformation)[..., 1] == 0)


def test_regions_of_a_batch_are_those_of_each_pair():
    bodies, kept = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 5, 2)), np.arange(40).reshape(2, 1, 4, 5)
    own = [
        Guides(Constraints((1, 0), jnp.asarray(body[:1]), jnp.asarray(volume)))
        for body, volume in zip(bodies, kept, strict=True)
    ]
    constraints, guidance = stack_guides(own)
    np.testing.assert_array_equal(constraints.rigid_regions, bodies[:, 0])
    np.testing.assert_array_equal(constraints.keep_volume, kept[:, 0])
    assert constraints.restrict == (1, 0)
    assert guidance is None
    assert own[0].kind == own[1].kind
    for other in (
        Guides(Constraints((0, 1), jnp.asarray(bodies[0, :1]), jnp.asarray(kept[0]))),
        Guides(Constraints((1, 0), jnp.asarray(bodies[0, :1, ..., :1]), jnp.asarray(kept[0]))),
        Guides(Constraints((1, 0), jnp.asarray(bodies[0, :1]))),
        Guides(guidance=Guidance(np.zeros((1, 3, 2)), np.zeros((1, 3, 2)), weight=2.0)),
    ):
        assert other.kind != own[0].kind


def test_a_fault_of_one_pair_does_not_stop_the_others(pairs, without_report, monkeypatch):
    """A file that can be read, but fails later: here its folder is held by another registration."""
    names = list(SHAPES)
    monkeypatch.setattr(run, "solve", lambda batch, *_, **__: [full_memory(), *map(still, batch[1:])])
    monkeypatch.setattr(run, "finish", lambda pair, maps, clock: {"before": {}, "after": {}, "guides": {}})
    (pairs.output_dir / names[1]).mkdir(parents=True)
    with output_folder(pairs.output_dir / names[1], [], []), pytest.raises(UserError, match="4 of 5 pairs failed"):
        run.register_batch(pairs)
    with (pairs.output_dir / "summary.csv").open() as file:
        rows = {row["output"]: row for row in csv.DictReader(file)}
    assert rows[names[0]]["message"] == "RESOURCE_EXHAUSTED: out of memory"
    assert "another registration is writing into it" in rows[names[1]]["message"]
    assert rows[names[2]]["status"] == "done"


def full_memory():
    return RuntimeError("RESOURCE_EXHAUSTED:\n out of memory")


def still(pair):
    zero = np.zeros((*pair.inputs.shape, 2), np.float32)
    return Maps(zero, pair.start.matrix, zero, zero)


def pair_of(shape, spacing=1.0, moving_shape=None, affine="affine", guides=Guides(), initial=None):
    """A stand-in for a read pair."""
    side = types.SimpleNamespace(volume=types.SimpleNamespace(spacing=np.full(len(shape), spacing)))
    shapes = shape, shape if moving_shape is None else moving_shape
    images = [types.SimpleNamespace(shape=(1, *each, 1)) for each in shapes]
    inputs = types.SimpleNamespace(
        shape=shapes[0],
        moving_shape=shapes[1],
        fixed=side,
        moving=side,
        fixed_image=images[0],
        moving_image=images[1],
        channel_weights=(1.0,),
        guides=guides,
    )
    options = types.SimpleNamespace(initial=initial)
    return types.SimpleNamespace(inputs=inputs, affine=affine, options=options)


def test_pairs_of_one_program_are_batches_of_one_size():
    pairs = {name: pair_of((10, 10)) for name in "abcde"} | {
        "sized": pair_of((10, 10), spacing=2.0),  # only proportions matter
        "larger": pair_of((10, 20)),
        "other": pair_of((10, 10), affine="rigid"),
        "held": pair_of((10, 10), guides=Guides(Constraints((1, 0)))),
        "started": pair_of((10, 10), initial="affine.mat"),  # is not turned, as the others are
    }
    found = groups.Groups(most_voxels=900)
    assert list(found.batches(pairs)) == [
        (["a", "b", "c"], 3, True),
        (["d", "e", "sized"], 3, False),
        (["larger"], 1, True),
        (["other"], 1, True),
        (["held"], 1, True),
        (["started"], 1, True),
    ]
    # Later pairs take the programs that there are.
    later = {"f": pair_of((10, 10)), "g": pair_of((10, 20)), "h": pair_of((10, 20))}
    assert list(found.batches(later)) == [(["f"], 3, False), (["g"], 1, False), (["h"], 1, False)]


def test_batches_are_equal_and_few():
    assert groups.batch_size(20, 100, 1_000) == 10
    assert groups.batch_size(21, 100, 1_000) == 7
    assert groups.batch_size(3, 5_000, 1_000) == 1
