"""The methods text says what was on, what was off, and cites what was used."""

from __future__ import annotations

from typing import Any

import pytest

from clipmused_bids.report.methods_text import MethodsFacts, methods_text

PAPER: dict[str, Any] = {
    "fit_on": "train",
    "model": {"readout": "none", "alignment": "random", "head": "mlp", "input_dropout": 0.0},
    "training": {"mixup": 0.0, "weight_decay": 0.0, "n_seeds": 1, "perp_scale": "batch"},
}


def facts(**changes: Any) -> MethodsFacts:
    config: dict[str, Any] = {
        "method": "clip-mused",
        "preset": "small",
        "random_seed": 3,
        "clip": {"model": "ViT-B-16"},
        "label_names": ["a", "b"],
        "n_training_trials": 80,
        "n_validation_trials": 10,
        "split": {"rule": "runs", "regime": "unseen trials of seen stimuli"},
        "guidance": {"high": "text", "low": "off"},
        "hyperparameters": PAPER,
        "standardization": {
            "unit": "run",
            "scaling": "zscore",
            "sources": {"r1": "training", "r2": "transductive"},
        },
        "voxel_choice": None,
    }
    responses = {
        "hrf": "glover",
        "high_pass": 0.0078125,
        "noise": "ols",
        "others": "together",
        "lag": 5.0,
        "window": 0.0,
        "smoothing_fwhm": 0.0,
        **changes.pop("responses", {}),
    }
    kind = changes.pop("response_kind", "lss")
    return MethodsFacts("0.1.0", 1, 12, 96, kind, responses, {**config, **changes})


def test_what_was_off_is_said() -> None:
    text = methods_text(facts())
    assert "the low level was off (no images)" in text
    assert "came from text embeddings" in text
    assert "In 1 of 2 units" in text
    assert "1 participant (12 runs, 96 trials)" in text


@pytest.mark.parametrize(
    ("kind", "cites_lss"), [("lss", True), ("lsa", True), ("window", False), ("betas", False)]
)
def test_only_what_was_used_is_cited(kind: str, cites_lss: bool) -> None:
    assert ("Mumford" in methods_text(facts(response_kind=kind))) is cites_lss


def test_smoothing_is_said_where_there_was_any() -> None:
    assert "smoothed" not in methods_text(facts())
    assert "Gaussian kernel of 4.5 mm" in methods_text(facts(responses={"smoothing_fwhm": 4.5}))


@pytest.mark.parametrize(
    ("kind", "options", "said", "unsaid"),
    [
        ("lss", {}, ["least squares - separate"], ["prewhitened", "of each condition", "- all"]),
        ("lss", {"noise": "ar1"}, ["separate", "prewhitened by a first-order"], ["of each condition"]),
        ("lss", {"others": "by-condition"}, ["the other trials of each condition"], ["prewhitened"]),
        ("lsa", {}, ["least squares - all", "glover"], ["separate", "prewhitened"]),
        ("lsa", {"noise": "ar1"}, ["least squares - all", "prewhitened"], ["separate"]),
        ("window", {}, ["mean signal"], ["least squares"]),
    ],
)
def test_the_model_of_the_responses_is_said(
    kind: str, options: dict[str, str], said: list[str], unsaid: list[str]
) -> None:
    text = methods_text(facts(response_kind=kind, responses=options))
    assert [words for words in said if words not in text] == []
    assert [words for words in unsaid if words in text] == []


def test_a_linear_method_cites_no_clip() -> None:
    text = methods_text(facts(method="ridge"))
    assert "Radford" not in text
    assert "method ridge" in text


