"""What sets the deep methods apart: tokens, guidance, whose trials they learn from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from clipmused_bids.config import (
    Hyperparameters,
    ModelOptions,
    TrainingOptions,
    build_hyperparameters,
    merge,
    read_preset,
)
from clipmused_bids.decoder.losses import Guidance, loss_terms, total_loss
from clipmused_bids.decoder.network import Network
from clipmused_bids.errors import DataError
from clipmused_bids.methods.architecture import Architecture, build_decoder
from clipmused_bids.methods.network_kinds import NetworkKind
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.records import ResponseTable, TrialData
from clipmused_bids.training.terms import term_weights

DEEP = [name for name, info in METHODS.items() if info.network is not None]
RIVALS = [name for name in DEEP if name != "clip-mused"]
OF_ONE = [name for name in DEEP if METHODS[name].per_participant]
WITHOUT_SUBJECT = ["ms-smodel-vit", "ms-smodel-mlp"]
QUICK = Hyperparameters(
    model=ModelOptions(
        width=16, depth=1, heads=2, head="linear", n_shared=6, n_patches=3, hidden_width=12, hidden_layers=1
    ),
    training=TrainingOptions(max_epochs=3, perp_scale="batch+width", mixup=0.5),
)


def fitted(name: str, data: TrialData, *, hyperparameters: Hyperparameters = QUICK, seed: int = 0):
    method = create(name, hyperparameters=hyperparameters, seed=seed, device="cpu")
    train, validation = (data.subset(np.flatnonzero(chosen)) for chosen in (data.group < 4, data.group == 4))
    method.history = method.fit(train, validation)
    return method


def test_every_system_of_the_paper_is_there() -> None:
    assert set(DEEP) == {"clip-mused", "ms-emb", "ms-smodel-vit", "ms-smodel-mlp", "ss-vit", "ss-mlp"}
    assert [name for name in DEEP if METHODS[name].guided] == ["clip-mused"]
    assert OF_ONE == ["ss-vit", "ss-mlp"]


@pytest.mark.parametrize(
    ("name", "common", "native"),
    [
        ("clip-mused", 2 * 16, 2 * 16 + 40 * 6),
        ("ms-emb", 16, 16 + 40 * 6),
        ("ms-smodel-vit", 0, 40 * 6),
        ("ms-smodel-mlp", 0, 40 * 6),
    ],
)
def test_what_one_more_participant_costs(
    make_trials: Callable[..., TrialData], name: str, common: int, native: int
) -> None:
    for common_space, cost in ((True, common), (False, native)):
        summaries = [
            fitted(
                name,
                make_trials(n_participants=n, common_space=common_space, n_regions=4 if common_space else 0),
            ).summary()
            for n in (2, 3)
        ]
        assert summaries[0]["shared"] == summaries[1]["shared"]
        assert set(summaries[1]["per_participant"].values()) == {cost}


@pytest.mark.parametrize("name", DEEP)
def test_equal_responses_of_two_people(make_trials: Callable[..., TrialData], name: str) -> None:
    """Without subject information they must be decoded alike; with it, or alone, they are not."""
    data = make_trials()
    method = fitted(name, data)
    twins = replace(data, responses=(data.responses[0],) * 2)
    first, second = (method.predict_proba(twins)[data.participant == p] for p in (0, 1))
    assert np.allclose(first, second, atol=1e-6) is (name in WITHOUT_SUBJECT)


@pytest.mark.parametrize("common_space", [True, False], ids=["common", "native"])
@pytest.mark.parametrize("name", DEEP)
def test_rivals_do_not_see_clip_targets(
    make_trials: Callable[..., TrialData], name: str, common_space: bool
) -> None:
    """Not even where their maps start."""
    data = make_trials(common_space=common_space, n_regions=4 if common_space else 0)
    high = np.random.default_rng(1).standard_normal(data.targets.high.shape)
    others = replace(data, targets=replace(data.targets, high=high))
    states = [fitted(name, one).state() for one in (data, others)]
    same = all(np.array_equal(states[0][key], states[1][key]) for key in states[0])
    assert same is (name in RIVALS)


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_are_trained_by_the_labels_alone_and_have_no_readout(
    make_trials: Callable[..., TrialData], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = replace(QUICK, model=replace(QUICK.model, readout="ridge"))
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        method = fitted(name, make_trials(), hyperparameters=options)
    columns = method.history.columns
    for term in ("perp", "low", "high"):
        assert np.isnan(columns[f"loss_{term}"]).all()
    np.testing.assert_array_equal(columns["loss"][1:], columns["loss_labels"][1:])
    assert not any("readout" in key for key in method.state())
    assert f"{METHODS[name].network.name} reads no CLIP targets" in caplog.text


def test_one_token_is_guided_by_both_levels_and_has_no_l_perp(
    make_trials: Callable[..., TrialData], caplog: pytest.LogCaptureFixture
) -> None:
    one = replace(QUICK, model=replace(QUICK.model, tokens="one"))
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        method = fitted("clip-mused", make_trials(), hyperparameters=one)
    columns = method.history.columns
    assert np.isnan(columns["loss_perp"]).all()
    weights = term_weights(one.training)
    expected = sum(weights[term] * np.array(columns[f"loss_{term}"]) for term in ("labels", "low", "high"))
    np.testing.assert_allclose(columns["loss"][1:], expected[1:])
    assert "L_perp is off, since there is no pair" in caplog.text
    assert set(method.summary()["per_participant"].values()) == {16}
    assert method.summary()["subject_information"] == "one token of each participant"


@pytest.mark.parametrize("common_space", [True, False], ids=["common", "native"])
@pytest.mark.parametrize(
    ("name", "alone"), [("ms-emb", "ss-vit"), ("ms-smodel-vit", "ss-vit"), ("ms-smodel-mlp", "ss-mlp")]
)
def test_with_one_participant_it_is_the_single_subject_model(
    make_trials: Callable[..., TrialData],
    name: str,
    alone: str,
    common_space: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = make_trials(common_space=common_space, n_regions=4 if common_space else 0).of_participant("02")
    method = fitted(name, data)
    assert f"{name}: with one participant it is the single-subject model ({alone})" in caplog.text
    # Gradients of a table of tokens and of a single one are summed in another order.
    expected = fitted(alone, data).predict_proba(data)
    np.testing.assert_allclose(method.predict_proba(data), expected, atol=1e-6)


@pytest.mark.parametrize("name", DEEP)
def test_only_methods_of_one_participant_keep_people_apart(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable], name: str
) -> None:
    data = make_trials()
    before = fitted(name, data).predict_proba(data)
    other = make_table([np.random.default_rng(5).standard_normal((60, 40))])
    mine = data.participant == 0
    labels = np.where(mine[:, None], data.labels, 1 - data.labels)
    changed = replace(data, responses=(data.responses[0], other), labels=labels)
    after = fitted(name, changed).predict_proba(data)
    assert np.array_equal(before[mine], after[mine]) is (name in OF_ONE)
    assert not np.allclose(before[~mine], after[~mine])


@pytest.mark.parametrize("name", OF_ONE)
def test_each_participants_decoder_is_that_of_his_data_alone(
    make_trials: Callable[..., TrialData], name: str
) -> None:
    data = make_trials(common_space=False, n_regions=0)
    together = fitted(name, data)
    rows = together.history.columns["participant"]
    assert rows == (1.0,) * rows.count(1.0) + (2.0,) * rows.count(2.0)
    for participant in data.participants:
        one = data.of_participant(participant)
        alone = fitted(name, one)
        np.testing.assert_array_equal(alone.predict_proba(one), together.predict_proba(one))
        assert "participant" not in alone.history.columns
    assert together.summary()["shared"] == 0
    n_numbers = sum(values.size for key, values in together.state().items() if ".architecture." not in key)
    assert sum(together.summary()["per_participant"].values()) == n_numbers


@pytest.mark.parametrize("name", DEEP)
def test_only_without_subject_information_strangers_can_be_decoded(
    make_trials: Callable[..., TrialData], name: str
) -> None:
    data = make_trials()
    method = fitted(name, data)
    stranger = replace(data, participants=("99", "02"))
    if name in WITHOUT_SUBJECT:
        np.testing.assert_allclose(method.predict_proba(stranger), method.predict_proba(data), atol=1e-6)
        native = make_trials(common_space=False, n_regions=0)
        method = fitted(name, native)
        stranger = replace(native, participants=("99", "02"))
    with pytest.raises(DataError, match="sub-99: the decoder was not trained on this participant"):
        method.predict_proba(stranger)


def test_subject_information_that_cannot_be_avoided_is_said(
    make_trials: Callable[..., TrialData], caplog: pytest.LogCaptureFixture
) -> None:
    known = "each participant's own linear map, since voxels do not correspond"
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        assert fitted("ms-smodel-mlp", make_trials()).summary()["subject_information"] == "none"
        assert "ms-smodel-mlp: subject information: none." in caplog.text
        native = make_trials(common_space=False, n_regions=0)
        assert fitted("ms-smodel-mlp", native).summary()["subject_information"] == known
    assert f"ms-smodel-mlp: subject information: {known}." in caplog.text
    emb = fitted("ms-emb", native).summary()["subject_information"]
    assert emb == f"one token of each participant and {known}"


def exclusive_or(data: TrialData, make_table: Callable[..., ResponseTable]) -> TrialData:
    """Two halves of the brain carry one sign each; the label is whether they differ."""
    generator = np.random.default_rng(3)
    signs = generator.choice([-1.0, 1.0], size=(data.n_trials, 2))
    halves = np.repeat(signs, 20, axis=1) * np.abs(generator.standard_normal(40)).clip(0.5)
    values = halves + 0.5 * generator.standard_normal(halves.shape)
    differ = (signs[:, 0] != signs[:, 1]).astype(np.float32)
    tables = [make_table([values[data.participant == p]]) for p in range(2)]
    labels = np.stack([differ, 1 - differ], axis=1)
    return replace(data, responses=tuple(tables), labels=labels, label_names=("differ", "agree"))


@pytest.mark.parametrize("name", [*RIVALS, "clip-mused", "ridge", "ridge-pooled"])
def test_a_label_that_is_no_linear_function_is_learnt_by_networks(
    make_trials: Callable[..., TrialData], make_table: Callable[..., ResponseTable], name: str
) -> None:
    data = make_trials(n_trials=300, targets=False)
    data = exclusive_or(replace(data, group=data.group // 5), make_table)
    options = replace(
        QUICK,
        model=replace(QUICK.model, hidden_width=32),
        training=replace(QUICK.training, mixup=0.0, learning_rate=3e-3, max_epochs=25),
    )
    test = data.subset(np.flatnonzero(data.group == 5))
    probability = fitted(name, data, hyperparameters=options).predict_proba(test)
    area = roc_auc_score(test.labels[:, 0], probability[:, 0])
    if name.startswith("ridge"):
        assert area == pytest.approx(0.5, abs=0.15)
    else:
        assert area > 0.9


def network_of(kind: NetworkKind, hyperparameters: Hyperparameters, *, common_space: bool) -> Network:
    """Network of a method at a preset's own width and depth, on a tiny mask."""
    options = kind.model_options(hyperparameters.model)
    patches = "cnn" if options.patches == "cnn" else "roi" if common_space else "aligned"
    n_voxels = 32 * 16 * 16 if patches == "cnn" else 60
    if kind.reads == "vector":
        patches = "voxels" if common_space else "features"
    torch.manual_seed(0)
    architecture = Architecture(
        kind=patches,
        grid_shape=(32, 16, 16),
        n_voxels=(n_voxels,) * 2,
        common_space=common_space,
        n_labels=6,
        n_regions=6,
        voxels=np.arange(n_voxels),
        regions=(np.arange(n_voxels) % 6,),
        tokens=kind.token_scheme(options),
    )
    return build_decoder(architecture, options, n_participants=2)


