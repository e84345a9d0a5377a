from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache, stored_caches
from clipmused_bids.errors import DataError
from clipmused_bids.stages.auditing import (
    audit_fit,
    audit_split,
    near_duplicate_pictures,
    require_scorable,
    say_audit,
)
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.training_set import training_set
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = [f"s{k}" for k in range(12)]
SETS = {name: "test" if k < 3 else "val" if k < 5 else "train" for k, name in enumerate(NAMES)}
LABELS = {name: [k % 2, k % 3 == 0] for k, name in enumerate(NAMES)}


@pytest.fixture
def seen(tmp_path: Path) -> World:
    world = World(tmp_path)
    for participant in ("01", "02"):
        world.add(make_run(participant), NAMES, np.random.default_rng(0).normal(size=(12, 3)))
    return world


def pictured() -> Catalogue:
    return make_catalogue(LABELS, paths={name: Path(f"{name}.png") for name in NAMES})


def store(
    world: World, catalogue: Catalogue, embeddings: np.ndarray, *, model: str = "m", n: int = 12
) -> None:
    keys = catalogue.contents_of(NAMES)[:n]
    cache = EmbeddingCache(world.tree.embeddings(model), {"of": "images", "clip_model": model})
    cache.add(keys, {"image": embeddings[:n], "low": np.zeros((n, 2), np.float32)})


def test_a_split_is_refused_or_its_leaks_are_returned(seen: World) -> None:
    split = seen.split({**SETS, "s0": "test"})
    doubled = replace(split, set_name=("train", *split.set_name[1:]))
    with pytest.raises(DataError, match=r"1 stimuli, by name, are in two sets: s0 \(train, test\)"):
        audit_split(seen.plan(), make_catalogue(LABELS), doubled)
    found = audit_split(seen.plan(allow_leakage=True), make_catalogue(LABELS), doubled)
    assert [leak[:9] for leak in found.leaks] == ["1 stimuli"]
    assert audit_split(seen.plan(), make_catalogue(LABELS), split).leaks == ()


def test_leaks_are_said_loudly_and_contents_only_where_they_were_read(
    seen: World, caplog: pytest.LogCaptureFixture
) -> None:
    split = seen.split(SETS)
    doubled = replace(split, set_name=("train", *split.set_name[1:]))
    found = audit_split(seen.plan(allow_leakage=True), make_catalogue(LABELS), doubled)
    with caplog.at_level(logging.WARNING):
        say_audit(found, contents_read=False)
    assert "LEAKAGE, allowed by --allow-leakage: 1 stimuli, by name" in caplog.text
    assert "compared by name only" not in caplog.text
    with caplog.at_level(logging.WARNING):
        say_audit(found)
    assert "compared by name only" in caplog.text


def test_near_duplicates_come_from_what_is_stored_and_test_stimuli_only(seen: World) -> None:
    catalogue, split = pictured(), seen.split(SETS)
    embeddings = np.eye(12, dtype=np.float32)
    embeddings[4] = embeddings[1] + 0.1 * embeddings[4]  # s1 is tested, s4 validates
    embeddings[9] = embeddings[8]  # both train
    assert near_duplicate_pictures(seen.plan(), catalogue, split, seen.tree) is None, "nothing is stored"
    store(seen, catalogue, embeddings)
    found = near_duplicate_pictures(seen.plan(), catalogue, split, seen.tree)
    assert found is not None
    assert (found["n_pairs"], found["n_compared"]) == (1, [3, 9])
    ((test, other, where, cosine),) = found["pairs"]
    assert (test, other, where) == ("s1", "s4", "val")
    assert cosine == pytest.approx(1 / np.sqrt(1.01), abs=1e-4)
    seen_stimuli = replace(split, regime="unseen trials of seen stimuli")
    assert near_duplicate_pictures(seen.plan(), catalogue, seen_stimuli, seen.tree) is None
    whole = audit_split(seen.plan(), catalogue, split, tree=seen.tree)
    assert "1 pair(s) of a test picture and one of another set" in whole.warnings[-1]
    assert whole.leaks == ()


