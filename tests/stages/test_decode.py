"""What is decoded already stays; what differs in anything is decoded again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.outputs.prediction_files import read_predictions
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import DataError
from clipmused_bids.records import Split
from clipmused_bids.stages import decode
from clipmused_bids.stages.decode import decode_participants
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.train import train_group
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(24)]
LABELS = {name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)}
CATALOGUE = make_catalogue(LABELS)
SETS = {name: ("train", "train", "val", "test")[k // 6] for k, name in enumerate(NAMES)}
TABLES = {"linear": {"alphas": [1.0]}, "responses": {"standardize": "session"}}


def values(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = np.array([LABELS[name] for name in NAMES], dtype=float)
    return truth @ np.random.default_rng(0).normal(size=(2, 9)) + rng.normal(size=(24, 9)) + seed


@pytest.fixture
def study(world: World) -> World:
    """Two people with a session of two runs each."""
    for p, participant in enumerate(("01", "02")):
        for number in (1, 2):
            world.add(make_run(participant, number, session="a"), NAMES, values(10 * p + number))
    return world


def train(study: World, *, tables: dict[str, Any] | None = None, **config: Any) -> None:
    plan = study.plan(hyperparameters=tables or TABLES, **config)
    train_group(
        plan, study.tree, CATALOGUE, study.split(SETS), method="ridge", model_label="m", maker=None,
        device="cpu",
    )  # fmt: skip


def decoded(
    study: World,
    caplog: pytest.LogCaptureFixture,
    *,
    plan: Plan | None = None,
    split: Split | None = None,
    tree: OutputTree | None = None,
) -> str:
    """Decode; returns what was said about it."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        decode_participants(
            plan or study.plan(hyperparameters=TABLES), tree or study.tree, split or study.split(SETS),
            model_label="m", failures=Failures(stop_at_first=True), label_names=(),
        )  # fmt: skip
    return next(line for line in caplog.messages if line.startswith("Predictions"))


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("sub-*/ses-*/func/*_predictions.*")}


@pytest.fixture
def done(study: World, caplog: pytest.LogCaptureFixture) -> World:
    train(study)
    assert "96 trials in 4 run(s) decoded, 0 run(s) reused" in decoded(study, caplog)
    assert len(files(study.tree.root)) == 8
    return study


def test_nothing_is_computed_or_written_again(
    done: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.tree.root.rglob("*")}
    monkeypatch.setattr(decode, "held_out", None)
    assert "0 trials in 0 run(s) decoded, 4 run(s) reused" in decoded(done, caplog)
    assert {path: path.stat().st_mtime_ns for path in done.tree.root.rglob("*")} == before


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda table, sidecar: table.unlink(),
        lambda table, sidecar: sidecar.unlink(),
        lambda table, sidecar: table.write_bytes(table.read_bytes()[:200]),
        lambda table, sidecar: sidecar.write_bytes(sidecar.read_bytes()[:200]),
        lambda table, sidecar: table.write_bytes(b""),
        lambda table, sidecar: changed(table, "\ttest\t", "\ttrain\t"),
        lambda table, sidecar: table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n"),
        lambda table, sidecar: changed(sidecar, '"Regime": "unseen stimuli"', '"Regime": "seen stimuli"'),
        lambda table, sidecar: changed(sidecar, '"WeightsHash": "', '"WeightsHash": "0'),
        lambda table, sidecar: changed(sidecar, '"Leakage": []', '"Leakage": ["some"]'),
    ],
)  # fmt: skip
def test_damaged_predictions_are_made_again(
    done: World, caplog: pytest.LogCaptureFixture, damage: Callable[[Path, Path], None]
) -> None:
    before = files(done.tree.root)
    table = next(done.tree.root.glob("sub-02/ses-a/func/*run-2*_predictions.tsv"))
    damage(table, table.with_suffix(".json"))
    assert "48 trials in 2 run(s) decoded, 2 run(s) reused" in decoded(done, caplog)
    assert files(done.tree.root) == before


