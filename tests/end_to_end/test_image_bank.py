"""Stimuli that are rows of an HDF5 file, named by numbers that are floats, labelled through a map: as NSD has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.end_to_end.conftest import Command


@pytest.fixture
def banked(own_study: Path) -> tuple[Path, tuple[str, ...]]:
    """The study with its pictures in a bank outside of it, and no folder of stimuli; returns it and the options."""
    inputs = own_study.parent / "inputs"
    inputs.mkdir()
    table = pd.read_csv(own_study / "stimuli/stimuli.tsv", sep="\t", dtype=str)
    pixels = [np.asarray(Image.open(own_study / "stimuli" / name)) for name in table["filename"]]
    with h5py.File(inputs / "bank.hdf5", "w") as file:
        file["imgBrick"] = np.stack(pixels)
    number = {name: float(row) for row, name in enumerate(table["filename"], start=1)}
    for path in own_study.glob("sub-*/func/*_events.tsv"):
        events = pd.read_csv(path, sep="\t", dtype=str)
        events["73k_id"] = events["stim_file"].map(number)
        events.drop(columns=["stim_file", "stim_id"]).to_csv(path, sep="\t", index=False)
    pd.DataFrame({"stimulus_id": range(1, len(table) + 1), "label_id": table["stimulus_id"]}).to_csv(
        inputs / "map.tsv", sep="\t", index=False
    )
    labels = table.drop(columns=["filename", "type", "present", "description"], errors="ignore")
    labels.to_csv(inputs / "labels.tsv", sep="\t", index=False)
    shutil.rmtree(own_study / "stimuli")
    return own_study, (
        "--stimuli-dir", f"{inputs / 'bank.hdf5'}:/imgBrick", "--stimulus-index-base", "1",
        "--stimulus-map", str(inputs / "map.tsv"), "--labels", str(inputs / "labels.tsv"),
    )  # fmt: skip


def test_a_bank_trains_a_decoder_as_files_do(
    banked: tuple[Path, tuple[str, ...]], trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    study, given = banked
    out = tmp_path / "out"
    done = command(study, out, "group", "--clip-model", "demo", "--config-file", quick, *given)
    assert done.returncode == 0, done.stderr
    assert "named in column 73k_id" in done.stderr
    assert "pictures missing  0" in done.stderr
    ours, theirs = (
        json.loads((root / "models/clipmused/config.json").read_text()) for root in (out, trained)
    )
    assert ours["label_names"] == theirs["label_names"]
    sizes = [{k: v for k, v in one["parameters"].items() if k != "tokens"} for one in (ours, theirs)]
    assert sizes[0] == sizes[1]
    assert ours["guidance"] == {"high": "image+text", "low": "images"}
    assert str(tmp_path) not in json.dumps(ours)
    catalogue = pd.read_csv(out / "stimuli/stimuli.tsv", sep="\t", dtype=str).set_index("stimulus_id")
    assert catalogue.loc["1", "filename"] == "bank.hdf5:/imgBrick[0]"
    assert catalogue["content_hash"].str.fullmatch("[0-9a-f]{64}").all()

    again = command(study, out, "group", "--evaluate", *given[4:])
    assert again.returncode == 0, again.stderr
    assert "not found" in again.stderr, (
        "the bank was not given, so its pictures are missing, and nothing needs them"
    )
