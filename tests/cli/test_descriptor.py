"""The Boutiques descriptor: valid by the real schema, and what Boutiques makes of it is a command of ours."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from clipmused_bids.cli import command, config_from_arguments, expand_several, main
from clipmused_bids.cli.descriptor import descriptor
from clipmused_bids.config import Config
from clipmused_bids.errors import ExitCode

# A value for each input that takes one; the others are flags, made of their names.
VALUES: dict[str, Any] = {
    "bids_dir": "/b", "output_dir": "/o", "analysis_level": "group", "participant_label": ["01", "sub-02"],
    "exclude_participant_label": ["03"], "session_id": ["1", "2"], "task_id": ["faces"], "run_id": [1, 2],
    "space": "T1w", "bids_filter_file": "f.json", "derivatives": ["a=/a", "/c"], "betas": "b.tsv",
    "stimuli_dir": ["/s", "x.hdf5:/images"], "stimulus_column": "image", "stimulus_map": "m.tsv",
    "stimulus_index_base": "1", "labels": ["l.tsv", "m.tsv"], "captions": ["c.tsv"], "targets": "t.safetensors",
    "movie": "m.mp4", "frame_interval": 2.5, "trial_type": ["face", "house"], "merge_blocks": "off",
    "mask": "mask.nii", "atlas": "clusters:7", "resample": "MNI152NLin6Asym:res-2", "confounds": "motion",
    "response": "window", "lag": 4.5, "window": 2.0, "hrf": "spm", "smoothing_fwhm": 6.0,
    "standardize": "session", "method": ["clip-mused", "ridge"], "preset": "hcp", "config_file": "h.toml",
    "model_label": "mine", "base_model": "theirs", "calibration_trials": 5, "clip_model": "demo",
    "clip_weights": "/w", "split": "runs:2", "cv": "runs:3", "min_label_frequency": 0.1, "random_seed": 7,
    "device": "cpu", "precision": "bf16-mixed", "nprocs": 3, "omp_nthreads": 2, "work_dir": "/tmp/w", "mem": "4G",
}  # fmt: skip


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "clipmused_bids.cli", "--bids-exec-spec"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def file(printed: str, tmp_path: Path) -> Path:
    path = tmp_path / "clipmused-bids.json"
    path.write_text(printed)
    return path


def bosh(*words: object) -> str:
    """Run Boutiques; returns what it printed."""
    done = subprocess.run(
        [Path(sys.executable).with_name("bosh"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parsed(file: Path, invocation: dict[str, Any], folder: Path) -> Config:
    """What our command understands of the command line that Boutiques makes of an invocation."""
    values = folder / "invocation.json"
    values.write_text(json.dumps(invocation))
    printed = bosh("exec", "simulate", file, "-i", values)
    (line,) = [row for row in printed.splitlines() if row.startswith("clipmused-bids ")]
    words = shlex.split(line)[1:]
    return config_from_arguments(command.make_context("x", expand_several(words, command.params)).params)


def test_it_is_valid(file: Path) -> None:
    assert bosh("validate", file).strip() == "OK"


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from clipmused_bids.cli import main; code = main(['--bids-exec-spec']);"
        "heavy = {'torch', 'numpy', 'pandas', 'nilearn', 'bids', 'nibabel', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_option_is_in_it(printed: str) -> None:
    described = json.loads(printed)
    flags = {entry.get("command-line-flag") for entry in described["inputs"]}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_eager:
            assert flags & {*parameter.opts}, parameter.name
            assert not parameter.secondary_opts or flags & {*parameter.secondary_opts}
    assert {"--help", "--version", "--bids-exec-spec"}.isdisjoint(flags)
    valued = {entry["id"] for entry in described["inputs"] if entry["type"] != "Flag"}
    assert valued == set(VALUES)
    codes = {entry["code"] for entry in described["error-codes"]}
    assert codes == {int(code) for code in ExitCode} - {0}


def test_values_and_lists_arrive(file: Path, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text("[training]\nbatch_size = 9\n")
    invocation = {**VALUES, "config_file": str(tmp_path / "h.toml"), "no_offline": True, "native_space": True}
    # What excludes each other on our command line.
    for name in ("base_model", "calibration_trials", "cv"):
        del invocation[name]
    config = parsed(file, invocation, tmp_path)
    assert (config.level, config.selection.participants) == ("group", ("01", "sub-02"))
    assert (config.selection.runs, config.selection.sessions) == ((1, 2), ("1", "2"))
    assert config.inputs.derivatives == ("a=/a", "/c")
    assert config.inputs.stimulus_index_base == 1
    assert config.inputs.common_space is False
    assert (config.method, config.compared) == ("clip-mused", ("ridge",))
    assert (config.n_processes, config.omp_threads, config.memory) == (3, 2, 4 * 2**30)
    assert config.offline is False
    chosen = config.hyperparameters()
    assert (chosen.training.precision, chosen.training.batch_size) == ("bf16-mixed", 9)
    assert (chosen.responses.lag, chosen.model.n_regions) == (4.5, 7)
    defaults = Config(Path("/b"), Path("/o"), "group", ())
    assert (config.dry_run, config.overwrite, config.actions) == (False, False, defaults.actions)


def test_only_what_was_given_is_on_the_line(file: Path, tmp_path: Path) -> None:
    given = {
        "bids_dir": "/b",
        "output_dir": "/o",
        "analysis_level": "subject",
        "prepare": True,
        "dry_run": True,
    }
    expected = config_from_arguments(
        command.make_context("x", ["/b", "/o", "participant", "--prepare", "--dry-run"]).params
    )
    assert parsed(file, given, tmp_path) == expected


def test_boutiques_refuses_what_we_refuse(file: Path, tmp_path: Path) -> None:
    values = tmp_path / "invocation.json"
    base = {"bids_dir": "/b", "output_dir": "/o", "analysis_level": "group"}
    for wrong in (
        {"precision": "8-true"}, {"nprocs": 0}, {"random_seed": -1}, {"offline": True, "no_offline": True},
        {"analysis_level": "cohort"},
    ):  # fmt: skip
        values.write_text(json.dumps({**base, **wrong}))
        done = subprocess.run(
            [Path(sys.executable).with_name("bosh"), "exec", "simulate", file, "-i", values],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, wrong


def test_names_do_not_collide() -> None:
    """A key that begins another one would be replaced inside it."""
    keys = [entry["value-key"] for entry in descriptor(command.params)["inputs"]]
    assert len(set(keys)) == len(keys)
    assert all(one == other or one not in other for one in keys for other in keys)


def test_the_command_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bids-exec-spec"]) == 0
    assert json.loads(capsys.readouterr().out)["schema-version"] == "0.5"