@pytest.mark.parametrize(
    ("unit", "scaling", "words"),
    [
        ("session", "zscore", "Voxels were z-scored within each session"),
        ("run", "minmax", "Voxels were scaled from 0 (minimum) to 1 (maximum) within each run"),
        ("none", "zscore", "Responses were not standardised."),
    ],
)
def test_scaling_and_choice_of_voxels_are_said(unit: str, scaling: str, words: str) -> None:
    changes = {"standardization": {"unit": unit, "scaling": scaling, "sources": {}}}
    assert words in methods_text(facts(**changes))
    assert "were kept" not in methods_text(facts(**changes))
    choice = {
        "criterion": "split-half reliability",
        "n_voxels": {"01": 200, "02": 150},
        "threshold": {"01": 0.334, "02": 0.289},
    }
    text = methods_text(facts(**changes, voxel_choice=choice))
    assert "the 150 to 200 voxels with the most reliable responses to repeated training stimuli" in text
    assert "(split-half reliability, at least 0.29)" in text


def test_additions_to_the_paper_are_named_and_only_those() -> None:
    assert "Additions" not in methods_text(facts())
    ours = {
        **PAPER,
        "model": {**PAPER["model"], "readout": "ridge", "input_dropout": 0.5},
        "fit_on": "train+validation",
    }
    text = methods_text(facts(hyperparameters=ours))
    assert "Additions to the published method" in text
    for words in (
        "(a ridge regression)",
        "dropout of voxels (0.5)",
        "training and validation trials together",
    ):
        assert words in text
    assert "mixup" not in text


def test_a_stack_and_what_chose_the_epoch_are_said() -> None:
    ours = {
        **PAPER,
        "model": {**PAPER["model"], "readout": "stack", "voxel_weights": "labels"},
        "training": {**PAPER["training"], "label_loss": "auto", "choose_by": "loss-1se"},
    }
    text = methods_text(facts(hyperparameters=ours))
    for words in ("a stack of ridge regressions", "variance that labels explain", "a softmax over labels"):
        assert words in text
    assert "lower than that of the untrained network by a standard error" in text
    assert "best validation mAP" not in text
    assert "best validation mAP was chosen" in methods_text(facts())
    rival_text = methods_text(rival("ms-emb", "none", hyperparameters=ours))
    assert "variance that labels explain" not in rival_text


def test_a_rival_is_described_and_its_authors_are_cited() -> None:
    text = methods_text(rival("ms-emb", "one token of each participant"))
    assert "whose class token is each participant's own (ms-emb), preset small (seed 3)" in text
    assert "Subject information: one token of each participant." in text
    assert "Chehab O" in text
    assert "Dosovitskiy" in text
    assert "Radford" not in text
    text = methods_text(rival("ss-mlp", "none"))
    assert "a multilayer perceptron for each participant (ss-mlp)" in text
    assert "Chehab" not in text
    assert "Dosovitskiy" not in text


def test_additions_of_a_rival_are_those_it_has() -> None:
    """The preset's readout, scale of L_perp and head are not a perceptron's, its mixup is."""
    ours = {
        **PAPER,
        "model": {**PAPER["model"], "readout": "ridge", "head": "linear", "alignment": "auto"},
        "training": {**PAPER["training"], "mixup": 1.0, "perp_scale": "batch+width"},
    }
    text = methods_text(rival("ms-smodel-mlp", "none", hyperparameters=ours))
    assert "Additions to the published method: mixup (1)." in text
    text = methods_text(rival("ms-smodel-vit", "none", hyperparameters=ours))
    assert "Additions to the published method: a linear head, mixup (1)." in text


def rival(method: str, known: str, **changes: Any) -> MethodsFacts:
    parameters = {"subject_information": known, "alignment": "random"}
    return facts(method=method, parameters=parameters, clip=None, **changes)


def test_the_one_token_ablation_is_said() -> None:
    assert "instead of two" not in methods_text(facts())
    one = {**PAPER, "model": {**PAPER["model"], "tokens": "one"}}
    assert "CLIP-MUSED with one token for each participant instead of two" in methods_text(
        facts(hyperparameters=one)
    )


def test_leaks_that_were_allowed_stand_beside_the_regime() -> None:
    assert "LEAKAGE" not in methods_text(facts())
    found = {"leaks": ["a stimulus is in two sets"], "warnings": []}
    text = methods_text(facts(leakage=found))
    regime = facts().config["split"]["regime"]
    assert f"speak about {regime}. LEAKAGE, allowed by --allow-leakage: a stimulus is in two sets." in text
