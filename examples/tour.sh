#!/usr/bin/env bash
# A tour of the command line on a folder of pictures, made from the digits so that it runs anywhere. About a minute.
#   bash examples/tour.sh [FOLDER]
set -euo pipefail
mkdir -p "${1:-runs/tour}" && cd "${1:-runs/tour}"
holdfast() { python -m holdfast "$@"; }

# A folder of class folders, a CSV over the same pictures, and a class list.
python - <<'PY'
import csv, pathlib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
table = load_digits()
rows = []
for index, (pixels, label) in enumerate(zip(table.images, table.target)):
    if label in (0, 1, 7) and index < 900:
        folder = pathlib.Path("pictures") / ("zero", "one", "seven")[(0, 1, 7).index(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append((f"{folder.name}/{index}.png", folder.name))
with open("labels.csv", "w", newline="") as file:
    csv.writer(file).writerows([("file", "label"), *rows])
PY

holdfast check pictures --classes zero,one,seven --html check.html # what is in it, and what is wrong with it
holdfast show pictures --classes zero,one,seven --out grid.png --num 24
holdfast models --show lenet --num-classes 3 --channels 1 --img-size 32
holdfast train pictures --classes zero,one,seven --epochs 4 --save-every 10 --tensorboard --log-every 10 --out run
holdfast train pictures --classes zero,one,seven --epochs 4 --save-every 10 --tensorboard --log-every 10 --out run  # finished: says so
holdfast train pictures --classes zero,one,seven --epochs +1 --save-every 10 --tensorboard --log-every 10 --out run # one more
holdfast val run
holdfast val run@last pictures --json > val.json
holdfast predict run pictures/seven --top-k 2 --csv predictions.csv > predictions.txt
holdfast predict run 'pictures/one/1*.png' --json > predictions.json
holdfast inspect run --part optimizer
holdfast inspect run/best.safetensors
holdfast train labels.csv --image-dir pictures --model mlp --epochs 2 --out run-csv --set model_args.hidden='[32]'
echo "everything lies in $PWD"
