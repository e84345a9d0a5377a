from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipmused_bids.dataset.runs.derivatives import Derivative
from clipmused_bids.errors import CannotCreateError
from clipmused_bids.stages.places import require_own_place, require_writable


def test_an_output_folder_must_be_writable(tmp_path: Path) -> None:
    require_writable(tmp_path / "not" / "yet")
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError, match="a file, not a folder"):
        require_writable(tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir(mode=0o555)
    with pytest.raises(CannotCreateError, match="read-only or not yours"):
        require_writable(tmp_path / "fixed" / "out")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("bids", "raw dataset"),
        ("bids/sub-01", "raw dataset"),
        ("bids/results/one", "raw dataset"),
        ("bids/derivatives/../code", "raw dataset"),
        ("link", "raw dataset"),
        ("link/derivatives/../out", "raw dataset"),
        ("bids/derivatives/prep", "derivative prep"),
        ("bids/derivatives/prep/clipmused", "derivative prep"),
        ("bids/derivatives/clipmused", ""),
        ("bids/derivatives/preparation", ""),
        ("bids-out", ""),
        ("out", ""),
        (".", ""),
    ],
)
def test_what_is_read_is_no_place_for_outputs(tmp_path: Path, place: str, why: str) -> None:
    bids = tmp_path / "bids"
    (bids / "derivatives" / "prep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(bids)
    derivatives = [Derivative("prep", bids / "derivatives" / "prep", described=False)]
    if not why:
        require_own_place(tmp_path / place, bids_dir=bids, derivatives=derivatives)
        return
    with pytest.raises(CannotCreateError, match=why):
        require_own_place(tmp_path / place, bids_dir=bids, derivatives=derivatives)


def test_images_in_the_raw_dataset_and_own_earlier_outputs(tmp_path: Path) -> None:
    bids, out = tmp_path / "bids", tmp_path / "bids" / "derivatives" / "clipmused"
    out.mkdir(parents=True)
    for derivative in (Derivative("raw", bids, described=True), Derivative("clipmused", out, described=True)):
        require_own_place(out, bids_dir=bids, derivatives=[derivative])
    with pytest.raises(CannotCreateError, match="derivative mine"):
        require_own_place(out, bids_dir=bids, derivatives=[Derivative("mine", out, described=False)])