def test_an_edited_table_is_not_scored(done: World) -> None:
    table = next(done.tree.root.glob("sub-02/ses-a/func/*run-2*_predictions.tsv"))
    changed(table, "\ttest\t", "\ttrain\t")
    with pytest.raises(DataError, match="not the one that its sidecar describes") as caught:
        read_predictions(table)
    assert "--decode" in (caught.value.hint or "")


def test_another_decoder_decodes_again(done: World, caplog: pytest.LogCaptureFixture) -> None:
    before = files(done.tree.root)
    train(done, tables={**TABLES, "linear": {"alphas": [100.0]}}, overwrite=True)
    assert "4 run(s) decoded, 0 run(s) reused" in decoded(done, caplog)
    after = files(done.tree.root)
    assert all(after[name] != before[name] for name in before)


def test_other_responses_are_decoded_again(done: World, caplog: pytest.LogCaptureFixture) -> None:
    """Estimated anew from files of the same size with the same settings: only the numbers differ."""
    run = make_run("01", 1, session="a")
    again = World(done.folder)
    again.add(run, NAMES, values(77))
    before = files(done.tree.root)
    assert "48 trials in 2 run(s) decoded, 2 run(s) reused" in decoded(done, caplog)
    different = {name for name, content in files(done.tree.root).items() if content != before[name]}
    assert len(different) == 2
    assert all("sub-01" in name and "run-1" in name for name in different)


def test_another_split_is_told_in_the_table(done: World, caplog: pytest.LogCaptureFixture) -> None:
    """The decoder's split without some of its runs: their trials are new, and the sidecar's hash is the same."""
    split = done.split(SETS)
    rows = [k for k, key in enumerate(split.run_key) if "sub-02" not in key]
    names = ("run_key", "stimulus_id", "set_name", "reason")
    part = replace(split, **{name: tuple(getattr(split, name)[k] for k in rows) for name in names})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmused_bids.stages.decoder_settings.split_hash", lambda _: hash_of(done))
        assert "2 run(s) decoded, 2 run(s) reused" in decoded(done, caplog, split=part)
    table = pd.read_csv(next(done.tree.root.glob("sub-02/ses-a/func/*_predictions.tsv")), sep="\t")
    assert set(table["set"]) == {"new"}


def hash_of(study: World) -> str:
    folder = study.tree.model_folder("m")
    found: str = json.loads((folder / "sub-01_config.json").read_text())["split"]["hash"]
    return found


def test_overwriting_decodes_again(done: World, caplog: pytest.LogCaptureFixture) -> None:
    before = files(done.tree.root)
    plan = done.plan(hyperparameters=TABLES, overwrite=True)
    assert "4 run(s) decoded, 0 run(s) reused" in decoded(done, caplog, plan=plan)
    assert files(done.tree.root) == before


def test_a_new_run_of_a_session_that_is_standardised_by_itself(
    done: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first run was decoded by its own mean; with a second run that is another one."""
    done.add(make_run("01", 1, session="b"), NAMES, values(50))
    split = done.split(SETS)
    trained = replace(split, **{
        name: tuple(v for v, key in zip(getattr(split, name), split.run_key, strict=True) if "ses-b" not in key)
        for name in ("run_key", "stimulus_id", "set_name", "reason")
    })  # fmt: skip
    assert "72 trials in 3 run(s) decoded, 2 run(s) reused" in decoded(done, caplog, split=trained)
    alone = files(done.tree.root)
    done.add(make_run("01", 2, session="b"), NAMES, values(51))
    assert "96 trials in 4 run(s) decoded, 2 run(s) reused" in decoded(done, caplog, split=trained)
    both = files(done.tree.root)
    first = [name for name in alone if "ses-b" in name]
    assert first
    assert all(both[name] != alone[name] for name in first)
    # As if both had been there from the start.
    for path in done.tree.root.glob("sub-*/ses-*/func/*_predictions.*"):
        path.unlink()
    decoded(done, caplog, split=trained)
    assert files(done.tree.root) == both


def test_a_copy_of_the_outputs_is_as_good(
    done: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copytree(done.tree.root, tmp_path / "copy")
    tree = OutputTree(tmp_path / "copy")
    assert "0 run(s) decoded, 4 run(s) reused" in decoded(done, caplog, tree=tree)
