"""A new participant of a trained decoder, on data whose structure is planted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import Hyperparameters, ModelOptions, TrainingOptions
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.methods import token_tuning
from clipmused_bids.methods.adaptation import adapt, adapt_with_history
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.methods.registry import create, restore
from clipmused_bids.records import Grid, ResponseTable, TrialData, VoxelSpace
from clipmused_bids.training.monitor import ValidationScore

COMMON = Hyperparameters(
    model=ModelOptions(width=16, depth=1, heads=2, head="linear"),
    training=TrainingOptions(max_epochs=12, learning_rate=3e-3, lambda_perp=0, lambda_low=0, lambda_high=0),
)
NATIVE = Hyperparameters(
    model=ModelOptions(width=16, depth=1, heads=2, head="linear", readout="ridge", n_shared=6, n_patches=3),
    training=TrainingOptions(max_epochs=8, learning_rate=1e-3, perp_scale="batch+width"),
)
Table = Callable[[list[np.ndarray]], ResponseTable]


def trials(
    tables: list[ResponseTable], labels: np.ndarray, *, common_space: bool, region: np.ndarray, stimuli: bool
) -> TrialData:
    """Trials of several people with equally many each; runs of ten trials are the groups."""
    n_people, n_voxels, n_trials = len(tables), tables[0].n_voxels, tables[0].n_rows
    names = tuple(f"region{r}" for r in range(region.max() + 1))
    space = VoxelSpace(Grid((n_voxels, 1, 1), np.eye(4)), np.arange(n_voxels), region, names)
    return TrialData(
        participants=tuple(f"{p + 1:02d}" for p in range(n_people)),
        responses=tuple(tables),
        spaces=(space,) * n_people,
        common_space=common_space,
        participant=np.repeat(np.arange(n_people), n_trials),
        row=np.tile(np.arange(n_trials), n_people),
        labels=labels.astype(np.float32),
        label_names=tuple(f"label{c}" for c in range(labels.shape[1])),
        single_label=False,
        stimulus=np.full(n_people * n_trials, -1),
        stimulus_id=tuple(f"image{i}" if stimuli else "" for i in range(n_trials)) * n_people,
        targets=None,
        group=np.tile(np.arange(n_trials) // 10, n_people),
    )


def two_kinds_of_people(table: Table, *, n_people: int = 7, n_trials: int = 260) -> TrialData:
    """Region 0 of one kind and region 1 of the other hold the labels, the other region something else.

    Whose kind is not known can be decoded half as well: what a token must say.
    """
    generator = np.random.default_rng(3)
    weights = generator.standard_normal((3, 10))
    tables, labels = [], []
    for p in range(n_people):
        seen, other = (generator.random((2, n_trials, 3)) < 0.5).astype(float)
        regions = [(seen if r == p % 2 else other) - 0.5 for r in range(2)]
        signal = np.concatenate([region @ weights for region in regions], axis=1)
        tables.append(table([signal + generator.standard_normal(signal.shape)]))
        labels.append(seen)
    region = np.repeat([0, 1], 10)
    return trials(tables, np.concatenate(labels), common_space=True, region=region, stimuli=False)


def one_latent_space(table: Table, *, regions: int = 0, seed: int = 1, n_people: int = 4) -> TrialData:
    """Labels are cuts through six latent variables of the stimuli, which everyone's voxels mix in their own way."""
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((240, 6))
    labels = latent @ generator.standard_normal((6, 4)) > 0.8
    tables = []
    for _ in range(n_people):
        values = latent @ generator.standard_normal((6, 60)) + 2 * generator.standard_normal((240, 60))
        tables.append(table([(values - values.mean(axis=0)) / values.std(axis=0)]))
    region = np.arange(60) % regions if regions else np.full(60, -1)
    return trials(tables, np.tile(labels, (n_people, 1)), common_space=False, region=region, stimuli=True)


def known_people(data: TrialData) -> TrialData:
    """All but the last."""
    n = len(data.participants) - 1
    chosen = data.subset(np.flatnonzero(data.participant < n))
    return replace(
        chosen, participants=data.participants[:n], responses=data.responses[:n], spaces=data.spaces[:n]
    )


def rows(data: TrialData, first: int, last: int) -> TrialData:
    return data.subset(np.flatnonzero((data.row >= first) & (data.row < last)))


def nothing(data: TrialData) -> TrialData:
    return rows(data, 0, 0)


