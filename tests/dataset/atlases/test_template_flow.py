"""An archive made by hand, in TemplateFlow's layout; and the client itself, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clipmused_bids.dataset.atlases.template_flow import (
    Template,
    atlases_of,
    find_atlas,
    has_atlas,
    nearest_resolution,
    template_grid,
    template_home,
)
from clipmused_bids.errors import MissingInputError, UsageError
from clipmused_bids.records import Grid

MNI = Template("MNI152NLin2009cAsym")
FOUR = {"desc": "400Parcels7Networks"}


def save(path: Path, size: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = tuple(int(24 / size) for _ in range(3))
    nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([size, size, size, 1.0])).to_filename(path)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Schaefer 400 at two resolutions with its table; other files are empty, as in the client's skeleton."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "tf"))
    folder = tmp_path / "tf/tpl-MNI152NLin2009cAsym"
    name = "tpl-MNI152NLin2009cAsym_{}atlas-Schaefer2018_desc-400Parcels7Networks_dseg".format
    save(folder / f"{name('res-01_')}.nii.gz", 1.0)
    save(folder / f"{name('res-02_')}.nii.gz", 2.0)
    (folder / f"{name('')}.tsv").write_text("index\tname\n1\tV1\n")
    for empty in (
        "res-01_atlas-Schaefer2018_desc-100Parcels7Networks_dseg.nii.gz",
        "atlas-Schaefer2018_desc-100Parcels7Networks_dseg.tsv",
        "res-02_atlas-HOCPA_desc-th0_dseg.nii.gz",
        "res-02_atlas-HOCPA_desc-th25_dseg.nii.gz",
        "res-02_atlas-MASSP20_dseg.nii.gz",
        "res-02_T1w.nii.gz",
        "res-04_T1w.nii.gz",
        "res-02_desc-brain_T1w.nii.gz",
        "res-02_atlas-DiFuMo_desc-64dimensions_probseg.nii.gz",
    ):
        (folder / f"tpl-MNI152NLin2009cAsym_{empty}").touch()
    save(folder / "tpl-MNI152NLin2009cAsym_res-02_desc-brain_mask.nii.gz", 2.0)
    save(folder / "tpl-MNI152NLin2009cAsym_res-01_desc-brain_mask.nii.gz", 1.0)
    cohort = tmp_path / "tf/tpl-MNIInfant/cohort-2"
    save(cohort / "tpl-MNIInfant_cohort-2_res-1_T1w.nii.gz", 3.0)
    return tmp_path / "tf"


def test_an_atlas_is_found_with_its_table_and_all_resolutions_that_are_here(home: Path) -> None:
    assert template_home() == home
    found = find_atlas(MNI, "Schaefer2018", details=FOUR, offline=True)
    assert [path.name.split("_")[1] for path in found.images] == ["res-01", "res-02"]
    assert found.table is not None
    assert found.table.name == "tpl-MNI152NLin2009cAsym_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.tsv"
    one = find_atlas(MNI, "Schaefer2018", details={**FOUR, "res": "2"}, offline=True)
    assert [path.name.split("_")[1] for path in one.images] == ["res-02"]
    assert atlases_of(MNI) == ("HOCPA", "MASSP20", "Schaefer2018")


@pytest.mark.parametrize(
    ("size", "nearest"), [(1.0, "res-01"), (1.3, "res-01"), (1.7, "res-02"), (3.5, "res-02")]
)
def test_the_resolution_nearest_to_the_voxels_is_chosen(home: Path, size: float, nearest: str) -> None:
    images = find_atlas(MNI, "Schaefer2018", details=FOUR, offline=True).images
    grid = Grid((4, 4, 4), np.diag([-size, size, size, 1.0]))
    assert nearest_resolution(images, grid).name.split("_")[1] == nearest


def test_what_is_listed_but_not_here_is_missing_with_the_commands(home: Path) -> None:
    hundred = {"desc": "100Parcels7Networks"}
    assert not has_atlas(MNI, "Schaefer2018", details=hundred, offline=True)
    assert has_atlas(MNI, "Schaefer2018", details=FOUR, offline=True)
    with pytest.raises(
        MissingInputError, match=r"atlas Schaefer2018:desc-100Parcels7Networks of MNI152NLin2009cAsym"
    ) as caught:
        find_atlas(MNI, "Schaefer2018", details=hundred, offline=True)
    command = (
        "templateflow get MNI152NLin2009cAsym --atlas Schaefer2018 --desc 100Parcels7Networks --suffix dseg"
    )
    assert (caught.value.hint or "").count(command) == 2
    assert "TEMPLATEFLOW_HOME=" in (caught.value.hint or "")
    assert caught.value.exit_code == 66


def test_a_table_that_was_not_fetched_is_missing_as_well(home: Path) -> None:
    (table,) = home.rglob("*400Parcels7Networks_dseg.tsv")
    table.write_text("")
    assert not has_atlas(MNI, "Schaefer2018", details=FOUR, offline=True)
    table.unlink()
    assert find_atlas(MNI, "Schaefer2018", details=FOUR, offline=True).table is None


def test_several_variants_must_be_chosen_and_unknown_names_are_answered(home: Path) -> None:
    with pytest.raises(
        UsageError, match=r"several variants of it: desc-th0, desc-th25\.\nhint: .*HOCPA:desc-th0"
    ):
        find_atlas(MNI, "HOCPA", details={}, offline=True)
    with pytest.raises(MissingInputError, match="atlases listed there: HOCPA, MASSP20, Schaefer2018"):
        find_atlas(MNI, "Shaefer2018", details={}, offline=True)
    with pytest.raises(MissingInputError, match="atlas X of OASIS30ANTs is not in TemplateFlow's archive"):
        find_atlas(Template("OASIS30ANTs"), "X", details={}, offline=True)


def test_grids_are_those_of_images_that_are_here(home: Path) -> None:
    """The T1w image of resolution 2 was not fetched, but a mask of the same grid was."""
    assert template_grid(MNI, resolution="2", offline=True).agrees_with(
        Grid((12, 12, 12), np.diag([2.0, 2, 2, 1]))
    )
    assert template_grid(MNI, resolution="01", offline=True).shape == (24, 24, 24)
    assert template_grid(Template("MNIInfant", "2"), resolution="1", offline=True).shape == (8, 8, 8)
    with pytest.raises(
        MissingInputError, match=r"grid MNI152NLin2009cAsym:res-4 .*listed there: 2, 4\)"
    ) as caught:
        template_grid(MNI, resolution="4", offline=True)
    assert "templateflow get MNI152NLin2009cAsym --resolution 4 --suffix T1w" in (caught.value.hint or "")


def test_offline_nothing_is_imported_made_or_asked(tmp_path: Path) -> None:
    """In a process of its own, with an archive that does not exist and a socket that refuses."""
    script = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from clipmused_bids.dataset.atlases.template_flow import Template, find_atlas, has_atlas\n"
        "from clipmused_bids.errors import MissingInputError\n"
        "mni = Template('MNI152NLin2009cAsym')\n"
        "assert not has_atlas(mni, 'Schaefer2018', details={}, offline=True)\n"
        "try: find_atlas(mni, 'Schaefer2018', details={}, offline=True)\n"
        "except MissingInputError: pass\n"
        "assert not any(name.startswith('templateflow') for name in sys.modules)\n"
    )
    done = in_own_process(script, tmp_path, tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


FETCH = """
import nibabel, numpy as np, requests
from pathlib import Path
asked = []
class Answer:
    status_code, ok, headers = 200, True, {}
    def __init__(self, content): self.content = content
    def iter_content(self, size): yield self.content
