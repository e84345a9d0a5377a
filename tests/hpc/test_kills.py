"""Killed and continued jobs; ``python -m tests.hpc.kills --kills 20`` is the long form."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from tests.hpc.kills import run_kills

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason=f"no fork server on {sys.platform}"
)


@pytest.mark.slow
def test_killed_jobs_end_with_what_an_undisturbed_one_leaves(tmp_path: Path) -> None:
    tally = run_kills(tmp_path, n_kills=3, per_episode=3, seed=1)
    assert tally.faults == []
    assert tally.n_kills == 3
    assert tally.looks > 10
