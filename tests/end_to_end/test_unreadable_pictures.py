"""A picture that cannot be read: its trials are left out by every method of a command alike, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.conftest import Command


def events_of(study: Path) -> pd.DataFrame:
    tables = [
        pd.read_csv(path, sep="\t", dtype=str) for path in sorted(study.glob("sub-*/func/*_events.tsv"))
    ]
    return pd.concat(tables)


def damage(study: Path, split: Path) -> tuple[str, str]:
    """Cut the file of one training and of one test stimulus; returns their names."""
    sets = pd.read_csv(split, sep="\t", dtype=str)
    names = tuple(sets[sets["set"] == which]["stimulus_id"].iloc[0] for which in ("train", "test"))
    for name in names:
        (path,) = study.glob(f"stimuli/**/{Path(name).name}*")
        path.write_bytes(path.read_bytes()[:200])
    return names[0], names[1]


@pytest.fixture
def damaged(own_study: Path, trained: Path) -> tuple[Path, tuple[str, str]]:
    return own_study, damage(own_study, trained / "split.tsv")


def config(out: Path, label: str, who: str = "") -> dict:
    return json.loads((out / "models" / label / f"{who}config.json").read_text())


def scored(out: Path, label: str) -> pd.DataFrame:
    table = pd.read_csv(out / f"group_desc-{label}_metrics.tsv", sep="\t")
    return table[table["averaging"] == "single trials"].set_index(["participant_id", "metric"])


def test_every_method_leaves_out_the_same_trials(
    damaged: tuple[Path, tuple[str, str]], trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    study, names = damaged
    given = ("--clip-model", "demo", "--config-file", quick, "--split", trained / "split.tsv")
    done = command(study, tmp_path, "group", *given)
    assert done.returncode == 0, done.stderr
    events = events_of(study)
    n_trials = int(events["stim_file"].isin(names).sum())
    assert f"{n_trials} trial(s) of 2 stimuli whose pictures cannot be read are left out" in done.stderr
    for name in names:
        assert Path(name).name in done.stderr
    assert sorted(config(tmp_path, "clipmused")["left_out"]) == sorted(names)

    sets = pd.read_csv(trained / "split.tsv", sep="\t", dtype=str)
    kept = sets[~sets["stimulus_id"].isin(names)]
    expected = int((kept["set"] == "train").sum())
    assert (
        config(tmp_path, "clipmused")["n_training_trials"] == expected < int((sets["set"] == "train").sum())
    )
    ridge = [config(tmp_path, "clipmused+ridge", f"sub-{p}_")["n_training_trials"] for p in ("01", "02")]
    assert sum(ridge) == expected
    n_test = int((kept["set"] == "test").sum())
    for label in ("clipmused", "clipmused+ridge", "clipmused+ridgestack", "clipmused+prevalence"):
        assert scored(tmp_path, label).loc[("group", "mAP"), "n_trials"] == n_test

    before = scored(tmp_path, "clipmused")
    again = command(study, tmp_path, "group", "--evaluate")
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(scored(tmp_path, "clipmused"), before)
    assert "reused" in again.stderr


def test_the_first_one_may_end_the_run(
    damaged: tuple[Path, tuple[str, str]], quick: Path, command: Command, tmp_path: Path
) -> None:
    study, names = damaged
    done = command(
        study, tmp_path / "out", "group", "--train", "--clip-model", "demo", "--config-file", quick,
        "--stop-on-first-crash",
    )  # fmt: skip
    assert done.returncode == 65, done.stderr
    assert "not a readable image" in done.stderr
    assert any(Path(name).name in done.stderr for name in names)
    assert not list((tmp_path / "out").glob("models/**/*.safetensors"))
