from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.dataset.outputs.weights import load_model, model_path
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.records import Split, VoxelSpace
from clipmused_bids.responses.standardize import UnitStatistics
from clipmused_bids.stages import train
from clipmused_bids.stages.assemble import (
    open_responses,
)
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import predict
from clipmused_bids.stages.splitting import own_split_file
from clipmused_bids.stages.standardized import (
    Standardization,
)
from clipmused_bids.stages.stored_model import (
    standardization_tensors,
    stored_space,
    stored_standardization,
    voxel_tensors,
)
from clipmused_bids.stages.train import train_decoder
from tests.conftest import planted_trials
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(14)]
CATALOGUE = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})
SETS = {name: "train" if k < 10 else "val" if k < 12 else "test" for k, name in enumerate(NAMES)}


@pytest.fixture
def study(world: World) -> World:
    rng = np.random.default_rng(8)
    for participant in ("01", "12", "1"):
        for number in (1, 2):
            weights = np.vstack([CATALOGUE.labels_of(NAMES).T, np.ones(14)]).T @ rng.normal(size=(3, 6))
            world.add(make_run(participant, number), NAMES, weights + 0.1 * rng.normal(size=(14, 6)))
    return world


def fit(
    study: World, plan: Plan, split: Split, *, method: str = "ridge-pooled", label: str = "m", **kwargs: Any
) -> None:
    train_decoder(
        plan, study.tree, CATALOGUE, split, members=list(plan.participants), participant=kwargs.get("participant"),
        method=method, model_label=label, maker=None, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("common_space", [True, False])
def test_voxels_and_regions_come_back(study: World, common_space: bool) -> None:
    fit(study, study.plan(common_space=common_space), study.split(SETS))
    model = load_model(study.tree.model_folder("m"), participant=None)
    for participant in ("01", "12", "1"):
        space = stored_space(model, participant)
        np.testing.assert_array_equal(space.voxels, np.arange(6))
        assert (space.grid.shape, space.region.tolist()) == ((3, 4, 5), [-1] * 6)
    assert sum(name.startswith("voxels.") for name in model.tensors) == (1 if common_space else 3)


def test_regions_are_stored_for_each_where_voxels_differ() -> None:
    data = planted_trials(n_participants=2, n_voxels=6, n_regions=2)
    first = data.spaces[0]
    second = VoxelSpace(first.grid, first.voxels + 1, first.region[::-1], first.region_names)
    native = voxel_tensors(replace(data, spaces=(first, second), common_space=False))
    np.testing.assert_array_equal(native["voxels.02"], second.voxels)
    np.testing.assert_array_equal(native["region.02"], second.region)
    assert set(voxel_tensors(data)) == {"voxels.common", "region.common"}


def test_statistics_come_back_by_unit_and_by_person(study: World) -> None:
    """`sub-1` is not `sub-12`, and units are not mixed up by their order."""
    fit(study, study.plan(), study.split(SETS))
    model = load_model(study.tree.model_folder("m"), participant=None)
    for participant in ("01", "12", "1"):
        found = stored_standardization(model, participant)
        runs = [run for run in study.runs if run.participant == participant]
        assert set(found.statistics) == {run.key for run in runs}
        for run in runs:
            one = found.statistics[run.key]
            values = study.values[run.key][:10]
            assert (one.source, one.n_trials) == ("training", 10)
            np.testing.assert_allclose(one.offset, values.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(one.scale, values.std(axis=0), rtol=1e-5)


def test_a_range_is_stored_under_its_own_names(study: World) -> None:
    responses = {"responses": {"standardize": "participant", "scaling": "minmax"}}
    fit(study, study.plan(hyperparameters=responses), study.split(SETS))
    model = load_model(study.tree.model_folder("m"), participant=None)
    for participant in ("01", "12", "1"):
        runs = [run for run in study.runs if run.participant == participant]
        values = np.concatenate([study.values[run.key][:10] for run in runs])
        np.testing.assert_allclose(model.tensors[f"minimum.{participant}"], [values.min(axis=0)], rtol=1e-6)
        np.testing.assert_allclose(model.tensors[f"range.{participant}"], [np.ptp(values, axis=0)], rtol=1e-5)
        one = stored_standardization(model, participant).statistics[f"sub-{participant}"]
        np.testing.assert_array_equal(one.offset, model.tensors[f"minimum.{participant}"][0])
        assert (one.scaling, one.source, one.n_trials) == ("minmax", "training", 20)
    assert not [name for name in model.tensors if name.startswith(("mean.", "sd."))]


def test_no_statistics_are_stored_where_none_are_wanted(study: World) -> None:
    assert standardization_tensors(["01"], [Standardization("none", "zscore", {})]) == {}
    fit(study, study.plan(hyperparameters={"responses": {"standardize": "none"}}), study.split(SETS))
    model = load_model(study.tree.model_folder("m"), participant=None)
    assert stored_standardization(model, "01") == Standardization("none", "zscore", {})


def test_statistics_lie_in_the_order_of_their_names() -> None:
    by_name = {
        name: UnitStatistics(np.full(2, k, np.float32), np.full(2, k + 0.5, np.float32), "training", 10 + k)
        for k, name in ((3, "sub-1_run-3"), (1, "sub-1_run-1"), (2, "sub-1_run-2"))
    }
    tensors = standardization_tensors(["1"], [Standardization("run", "zscore", by_name)])
    assert tensors["mean.1"][:, 0].tolist() == [1, 2, 3]
    assert tensors["sd.1"][:, 0].tolist() == [1.5, 2.5, 3.5]
    assert tensors["trials.1"].tolist() == [11, 12, 13]


def test_decoding_uses_the_stored_statistics_of_known_runs(study: World, tmp_path: Path) -> None:
    """A known run of which some trials are gone is scaled as in training; as an unknown run it scales itself."""
    fit(study, study.plan(), study.split(SETS))
    model = decoder_of(study.tree, "01", model_label="m")
    whole = predict(model, open_responses(study.tree, "01", study.runs[:2], kind="lss"))

    values = study.values[study.runs[0].key]
    part = World(tmp_path / "part")
    part.add(study.runs[0], NAMES, values[:5], kept=range(5))
    part.add(make_run("01", 9), NAMES, values[:5], kept=range(5))
    known, unknown = (predict(model, open_responses(part.tree, "01", [run], kind="lss")) for run in part.runs)
    np.testing.assert_allclose(known, whole[:5], atol=1e-6)
    assert np.abs(unknown - whole[:5]).max() > 1e-3


def test_predictions_do_not_depend_on_the_voxels_that_are_stored_besides(
    study: World, tmp_path: Path
) -> None:
    fit(study, study.plan(), study.split(SETS))
    model = decoder_of(study.tree, "01", model_label="m")
    expected = predict(model, open_responses(study.tree, "01", study.runs[:1], kind="lss"))
    wider = World(tmp_path / "wider")
    values = np.insert(study.values[study.runs[0].key], 6, 99.0, axis=1)
    wider.add(study.runs[0], NAMES, values)
    found = predict(model, open_responses(wider.tree, "01", wider.runs, kind="lss"))
    np.testing.assert_allclose(found, expected, atol=1e-7)


class Broken:
    """Fails on the way, and notes what lies in the scratch folder then."""

    scratch: Path
    seen: list[str]

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        type(self).seen = sorted(path.name for path in self.scratch.rglob("*.float32"))
        raise DataError("on the way")


def test_the_scratch_folder_is_emptied_after_a_failure(
    study: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Broken.scratch = tmp_path / "fast"
    monkeypatch.setattr(train, "create", lambda *_args, **_kwargs: Broken())
    with pytest.raises(DataError, match="on the way"):
        fit(study, study.plan(work_dir=Broken.scratch), study.split(SETS))
    assert Broken.seen == ["01.float32", "1.float32", "12.float32"]
    assert list(Broken.scratch.iterdir()) == []
    assert not model_path(study.tree.model_folder("m"), participant=None).exists()


def test_a_refused_configuration_leaves_decoder_and_split_alone(study: World) -> None:
    """And ``overwrite`` replaces both together."""
    first, second = study.split(SETS), study.split({**SETS, "s00": "test"})
    fit(study, study.plan(), first, label="dataset")
    fit(study, study.plan(), first)
    path = model_path(study.tree.model_folder("m"), participant=None)
    before = path.read_bytes()
    with pytest.raises(CannotCreateError, match=r"split\.hash") as caught:
        fit(study, study.plan(), second)
    assert "--overwrite" in str(caught.value.hint)
    assert path.read_bytes() == before
    assert not own_split_file(study.tree, model_label="m").exists()
    fit(study, study.plan(overwrite=True), second)
    assert path.read_bytes() != before
    assert own_split_file(study.tree, model_label="m").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"random_seed": 4}, "random_seed"),
        ({"hyperparameters": {"linear": {"alphas": [1.0]}}}, r"linear\.alphas"),
        ({"hyperparameters": {"min_label_frequency": 0.1}}, "min_label_frequency"),
        ({"participants": ("01", "12")}, "participants"),
        ({"common_space": False}, "common_space"),
    ],
)
def test_what_decides_about_a_decoder_is_compared(study: World, change: dict[str, Any], named: str) -> None:
    fit(study, study.plan(), study.split(SETS))
    with pytest.raises(CannotCreateError, match=named):
        fit(study, study.plan(**change), study.split(SETS))


def test_own_decoders_are_found_where_the_groups_knows_nobody(study: World) -> None:
    fit(study, study.plan(participants=("01",)), study.split(SETS), participant="01")
    fit(study, study.plan(participants=("12", "1")), study.split(SETS))
    assert decoder_of(study.tree, "01", model_label="m").path.name == "sub-01_model.safetensors"
    assert decoder_of(study.tree, "12", model_label="m").path.name == "model.safetensors"