@pytest.mark.parametrize(
    ("preset", "common_space"), [("hcp", True), ("nsd", True), ("small", True), ("small", False)]
)
@pytest.mark.parametrize("name", [*DEEP, "clip-mused:one-token"])
def test_every_tensor_receives_gradient_in_the_first_step(name: str, preset: str, common_space: bool) -> None:
    """But for key biases, which cancel in the softmax; what is fixed is a readout."""
    variant = VARIANTS[name]
    kind = METHODS[variant.method].network
    hyperparameters = build_hyperparameters(merge(read_preset(preset), variant.overrides))
    model = network_of(kind, hyperparameters, common_space=common_space)
    generator = torch.Generator().manual_seed(0)
    n_voxels = 32 * 16 * 16 if preset == "hcp" else 60
    responses = [torch.randn(4, n_voxels, generator=generator) for _ in range(2)]
    labels = (torch.rand(8, 6, generator=generator) < 0.3).float()
    features = torch.nn.functional.normalize(torch.randn(8, 9, generator=generator) + 0.5, dim=1)
    target = Guidance(features @ features.T, torch.ones(8, dtype=torch.bool)) if kind.guided else None
    options = hyperparameters.training
    scores = torch.randn(8, 6, generator=generator)
    terms = loss_terms(
        model(responses, [0, 1], scores_BC=scores),
        labels,
        low=target,
        high=target,
        perp_scale=options.perp_scale,
    )
    total_loss(terms, term_weights(options)).backward()
    for tensor, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert tensor.startswith("readout."), tensor
        elif tensor.endswith("qkv.bias"):
            query, _, value = parameter.grad.abs().chunk(3)
            assert min(query.max(), value.max()) > 0, tensor
        else:
            assert parameter.grad.abs().max() > 0, tensor
    if kind.token_scheme(hyperparameters.model) in {"pair", "one"}:
        assert (model.tokens.subject.grad.abs().amax(dim=2) > 0).all()


