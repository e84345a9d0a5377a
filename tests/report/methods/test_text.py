"""The text says what was on, what was off, with the numbers of the run, and cites what it says and nothing else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from clipmused_bids.evaluation.comparison import compare_methods
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.methods.facts import (
    Compared,
    DataFacts,
    EvaluationFacts,
    MethodsFacts,
    ResponseFacts,
    RunFacts,
    SplitFacts,
    StimulusFacts,
)
from clipmused_bids.report.methods.rivals import DESCRIPTIONS
from clipmused_bids.report.methods.scores import N_RESAMPLES
from clipmused_bids.report.methods.text import methods_text

# The paper's form: none of our additions.
PAPER: dict[str, Any] = {
    "method": "clip-mused",
    "version": "0.1.0",
    "preset": "nsd",
    "random_seed": 3,
    "participants": ["01", "02"],
    "clip": {"model": "ViT-B-16", "weights_sha256": "abcdef0123456789"},
    "guidance": {"high": "image+text", "low": "images"},
    "single_label": False,
    "label_names": ["cat", "dog", "house"],
    "labels_left_out": [],
    "left_out": [],
    "n_training_trials": 1234,
    "n_validation_trials": 100,
    "best_epoch": 7,
    "common_space": True,
    "inputs": {"atlas": "Schaefer2018"},
    "standardization": {"unit": "run", "scaling": "zscore", "sources": {"a": "training", "b": "training"}},
    "voxel_choice": None,
    "leakage": {"leaks": [], "warnings": []},
    "decoder": {
        "label_loss": "binary",
        "architecture": {"kind": "roi"},
        "signature": {"n_voxels": {"01": 1500, "02": 1500}},
    },
    "parameters": {
        "alignment": "random",
        "members": 1,
        "patches": 12,
        "shared": 95385,
        "per_participant": {"01": 128, "02": 128},
        "subject_information": "two tokens of each participant",
    },
    "hyperparameters": {
        "fit_on": "train",
        "min_label_frequency": 0.0,
        "linear": {"alphas": [0.1, 1.0], "logistic_c": [0.1, 1.0]},
        "targets": {"high": "mean"},
        "model": {
            "readout": "none", "alignment": "random", "head": "mlp", "input_dropout": 0.0, "tokens": "pair",
            "width": 512, "depth": 24, "heads": 8, "n_shared": 32, "voxel_weights": "none", "hidden_layers": 2,
            "hidden_width": 256,
        },
        "training": {
            "lambda_perp": 0.001, "lambda_low": 0.01, "lambda_high": 0.1, "learning_rate": 1e-4, "weight_decay": 0.0,
            "batch_size": 64, "decay_every": 0, "decay_factor": 1.0, "max_epochs": 50, "patience": 9,
            "choose_by": "map", "mixup": 0.0, "n_seeds": 1, "perp_scale": "batch", "precision": "32-true",
        },
    },
}  # fmt: skip
OPTIONS = {
    "hrf": "glover", "high_pass": 0.0078125, "noise": "ols", "others": "together", "lag": 5.0, "window": 0.0,
    "smoothing_fwhm": 0.0,
}  # fmt: skip
RUNS = tuple(RunFacts(p, None, 48, 2.0, confounds=True) for p in ("01", "02") for _ in range(3))
DATA = DataFacts(
    name="Faces", doi="10.18112/openneuro.ds000000.v1.0.0", pipelines=("fMRIPrep 23.1.0",), simulated=False,
    tasks=("look",), runs=RUNS, space="MNI152NLin2009cAsym", voxel_size=(2.0, 2.0, 2.5), continuous=False,
    frame_interval=None, stimuli=StimulusFacts(200, 200, 200, 3, single_label=False),
)  # fmt: skip
RESPONSES = ResponseFacts(
    "lss", OPTIONS, True, "derivative", None, "default", ("csf", "cosine00", "cosine01"), "sub-01"
)
SPLIT = SplitFacts(
    "stimuli",
    "unseen stimuli",
    {"train": 1300, "val": 100, "test": 99},
    {"train": 150, "val": 20, "test": 30},
)
SCORED = EvaluationFacts(
    metric="mAP", n_participants=2, n_test_trials=99, repeats_averaged=True, together=True,
    methods=(
        Compared("clip-mused", "", scored=True), Compared("ridge", "", scored=True),
        Compared("srm", "", scored=False),
        Compared("clip-mused:no-low", "without L_llv", scored=True),
    ),
    best="ridge", interval_over_stimuli=True, n_permutations=500, exchanged="stimuli", calibrated=False,
    noise_ceiling=False,
)  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    """The paper's configuration, with values of nested tables over it."""
    return _merged(PAPER, changes)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = deepcopy(dict(base))
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if nested else value
    return found


