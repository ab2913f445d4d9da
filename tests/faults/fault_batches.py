"""Tables of pairs, good and bad, for the images of `fault_inputs`."""

import os
from pathlib import Path

PAIR = "fixed.nii.gz,moving.nii.gz"
TABLES = {
    "good": f"fixed,moving\n{PAIR}",
    "guided": f"fixed,moving,guide_landmarks,fixed_guide_landmarks\n{PAIR},guides.csv,guides.csv",
    "empty": "",
    "only_columns": "fixed,moving",
    "unknown_column": f"fixed,moving,smoothness\n{PAIR},2",
    "no_moving": "fixed,output\nfixed.nii.gz,a",
    "no_columns": f"{PAIR}",
    "short_line": "fixed,moving,labels\nfixed.nii.gz,moving.nii.gz",
    "long_line": f"fixed,moving\n{PAIR},labels.nii.gz",
    "no_moving_cell": "fixed,moving\nfixed.nii.gz,",
    "no_fixed_cell": "fixed,moving\n,moving.nii.gz",
    "same_output": f"fixed,moving,output\n{PAIR},a\n{PAIR},A",
    "same_pair": f"fixed,moving\n{PAIR}\n{PAIR}",
    "output_above": f"fixed,moving,output\n{PAIR},../a",
    "output_hidden": f"fixed,moving,output\n{PAIR},.a",
    "output_summary": f"fixed,moving,output\n{PAIR},summary.csv",
    "output_deep": f"fixed,moving,output\n{PAIR},a/b",
    "output_twice": f"fixed,moving,output,output\n{PAIR},a,b",
    "no_home": "fixed,moving\n~no_such_user_of_mine/f.nii,moving.nii.gz",
    "labels_of_fixed": f"fixed,moving,fixed_labels\n{PAIR},labels.nii.gz",
    "landmarks_of_fixed": f"fixed,moving,fixed_landmarks\n{PAIR},points.csv",
    "two_fixed": f"fixed,moving,fixed\n{PAIR},moving.nii.gz",
    "two_contrasts_once": f"fixed,moving,fixed,moving\n{PAIR},moving.nii.gz,",
    "mask_twice": f"fixed,moving,fixed_mask,fixed_mask\n{PAIR},body.nii,body.nii",
    "guides_of_moving": f"fixed,moving,guide_landmarks\n{PAIR},guides.csv",
    "guides_of_fixed": f"fixed,moving,fixed_guide_landmarks\n{PAIR},guides.csv",
    "weight_alone": f"fixed,moving,guide_weight\n{PAIR},1",
    "tolerance_alone": f"fixed,moving,guide_tolerance\n{PAIR},1",
    "result_read": "fixed,moving,output\nfixed.nii.gz,out/a/warped.nii.gz,a",
}
for name, cell in {"word": "strong", "nan": "nan", "negative": "-1", "underscore": "1_0", "zero": "0"}.items():
    TABLES[f"weight_{name}"] = TABLES["guided"].replace("\n", ",guide_weight\n") + f",{cell}"
    TABLES[f"tolerance_{name}"] = TABLES["guided"].replace("\n", ",guide_tolerance\n") + f",{cell}"
for name, cell in {"word": "heavy", "many": '"1,2"', "negative": "-1", "zero": "0", "nan": "nan"}.items():
    TABLES[f"contrasts_{name}"] = f"fixed,moving,contrast_weights\n{PAIR},{cell}"


def make_tables(folder: Path) -> None:
    """Writes the tables as `list_NAME.csv`, and a folder of subjects."""
    for name, text in TABLES.items():
        (folder / f"list_{name}.csv").write_text(text + "\n" if text else "")
    (folder / "list_latin.csv").write_bytes("fixed,moving\n\xe9,b\n".encode("latin-1"))
    (folder / "list_open_quote.csv").write_bytes(b'fixed,moving\n"a,b\r\0\n')
    os.mkfifo(folder / "list_pipe.csv")
    (folder / "list_folder.csv").mkdir()
    (folder / "subjects").mkdir()
    (folder / "subjects" / "a.nii.gz").write_bytes((folder / "fixed.nii.gz").read_bytes())
