from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.records import Split
from clipmused_bids.stages.assemble import open_responses
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import TargetMaker
from clipmused_bids.stages.label_choice import training_labels
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.training_set import (
    TrainingSet,
    row_sets,
    standardization_unit,
    training_set,
)
from tests.stages.conftest import World, make_catalogue, make_run

N = 8
RAW = {"responses": {"standardize": "none"}}
ALWAYS = {f"s{k}": [1.0, k % 2] for k in range(N)}


def numbered(world: World) -> World:
    """Every response is its own number: 1000 x participant + 100 x run + trial."""
    for participant in (1, 2):
        for number in (1, 2):
            values = np.add.outer(1000 * participant + 100 * number + np.arange(N), np.zeros(3))
            world.add(make_run(f"0{participant}", number), [f"s{k}" for k in range(N)], values)
    return world


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    return numbered(World(tmp_path_factory.mktemp("numbered")))


def build(
    world: World, split: Split, catalogue: Catalogue, *, maker: Any = None, members: Sequence[str] = ("01", "02"),
    plan: Plan | None = None,
) -> TrainingSet:  # fmt: skip
    with ExitStack() as scratch:
        return training_set(
            plan or world.plan(hyperparameters=RAW), world.tree, catalogue, split,
            members=members, method="ridge", maker=maker, scratch=scratch,
        )  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.sampled_from(["train", "val", "test", "none"]), min_size=4 * N, max_size=4 * N))
def test_every_row_is_in_the_set_that_the_split_names(shared: World, sets: list[str]) -> None:
    """And so no held-out response is ever among the training data, whatever the split."""
    sets[0] = sets[2 * N] = "train"  # without which a person is refused
    made = build(shared, shared.split(sets), make_catalogue(ALWAYS))
    of_number = {
        1000 * p + 100 * r + k: sets[(2 * (p - 1) + (r - 1)) * N + k]
        for p in (1, 2)
        for r in (1, 2)
        for k in range(N)
    }
    for data, wanted in ((made.train, "train"), (made.validation, "val")):
        read = sorted(float(value) for rows in data.read() for value in rows[:, 0])
        assert read == sorted(number for number, name in of_number.items() if name == wanted)
        for participant, row, stimulus in zip(data.participant, data.row, data.stimulus_id, strict=True):
            number = data.responses[participant].read(np.array([row]))[0, 0]
            assert stimulus == f"s{int(number) % 100}"
            assert participant == int(number) // 1000 - 1


