"""Config files that cannot be used, and workdirs of a finished run with one thing wrong."""

import json
import os
import shutil
from pathlib import Path

CONFIGS = {
    "syntax": "def get_config(:\n",
    "no_import": "import no_such_module_of_mine\n",
    "no_function": "x = 1\n",
    "plain_dict": "def get_config(): return {'seed': 1}\n",
    "none": "def get_config(): pass\n",
    "attribute": "import numpy\ndef get_config(): return numpy.no_such_thing\n",
    "key_error": "def get_config(): return {}['mine']\n",
    "value_error": "def get_config(): raise ValueError('mine\\nof two lines')\n",
    "zero": "def get_config(): return 1 / 0\n",
    "exits": "import sys\nsys.exit(3)\n",
    "argument": "def get_config(name): return name\n",
    "default": "from configs import digits\ndef get_config():\n"
    "    config = digits.get_config()\n    config.model.wdth = 3\n    return config\n",
    "no_model": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'seed': 1})\n",
    "model_is_text": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'model': 'air'})\n",
    "digits": "from configs import digits\ndef get_config():\n    config = digits.get_config()\n"
    "    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 5, 8, 2, 4\n"
    "    config.eval.num_pairs, config.eval.batch_size = 12, 8\n    config.compilation_cache = False\n"
    "    return config\n",
}


def make_configs(folder: Path) -> None:
    """Writes the config files."""
    for name, text in CONFIGS.items():
        (folder / f"config_{name}.py").write_text(text)
    (folder / "config_latin.py").write_bytes("# \xe9\nx = 1\n".encode("latin-1"))
    os.mkfifo(folder / "config_pipe.py")
    (folder / "config_folder.py").mkdir()


def make_workdirs(folder: Path, run: Path) -> None:
    """Copies a finished run and damages each copy."""

    def changed(name: str) -> Path:
        shutil.copytree(run, folder / name)
        return folder / name

    def with_config(name: str, change) -> None:
        workdir = changed(name)
        config = json.loads((workdir / "config.json").read_text())
        (workdir / "config.json").write_text(json.dumps(change(config)))

    def within(section: str, **values):
        return lambda config: config | {section: config[section] | values}

    changed("run")
    for name, content in {
        "null": b"null", "list": b"[1, 2]", "number": b"3", "text": b'"air"', "cut": b'{"seed": 0, "mod',
        "empty": b"", "latin": '{"seed": "\xe9"}'.encode("latin-1"), "deep": b"[" * 100_000,
    }.items():  # fmt: skip
        (changed(f"run_config_{name}") / "config.json").write_bytes(content)
    (changed("run_config_gone") / "config.json").unlink()
    pipe = changed("run_config_pipe") / "config.json"
    pipe.unlink()
    os.mkfifo(pipe)
    for name, shape in {
        "text": "large", "null": None, "nan": [float("nan"), 8, 1], "zero": [0, 8, 1], "negative": [-8, 8, 1],
        "fraction": [8.5, 8, 1], "short": [8], "long": [8, 8, 8, 8, 8, 1], "other": [16, 16, 1], "words": ["a", 8, 1],
        "huge": [10**9, 10**9, 1],
    }.items():  # fmt: skip
        with_config(f"run_shape_{name}", lambda config, shape=shape: config | {"image_shape": shape})
    with_config("run_shape_gone", lambda config: {k: v for k, v in config.items() if k != "image_shape"})
    for key, values in {
        "width": (32, "wide", None, -1, 16.5, [16]), "num_heads": (0, "x", None),
        "dropout": (2, "x", None, float("nan")), "head": ("none", 3, None), "patch_size": ("x", None, [0, 0]),
        "dtype": ("float64", 3, None), "name": ("no", 3, None), "recursive": ("x",),
    }.items():  # fmt: skip
        for index, value in enumerate(values):
            with_config(f"run_{key}_{index}", within("model", **{key: value}))
    with_config("run_model_text", lambda config: config | {"model": "air"})
    with_config("run_model_null", lambda config: config | {"model": None})
    with_config("run_loss_null", lambda config: config | {"loss": None})
    with_config("run_loss_text", within("loss", similarity=3))
    with_config("run_loss_negative", within("loss", diffusion=-1))
    with_config("run_loss_word", within("loss", diffusion="much"))
    with_config("run_refine_null", lambda config: config | {"refine": None})
    with_config("run_refine_field", within("refine", field=3))
    with_config("run_refine_sigma", within("refine", update_sigma="x"))
    with_config("run_dataset_null", lambda config: config | {"dataset": None})
    with_config("run_dataset_fraction", within("dataset", train_fraction="x"))
    with_config("run_dataset_name", within("dataset", name=3))
    with_config("run_normalization", within("dataset", normalization=3))
    with_config("run_eval_null", lambda config: config | {"eval": None})
    with_config("run_eval_pairs", within("eval", num_pairs="many"))
    with_config("run_eval_seed", within("eval", pairs_seed=2**40))
    with_config("run_seed_word", lambda config: config | {"seed": "one"})
    with_config("run_seed_null", lambda config: config | {"seed": None})
    with_config("run_batch_word", lambda config: config | {"batch_size": "many"})
    with_config("run_version", lambda config: config | {"format_version": 99})
    with_config("run_version_word", lambda config: config | {"format_version": "new"})
    with_config("run_unknown_key", lambda config: config | {"speling": 1})
    with_config("run_unknown_option", within("model", speling=1))

    log = (run / "metrics.jsonl").read_bytes()
    lines = log.splitlines(keepends=True)
    for name, content in {
        "latin": lines[0] + b'{"step": 2, "note": "\xe9"}\n' + lines[1], "no_step": b'{"loss": 1}\n' + log,
        "step_word": b'{"step": "two"}\n' + log, "step_null": b'{"step": null}\n' + log, "list": b"[1]\n" + log,
        "number": b"7\n" + log, "cut_inside": lines[0][:9] + b"\n" + log, "zeros": bytes(50) + b"\n" + log,
    }.items():  # fmt: skip
        (changed(f"run_log_{name}") / "metrics.jsonl").write_bytes(content)
    folder_as_log = changed("run_log_folder") / "metrics.jsonl"
    folder_as_log.unlink()
    folder_as_log.mkdir()
    pipe = changed("run_log_pipe") / "metrics.jsonl"
    pipe.unlink()
    os.mkfifo(pipe)

    shutil.rmtree(changed("run_no_checkpoints") / "checkpoints")
    (changed("run_squared") / "checkpoints" / "²").mkdir()  # is a digit for Python, but no number
    only = changed("run_only_squared")
    shutil.rmtree(only / "checkpoints")
    (only / "checkpoints" / "²").mkdir(parents=True)
    file = changed("run_checkpoints_file")
    shutil.rmtree(file / "checkpoints")
    (file / "checkpoints").write_text("mine")
    for step in ("4", "5"):
        empty = changed(f"run_empty_{step}") / "checkpoints" / step
        shutil.rmtree(empty)
        empty.mkdir()
    both = changed("run_damaged") / "checkpoints"
    for path in both.glob("*/params/**/d/*"):
        path.write_bytes(bytes(reversed(path.read_bytes())))
    (folder / "empty_workdir").mkdir()
    (folder / "file_workdir").write_text("mine")
    read_only = changed("run_read_only")
    for path in (read_only, read_only / "checkpoints", read_only / "figures"):
        path.chmod(0o555)