def facts(*decoders: Mapping[str, Any], **changes: Any) -> MethodsFacts:
    whole = MethodsFacts(
        version="0.1.0", packages={"Python": "3.12.1", "numpy": "2.0.0"}, data=DATA, responses=RESPONSES, split=SPLIT,
        decoders=decoders or (config(),), n_epochs=(16,), evaluation=SCORED,
    )  # fmt: skip
    return replace(whole, **changes)


def written(*decoders: Mapping[str, Any], **changes: Any) -> str:
    return methods_text(facts(*decoders, **changes)).markdown


def training(**values: Any) -> dict[str, Any]:
    return config(hyperparameters={"training": values})


def model(**values: Any) -> dict[str, Any]:
    return config(hyperparameters={"model": values})


def test_the_numbers_of_the_run_are_filled_in() -> None:
    text = written()
    for words in (
        "2 participants, 6 runs and 288 trials (task look)", "“Faces” (https://doi.org/10.18112/openneuro.ds000000.v1.0.0)",
        "fMRIPrep 23.1.0 (Esteban et al., 2019", "voxels of 2 x 2 x 2.5 mm", "repetition time was 2 s",
        "several of 3 labels", "csf and cosine (2)", "1,300 trials of 150 stimuli for training",
        "99 trials of 30 stimuli for testing", "fitted to 1,234 training trials", "and 100 trials validated",
        "Each of 12 regions was one patch (atlas Schaefer2018)", "D = 512, 24 blocks with 8 attention heads each",
        "95,385 parameters shared by all participants and 128 of each", "weights abcdef012345)",
        "L_c + 0.001 L_perp + 0.01 L_llv + 0.1 L_hlv", "a learning rate of 0.0001 and batches of 64 trials",
        "at most 50 epochs", "not improved for 9", "16 epochs were trained, and the network after epoch 7 was kept",
        "seed was 3", "500 permutations", "Python 3.12.1", "Decoders read 1,500 voxels",
    ):  # fmt: skip
        assert words in text, words


def test_every_citation_has_its_entry_and_no_entry_is_unused() -> None:
    for one in (
        facts(),
        facts(config(method="ridge", preset=None)),
        facts(evaluation=None),
        facts(training(mixup=1.0)),
    ):
        text = methods_text(one)
        body, _, listed = text.markdown.partition("# References\n")
        used = {int(number) for number in re.findall(r" \d{4} \[(\d+)\]", body)}
        entries = re.findall(r"^(\d+)\. ", listed, re.MULTILINE)
        assert used == {int(number) for number in entries} == set(range(1, len(entries) + 1))
        assert len(re.findall(r"^@\w+\{\w+,$", text.bibtex, re.MULTILINE)) == len(entries)
        assert "[@" not in text.markdown


def test_equal_facts_give_equal_bytes() -> None:
    assert methods_text(facts()) == methods_text(facts())


