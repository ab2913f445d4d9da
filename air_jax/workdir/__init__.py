"""The folder of a run: config, checkpoints and log."""