def test_held_out_responses_do_not_move_training_responses(tmp_path: Path) -> None:
    """With ten training trials in a run, its z-scores are those of the training trials alone."""
    made = []
    for k, offset in enumerate((0.0, 500.0)):
        world = World(tmp_path / str(k))
        rng = np.random.default_rng(3)
        for participant in ("01", "02"):
            values = rng.normal(size=(14, 3))
            values[10:] += offset
            world.add(make_run(participant), [f"s{i:02d}" for i in range(14)], values)
        split = world.split(
            {f"s{i:02d}": "train" if i < 10 else "val" if i < 11 else "test" for i in range(14)}
        )
        catalogue = make_catalogue({f"s{i:02d}": [i % 2, 1] for i in range(14)})
        made.append(build(world, split, catalogue, plan=world.plan()))
    for a, b in zip(made[0].train.read(), made[1].train.read(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(a.std(axis=0), 1, atol=1e-6)
    sources = {s.source for one in made[0].standardizations for s in one.statistics.values()}
    assert sources == {"training"}


def test_neighbouring_samples_of_a_movie_stay_together(world: World) -> None:
    """Seconds of a movie are different stimuli and nearly the same picture: folds are made of runs."""
    sets = ["train"] * (2 * N) + ["train"] + ["val"] * (N - 1) + ["test"] * N
    for continuous in (False, True):
        again = numbered(World(world.folder / str(continuous)))
        for key, trials in again.trials.items() if continuous else ():
            again.trials[key] = replace(trials, movie=("m",) * N, movie_seconds=np.arange(float(N)))
        group = build(again, again.split(sets), make_catalogue(ALWAYS)).train.group
        assert len(set(group[: 2 * N].tolist())) == (2 if continuous else N)
        assert not continuous or len(set(group[:N].tolist())) == 1


def test_rows_follow_the_trial_numbers_where_trials_were_dropped(world: World) -> None:
    world.add(make_run(), "abcde", np.array([[10.0], [12.0], [14.0]]), kept=[0, 2, 4])
    split = world.split(["train", "test", "val", "test", "train"])
    catalogue = make_catalogue({name: [1, k % 2] for k, name in enumerate("abcde")})
    made = build(world, split, catalogue, members=["01"])
    assert [rows.ravel().tolist() for rows in made.train.read()] == [[10, 14]]
    assert [rows.ravel().tolist() for rows in made.validation.read()] == [[12]]


# -- labels ------------------------------------------------------------------------------------------------


def test_labels_are_chosen_on_everyones_training_trials_only(
    shared: World, caplog: pytest.LogCaptureFixture
) -> None:
    """`often` has 2 of 8 training stimuli, `seldom` 1, `held` occurs in the test set only, `never` nowhere."""
    names = ("often", "seldom", "held", "never")
    labels = {f"s{k}": [k in {0, 1}, k == 2, k >= 6, False] for k in range(N)}
    catalogue = make_catalogue(labels, names=names)
    split = shared.split({f"s{k}": "test" if k >= 6 else "val" if k == 5 else "train" for k in range(N)})
    for minimum, kept in ((0.0, names[:2]), (0.2, names[:2]), (0.21, names[:1]), (0.4, names[:1])):
        options = {**RAW, "min_label_frequency": minimum}
        with caplog.at_level(logging.WARNING):
            assert training_labels(shared.plan(hyperparameters=options), catalogue, split) == kept
    assert "3 label(s) too rare in the training data are left out: seldom, held, never" in caplog.text
    with pytest.raises(DataError, match="no label occurs in the training data"):
        training_labels(shared.plan(hyperparameters={"min_label_frequency": 0.41}), catalogue, split)


def test_one_persons_decoder_has_the_labels_of_the_groups(world: World) -> None:
    """Each label occurs in the training trials of one person only."""
    world.add(make_run("01"), "abc", np.eye(3))
    world.add(make_run("02"), "xyz", np.eye(3))
    labels = {"a": [1, 0, 0], "b": [0, 0, 0], "c": [0, 0, 1], "x": [0, 1, 0], "y": [0, 0, 0], "z": [0, 0, 1]}
    catalogue = make_catalogue(labels, names=("first", "second", "held"))
    split = world.split({name: "test" if name in "cz" else "train" for name in labels})
    group = build(world, split, catalogue)
    alone = [
        build(world, split, catalogue, members=[p], plan=world.plan(participants=[p], hyperparameters=RAW))
        for p in ("01", "02")
    ]
    assert [one.train.label_names for one in (group, *alone)] == [("first", "second")] * 3
    np.testing.assert_array_equal(np.concatenate([one.train.labels for one in alone]), group.train.labels)


def test_unlabelled_trials_are_left_out_and_too_many_are_refused(
    shared: World, caplog: pytest.LogCaptureFixture
) -> None:
    split = shared.split({f"s{k}": "train" for k in range(N)})
    labels = {f"s{k}": [np.nan] * 2 if k < 3 else [k % 2, 1] for k in range(N)}
    with caplog.at_level(logging.WARNING):
        made = build(shared, split, make_catalogue(labels))
    assert made.train.n_trials == 4 * 5
    assert "12 trial(s) without a label are left out" in caplog.text
    labels |= {"s3": [np.nan] * 2, "s4": [np.nan] * 2}
    with pytest.raises(DataError, match="38% of the trials have a label"):
        build(shared, split, make_catalogue(labels))


def test_runs_outside_the_split_are_refused(world: World) -> None:
    world.add(make_run("01"), "ab", np.eye(2))
    split = world.split(dict.fromkeys("ab", "train"))
    world.add(make_run("02"), "ab", np.eye(2))
    with pytest.raises(DataError, match="no trial of these runs is in the split"):
        build(world, split, make_catalogue({"a": [0, 1], "b": [1, 0]}), members=["02"])


def test_someone_without_training_trials_is_refused_by_name(shared: World) -> None:
    split = shared.split(["train"] * 2 * N + ["test"] * 2 * N)
    with pytest.raises(DataError, match="sub-02: no labelled training trial in this split"):
        build(shared, split, make_catalogue(ALWAYS))


@pytest.mark.parametrize(
    ("wanted", "kind", "unit"),
    [("auto", "lss", "run"), ("auto", "betas", "session"), ("participant", "betas", "participant")],
)
def test_units_of_standardisation(shared: World, wanted: str, kind: Any, unit: str) -> None:
    plan = shared.plan(hyperparameters={"responses": {"standardize": wanted}})
    assert standardization_unit(replace(plan, kind=kind)) == unit


def test_responses_that_no_split_knows_are_new(shared: World) -> None:
    plan = shared.plan()
    person = open_responses(shared.tree, "01", plan.runs_of("01"), kind="lss")
    assert set(row_sets(person, plan, None)) == {"new"}


# -- targets -----------------------------------------------------------------------------------------------


class Clip:
    name = "stub"
    weights_hash = "0"


def maker_of(world: World, catalogue: Catalogue, stimuli: Sequence[str]) -> TargetMaker:
    """Features of these stimuli are stored, of no other."""
    folder = world.folder / "features"
    images = EmbeddingCache(folder, {"of": "images"})
    texts = EmbeddingCache(folder, {"of": "sentences"})
    rows = catalogue.rows_of(stimuli)
    rng = np.random.default_rng(0)
    images.add([catalogue.content[k] for k in rows], {
        "low": rng.normal(size=(len(rows), 6)).astype(np.float16), "image": rng.normal(size=(len(rows), 4)),
    })  # fmt: skip
    sentences = [digest(text) for k in rows for text in catalogue.stimuli.captions[k]]
    texts.add(sentences, {"text": rng.normal(size=(len(sentences), 4))})
    options = world.plan().hyperparameters.targets
    return TargetMaker(clip=Clip(), options=options, images=images, texts=texts, low_kind="flat")  # type: ignore[arg-type]


def test_no_target_of_a_test_stimulus_is_loaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their features are not even asked for: their sentences are not stored, and reading those would fail."""
    numbered(world)
    paths = {f"s{k}": Path(f"s{k}.png") for k in range(N)}
    captions = {f"s{k}": [f"scene {k}"] for k in range(N)}
    catalogue = make_catalogue(ALWAYS, paths=paths, captions=captions)
    split = world.split({f"s{k}": ("test", "none", "val", "train")[min(k, 3)] for k in range(N)})
    seen = [f"s{k}" for k in range(2, N)]
    maker = maker_of(world, catalogue, seen)
    asked: set[str] = set()
    for name in ("read", "missing"):
        original = getattr(EmbeddingCache, name)

        def recorded(self: EmbeddingCache, keys: Sequence[str], original: Any = original) -> Any:
            asked.update(keys)
            return original(self, keys)

        monkeypatch.setattr(EmbeddingCache, name, recorded)
    made = build(world, split, catalogue, maker=maker)
    held = catalogue.rows_of(["s0", "s1"])
    assert not asked & {catalogue.content[k] for k in held}
    assert not asked & {digest(f"scene {k}") for k in (0, 1)}
    assert made.train.targets is not None
    assert made.train.targets.stimulus_id == tuple(seen)
    for data in (made.train, made.validation):
        assert [seen[k] for k in data.stimulus] == list(data.stimulus_id)


# -- scratch -----------------------------------------------------------------------------------------------


def test_rows_on_the_fast_disk_are_the_same_and_do_not_stay(shared: World, tmp_path: Path) -> None:
    split = shared.split({f"s{k}": "train" if k < 6 else "val" for k in range(N)})
    plain = build(shared, split, make_catalogue(ALWAYS), plan=shared.plan())
    work = tmp_path / "not" / "yet" / "there"
    with ExitStack() as scratch:
        plan = shared.plan(work_dir=work)
        made = training_set(
            plan, shared.tree, make_catalogue(ALWAYS), split, members=("01", "02"), method="ridge", maker=None,
            scratch=scratch,
        )  # fmt: skip
        assert sorted(path.name for path in work.rglob("*.float32")) == ["01.float32", "02.float32"]
        for a, b in zip(made.train.read(), plain.train.read(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert list(work.iterdir()) == []


def test_a_fast_disk_that_cannot_be_used(shared: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    split = shared.split({f"s{k}": "train" for k in range(N)})
    with pytest.raises(CannotCreateError, match="--work-dir"):
        build(shared, split, make_catalogue(ALWAYS), plan=shared.plan(work_dir=tmp_path / "file"))