def get(url, **options):
    asked.append(url)
    nibabel.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)).to_filename("volume.nii.gz")
    return Answer(Path("volume.nii.gz").read_bytes())
def none(url, **options): raise requests.exceptions.ConnectionError("Name or service not known")
requests.get = GET
from clipmused_bids.dataset.atlases.template_flow import Template, find_atlas, has_atlas, template_grid
from clipmused_bids.errors import MissingInputError
mni = Template("MNI152NLin2009cAsym")
details = {"desc": "400Parcels7Networks"}
"""


@pytest.mark.slow
def test_the_client_fetches_what_is_missing_where_that_is_allowed(tmp_path: Path) -> None:
    script = FETCH.replace("GET", "get") + (
        "assert has_atlas(mni, 'Schaefer2018', details=details, offline=False)\n"
        "assert not has_atlas(Template('OASIS30ANTs'), 'Schaefer2018', details=details, offline=False)\n"
        "found = find_atlas(mni, 'Schaefer2018', details=details, offline=False)\n"
        "assert [p.name.split('_')[1] for p in found.images] == ['res-01', 'res-02'], found\n"
        # Tables are part of the archive's skeleton.
        "assert '7Networks_LH_Vis_1' in found.table.read_text()\n"
        "assert len(asked) == 2 and all('400Parcels7Networks_dseg' in url for url in asked), asked\n"
        "find_atlas(mni, 'Schaefer2018', details=details, offline=False)\n"
        "assert len(asked) == 2, 'what is here is not fetched again'\n"
        "assert template_grid(mni, resolution='2', offline=False).shape == (4, 4, 4)\n"
        "assert asked[2].endswith('tpl-MNI152NLin2009cAsym_res-02_T1w.nii.gz') and len(asked) == 3, asked\n"
    )
    done = in_own_process(script, tmp_path, tmp_path / "tf")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_fetching_without_a_network_is_one_clear_error(tmp_path: Path) -> None:
    script = FETCH.replace("GET", "none") + (
        "try: find_atlas(mni, 'Schaefer2018', details=details, offline=False)\n"
        "except MissingInputError as error: print(error)\n"
    )
    done = in_own_process(script, tmp_path, tmp_path / "tf")
    assert done.returncode == 0, done.stderr
    first, hint = done.stdout.strip().splitlines()
    assert first == "MNI152NLin2009cAsym cannot be fetched from TemplateFlow: Name or service not known."
    assert hint.startswith(
        "hint: TEMPLATEFLOW_HOME=FOLDER templateflow get MNI152NLin2009cAsym --atlas Schaefer2018"
    )


def in_own_process(script: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "TEMPLATEFLOW_HOME": str(home), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