def test_of_several_models_the_one_that_knows_most_pictures_compares(seen: World) -> None:
    catalogue, split = pictured(), seen.split(SETS)
    store(seen, catalogue, np.ones((12, 4), np.float32), model="few", n=4)
    store(seen, catalogue, np.eye(12, dtype=np.float32), model="most")
    found = near_duplicate_pictures(seen.plan(), catalogue, split, seen.tree)
    assert found is not None
    assert found["n_pairs"] == 0
    (cache,) = stored_caches(seen.tree.embeddings("few"))
    assert cache.settings == {"of": "images", "clip_model": "few"}
    assert list(cache.read(catalogue.contents_of(NAMES[:2]), names=("image",))) == ["image"]


def test_stimuli_that_no_run_shows_are_a_warning(seen: World) -> None:
    split = seen.split(SETS)
    more = replace(
        split,
        run_key=(*split.run_key, split.run_key[0], split.run_key[0], "sub-99_task-x_run-1"),
        stimulus_id=(*split.stimulus_id, "strange", "s1#2", "s1"),
        set_name=(*split.set_name, "train", "test", "test"),
        reason=(*split.reason, "", "", ""),
    )
    warnings = audit_split(seen.plan(), pictured(), more).warnings
    assert warnings == ("the split names 1 stimuli that their runs do not show: sub-01_task-x_run-1 strange",)


def test_what_is_handed_and_read_is_counted_by_set(seen: World) -> None:
    split, plan, catalogue = seen.split(SETS), seen.plan(), pictured()
    with ExitStack() as scratch:
        made = training_set(
            plan,
            seen.tree,
            catalogue,
            split,
            members=["01", "02"],
            method="ridge",
            maker=None,
            scratch=scratch,
        )
        assert made.record.summary(plan, split)["training"] == {"purpose": "refit"}, "nothing is read yet"
        assert audit_fit(plan, catalogue, split, made) == ()
        made.train.read()
        made.validation.of_participant("02").read()
        assert audit_fit(plan, catalogue, split, made) == ()
        assert made.record.summary(plan, split) == {
            "label choice": {"purpose": "fit", "train": 14},
            "training": {"purpose": "refit", "train": 14},
            "tuning": {"purpose": "tuning", "val": 2},
        }
        made.validation.responses[1].of_voxels(np.array([0])).read(np.array([0, 1]))
        with pytest.raises(
            DataError, match=r"tuning was fitted on trials of set test \(2; first: sub-02_task-x_run-1"
        ):
            audit_fit(plan, catalogue, split, made)
        allowed = replace(plan, config=replace(plan.config, allow_leakage=True))
        assert len(audit_fit(allowed, catalogue, split, made)) == 1


def test_validation_trials_may_be_fitted_only_if_the_options_say_so(seen: World) -> None:
    """`fit_on = "train"`: rows of the validation set read through the training tables are a leak."""
    split, catalogue = seen.split(SETS), pictured()
    for fit_on, leaks in (("train", 1), ("train+validation", 0)):
        plan = seen.plan(hyperparameters={"fit_on": fit_on}, allow_leakage=True)
        with ExitStack() as scratch:
            made = training_set(
                plan, seen.tree, catalogue, split, members=["01"], method="ridge", maker=None, scratch=scratch
            )
            made.train.responses[0].read(made.validation.row)
            assert len(audit_fit(plan, catalogue, split, made)) == leaks


def test_a_test_set_that_says_nothing_about_any_label(seen: World, caplog: pytest.LogCaptureFixture) -> None:
    split, plan = seen.split(SETS), seen.plan()
    require_scorable(plan, make_catalogue({**LABELS}), split)
    constant = {name: [1.0, float("nan")] for name in NAMES}
    with pytest.raises(
        DataError, match=r"no label with a positive and a negative trial \(6 trials, 2 labels\)"
    ):
        require_scorable(plan, make_catalogue(constant), split)
    with caplog.at_level(logging.WARNING):
        require_scorable(plan, make_catalogue({name: [k % 2, 0] for k, name in enumerate(NAMES)}), split)
    assert "1 of 2 labels have no positive or no negative test trial and are not scored: dog" in caplog.text
