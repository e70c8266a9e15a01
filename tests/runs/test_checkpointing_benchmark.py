import subprocess
import sys
from pathlib import Path

SMALL = "--size tiny --vocab-size 500 --block-size 16 --steps 2 --rounds 1 --examples 2000 --resumes 1"


def test_the_benchmark_of_checkpointing_runs_to_its_end():
    command = [sys.executable, "-m", "benchmarks.checkpointing", *SMALL.split()]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr[-3000:]
    assert "at step 100,000:" in result.stdout
