"""Further cases of costly tests, by measured time: only `pytest -m ""` and .ci/full run them.

Each kind has another case that every run of the tests covers; the comment names it. A case is the beginning of a test's
name in its file, with its parameters where only some are left out. `THOROUGH` marks cases where they are written.
"""

THOROUGH_CASES = {
    # Interruption is also tested by signals, bit for bit, in training/test_stopping.py.
    # One program on resident images is also tested.
    "training/test_train.py": (
        "test_a_killed_and_resumed_run_ends_bit_for_bit",
        "test_a_run_goes_on_in_one_program_that_xla_partitions[True]",
    ),
    # Unrolled demons and resumption have tests of their own.
    "training/test_segmenter_run.py": ("test_a_registration_without_parameters", "test_a_registration_goes_on"),
    "training/test_configs.py": ("test_every_registration_config_trains_and_loads[brains_labels]",),
    # The other axis, symbolic sizes, and derivatives of each function against finite differences.
    "test_transformations.py": (
        "test_grad_jvp_and_checkpoint_agree",
        "test_jit_and_vmap",
        "test_shard_map",
        "test_explicit_mesh[batch]",
        "test_export_to_all_platforms_with_symbols[batch]",
    ),
    # The same in two dimensions.
    "file_templates/test_template.py": ("test_volumes_that_their_headers_place_apart",),
    "file_batches/test_batch.py": ("test_volumes_of_one_batch",),
    # Overlap of smaller images, in one other case.
    "file_registration/test_register_overlap.py": ("test_padding_changes_neither",),
    # The other dimension of each; rigid and affine also by the other dimension, and by files.
    "optimize/test_register_affine.py": (
        "test_what_does_not_count_has_no_influence_on_the_affine[3]",
        "test_known_affine_is_recovered_between_different_grids[2]",
        "test_each_kind_changes_only_its_free_parameters[2-translation]",
        "test_each_kind_changes_only_its_free_parameters[2-similarity]",
        "test_each_kind_changes_only_its_free_parameters[2-affine]",
        "test_each_kind_changes_only_its_free_parameters[3-rigid]",
        "test_images_far_apart_by_their_headers_are_aligned[3]",
        "test_gradient_agrees_with_finite_differences_in_64_bits[3]",
    ),
    "optimize/test_refine.py": (
        "test_blobs_are_aligned_without_folding[field2",
        "test_blobs_are_aligned_without_folding[field3",
        "test_blobs_are_aligned_without_folding[field4",
    ),
    "file_registration/test_slides.py": ("test_a_large_picture_is_warped_at_full_size[.png]",),
    "file_registration/test_guided_files.py": ("test_a_picture_in_colour",),
    # A turned volume that is not mirrored is also tested.
    "file_registration/test_doubt.py": (
        "test_a_translation_starts_from_no_turn",
        "test_a_turned_volume_is_found_and_doubtful[mirrored]",
    ),
    "registration/test_registration.py": ("test_leading_axes_are_those_of_the_images[shape1]",),
    "losses/test_weights.py": (
        "test_weighted_similarities_agree_with_their_references[shape1-mind_ssc",
        "test_weighted_similarities_agree_with_their_references[shape1-lncc-options7]",
    ),
    # Random cases of what other tests check by chosen ones.
    "test_properties.py": ("test_",),
    "models/test_air.py": ("test_vmap_forward_mode_and_reverse_mode_agree[1]",),
    "models/test_demons.py": (
        "test_unrolled_demons_register_two_blobs[shape1",
        "test_gates_are_bounded_by_the_maximal_gain",
    ),
    "models/test_pyramid.py": ("test_displacements_hardly_fold_whatever_the_parameters[shape1]",),
    "transforms/test_sampling_derivative.py": ("test_points_on_a_grid_of_their_own[2-",),
    # Registration inside jit and vmap without an affine, and the affine alone.
    "registration/test_from_zero.py": (
        "test_an_affine_runs_inside_jit",
        "test_a_similarity_of_two_images_only",
        "test_without_a_model_optimisation_starts_from_zero[shape1",
    ),
    # AiR's own case.
    "models/test_attention.py": (
        "test_remat_keeps_parameters_displacement_and_gradients[pyramid",
        "test_remat_keeps_parameters_displacement_and_gradients[air, ",
        "test_elsewhere_flash_attention_works_in_chunks_and_computes_the_same[100-",
        "test_small_attention_with_a_bias_computes_the_same_in_a_model",
        "test_elsewhere_flash_attention_works_in_chunks_and_computes_the_same[3-pyramid]",
    ),
    # Training with a segmenter, in training/test_segmenter_run.py; both gains against SciPy, in models/test_demons.py.
    "models/test_segmenter.py": (
        "test_the_displacement_does_not_train_the_segmenter",
        "test_damping_and_expansion",
        "test_gains_of_intensities_and_of_classes",
    ),
    # The other pieces of work.
    "experiments/test_benchmark.py": (
        "test_the_command_writes_json_and_a_table",
        "test_air_jax_runs_every_piece_of_work[train_16]",
        "test_air_jax_runs_every_piece_of_work[inference]",
    ),
    # A run on a stack, and a run of each kind of model.
    "data/test_folder_images.py": ("test_a_run_on_a_folder",),
    # Four and eight devices; parameters that are split.
    "runtime/test_parallel.py": (
        "test_displacements_after_ten_steps_agree[2]",
        "test_gradients_of_one_step_agree[2]",
        "test_one_program_that_xla_partitions_agrees[replicated]",
    ),
}
