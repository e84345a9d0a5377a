from __future__ import annotations

import os
import time
from pathlib import Path

from clipmused_bids.dataset.files.leftovers import remove_leftovers

OLD = time.time() - 2 * 3600


def make(path: Path, *, old: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    if old:
        os.utime(path, (OLD, OLD))
    return path


def test_old_unfinished_files_go_and_nothing_else(tmp_path: Path) -> None:
    gone = [
        make(tmp_path / name, old=True)
        for name in (".x.json.0f.tmp", "sub-01/func/.y.tsv.1a.tmp", "models/m/.model.safetensors.22.tmp")
    ]
    kept = [
        make(tmp_path / ".being-written.json.33.tmp", old=False),
        make(tmp_path / "notes.tmp", old=True),
        make(tmp_path / ".bidsignore", old=True),
        make(tmp_path / "sub-01" / "func" / "y.tsv", old=True),
    ]
    assert remove_leftovers([tmp_path, tmp_path / "never there"]) == 3
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_a_folder_alone(tmp_path: Path) -> None:
    top, below = make(tmp_path / ".a.0.tmp", old=True), make(tmp_path / "sub-02" / ".b.0.tmp", old=True)
    assert remove_leftovers([tmp_path], below=False) == 1
    assert not top.exists()
    assert below.exists()


def test_one_that_another_job_removes_first_is_no_error(tmp_path: Path) -> None:
    """Two jobs tidy at once; a link to nothing stands for a file that vanished after it was listed."""
    (tmp_path / ".gone.0.tmp").symlink_to(tmp_path / "nothing")
    assert remove_leftovers([tmp_path]) == 0