# What is on, what it says, and what the paper's form says in its place.
DECODERS = [
    (training(weight_decay=0.05), "AdamW (weight decay 0.05) (Loshchilov", "by Adam (Kingma and Ba"),
    (training(mixup=0.5), "mixup (Beta parameter 0.5) (Zhang et al., 2018", "No addition to the published method"),
    (training(lambda_low=0.0), "The low level did not guide (its weight", "Low-level tokens were guided"),
    (training(lambda_high=0.0), "The high level did not guide", "High-level tokens were guided"),
    (training(lambda_perp=0.0), "L_c + 0.01 L_llv", "0.001 L_perp"),
    (training(decay_every=25, decay_factor=0.7), "multiplied by 0.7 every 25 epochs", "0.0001 and batches"),
    (training(choose_by="loss-1se"), "paired difference (Breiman et al., 1984", "best mean average"),
    (training(precision="bf16-mixed"), "bf16-mixed precision", "64 trials. Training"),
    (training(perp_scale="batch+width"), "divided by the squared width", "No addition"),
    (model(readout="stack"), "a stack of ridge regressions", "No addition"),
    (model(head="linear"), "and a linear classifier", "a classifier with a hidden layer"),
    (model(input_dropout=0.5), "dropout of voxels (0.5)", "No addition"),
    (model(tokens="one"), "one token for each participant instead of two", "0.001 L_perp"),
    (config(hyperparameters={"fit_on": "train+validation"}), "trained again for as many epochs", "No addition"),
    (config(decoder={"label_loss": "softmax"}), "cross-entropy of a softmax", "binary cross-entropy"),
    (config(parameters={"members": 3}), "3 decoders, trained from the seeds 3 to 5", "The random seed was 3"),
    (config(guidance={"low": "off"}), "The low level did not guide: there were no pictures", "0.01 L_llv"),
    (config(guidance={"high": "text"}), "guided by text embeddings", "image and text"),
    (config(clip={"model": "targets:f.safetensors"}), "made elsewhere (file f.safetensors", "Radford"),
    (config(clip={"model": "demo"}), "knows simulated scenes only", "ViT-B-16"),
    (config(decoder={"architecture": {"kind": "cnn"}}), "3D convolutional network", "regions was one patch"),
    (config(decoder={"architecture": {"kind": "aligned"}}), "linear map of their own into 32", "regions was one patch"),
    (config(labels_left_out=["x", "y"]), "2 further labels were left out, since no training trial", "any other"),
    (config(left_out=["s"]), "1 stimulus whose picture could not be read was left out", "any other"),
    (config(single_label=True), "exactly one of 3 labels", "several of 3 labels"),
    (config(best_epoch=0), "was kept as it started", "after epoch 7"),
    (config(leakage={"leaks": ["a stimulus is in two sets"]}), "leakage: a stimulus is in two sets", "any other"),
    (config(standardization={"unit": "none"}), "Responses were not standardised", "z-scored"),
    (config(standardization={"scaling": "minmax"}), "from 0 (minimum) to 1", "z-scored"),
    (config(standardization={"sources": {"b": "transductive"}}), "In 1 of 2 units there were too few", "any other"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said", "otherwise"), DECODERS, ids=[said[:30] for _, said, _ in DECODERS]
)
def test_an_option_of_the_decoder_changes_the_sentence(
    changed: dict[str, Any], said: str, otherwise: str
) -> None:
    plain, text = written(), written(changed)
    assert said in text
    assert said not in plain
    if otherwise != "any other":
        assert otherwise in plain
        assert otherwise not in text


OTHERS: list[tuple[dict[str, Any], str, str]] = [
    ({"responses": replace(RESPONSES, kind="lsa")}, "least squares - all", "least squares - separate"),
    ({"responses": replace(RESPONSES, kind="window")}, "mean signal from 5 s", "Mumford"),
    ({"responses": replace(RESPONSES, kind="betas")}, "read from existing images", "Confounds were removed"),
    ({"responses": replace(RESPONSES, confounds="none")}, "No confounds were removed, as asked for", "csf"),
    ({"responses": replace(RESPONSES, stored=False)}, "No response was estimated yet", ""),
    ({"responses": replace(RESPONSES, mask="computed")}, "masks computed from the images", "derivative's brain masks"),
    ({"responses": replace(RESPONSES, resample="MNI:res-2")}, "resampled to the grid MNI:res-2", ""),
    ({"responses": replace(RESPONSES, options={**OPTIONS, "smoothing_fwhm": 4.5})}, "kernel of 4.5 mm", "not smoothed"),
    ({"responses": replace(RESPONSES, options={**OPTIONS, "noise": "ar1"})}, "prewhitened", "White noise"),
    ({"responses": replace(RESPONSES, options={**OPTIONS, "hrf": "spm + derivative"})}, "SPM haemodynamic", "Glover"),
    ({"responses": replace(RESPONSES, options={**OPTIONS, "others": "by-condition"})}, "trials of each condition", ""),
    ({"data": replace(DATA, space=None)}, "native space", "MNI152NLin2009cAsym"),
    ({"data": replace(DATA, simulated=True)}, "nobody was scanned", ""),
    ({"data": replace(DATA, pipelines=())}, "", "Esteban"),
    ({"data": replace(DATA, continuous=True, frame_interval=2.0)}, "Movies were sampled every 2 s", ""),
    ({"data": replace(DATA, stimuli=StimulusFacts(200, 0, 150, 3, single_label=False, coco=True))},
     "none had a picture, and 150 of them had captions", "all had a picture"),
    ({"data": replace(DATA, runs=[replace(run, session="1") for run in RUNS])}, "2 participants, 2 sessions", ""),
    ({"data": replace(DATA, runs=[replace(run, confounds=False) for run in RUNS])}, "was no table of them", "csf"),
    ({"split": replace(SPLIT, rule="runs")}, "by run, the same runs", "Sechidis"),
    ({"split": replace(SPLIT, n_folds=5)}, "divided into 5 folds", "99 trials of 30 stimuli"),
    ({"evaluation": None}, "The decoder was not evaluated yet", "Rubin"),
    ({"evaluation": replace(SCORED, n_permutations=0)}, "No permutation test was done", "Phipson"),
    ({"evaluation": replace(SCORED, calibrated=True)}, "calibrated on validation trials (Platt", ""),
    ({"evaluation": replace(SCORED, noise_ceiling=True)}, "Noise ceilings", ""),
    ({"evaluation": replace(SCORED, metric="top1")}, "top-1", "The main one is the mean average precision"),
    ({"evaluation": replace(SCORED, interval_over_stimuli=False)}, "", "Bayesian bootstrap (1,000 draws"),
    ({"evaluation": replace(SCORED, n_participants=1)}, "There is one participant", "Holm"),
    ({"evaluation": replace(SCORED, methods=SCORED.methods[:2])}, "", "corrected for the number of methods (Holm"),
    ({"evaluation": replace(SCORED, together=False)}, "scored alone", "95 % t intervals"),
    ({"evaluation": replace(SCORED, exchanged="circular shifts")}, "shifted circularly", "whole stimuli were"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said", "otherwise"), OTHERS, ids=[f"{a[:20]}-{b[:20]}" for _, a, b in OTHERS]
)
def test_an_option_beside_the_decoder_changes_the_sentence(
    changes: dict[str, Any], said: str, otherwise: str
) -> None:
    plain, text = written(), written(**changes)
    assert said in text
    assert not said or said not in plain
    assert otherwise in plain
    assert not otherwise or otherwise not in text


def test_without_a_decoder_nothing_is_claimed_of_one() -> None:
    text = written(decoders=(), split=None, evaluation=None, n_epochs=())
    assert "Nothing was trained yet" in text
    assert "Stimuli were described by 3 labels" in text
    assert "least squares - separate" in text
    for absent in (
        "CLIP-MUSED",
        "Zhou",
        "## Training, validation",
        "## Evaluation",
        "z-scored",
        "were fitted with",
    ):
        assert absent not in text


def test_baselines_are_named_and_one_without_a_score_is_said_to_be_so() -> None:
    text = written()
    assert "compared with ridge: a ridge regression" in text
    assert "clip-mused:no-low: CLIP-MUSED (Zhou et al., 2024 [" in text
    assert "No score could be had of srm." in text
    assert "Chen" not in text


def test_decoders_of_single_participants_are_counted() -> None:
    one, two = (config(participants=[p], parameters={"per_participant": {p: 128}}) for p in ("01", "02"))
    text = written(one, two)
    assert "2 decoders of one participant each" in text
    assert "The 2 decoders were fitted to 2,468 training trials" in text


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_described(method: str) -> None:
    deep = METHODS[method].deep
    changed = config(method=method, preset="small" if deep else None, parameters={"alpha": {"01": 1.0}})
    text = written(changed, evaluation=None)
    assert DESCRIPTIONS[method].partition(" [@")[0] in text
    assert ("CLIP" in text.replace("guided by CLIP", "").replace("guidance by CLIP", "")) is (
        method == "clip-mused"
    )


def test_penalties_are_those_that_were_chosen() -> None:
    """One for each participant, or (``srm``) one for all."""
    each = config(method="ridge", preset=None, parameters={"alpha": {"01": 0.1, "02": 3.0}})
    assert "The penalty was 0.1 to 3, chosen from 2 values between 0.1 and 1." in written(each)
    assert "The inverse penalty C was 0.5, chosen" in written(
        config(method="srm", preset=None, parameters={"c": 0.5})
    )
    assert "penalty was" not in written(config(method="prevalence", preset=None), evaluation=None)


def test_a_deep_rival_has_no_additions_that_are_not_its_own() -> None:
    ours = {
        "model": {"readout": "ridge", "head": "linear", "alignment": "auto"},
        "training": {"mixup": 1.0, "perp_scale": "batch+width"},
    }
    text = written(config(method="ms-smodel-mlp", hyperparameters=ours), evaluation=None)
    assert "Additions to the published method: mixup (Beta parameter 1) (Zhang et al., 2018" in text
    text = written(config(method="ms-smodel-vit", hyperparameters=ours), evaluation=None)
    assert "Additions to the published method: a linear classifier; mixup" in text
    assert "readout" not in text


def test_a_new_participant_is_not_claimed_to_have_trained_the_decoder() -> None:
    adaptation = {
        "fitted_values": {"tokens": 128, "maps": 0, "readout": 0},
        "known": ["01", "02", "03"],
        "n_trials": 40,
    }
    changed = config(
        base={"label": "group", "weights_sha256": "feedbeef01234567"}, calibration_trials=40,
        decoder={"adaptation": adaptation},
    )  # fmt: skip
    text = written(changed, evaluation=None)
    assert "1 new participant was decoded with the stored decoder group of 3 other participants" in text
    assert "only the 128 numbers that are a participant's own, to 40 trials" in text
    assert "(the first 40 labelled training trials)" in text
    assert "epochs were trained" not in text


def test_the_number_of_draws_is_that_of_the_interval() -> None:
    assert inspect.signature(compare_methods).parameters["n_resamples"].default == N_RESAMPLES


def test_voxels_that_were_kept_are_said() -> None:
    choice = {
        "criterion": "split-half reliability",
        "n_voxels": {"01": 200, "02": 150},
        "threshold": {"01": 0.3, "02": 0.289},
    }
    text = written(config(voxel_choice=choice))
    assert "the 150 to 200 voxels with the most reliable responses" in text
    assert "(split-half reliability, at least 0.29)" in text
    assert "were kept" not in written()
