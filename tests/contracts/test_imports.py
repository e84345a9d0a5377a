"""The layers hold, function-level imports included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")
def test_import_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_responses_and_dataset_load_without_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, clipmused_bids.dataset, clipmused_bids.responses\n"
        "for package in (clipmused_bids.dataset, clipmused_bids.responses):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_preparing_responses_loads_no_torch() -> None:
    """Jobs of one participant with a linear method start sooner and leave the memory to their images."""
    code = (
        "import sys, clipmused_bids.stages.invocation, clipmused_bids.methods.registry\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
