"""A valid call of every function of files, data sets and figures."""

import numpy as np
from wrong_type_rows import LEAF, POINTS, SQUARE, TEXT, direct

from air_jax import data, io, visualize


def of_io(folder):
    affine, points = np.eye(3), np.asarray(POINTS, np.float64)
    labels, square = SQUARE.astype(np.int16), SQUARE.astype(np.uint8)
    io.write_image(folder / "image.nii.gz", SQUARE, affine)
    io.write_segmentation(folder / "labels.nii.gz", labels, affine)
    io.write_field(folder / "field.nii.gz", np.zeros((8, 8, 2), np.float32), affine)
    io.write_landmarks(folder / "points.csv", points)
    io.write_stack(folder / "stack.npz", np.stack([square] * 4))
    volume, subject = io.Volume(SQUARE, affine), io.read_subject(folder / "image.nii.gz")
    return {
        "Volume": direct(io.Volume, SQUARE, affine),
        "check_pair": direct(io.check_pair, subject, subject),
        "count_outside": direct(io.count_outside, points, volume),
        "read_field": direct(io.read_field, folder / "field.nii.gz"),
        "read_image": direct(io.read_image, folder / "image.nii.gz"),
        "read_landmarks": direct(io.read_landmarks, folder / "points.csv"),
        "read_segmentation": direct(io.read_segmentation, folder / "labels.nii.gz"),
        "read_stack": direct(io.read_stack, folder / "stack.npz"),
        "read_subject": direct(
            io.read_subject,
            folder / "image.nii.gz",
            segmentation=folder / "labels.nii.gz",
            landmarks=folder / "points.csv",
        ),
        "to_physical": direct(io.to_physical, points, affine),
        "to_voxels": direct(io.to_voxels, points, affine),
        "write_field": direct(io.write_field, folder / "written.nii.gz", np.zeros((8, 8, 2)), affine),
        "write_image": direct(io.write_image, folder / "written.nii.gz", SQUARE, affine),
        "write_landmarks": direct(io.write_landmarks, folder / "written.csv", points, allows=dict(path="word")),
        "write_segmentation": direct(io.write_segmentation, folder / "written.nii.gz", labels, affine),
        "write_stack": direct(
            io.write_stack,
            folder / "written.npz",
            np.stack([square] * 4),
            label=np.arange(4),
            spacing=(1.0, 1.0),
            split=["train"] * 4,
            ids=list("abcd"),
        ),
    }


def of_data(folder):
    io.write_stack(folder / "images.npz", np.zeros((20, 8, 8), np.uint8))
    images = data.Images(np.zeros((20, 8, 8, 1), np.uint8), classes=np.arange(20))
    leaves = dict.fromkeys(("images", "classes", "segmentations", "pairs"), LEAF)
    return {
        "Images": direct(data.Images, images.images, allows=leaves),
        "label_ids_of": direct(data.label_ids_of, images),
        "load_dataset": direct(data.load_dataset, str(folder / "images.npz"), train_fraction=0.8, num_validation=4),
        "split": direct(data.split, images, train_fraction=0.8, num_validation=4),
    }


def of_visualize():
    image, still, labels = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 2)), np.zeros((1, 8, 8), int)
    plane, field, title = image[0, ..., 0], still[0], dict(title=TEXT)
    scores = {"before": {"mse": 0.2}, "after": {"mse": 0.1}}
    pair, shown = (image[0], image[0]), dict(spacing=(1, 1), title="a pair", scores=scores)
    motion = ("trans_x", "trans_y", "rot"), np.zeros((5, 3)), np.zeros(4)
    return {
        "attention_figure": direct(
            visualize.attention_figure, *pair, np.full((2, 4, 4), 0.25), token_grid=(2, 2), patch_size=(4, 4)
        ),
        "curves_figure": direct(visualize.curves_figure, [{"step": 0, "loss": 0.4}], allows=dict(lines="list")),
        "matching_figure": direct(
            visualize.matching_figure,
            image[0],
            [image[0]],
            [np.full((4, 4, 2, 9), 1 / 9)],
            (3, 3),
            stride=(2,),
            patch_size=(4,),
        ),
        "morph_frames": direct(visualize.morph_frames, image, image, still, num_frames=2),
        "morph_gif": direct(visualize.morph_gif, image, image, still, num_frames=2),
        "motion_figure": direct(visualize.motion_figure, *motion, unit="pixels", title="still", allows=title),
        "registration_figure": direct(visualize.registration_figure, *[image] * 3, still, "a pair", allows=title),
        "report_figure": direct(
            visualize.report_figure, *[plane] * 3, field, **shown, allows=dict(**title, scores="dict")
        ),
        "report_page": direct(
            visualize.report_page,
            *[plane] * 3,
            plane + 1,
            **shown,
            facts={},
            allows=dict(**title, scores="dict", facts="dict", warnings="list strings"),
        ),
        "samples_figure": direct(
            visualize.samples_figure,
            image,
            image,
            labels,
            labels,
            "a pair",
            allows=dict(**title, fixed_segmentation="none", moving_segmentation="none"),
        ),
        "segmentation_figure": direct(visualize.segmentation_figure, image, labels, labels, "an image", allows=title),
        "template_figure": direct(
            visualize.template_figure,
            np.zeros((2, 8, 8)),
            np.eye(3),
            ("start", "round 1"),
            (0.5, 0.6),
            title="a template",
            is_picture=True,
            allows=title,
        ),
    }
