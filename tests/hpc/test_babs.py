"""The BABS configuration: what BABS would run is a command of ours, and its results can be brought together."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from clipmused_bids import __version__
from clipmused_bids.cli import command, config_from_arguments, expand_several, main
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

FILE = Path(__file__).parents[2] / "docs" / "hpc" / "babs_config.yaml"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="needs the source tree")


@pytest.fixture
def settings() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return read


def babs_words(settings: dict[str, Any], *, folder: Path, out: Path, participant: str) -> list[str]:
    """Words of the command in a job, as BABS joins keys and values and bash expands them.

    A value that is empty stands for a flag; others follow their flag unquoted; ``$BABS_TMPDIR`` is a folder of the job.
    """
    arguments = dict(settings["bids_app_args"])
    selection, place = arguments.pop("$SUBJECT_SELECTION_FLAG"), arguments.pop("$INPUT_PATH")
    lines = [f"{folder / place} {out} participant"]
    for flag, value in arguments.items():
        assert isinstance(value, str), f"{flag}: BABS takes text only"
        lines.append(f"{flag} {value}".strip())
    lines.append(f"{selection} sub-{participant}")
    values = {"PWD": folder, "BABS_TMPDIR": folder / "tmp", "SLURM_CPUS_PER_TASK": "2"}
    return shlex.split(Template(" ".join(lines)).substitute(values))


def test_what_babs_runs_is_a_command_of_ours(settings: dict[str, Any]) -> None:
    words = babs_words(settings, folder=Path("/job/ds"), out=Path("/job/ds/outputs"), participant="03")
    config = config_from_arguments(command.make_context("x", expand_several(words, command.params)).params)
    assert (config.level, config.actions, config.method) == ("participant", ("prepare",), "ridge")
    assert config.selection.participants == ("sub-03",)
    assert config.inputs.derivatives == ("fmriprep=/job/ds/inputs/data/fmriprep/fmriprep",)
    assert (config.n_processes, config.memory, config.work_dir) == (2, 24 * 2**30, Path("/job/ds/tmp"))


def test_several_values_in_one_line_are_several(settings: dict[str, Any]) -> None:
    settings["bids_app_args"]["--derivatives"] = "a=/a b=/b"
    words = babs_words(settings, folder=Path("/job"), out=Path("/job/o"), participant="1")
    config = config_from_arguments(command.make_context("x", expand_several(words, command.params)).params)
    assert config.inputs.derivatives == ("a=/a", "b=/b")


def test_it_asks_for_what_babs_reads(settings: dict[str, Any]) -> None:
    assert set(settings["input_datasets"]) == {"BIDS", "fmriprep"}
    for dataset in settings["input_datasets"].values():
        assert {"is_zipped", "origin_url", "path_in_babs"} <= set(dataset)
    places = [dataset["path_in_babs"] for dataset in settings["input_datasets"].values()]
    assert settings["bids_app_args"]["$INPUT_PATH"] in places
    assert settings["zip_foldernames"] == {"clipmused": __version__.replace(".", "-")}
    assert settings["cluster_resources"]["interpreting_shell"]
    # What the command may hold is less than what the job has.
    asked = re.search(r"--mem=(\d+)G", settings["cluster_resources"]["customized_text"])
    assert asked is not None
    assert int(settings["bids_app_args"]["--mem"].removesuffix("G")) < int(asked[1])
    for name in ("script_preamble", "job_compute_space", "alert_log_messages", "singularity_args"):
        assert settings[name]


def test_results_of_single_jobs_are_brought_together_and_trained_on(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the guide: jobs that see no stimulus, an output folder each, unpacked into one for the group."""
    small = SimulationParameters(
        n_participants=2,
        n_trials=96,
        n_runs=3,
        n_shared=20,
        n_repeats=2,
        n_repeated_own=4,
        n_bank=130,
        seed=77,
    )
    write_dataset(tmp_path / "whole", small)
    inputs = tmp_path / "inputs" / "data"
    shutil.copytree(tmp_path / "whole", inputs / "BIDS", ignore=shutil.ignore_patterns("derivatives"))
    shutil.copytree(tmp_path / "whole" / "derivatives" / "fmriprep", inputs / "fmriprep" / "fmriprep")
    for picture in (inputs / "BIDS" / "stimuli").rglob("*.png"):
        picture.unlink()
        picture.symlink_to("../.git/annex/objects/not-fetched.png")
    together = tmp_path / "together"
    for participant in ("01", "02"):
        out = tmp_path / f"job-{participant}"
        words = babs_words(settings, folder=tmp_path, out=out, participant=participant)
        assert main(words) == 0, capsys.readouterr().err
        shutil.copytree(out, together, dirs_exist_ok=True)
        assert not any((tmp_path / "tmp").glob("*"))
    capsys.readouterr()
    words = [tmp_path / "whole", together, "group", "--train", "--method", "ridge"]
    assert main([os.fspath(word) for word in words]) == 0
    assert "Responses: 0 run(s) estimated, 6 reused" in capsys.readouterr().err
    assert len(list((together / "models").rglob("*model.safetensors"))) == 2
