"""Tokens of test stimuli: what is stored against numbers worked out beside it, and what the pages say of it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import spearmanr

from clipmused_bids.config import InputOptions
from clipmused_bids.dataset.files.tensors import map_tensors
from clipmused_bids.dataset.outputs.token_files import StimulusTokens, read_stimulus_tokens
from clipmused_bids.dataset.outputs.weights import load_model, model_path
from clipmused_bids.dataset.stimuli.target_files import open_target_file
from clipmused_bids.evaluation.cross_validation import make_folds
from clipmused_bids.records import Split
from clipmused_bids.report.blocks import Figure, Paragraph, Section, Table
from clipmused_bids.stages import token_stimuli
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.reporting.token_geometry import agreement_between, token_geometry
from clipmused_bids.stages.reporting.tokens import participant_tokens
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.splitting import design_of
from clipmused_bids.stages.tokens import measure_tokens
from clipmused_bids.stages.train import train_group
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(20)]
CATALOGUE = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})
SETS = {name: "test" if k < 8 else "val" if k < 11 else "train" for k, name in enumerate(NAMES)}
TESTED = NAMES[:8]
FEATURES = {
    "low": np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32),
    "high": np.random.default_rng(2).normal(size=(20, 5)).astype(np.float32),
}
QUICK: dict[str, Any] = {
    "model": {"width": 8, "depth": 1, "heads": 2, "n_regions": 3, "n_shared": 4},
    "training": {"max_epochs": 2},
    "responses": {"standardize": "participant"},
    "fit_on": "train",
}


def shown(folder: Path) -> World:
    """Two people saw 20 stimuli twice each."""
    world, rng = World(folder), np.random.default_rng(8)
    weights = rng.normal(size=(3, 12))
    signal = np.vstack([CATALOGUE.labels_of(NAMES).T, np.ones(20)]).T @ weights
    for participant in ("01", "02"):
        for number in (1, 2):
            world.add(make_run(participant, number), NAMES, signal + rng.normal(size=(20, 12)))
    save_file(FEATURES, folder / "f.safetensors", metadata={"stimulus_id": json.dumps(NAMES)})
    return world


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = shown(tmp_path_factory.mktemp("tokens"))
    train(world, world.split(SETS))
    return world


@pytest.fixture
def study(trained: World, tmp_path: Path) -> World:
    """A copy with a guided decoder, trained by ``SETS``."""
    shutil.copytree(trained.folder, tmp_path / "copy")
    world = World(tmp_path / "copy")
    world.runs, world.trials, world.values = list(trained.runs), trained.trials, trained.values
    return world


def plan_of(study: World, *, targets: bool = True, **settings: Any) -> Plan:
    tables = {**QUICK, "model": {**QUICK["model"], **settings.pop("model", {})}}
    if targets:
        settings["inputs"] = InputOptions(targets=str(study.folder / "f.safetensors"))
    return study.plan(hyperparameters=tables, **settings)


def train(study: World, split: Split, *, guided: bool = True, **settings: Any) -> None:
    plan = plan_of(study, **settings)
    maker = open_target_file(study.folder / "f.safetensors") if guided else None
    label = plan.config.model_label
    train_group(
        plan,
        study.tree,
        CATALOGUE,
        split,
        method=plan.config.method,
        model_label=label,
        maker=maker,
        device="cpu",
    )


def measure(study: World, split: Split, **settings: Any) -> Path:
    plan = plan_of(study, **settings)
    measure_tokens(plan, study.tree, CATALOGUE, split, failures=Failures(stop_at_first=True))
    return study.tree.tokens(study.runs[0], model_label=plan.config.model_label)


def view_of(study: World, split: Split, **settings: Any) -> ReportView:
    return ReportView(plan_of(study, **settings), study.tree, CATALOGUE, split, {})


def words(section: Section | None) -> str:
    assert section is not None
    return " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))


def cosines(features: np.ndarray) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    triangle = np.triu_indices(len(first), k=1)
    return float(spearmanr(np.round(first[triangle], 6), np.round(second[triangle], 6)).statistic)


def standardised(study: World, participant: str) -> np.ndarray:
    """Mean over both presentations of each stimulus, by mean and deviation of the training trials."""
    values = [study.values[make_run(participant, number).key].astype(np.float64) for number in (1, 2)]
    fitted = np.concatenate([one[[SETS[name] == "train" for name in NAMES]] for one in values])
    return ((np.mean(values, axis=0) - fitted.mean(axis=0)) / fitted.std(axis=0))[:8]


def agreement(sidecar: dict[str, Any], brain: str, level: str) -> dict[str, Any]:
    (one,) = [one for one in sidecar["Agreements"] if (one["Brain"], one["Clip"]) == (brain, level)]
    return dict(one)


def test_what_is_stored_is_what_was_worked_out_beside_it(study: World) -> None:
    split = study.split(SETS)
    tokens, sidecar = read_stimulus_tokens(measure(study, split))
    assert sorted(tokens.stimulus_id) == TESTED
    assert tokens.n_trials.tolist() == [2] * 8
    assert (np.diff(tokens.group) >= 0).all()
    order = [NAMES.index(name) for name in tokens.stimulus_id]
    for level, features in FEATURES.items():
        expected = cosines(features[order].astype(np.float64))
        np.testing.assert_allclose(tokens.clip[level], expected, atol=1e-3)
        for brain in ("low", "high"):
            found = agreement(sidecar, brain, level)
            assert found["Spearman"] == pytest.approx(spearman(cosines(getattr(tokens, brain)), expected))
            assert 1 / 1001 <= found["PValue"] <= 1
        voxels = agreement(sidecar, "voxels", level)
        assert voxels["Spearman"] == pytest.approx(
            spearman(np.corrcoef(standardised(study, "01")[order]), expected), abs=1e-6
        )
    assert len(sidecar["Agreements"]) == 10
    assert sidecar["Guidance"] == {"low": True, "high": True}
    assert sidecar["Sources"][0] == "bids::models/clipmused/model.safetensors"


@pytest.mark.parametrize("copied", [True, False])
def test_tokens_that_copy_clip_agree_with_it(
    study: World, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    split = study.split(SETS)
    rows = np.arange(8) if copied else np.random.default_rng(0).permutation(8)

    def planted(*_: Any) -> dict[str, np.ndarray]:
        # Trials lie side by side by stimulus, in the order of the file; labels order them.
        order = [NAMES.index(name) for name in chosen]
        return {level: np.repeat(values[order][rows], 2, axis=0) for level, values in FEATURES.items()}

    chosen = read_stimulus_tokens(measure(study, split))[0].stimulus_id
    monkeypatch.setattr("clipmused_bids.stages.tokens.token_outputs", planted)
    _, sidecar = read_stimulus_tokens(measure(study, split, overwrite=True))
    for level in FEATURES:
        found = agreement(sidecar, level, level)
        assert (found["Spearman"] == pytest.approx(1)) == copied
        assert (found["PValue"] < 0.01) == copied
    seen = words(participant_tokens(view_of(study, split), "01"))
    assert ("finds stimuli alike that CLIP's high level finds alike (Spearman 1.00" in seen) == copied
    assert ("Agreement of the high-level token with CLIP cannot be told from chance" in seen) != copied


def test_tokens_stay_until_decoder_or_split_change(study: World, caplog: pytest.LogCaptureFixture) -> None:
    split = study.split(SETS)

    def said(split: Split, **settings: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="clipmused_bids.stages.tokens"):
            measure(study, split, **settings)
        return caplog.text

    assert "of 2 participant(s) measured, of 0 reused" in said(split)
    assert "of 0 participant(s) measured, of 2 reused" in said(split)
    other = {**SETS, "s11": "test"}
    assert "of 2 participant(s) measured, of 0 reused" in said(study.split(other))
    # The same test trials, held out of another training set.
    assert "of 2 participant(s) measured" in said(study.split({**SETS, "s11": "val"}))
    train(study, split, random_seed=4, overwrite=True)
    assert "of 2 participant(s) measured" in said(split)


def test_without_clip_the_brain_side_is_shown_alone(study: World) -> None:
    split = study.split(SETS)
    tokens, sidecar = read_stimulus_tokens(measure(study, split, targets=False))
    assert tokens.clip == {}
    assert sidecar["Agreements"] == []
    section = participant_tokens(view_of(study, split), "01")
    assert "shown alone: the targets are those of a file (targets:f.safetensors)" in words(section)
    assert section is not None
    assert [block.width for block in section.blocks if isinstance(block, Figure)] == ["half", "half"]
    assert not [block for block in section.blocks if isinstance(block, Table)]
    # Nor of a decoder that knew none.
    train(study, split, guided=False, model_label="plain", targets=False)
    _, sidecar = read_stimulus_tokens(measure(study, split, model_label="plain"))
    assert sidecar["NoClip"] == "the decoder was trained without CLIP targets"
    # What was missing is looked for again.
    assert set(read_stimulus_tokens(measure(study, split))[0].clip) == {"low", "high"}


def test_a_decoder_with_one_token_has_neither_file_nor_section(study: World) -> None:
    split = study.split(SETS)
    path = measure(study, split)
    assert path.exists()
    train(study, split, model={"tokens": "one"}, overwrite=True)
    measure(study, split)
    assert not path.exists()
    assert not path.with_suffix(".json").exists()
    view = view_of(study, split)
    assert participant_tokens(view, "01") is None
    assert token_geometry(view) is None


def test_a_single_stimulus_has_no_pair(study: World) -> None:
    split = study.split(
        {name: "test" if name == "s00" else "val" if name == "s01" else "train" for name in NAMES}
    )
    tokens, sidecar = read_stimulus_tokens(measure(study, split))
    assert tokens.stimulus_id == ("s00",)
    assert {one["Spearman"] for one in sidecar["Agreements"]} == {None}
    section = participant_tokens(view_of(study, split), "01")
    assert "A single stimulus was tested" in words(section)
    assert section is not None
    assert not [block for block in section.blocks if isinstance(block, Figure | Table)]


def test_folds_are_compared_by_themselves_and_averaged(study: World) -> None:
    split = make_folds(design_of(study.plan(), CATALOGUE, "auto"), rule="stimuli:3", seed=0)
    train(study, split, model_label="folds")
    tokens, sidecar = read_stimulus_tokens(measure(study, split, model_label="folds"))
    assert sorted(tokens.stimulus_id) == NAMES
    assert np.unique(tokens.fold).tolist() == [1, 2, 3]
    values = []
    for fold in (1, 2, 3):
        rows = tokens.fold == fold
        order = [NAMES.index(name) for name, own in zip(tokens.stimulus_id, rows, strict=True) if own]
        values.append(spearman(cosines(tokens.high[rows]), cosines(FEATURES["high"][order])))
    assert agreement(sidecar, "high", "high")["Spearman"] == pytest.approx(np.mean(values))
    section = participant_tokens(view_of(study, split, model_label="folds"), "01")
    assert section is not None
    last = [block for block in section.blocks if isinstance(block, Figure)][-1]
    assert "within each of 3 folds" in last.caption


def test_of_many_stimuli_each_label_has_its_share(study: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stimuli, "MOST_STIMULI", 4)
    monkeypatch.setattr(token_stimuli, "_LEAST_OF_A_FOLD", 1)
    split = study.split(SETS)
    tokens, sidecar = read_stimulus_tokens(measure(study, split))
    assert len(tokens.stimulus_id) == 4
    assert sidecar["NumberOfTestStimuli"] == 8
    # Of the tested eight, by their rarest label: s00 s03 s06 dog (3 of 8), s01 s05 s07 cat, s02 s04 none.
    assert sorted(np.bincount(tokens.group, minlength=3).tolist()) == [1, 1, 2]


def test_geometry_is_that_of_the_stored_parameters(study: World) -> None:
    split = study.split(SETS)
    measure(study, split)
    section = token_geometry(view_of(study, split))
    assert section is not None
    stored, _ = map_tensors(model_path(study.tree.model_folder("clipmused"), participant=None))
    own = stored["decoder.member.0.tokens.subject"].astype(np.float64)
    assert own.shape == (2, 2, 8)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    for k, row in enumerate(table.rows):
        assert row[0] == f"sub-0{k + 1}"
        assert [float(cell) for cell in row[1:3]] == pytest.approx(np.linalg.norm(own[k], axis=1), abs=6e-4)
        assert float(row[3]) == pytest.approx(cosines(own[k])[0, 1], abs=6e-3)
    between = cosines(own[:, 0])[0, 1]
    assert f"cosines from {between:.2f} to {between:.2f} at the low level" in words(section)
    # 1.96 over the square root of 8.
    assert "within ±0.69" in words(section)


def test_a_participant_alone_has_nobody_to_be_compared_with(study: World) -> None:
    split = study.split(SETS)
    alone: dict[str, Any] = {"participants": ["01"], "model_label": "alone"}
    train(study, split, **alone)
    measure(study, split, **alone)
    view = view_of(study, split, **alone)
    assert "a single participant" in words(token_geometry(view))
    assert "CLIP" in words(participant_tokens(view, "01"))


def test_decoders_of_single_participants_have_no_common_space(study: World) -> None:
    split = study.split(SETS)
    measure(study, split)
    folder = study.tree.model_folder("clipmused")
    assert load_model(folder, participant=None).config["method"] == "clip-mused"
    model_path(folder, participant=None).unlink()
    section = token_geometry(view_of(study, split))
    assert "a decoder of his own" in words(section)
    assert section is not None
    assert not [block for block in section.blocks if isinstance(block, Figure)]


def planted_tokens(features: np.ndarray, *, order: np.ndarray | None = None) -> StimulusTokens:
    order = np.arange(len(features)) if order is None else order
    nothing = np.zeros(len(features), dtype=np.int64)
    names = tuple(f"n{k:02d}" for k in order)
    values = features[order]
    return StimulusTokens(names, nothing, nothing, nothing + 1, ("x",), values, values, {})


def test_people_who_find_the_same_things_alike_agree() -> None:
    rng = np.random.default_rng(0)
    shared, strange = rng.normal(size=(30, 5)), rng.normal(size=(30, 5))
    # Rotated: similarities are the same, tokens are not. In another order: told apart by name.
    turned = shared @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    tokens = {
        "01": planted_tokens(shared),
        "02": planted_tokens(turned, order=rng.permutation(30)),
        "03": planted_tokens(shared),
        "04": planted_tokens(strange),
    }
    found, n_shared = agreement_between(tokens, seed=0)
    assert n_shared == 30
    for participant in ("01", "02", "03"):
        assert found[participant]["high"][0] > 0.8
        assert found[participant]["high"][1] == pytest.approx(1 / 1001)
    assert abs(found["04"]["low"][0]) < 0.15
    assert agreement_between({p: tokens[p] for p in ("01", "02")}, seed=0) == ({}, 0)
