"""Every benchmark runs to its end, in a setting of seconds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_pretrain as kp

ROOT = Path(__file__).parents[1]
STEP = "--batch-size 4 --block-size 16 --vocab-size 200 --rounds 1 --steps 1"


def run(command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_checkpointing():
    small = "--size tiny --vocab-size 500 --block-size 16 --steps 2 --rounds 1 --examples 2000 --resumes 1"
    assert "at step 100,000:" in run(f"benchmarks.checkpointing {small}")


def test_input():
    assert "| 16 |" in run("benchmarks.input_pipeline --batch-sizes 16 --rounds 1 --seconds 0.1")


def test_preparation(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    texts = kp.load_sample("ko")["text"][:40]
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    output = run(f"benchmarks.preparation --corpus {corpus} --rounds 0 --memory-megabytes 1 --num-proc 1")
    assert re.search(r"\n +1 +\d+", output)


def test_glued_gaps(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    stems, particles = ("가아", "나자", "다차", "라카", "마타", "바파", "사하"), ("", "이", "은", "을", "도")
    words = [*particles[1:], *(stem + particle for stem in stems for particle in (*particles, "", ""))]
    corpus.write_text("\n".join(json.dumps({"text": " ".join(words[i % 5 :: 2])}) for i in range(40)))
    small = "--size tiny --shares 1 --seeds 1 --steps 2 --batch-size 4 --block-size 32 --vocab-size 45 --gaps 4"
    assert "| 1.0 |" in run(f"benchmarks.glued_gaps --corpus {corpus} {small}")


@pytest.mark.parametrize(
    ("sizes", "contenders"),
    [
        ("--sizes tiny --leave-out stock_xla tutorial", ("ours_bfloat16", "ours_float32", "stock")),
        (
            "--sizes --electra-sizes tiny --classifier-sizes tiny",
            ("electra_bfloat16", "electra_tutorial", "classifier_bfloat16"),
        ),
    ],
)
def test_training_step(sizes, contenders):
    output = run(f"benchmarks.train_step {sizes} {STEP}")
    assert all(f"| {name} |" in output for name in contenders)


@pytest.mark.skipif("KERAS_PRETRAIN_TORCH_PYTHON" not in os.environ, reason="no environment with torch is given")
@pytest.mark.parametrize("sizes", ["--sizes tiny --leave-out stock stock_xla tutorial", "--sizes --electra-sizes tiny"])
def test_training_step_beside_torch(sizes):
    python = os.environ["KERAS_PRETRAIN_TORCH_PYTHON"]
    output = run(
        f"benchmarks.train_step {sizes} {STEP} --torch-python {python} "
        "--leave-out stock stock_xla tutorial torch_compiled_float32 torch_compiled_bfloat16"
    )
    assert "torch_bfloat16 |" in output


def test_time_to_loss(tmp_path):
    """With torch, if there is an environment with it."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in kp.load_sample("ko")["text"][:40]))
    small = "--size tiny --batch-size 4 --block-size 16 --vocab-size 300 --seconds 1"
    python = os.environ.get("KERAS_PRETRAIN_TORCH_PYTHON")
    torch = f"--torch-python {python} --torch-rates 1e-3 --torch-steps 2" if python else ""
    output = run(f"benchmarks.time_to_loss --corpus {corpus} {small} {torch}")
    losses = dict(re.findall(r"\| (torch[a-z ,]*|ours) \|.* (\d\.\d{4}) \|", output))
    assert losses.keys() == ({"torch", "torch, logits of masked tokens", "ours"} if python else {"ours"})
    assert all(4 < float(loss) < 7 for loss in losses.values())  # ln 300 is 5.7
