"""Reads checkpoints in an environment of its own, with torch and any transformers, and writes down what it saw.

python read_with_torch.py CLASS CHECKPOINT INPUTS.npz OUTPUTS.npz [SENTENCES.json ANSWERS.json]
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def main(kind, checkpoint, inputs, outputs, sentences=None, answers=None):
    model, information = getattr(transformers, kind).from_pretrained(checkpoint, output_loading_info=True)
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if information[name]:
            raise SystemExit(f"{kind} of transformers {transformers.__version__} reports {name}: {information[name]}")
    if model.dtype != torch.float32:
        raise SystemExit(f"{kind} was loaded as {model.dtype}")
    with torch.no_grad():
        given = {name: torch.tensor(value) for name, value in np.load(inputs).items()}
        seen = model.eval()(**given)
    np.savez(outputs, **{name: value.numpy() for name, value in seen.items() if name.endswith("logits")})
    if sentences:
        fill_mask = transformers.pipeline("fill-mask", model=checkpoint, top_k=5)
        found = fill_mask(json.loads(Path(sentences).read_text(encoding="utf-8")))
        Path(answers).write_text(json.dumps([[answer["token"] for answer in each] for each in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
