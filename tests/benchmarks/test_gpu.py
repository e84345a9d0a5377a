"""The benchmark of GPUs is code that runs; on a processor its figures mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    script = ROOT / "benchmarks" / "gpu.py"
    return subprocess.run(
        [sys.executable, str(script), *words], check=False, capture_output=True, text=True, env=environment
    )


def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = run()
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("gpu.py: torch sees no CUDA device here")


@pytest.mark.slow
def test_it_measures_small_networks_on_a_processor(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    done = run(
        "--device", "cpu", "--tiny", "--steps", "2", "--forms", "float32", "bf16", "--processes", "2",
        "--json", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["torch"] == torch.__version__
    rows = {(row["case"], row["form"], row["processes"]): row for row in result["rows"]}
    one = {(case, form, 1) for case in ("hcp", "nsd-common") for form in ("float32", "bf16")}
    assert set(rows) == one | {("hcp", "bf16", 2), ("nsd-common", "bf16", 2)}
    for row in rows.values():
        assert row["samples_per_second"] * row["seconds"] == pytest.approx(4)
        assert row["tflop_per_second"] * row["seconds"] == pytest.approx(row["step_tflop"])
        # The vendor's peak of a processor is not in the table.
        assert row["share_of_peak"] is None
    # The stems of the smallest volume, by hand: 8^3 and 4^3 places, 7^3 taps; twice that much backward for the second.
    stems = 2 * 4 * 343 * (8**3 * 32 * 2 + 4**3 * 32 * 64 * 3)
    assert rows["hcp", "float32", 1]["step_tflop"] > stems / 1e12
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]
