"""Defaults of the options, with and without a trained run."""

import dataclasses
from pathlib import Path

import pytest

import air_jax
from air_jax.file_registration import options as options_module
from air_jax.file_registration.options import Options, choose_registration
from air_jax.losses import make_objective
from air_jax.optimize import DenseField, VelocityField

FILES = Path("fixed.nii.gz"), Path("moving.nii.gz"), Path("out")


def test_without_a_workdir_120_steps_optimise_lncc_after_an_affine():
    registration, affine = choose_registration(Options(*FILES), 3)
    assert affine == "affine"
    assert registration.image_shape == (1, 1, 1, 1)
    assert registration.objective == make_objective("lncc")
    assert (registration.field, registration.refine_steps) == (DenseField(), 120)
    assert registration.normalization == "percentile"


def test_every_option_replaces_its_default():
    options = Options(*FILES, similarity="mi", field="velocity", refine_steps=7, normalization="ct", affine="rigid")
    registration, affine = choose_registration(options, 2)
    assert affine == "rigid"
    assert registration.objective == make_objective("mi")
    assert (registration.field, registration.refine_steps) == (VelocityField(), 7)
    assert registration.normalization == "ct"


def test_fast_leaves_out_the_finest_level_and_its_steps():
    registration, _ = choose_registration(Options(*FILES, fast=True, refine_steps=10), 3)
    assert registration.field.levels == DenseField().levels[:-1]
    assert registration.refine_steps == 6  # 3, 3 and 4 on three levels


@pytest.mark.parametrize(("refine_steps", "similarity"), [(None, None), (5, None), (5, "ncc")])
def test_with_a_workdir_the_trained_settings_hold_without_affine_and_steps(monkeypatch, refine_steps, similarity):
    trained = air_jax.without_model(2, similarity="mse", bending=0.1, normalization="foreground", refine_steps=60)
    monkeypatch.setattr(options_module, "load", lambda workdir: trained)
    options = Options(*FILES, workdir=Path("run"), refine_steps=refine_steps, similarity=similarity)
    registration, affine = choose_registration(options, 2)
    assert affine == "none"
    objective = make_objective("ncc") if similarity else trained.objective
    expected = dataclasses.replace(trained, objective=objective, refine_steps=refine_steps or 0)
    for field in dataclasses.fields(expected):
        assert getattr(registration, field.name) == getattr(expected, field.name), field.name
