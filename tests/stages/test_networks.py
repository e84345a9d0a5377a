"""Deep rivals through the stages: stored, restored, with the atlas they need and no more."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.config import InputOptions
from clipmused_bids.dataset.outputs.weights import load_model, stored_participants
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.stages.announcements import announce_unused
from clipmused_bids.stages.assemble import open_responses
from clipmused_bids.stages.decoder_choice import decoder_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import predict
from clipmused_bids.stages.train import decoders_of, train_decoder
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k:02d}" for k in range(14)]
CATALOGUE = make_catalogue({name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)})
SETS = {name: "train" if k < 10 else "val" if k < 12 else "test" for k, name in enumerate(NAMES)}
QUICK = {
    "model": {"width": 8, "depth": 1, "heads": 2, "n_regions": 3, "n_shared": 2, "hidden_width": 8},
    "training": {"max_epochs": 2},
}
RIVALS = [name for name, info in METHODS.items() if info.network is not None and not info.guided]


@pytest.fixture
def study(world: World) -> World:
    rng = np.random.default_rng(8)
    weights = rng.normal(size=(3, 6))
    for participant in ("01", "02"):
        values = np.vstack([CATALOGUE.labels_of(NAMES).T, np.ones(14)]).T @ weights
        world.add(make_run(participant), NAMES, values + 0.1 * rng.normal(size=(14, 6)))
    return world


def fit(study: World, plan: Plan, **settings: Any) -> None:
    for members, participant in decoders_of(plan, method=plan.config.method):
        train_decoder(
            plan, study.tree, CATALOGUE, study.split(SETS), members=members, participant=participant,
            method=plan.config.method, model_label="m", maker=None, device="cpu", **settings,
        )  # fmt: skip


@pytest.mark.parametrize("common_space", [True, False], ids=["common", "native"])
@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_is_stored_and_decodes(study: World, method: str, common_space: bool) -> None:
    fit(study, study.plan(method=method, common_space=common_space, hyperparameters=QUICK))
    folder = study.tree.model_folder("m")
    own = METHODS[method].per_participant
    assert list(stored_participants(folder)) == (["01", "02"] if own else [])
    found = []
    for participant, run in zip(("01", "02"), study.runs, strict=True):
        model = decoder_of(study.tree, participant, model_label="m")
        found.append(predict(model, open_responses(study.tree, participant, [run], kind="lss")))
        assert model.config["parameters"]["subject_information"]
    assert np.isfinite(found).all()
    assert not np.allclose(found[0], found[1])


def test_only_what_reads_regions_needs_the_atlas(study: World, tmp_path: Path) -> None:
    def plan(method: str) -> Plan:
        made = study.plan(method=method, hyperparameters=QUICK)
        inputs = InputOptions(atlas=str(tmp_path / "missing_dseg.nii.gz"))
        return replace(made, config=replace(made.config, inputs=inputs))

    fit(study, plan("ms-smodel-mlp"))
    assert load_model(study.tree.model_folder("m"), participant=None).config["atlas_sha256"] is None
    with pytest.raises(ClipMusedError, match="missing_dseg"):
        fit(study, plan("ms-smodel-vit"))


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("ms-emb", "training.lambda_low, model.tokens, model.hidden_width; ms-emb has no such setting"),
        ("ss-mlp", "training.lambda_low, model.tokens, model.width; ss-mlp has no such setting"),
        ("clip-mused", "model.hidden_width; clip-mused has no such setting"),
    ],
)
def test_settings_that_a_network_does_not_have_are_named(
    study: World, method: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = {
        "model": {"tokens": "one", "width": 16, "hidden_width": 16, "input_dropout": 0.1},
        "training": {"lambda_low": 0.5, "mixup": 0.3},
    }
    with caplog.at_level(logging.WARNING):
        announce_unused(study.plan(method=method, overrides=overrides))
    assert f"Not used: {named}." in caplog.text
