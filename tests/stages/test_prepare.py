from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmused_bids.config import InputOptions
from clipmused_bids.errors import MissingInputError, UsageError
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import mask_setting, prepare_responses, response_settings, trials_hash
from tests.stages.conftest import World, make_run, make_trials


@pytest.fixture
def plan(world: World) -> Plan:
    image = world.folder / "private" / "bold.nii.gz"
    metadata = {"RepetitionTime": 2.0, "StartTime": 1.0}
    run = make_run(image=image, mask=image, confounds=image, events=image, metadata=metadata)
    world.add(run, "abc", np.eye(3))
    return world.plan()


def changed(plan: Plan, **options: Any) -> dict[str, Any]:
    """Settings after a change of inputs, of hyper-parameters, of the kind, or of the run's trials or sidecar."""
    run = plan.runs[0]
    if "inputs" in options:
        plan = replace(plan, config=replace(plan.config, inputs=InputOptions(**options["inputs"])))
    if "responses" in options:
        responses = replace(plan.hyperparameters.responses, **options["responses"])
        plan = replace(plan, hyperparameters=replace(plan.hyperparameters, responses=responses))
    if "metadata" in options:
        run = replace(run, metadata={**run.metadata, **options["metadata"]})
    if "trials" in options:
        trials = replace(plan.trials[run.key], **options["trials"])
        plan = replace(plan, trials={run.key: trials})
    return response_settings(replace(plan, kind=options.get("kind", "lss")), run)


@pytest.mark.parametrize(
    "change",
    [
        {"responses": {"hrf": "spm"}},
        {"responses": {"high_pass": 0.01}},
        {"responses": {"noise": "ar1"}},
        {"responses": {"others": "by-condition"}},
        {"responses": {"storage": "float16"}},
        {"inputs": {"confounds": "none"}},
        {"inputs": {"merge_blocks": "off"}},
        {"inputs": {"trial_types": ("face",)}},
        {"kind": "lsa"},
        {"kind": "window"},
        {"kind": "betas"},
        {"metadata": {"RepetitionTime": 2.1}},
        {"metadata": {"StartTime": 0.0}},
        {"trials": {"onset": np.array([0.0, 4.0, 8.001])}},
        {"trials": {"duration": np.array([2.0, 2.0, 2.5])}},
        {"trials": {"stimulus_id": ("a", "b", "d")}},
        {"trials": {"nuisance_onset": np.array([1.0]), "nuisance_duration": np.ones(1), "nuisance_kind": ("cue",)}},
    ],
)  # fmt: skip
def test_settings_change_with_what_responses_depend_on(plan: Plan, change: dict[str, Any]) -> None:
    assert changed(plan, **change) != changed(plan)
    assert changed(plan) == changed(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"responses": {"lag": 3.0}},  # of the window, which least squares has not
        {"responses": {"standardize": "session"}},  # when they are read
        {"inputs": {"labels": ("/x/labels.tsv",)}},
        {"inputs": {"atlas": "clusters:7"}},
        {"inputs": {"derivatives": ("/elsewhere/fmriprep",)}},
        {"inputs": {"stimuli_dirs": ("/elsewhere",)}},
    ],
)
def test_settings_stay_where_responses_do(plan: Plan, change: dict[str, Any]) -> None:
    assert changed(plan, **change) == changed(plan)


def test_one_model_depends_on_its_noise_and_has_no_others(plan: Plan) -> None:
    base = changed(plan, kind="lsa")
    assert changed(plan, kind="lsa", responses={"noise": "ar1"}) != base
    assert "others" not in base


def test_window_depends_on_its_lag_and_length(plan: Plan) -> None:
    base = changed(plan, kind="window")
    for option in ("lag", "window"):
        assert changed(plan, kind="window", responses={option: 9.0}) != base
    assert changed(plan, kind="window", responses={"hrf": "spm"}) == base


def test_masks_are_told_by_content_and_no_place_is_in_the_settings(plan: Plan, tmp_path: Path) -> None:
    settings = []
    for name, content in (("one/mask.nii", b"1"), ("two/other.nii", b"1"), ("three/mask.nii", b"2")):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_bytes(content)
        settings.append(changed(plan, inputs={"mask": str(file)}))
    settings.append(changed(plan, inputs={"mask": str(tmp_path / "sub-{participant}_mask.nii")}))
    assert settings[0] == settings[1]
    assert len({json.dumps(each) for each in [*settings, changed(plan)]}) == 4
    assert str(tmp_path) not in json.dumps(settings)
    assert "private" not in json.dumps(settings)


def test_where_the_mask_comes_from(plan: Plan) -> None:
    assert mask_setting(plan, "01") == "derivative"
    bare = replace(plan, runs=(replace(plan.runs[0], mask=None),))
    assert mask_setting(bare, "01") == "computed"
    stored = replace(bare, config=replace(plan.config, trained_mask="sha256:ab"))
    assert mask_setting(stored, "01") == "sha256:ab"
    lost = replace(plan, config=replace(plan.config, inputs=InputOptions(mask="/no/such/mask.nii")))
    with pytest.raises(MissingInputError, match="--mask /no/such/mask"):
        mask_setting(lost, "01")


def test_new_runs_need_the_mask_file_of_the_decoder(plan: Plan, world: World) -> None:
    """Nothing is stored under these settings, so the run must be estimated, with a mask that is not there."""
    config = replace(plan.config, trained_mask="sha256:" + "ab" * 32, overwrite=True)
    failures = Failures()
    prepare_responses(replace(plan, config=config), world.tree, failures=failures)
    assert isinstance(failures.errors["01"], UsageError)
    assert "1 new run(s) need it too" in str(failures.errors["01"])
    assert "--mask" in str(failures.errors["01"].hint)


@given(
    st.lists(st.tuples(st.floats(0, 900), st.text("ab\0\1", max_size=3)), max_size=4),
    st.lists(st.tuples(st.floats(0, 900), st.text("ab\0\1", max_size=3)), max_size=4),
)
def test_equal_hashes_mean_equal_trials(
    first: list[tuple[float, str]], second: list[tuple[float, str]]
) -> None:
    def hashed(rows: list[tuple[float, str]]) -> str:
        trials = replace(
            make_trials([name for _, name in rows]), onset=np.array([onset for onset, _ in rows], dtype=float)
        )
        return trials_hash(trials)

    assert (hashed(first) == hashed(second)) == (first == second)


def test_a_name_may_not_move_from_one_list_to_the_next() -> None:
    """Stimuli and conditions are hashed one after the other; where one list ends must count."""
    trials = make_trials(["a", "b"])
    moved = replace(trials, stimulus_id=("a",), condition=("b", "", ""))
    assert trials_hash(replace(trials, condition=("", ""))) != trials_hash(moved)
