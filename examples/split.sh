#!/usr/bin/env bash
# Dividing data: a table of sets, groups that stay whole, folds, and commands that use them. Runs anywhere, in a minute.
#   bash examples/split.sh [FOLDER]
set -euo pipefail
mkdir -p "${1:-runs/split}" && cd "${1:-runs/split}"
holdfast() { python -m holdfast "$@"; }

# Digits as pictures, and a CSV that says who wrote each: seven writers, whose hands must not be in two sets.
python - <<'PY'
import csv, pathlib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
table = load_digits()
rows = [("file", "label", "writer")]
pathlib.Path("pictures").mkdir(exist_ok=True)
for index, (pixels, label) in enumerate(zip(table.images[:600], table.target)):
    if label < 3:
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(f"pictures/{index}.png")
        rows.append((f"{index}.png", ("zero", "one", "two")[label], f"w{index % 7}"))
with open("labels.csv", "w", newline="") as file:
    csv.writer(file).writerows(rows)
PY

data="labels.csv --image-dir pictures"
holdfast split $data                                             # split.csv: path, label, set, group, bytes, digest
holdfast split $data --group-by writer --out by-writer.csv       # no writer in two sets
holdfast split $data --folds 3 --group-by writer --out folds.csv
holdfast show $data --split by-writer.csv --set test --num 12 --out test.png
holdfast train $data --split by-writer.csv --model mlp --epochs 2 --out run
holdfast val run $data --split by-writer.csv --set test --json > val.json
holdfast train $data --split folds.csv --fold 2 --model mlp --epochs 1 --out fold-2 --quiet # and so on for each fold
echo "everything lies in $PWD"