@pytest.mark.parametrize("name", RIVALS)
def test_what_a_method_does_not_read_changes_nothing(
    make_trials: Callable[..., TrialData], name: str
) -> None:
    """Every option that is announced as unread, set to something else."""
    other = {
        "model.tokens": "one", "model.readout": "ridge", "model.patches": "aligned", "model.width": 8,
        "model.depth": 2, "model.heads": 4, "model.mlp_ratio": 3.0, "model.head": "mlp", "model.n_regions": 3,
        "model.n_patches": 2, "model.hidden_width": 5, "model.hidden_layers": 3, "training.lambda_perp": 0.7,
        "training.lambda_low": 0.7, "training.lambda_high": 0.7, "training.perp_scale": "batch",
        "model.n_shared": 4, "model.alignment": "random",
    }  # fmt: skip
    unread = METHODS[name].network.unread
    changed = QUICK
    for key in unread:
        table, _, option = key.partition(".")
        changed = replace(changed, **{table: replace(getattr(changed, table), **{option: other[key]})})
    data = make_trials()
    states = [fitted(name, data, hyperparameters=one).state() for one in (QUICK, changed)]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])
    for key in other.keys() - set(unread):
        table, _, option = key.partition(".")
        one = replace(QUICK, **{table: replace(getattr(QUICK, table), **{option: other[key]})})
        if key in {"model.n_regions", "model.n_patches", "model.n_shared"}:
            continue  # read where there is no atlas, and in native space
        if key == "model.alignment" and METHODS[name].network.reads == "vector":
            continue  # read in native space
        state = fitted(name, data, hyperparameters=one).state()
        assert state.keys() != states[0].keys() or any(
            not np.array_equal(state[name_], states[0][name_]) for name_ in state
        ), key
