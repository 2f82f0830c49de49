"""Run by a test in a process of its own: answers of kept models, from their folders alone."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lrtl_utils.data.splits import Examples
from lrtl_utils.deploy import export
from lrtl_utils.methods import loop as training

folder, found = Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    kept = export.load(folder / name)
    inputs = json.loads((folder / f"{name}.json").read_text())
    if kept.model.reader.kind == "image":
        inputs = [np.array(image, dtype=np.uint8) for image in inputs]
    targets = [[0] * len(words) for words in inputs] if kept.model.reader.kind == "tokens" else [0] * len(inputs)
    prediction = training.predict(kept.model, Examples(inputs, targets, np.arange(len(inputs))), kept.config)
    found[f"{name}.scores"] = np.concatenate([np.atleast_2d(rows) for rows in prediction.scores])
    found[f"{name}.predicted"] = np.concatenate([np.atleast_1d(answer) for answer in prediction.predicted])
save_file(found, folder / "from_folder.safetensors")