def base_of(data: TrialData, hyperparameters: Hyperparameters) -> NetworkMethod:
    known = known_people(data)
    base = create("clip-mused", hyperparameters=hyperparameters, seed=0, device="cpu")
    base.fit(rows(known, 0, 120), rows(known, 120, 160))
    assert isinstance(base, NetworkMethod)
    return base


@pytest.fixture(scope="module")
def table() -> Table:
    def build(blocks: list[np.ndarray]) -> ResponseTable:
        width = np.arange(blocks[0].shape[1])
        zero, one = np.zeros(len(width), np.float32), np.ones(len(width), np.float32)
        n = len(blocks)
        return ResponseTable(
            tuple(block.astype(np.float32) for block in blocks), (width,) * n, (zero,) * n, (one,) * n
        )

    return build


@pytest.fixture(scope="module")
def kinds(table: Table) -> tuple[NetworkMethod, TrialData, TrialData]:
    """Base, a new participant, and his test trials."""
    data = two_kinds_of_people(table)
    new = data.of_participant("07")
    return base_of(data, COMMON), new, rows(new, 160, 260)


@pytest.fixture(scope="module")
def latent(table: Table) -> tuple[NetworkMethod, TrialData, TrialData]:
    data = one_latent_space(table)
    new = data.of_participant("04")
    return base_of(data, NATIVE), new, rows(new, 160, 240)


def area(method: object, test: TrialData) -> float:
    found = method.predict_proba(test)  # type: ignore[attr-defined]
    each = zip(test.labels.T, found.T, strict=True)
    return float(np.mean([roc_auc_score(truth, score) for truth, score in each]))


def adaptation_of(method: NetworkMethod) -> Mapping[str, Any]:
    found = method.fitted().adaptation
    assert found is not None
    return found


