def pair_and_displacement():
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 3, 6, 7, 1))
    return tuple(jnp.asarray(array) for array in (fixed, warped, rng.standard_normal((3, 6, 7, 2))))


def test_objective_adds_weighted_terms_and_reports_them_unweighted():
    fixed, warped, displacement = pair_and_displacement()
    loss, terms = make_objective("mse", diffusion=0.5)(fixed, warped, displacement)
    assert set(terms) == {"mse", "diffusion"}
    np.testing.assert_allclose(loss, terms["mse"] + 0.5 * terms["diffusion"], rtol=1e-6)
    loss, terms = make_objective("mse", diffusion=0.0)(fixed, warped, displacement)
    assert set(terms) == {"mse"}
    np.testing.assert_array_equal(loss, terms["mse"])


def test_objective_takes_any_function_as_similarity():
    fixed, warped, displacement = pair_and_displacement()
    small_windows = partial(lncc, window=3)
    objective = make_objective(small_windows, bending=0.5)
    loss, terms = jax.jit(lambda objective, *args: objective(*args), static_argnums=0)(
        objective, fixed, warped, displacement
    )
    assert set(terms) == {"similarity", "bending"}
    np.testing.assert_allclose(terms["similarity"], small_windows(fixed, warped), rtol=1e-5)
    np.testing.assert_allclose(loss, terms["similarity"] + 0.5 * terms["bending"], rtol=1e-5)


def test_objective_of_unknown_terms():
    with pytest.raises(KeyError, match="nope"):
        make_objective("nope")
    with pytest.raises(KeyError, match="nope"):
        make_objective("mse", nope=1.0)