def test_a_token_learns_from_few_trials_what_kind_of_person_this_is(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, test = kinds
    by_n = {n: area(adapt(base, rows(new, 0, n), nothing(new)), test) for n in (0, 40)}
    assert 0.6 < by_n[0] < 0.9
    assert by_n[40] > by_n[0] + 0.08


def test_without_trials_the_mean_token_of_the_known_people_decodes(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = kinds
    method = adapt(base, nothing(new), rows(new, 0, 100))
    expected = base.state()["member.0.tokens.subject"].mean(axis=0, keepdims=True)
    np.testing.assert_array_equal(method.state()["member.0.tokens.subject"], expected)
    assert (adaptation_of(method)["n_trials"], adaptation_of(method)["n_validation_trials"]) == (0, 0)


def test_only_the_token_is_fitted_in_a_common_space(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = kinds
    before = {name: value.copy() for name, value in base.state().items()}
    method = adapt(base, rows(new, 0, 40), nothing(new))
    after, found = base.state(), method.state()
    assert before.keys() == after.keys() == found.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
        if name != "member.0.tokens.subject":
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert found["member.0.tokens.subject"].shape == (1, 2, 16)
    assert not np.allclose(found["member.0.tokens.subject"], before["member.0.tokens.subject"].mean(axis=0))
    assert adaptation_of(method)["fitted_values"] == {"tokens": 2 * 16, "maps": 0, "readout": 0}
    assert method.summary()["per_participant"] == {"07": 2 * 16}


def test_labels_without_any_relation_leave_the_mean_token(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    """Held-out trials choose; noise must not talk them into anything better than the mean token by much."""
    base, new, _ = kinds
    validation = rows(new, 40, 80)
    shuffled = np.random.default_rng(0).permutation(validation.n_trials)
    method = adapt(base, rows(new, 0, 40), replace(validation, labels=1 - validation.labels[shuffled]))
    start = adapt(base, nothing(new), nothing(new))
    wrong = replace(validation, labels=1 - validation.labels[shuffled])
    assert area(method, wrong) >= area(start, wrong) - 0.02


def test_what_is_chosen_is_never_worse_than_the_mean_token_on_what_was_looked_at(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = kinds
    for n in (20, 30):
        method = adapt(base, rows(new, 0, n), nothing(new))
        loss = adaptation_of(method)["held_out_loss"]
        assert loss["chosen"] <= loss["mean token"]


@pytest.mark.parametrize(
    ("last", "chosen"),
    [
        # Better than the start by 0.1 in the mean, with a standard error of 0.2 / sqrt(3) / 2 = 0.058.
        ([0.8, 1.0, 1.0, 0.8], 2),
        # By 0.1 again, with one of 0.6 / sqrt(3) / 2 = 0.173.
        ([0.6, 1.2, 1.2, 0.6], 0),
    ],
)
def test_a_base_that_waits_for_a_standard_error_lets_the_mean_token_stay(
    last: list[float], chosen: int
) -> None:
    losses = [[1.0, 1.0, 1.0, 1.0], [0.99, 0.99, 0.99, 0.99], last]
    scores = [ValidationScore(float("nan"), float(np.mean(one)), np.array(one)) for one in losses]
    assert token_tuning._chosen(scores, careful=True) == chosen
    assert token_tuning._chosen(scores, careful=False) == 2


def test_a_base_that_waits_for_a_standard_error_still_learns_who_this_is(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, test = kinds
    careful = base.with_fitted(base.fitted())
    careful.hyperparameters = replace(COMMON, training=replace(COMMON.training, choose_by="loss-1se"))
    by_n = {n: area(adapt(careful, rows(new, 0, n), nothing(new)), test) for n in (0, 40)}
    assert by_n[40] > by_n[0] + 0.08


def test_the_history_is_of_the_trials_that_were_left_out(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = kinds
    method, history = adapt_with_history(base, rows(new, 0, 40), nothing(new))
    assert history is not None
    found = adaptation_of(method)
    assert history.columns["epoch"] == tuple(range(41))
    assert history.best_epoch == found["epochs"] == int(np.argmin(history.columns["val_loss"]))
    assert history.columns["val_loss"][found["epochs"]] == found["held_out_loss"]["chosen"]
    method, history = adapt_with_history(base, rows(new, 0, 40), rows(new, 40, 60))
    assert history is not None
    assert history.best_epoch == adaptation_of(method)["epochs"]
    for n in (0, 10):
        assert adapt_with_history(base, rows(new, 0, n), nothing(new))[1] is None


@pytest.mark.parametrize("single_label", [True, False])
def test_tokens_are_judged_by_the_label_loss_of_the_base(table: Table, single_label: bool) -> None:
    """Whatever the new participant's trials look like: ``auto`` was decided when the base was trained."""
    data = two_kinds_of_people(table, n_people=4, n_trials=160)
    one = data.labels.argmax(axis=1) if single_label else np.zeros(data.n_trials, dtype=int)
    labels = np.eye(3, dtype=np.float32)[one] if single_label else data.labels
    data = replace(data, labels=labels, single_label=single_label)
    training = replace(COMMON.training, label_loss="auto", max_epochs=4)
    base = base_of(data, replace(COMMON, training=training))
    assert base.config()["label_loss"] == ("softmax" if single_label else "binary")
    new = replace(data.of_participant("04"), single_label=True)
    few = rows(new, 0, 30)
    loss = adaptation_of(adapt(base, few, nothing(new)))["held_out_loss"]["mean token"]
    found = adapt(base, nothing(new), nothing(new)).predict_proba(few)
    of_truth = np.where(few.labels == 1, found, 1 - found)
    expected = -np.log(found[few.labels == 1] if single_label else of_truth).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
    if single_label:
        with pytest.raises(DataError, match="sub-04: the base was trained on trials of exactly one label"):
            adapt(base, replace(few, single_label=False), nothing(new))


def test_a_stack_of_a_softmax_base_serves_a_new_participant(table: Table) -> None:
    """The default decoder's options: his readout holds weighted voxels, and his probabilities sum to 1."""
    data = one_latent_space(table)
    seen = np.eye(4, dtype=np.float32)[
        np.argmax(
            data.labels + 0.1 * np.random.default_rng(0).random((240, 4))[np.tile(np.arange(240), 4)], axis=1
        )
    ]
    data = replace(data, labels=seen, single_label=True)
    model = replace(NATIVE.model, readout="stack", voxel_weights="labels")
    training = replace(NATIVE.training, label_loss="auto", choose_by="loss-1se")
    base = base_of(data, replace(NATIVE, model=model, training=training))
    new = data.of_participant("04")
    method = adapt(base, rows(new, 0, 80), nothing(new))
    assert list(adaptation_of(method)["readout_weights"]) == ["own", "own, weighted", "shared"]
    test = rows(new, 160, 240)
    found = method.predict_proba(test)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert area(method, test) > 0.75
    again = restore("clip-mused", method.state(), json.loads(json.dumps(method.config())))
    np.testing.assert_array_equal(again.predict_proba(test), found)


def test_a_new_participant_is_restored_like_any_decoder(
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, test = latent
    method = adapt(base, rows(new, 0, 40), nothing(new), source={"label": "group"})
    config = json.loads(json.dumps(method.config()))
    again = restore("clip-mused", method.state(), config)
    np.testing.assert_array_equal(again.predict_proba(test), method.predict_proba(test))
    assert again.config() == config
    assert config["adaptation"]["base"] == {"label": "group"}
    assert config["adaptation"]["known"] == ["01", "02", "03"]
    with pytest.raises(
        DataError, match="sub-99: the decoder was not trained on this participant; it knows 04"
    ):
        again.predict_proba(replace(test, participants=("99",)))


@pytest.mark.parametrize("regions", [0, 3])
def test_maps_into_features_that_are_known_beat_his_own_ridge_on_few_trials(
    table: Table, regions: int
) -> None:
    """And more trials serve more."""
    gain, by_n = [], {20: [], 120: []}
    for seed in (1, 2):
        data = one_latent_space(table, regions=regions, seed=seed)
        new = data.of_participant("04")
        base = base_of(data, NATIVE)
        assert base.fitted().architecture.kind == ("own-roi" if regions else "aligned")
        for n, found in by_n.items():
            found.append(area(adapt(base, rows(new, 0, n), nothing(new)), rows(new, 160, 240)))
        ridge = create("ridge", hyperparameters=NATIVE, seed=0, device="cpu")
        ridge.fit(rows(new, 0, 20), nothing(new))
        gain.append(by_n[20][-1] - area(ridge, rows(new, 160, 240)))
    assert np.mean(gain) > 0.02
    assert np.mean(by_n[120]) > np.mean(by_n[20]) > 0.7


def test_stimuli_nobody_saw_are_linked_by_their_labels(
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, test = latent
    other = replace(new, stimulus_id=tuple(f"other{i}" for i in range(new.n_trials)))
    method = adapt(base, rows(other, 0, 80), nothing(new))
    assert adaptation_of(method)["alignment"].endswith("matched by labels")
    assert area(method, test) > 0.8


def test_only_what_is_his_own_is_fitted_in_native_space(
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = latent
    before = {name: value.copy() for name, value in base.state().items()}
    method = adapt(base, rows(new, 0, 40), nothing(new))
    found = method.state()
    own = ("tokens.subject", "patches.own", "readout.own", "readout.offset")
    shared = {name for name in before if not name.startswith(tuple(f"member.0.{part}" for part in own))}
    shared -= {name for name in before if name.startswith("template.")}
    assert len(shared) > 15
    for name, value in base.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for name in shared:
        np.testing.assert_array_equal(found[name], before[name], err_msg=name)
    assert adaptation_of(method)["fitted_values"] == {"tokens": 2 * 16, "maps": 60 * 6, "readout": 61 * 4}
    assert found["member.0.patches.own.0"].shape == (60, 6)


def test_validation_trials_choose_but_do_not_fit(
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = latent
    methods = [adapt(base, rows(new, 0, 60), rows(new, first, first + 30)) for first in (60, 90)]
    maps = [method.state()["member.0.patches.own.0"] for method in methods]
    np.testing.assert_array_equal(*maps)
    assert adaptation_of(methods[0])["chosen_by"] == "validation trials"


def test_the_template_says_what_the_known_people_saw(
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    """Its features of a stimulus are the mean of everyone's; labels are predicted from features, and back."""
    base, new, _ = latent
    (template,) = base.fitted().templates
    state = base.state()
    assert template.features.dtype == np.float16
    targets = template.targets(rows(new, 0, 120))["stimulus"]
    known = known_people(one_latent_space_of(new, base))
    expected = np.mean(
        [x[:120] @ state[f"member.0.patches.own.{p}"] for p, x in enumerate(known.read())], axis=0
    )
    np.testing.assert_allclose(targets, expected, atol=0.01)
    predicted = targets @ template.classifier[:-1] + template.classifier[-1]
    assert roc_auc_score(rows(new, 0, 120).labels.ravel(), predicted.ravel()) > 0.9


def one_latent_space_of(new: TrialData, base: NetworkMethod) -> TrialData:
    """The data that the module's base was fitted to."""
    assert list(base.fitted().signature.masks) == ["01", "02", "03"]

    def build(blocks: list[np.ndarray]) -> ResponseTable:
        return replace(new.responses[0], blocks=tuple(block.astype(np.float32) for block in blocks))

    return one_latent_space(build)


def test_conditions_of_blocks_are_matched_presentation_by_presentation(table: Table) -> None:
    data = one_latent_space(table)
    names = tuple(f"condition{i % 4}" for i in range(240)) * 4
    base = base_of(replace(data, stimulus_id=names), NATIVE)
    new = replace(data, stimulus_id=names).of_participant("04")
    (template,) = base.fitted().templates
    found = template.targets(rows(new, 0, 8))
    state, known = base.state(), known_people(data)
    features = np.stack([x @ state[f"member.0.patches.own.{p}"] for p, x in enumerate(known.read())])
    np.testing.assert_allclose(found["occurrence"], features[:, :8].mean(axis=0), atol=0.01)
    means = [features[:, i:120:4].mean(axis=(0, 1)) for i in range(4)]
    np.testing.assert_allclose(found["stimulus"], [means[i % 4] for i in range(8)], atol=0.01)


def test_who_cannot_be_adapted_is_refused(
    kinds: tuple[NetworkMethod, TrialData, TrialData],
    latent: tuple[NetworkMethod, TrialData, TrialData],
) -> None:
    base, new, _ = kinds
    few = rows(new, 0, 20)
    with pytest.raises(DataError, match="sub-01: the base knows this participant already"):
        adapt(base, replace(few, participants=("01",)), nothing(new))
    space = new.spaces[0]
    moved = replace(space, grid=Grid((40, 1, 1), np.eye(4)), voxels=space.voxels + 5)
    with pytest.raises(DataError, match=r"sub-07: .* not at the same places"):
        adapt(base, replace(few, spaces=(moved,)), nothing(new))
    with pytest.raises(DataError, match="only in the data: zebra"):
        adapt(base, replace(few, label_names=("label0", "label1", "zebra")), nothing(new))
    with pytest.raises(DataError, match=r"in a common space, these responses are in native space"):
        adapt(base, replace(few, common_space=False), nothing(new))
    ridge = create("ridge", hyperparameters=COMMON, seed=0, device="cpu")
    ridge.fit(few, nothing(new))
    with pytest.raises(UsageError, match="Ridge shares nothing"):
        adapt(ridge, few, nothing(new))
    native, person, _ = latent
    with pytest.raises(UsageError, match="sub-04: without calibration trials nothing links his voxels"):
        adapt(native, nothing(person), nothing(person))
    tensors = {name: value for name, value in native.state().items() if not name.startswith("template")}
    with pytest.raises(DataError, match="holds no template"):
        adapt(restore("clip-mused", tensors, native.config()), rows(person, 0, 20), nothing(person))


def test_rivals_are_adapted_by_what_they_know_of_people(
    kinds: tuple[NetworkMethod, TrialData, TrialData], table: Table
) -> None:
    """One token of ms-emb; nothing of a model without subject information, which decodes anyone as it is."""
    _, new, test = kinds
    known = known_people(two_kinds_of_people(table))
    for name, tokens in (("ms-emb", 16), ("ms-smodel-vit", 0), ("ms-smodel-mlp", 0)):
        base = create(name, hyperparameters=replace(COMMON, fit_on="train"), seed=0, device="cpu")
        base.fit(rows(known, 0, 60), rows(known, 60, 80))
        method = adapt(base, rows(new, 0, 30), nothing(new))
        assert adaptation_of(method)["fitted_values"] == {"tokens": tokens, "maps": 0, "readout": 0}
        again = restore(name, method.state(), json.loads(json.dumps(method.config())))
        np.testing.assert_array_equal(again.predict_proba(test), method.predict_proba(test))
        if not tokens:
            np.testing.assert_array_equal(method.predict_proba(test), base.predict_proba(test))
    alone = create("ss-vit", hyperparameters=COMMON, seed=0, device="cpu")
    alone.fit(rows(known, 0, 60), rows(known, 60, 80))
    with pytest.raises(UsageError, match="EachParticipant shares nothing"):
        adapt(alone, rows(new, 0, 30), nothing(new))


def test_a_perceptron_of_native_space_gets_a_map_of_the_new_participant(table: Table) -> None:
    data = one_latent_space(table)
    known, new = known_people(data), data.of_participant("04")
    base = create("ms-smodel-mlp", hyperparameters=NATIVE, seed=0, device="cpu")
    base.fit(rows(known, 0, 120), rows(known, 120, 160))
    method = adapt(base, rows(new, 0, 60), nothing(new))
    assert adaptation_of(method)["fitted_values"] == {"tokens": 0, "maps": 60 * 6, "readout": 0}
    assert area(method, rows(new, 160, 240)) > 0.8
