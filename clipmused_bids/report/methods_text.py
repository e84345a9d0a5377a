"""Methods text of a run, with its numbers filled in, and the works to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipmused_bids.report.leak_notes import leakage_fields, leakage_lines

WORKS: dict[str, str] = {
    "clip-mused": "Zhou Q, Du C, Wang S, He H (2024). CLIP-MUSED: CLIP-guided multi-subject visual neural "
    "information semantic decoding. ICLR. https://arxiv.org/abs/2402.08994",
    "ms-emb": "Chehab O, Défossez A, Loiseau JC, Gramfort A, King JR (2022). Deep recurrent encoder: an end-to-end "
    "network to model magnetoencephalography at scale. Neurons, Behavior, Data analysis, and Theory. "
    "https://doi.org/10.51628/001c.38668",
    "vit": "Dosovitskiy A et al. (2021). An image is worth 16x16 words: transformers for image recognition at scale. "
    "ICLR. https://arxiv.org/abs/2010.11929",
    "clip": "Radford A et al. (2021). Learning transferable visual models from natural language supervision. "
    "ICML. https://arxiv.org/abs/2103.00020",
    "open_clip": "Ilharco G et al. (2021). OpenCLIP. https://doi.org/10.5281/zenodo.5143773",
    "bids": "Gorgolewski KJ et al. (2016). The brain imaging data structure. Scientific Data 3:160044. "
    "https://doi.org/10.1038/sdata.2016.44",
    "lss": "Mumford JA, Turner BO, Ashby FG, Poldrack RA (2012). Deconvolving BOLD activation in event-related "
    "designs for multivoxel pattern classification analyses. NeuroImage 59:2636-2643. "
    "https://doi.org/10.1016/j.neuroimage.2011.08.076",
    "nilearn": "Nilearn contributors. Nilearn. https://doi.org/10.5281/zenodo.8397156",
    "scikit-learn": "Pedregosa F et al. (2011). Scikit-learn: machine learning in Python. JMLR 12:2825-2830.",
    "stratification": "Sechidis K, Tsoumakas G, Vlahavas I (2011). On the stratification of multi-label data. "
    "ECML PKDD. https://doi.org/10.1007/978-3-642-23808-6_10",
    "srm": "Chen PH et al. (2015). A reduced-dimension fMRI shared response model. NeurIPS 28.",
}


# Deep rivals of Zhou et al. 2024: what they are, and whose they are.
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ms-emb": (
        "one transformer for all participants, whose class token is each participant's own",
        ("ms-emb", "vit"),
    ),
    "ms-smodel-vit": ("one transformer for the pooled trials of all participants", ("vit",)),
    "ms-smodel-mlp": ("one multilayer perceptron for the pooled trials of all participants", ()),
    "ss-vit": ("a transformer for each participant", ("vit",)),
    "ss-mlp": ("a multilayer perceptron for each participant", ()),
}


@dataclass(frozen=True)
class MethodsFacts:
    """Numbers and choices of one run.

    Parameters
    ----------
    version : str
    n_participants, n_runs, n_trials : int
    response_kind : str
    responses : mapping
        Table ``responses`` of the hyper-parameters.
    config : mapping
        Configuration stored with the decoder.
    """

    version: str
    n_participants: int
    n_runs: int
    n_trials: int
    response_kind: str
    responses: Mapping[str, Any]
    config: Mapping[str, Any]


def methods_text(facts: MethodsFacts) -> str:
    """Write what was done, in sentences for a methods section, with the works to cite, as Markdown."""
    sentences = [_data(facts), _responses(facts), _split(facts), _decoder(facts), _scores(facts)]
    cited = ["bids", "nilearn", "scikit-learn"]
    if facts.response_kind in {"lss", "lsa"}:
        cited.append("lss")
    if facts.config["method"] == "clip-mused":
        cited += ["clip-mused", "clip"] + ([] if _features_from_file(facts) else ["open_clip"])
    if facts.config["method"] in NETWORKS:
        cited += ["clip-mused", *NETWORKS[facts.config["method"]][1]]
    if "srm" in str(facts.config.get("decoder", {})).lower():
        cited.append("srm")
    if facts.config["split"]["rule"] == "stimuli":
        cited.append("stratification")
    works = "\n".join(f"- {WORKS[name]}" for name in cited)
    return "# Methods\n\n" + "\n\n".join(sentences) + f"\n\n# References\n\n{works}\n"


def _data(facts: MethodsFacts) -> str:
    return (
        f"Data of {_count(facts.n_participants, 'participant')} ({_count(facts.n_runs, 'run')}, "
        f"{_count(facts.n_trials, 'trial')}) were read from a BIDS dataset and its derivatives with "
        f"clipmused-bids {facts.version}."
    )


def _responses(facts: MethodsFacts) -> str:
    how = {
        "lss": _least_squares,
        "lsa": _least_squares,
        "window": _window,
        "betas": _betas,
    }[facts.response_kind](facts)
    if facts.responses["smoothing_fwhm"] > 0:
        width = f"{facts.responses['smoothing_fwhm']:g} mm"
        how += f" Images were smoothed with a Gaussian kernel of {width} (full width at half maximum)."
    scaling = facts.config["standardization"]
    if scaling["unit"] == "none":
        return f"{how} Responses were not standardised.{_choice(facts)}"
    transductive = sum(source == "transductive" for source in scaling["sources"].values())
    note = (
        f" In {transductive} of {len(scaling['sources'])} units there were too few training trials, so all their "
        "trials, without labels, were used (transductive)."
        if transductive
        else ""
    )
    done = "z-scored" if scaling["scaling"] == "zscore" else "scaled from 0 (minimum) to 1 (maximum)"
    return (
        f"{how} Voxels were {done} within each {scaling['unit']}, by training trials.{note}{_choice(facts)}"
    )


READOUTS = {
    "ridge": " (a ridge regression)",
    "stack": " (a stack of ridge regressions, weighted by their predictions of held-out training trials)",
}


def _choice(facts: MethodsFacts) -> str:
    """Which voxels were read, where not all."""
    choice = facts.config["voxel_choice"]
    if choice is None:
        return ""
    sizes, lowest = sorted(set(choice["n_voxels"].values())), min(choice["threshold"].values())
    number = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f" Of each participant, the {number} voxels with the most reliable responses to repeated training stimuli "
        f"were kept ({choice['criterion']}, at least {lowest:.2f})."
    )


def _least_squares(facts: MethodsFacts) -> str:
    options = facts.responses
    model = {
        "lss": "least squares - separate, in closed form",
        "lsa": "least squares - all (one model with a regressor for each trial)",
    }[facts.response_kind]
    if facts.response_kind == "lss" and options["others"] == "by-condition":
        model += ", with one regressor for the other trials of each condition"
    noise = {
        "ols": "",
        "ar1": " Data and design were prewhitened by a first-order autoregressive model of the noise, with one "
        "coefficient for each voxel and run, in hundredths.",
    }[options["noise"]]
    return (
        f"One response was estimated for each trial by {model} (haemodynamic response: {options['hrf']}; cosine "
        f"drift with a cut-off of {options['high_pass']:.4g} Hz where the confounds brought none), in percent "
        f"signal change.{noise}"
    )


def _window(facts: MethodsFacts) -> str:
    options = facts.responses
    return (
        "One response was taken for each trial as the mean signal from "
        f"{options['lag']:g} s after its onset over "
        f"{'its duration' if options['window'] == 0 else format(options['window'], 'g') + ' s'}, after removing "
        "a linear trend and what confounds there were, in percent signal change."
    )


def _betas(_: MethodsFacts) -> str:
    return "One response image for each trial was read from a derivative."


def _split(facts: MethodsFacts) -> str:
    config = facts.config
    return (
        f"The split (rule: {config['split']['rule']}) was made before anything was fitted; "
        f"{config['n_training_trials']} trials were used for training and {config['n_validation_trials']} for "
        f"validation. Scores of the test trials speak about {config['split']['regime']}.{_leaks(config)}"
    )


def _leaks(config: Mapping[str, Any]) -> str:
    """What the leakage auditor found; transductive units are named with the standardisation."""
    lines = leakage_lines({**leakage_fields(config), "TransductiveUnits": []})
    return "".join(f" {line}" for line in lines)


def _decoder(facts: MethodsFacts) -> str:
    config = facts.config
    if config["method"] in NETWORKS:
        return _network(config)
    if config["method"] != "clip-mused":
        return f"Labels ({len(config['label_names'])}) were decoded with the method {config['method']}."
    guidance = config["guidance"]
    high = {"none": "was off", "file": "came from this file"}.get(
        guidance["high"], f"came from {guidance['high'].replace('+', ' and ')} embeddings"
    )
    low = {
        "off": "was off" if _features_from_file(facts) else "was off (no images)",
        "file": "came from this file",
        "images": "came from the first block of the image tower",
    }[guidance["low"]]
    clip = config["clip"]["model"] if config["clip"] else "none"
    by = f"features made elsewhere ({clip})" if _features_from_file(facts) else f"CLIP ({clip})"
    one = " with one token for each participant instead of two"
    tokens = one if config["hyperparameters"]["model"].get("tokens") == "one" else ""
    return (
        f"Labels ({len(config['label_names'])}) were decoded with CLIP-MUSED{tokens}, preset {config['preset']} "
        f"(seed {config['random_seed']}). Guidance by {by}: the high level {high}; the low level {low}. "
        f"{_epoch_choice(config['hyperparameters'])}{_additions(config['hyperparameters'])}"
    )


def _network(config: Mapping[str, Any]) -> str:
    """Sentences on a deep rival; it has neither readout nor guidance, and a perceptron no head of its own."""
    options, start = config["hyperparameters"], config["parameters"]["alignment"]
    own = {**options, "model": {**options["model"], "readout": "none", "alignment": start}}
    own["training"] = {**options["training"], "perp_scale": "batch"}
    if config["method"].endswith("mlp"):
        own["model"]["head"] = "mlp"
    known = config["parameters"]["subject_information"]
    return (
        f"Labels ({len(config['label_names'])}) were decoded with {NETWORKS[config['method']][0]} "
        f"({config['method']}), preset {config['preset']} (seed {config['random_seed']}), without guidance by CLIP. "
        f"Subject information: {known}. {_epoch_choice(own)}{_additions(own)}"
    )


def _features_from_file(facts: MethodsFacts) -> bool:
    return bool(facts.config["clip"]) and facts.config["clip"]["model"].startswith("targets:")


def _epoch_choice(options: Mapping[str, Any]) -> str:
    """What chose the epoch, and the loss of the labels where it is not the paper's."""
    training = options["training"]
    chosen = {
        "map": "The epoch with the best validation mAP was chosen.",
        "loss": "The epoch with the lowest validation loss was chosen.",
        "loss-1se": "The epoch with the lowest validation loss was chosen, if it was lower than that of the untrained "
        "network by a standard error of the paired difference; otherwise the network was left as it started.",
    }
    return chosen[training.get("choose_by", "map")]


def _additions(options: Mapping[str, Any]) -> str:
    """What was on that the paper does not have."""
    model, training = options["model"], options["training"]
    found = {
        "a linear readout in parallel with the tokens" + READOUTS.get(model["readout"], ""): model["readout"]
        != "none",
        "regressions and starts of maps that read voxels weighted by the variance that labels explain": (
            model.get("voxel_weights", "none") != "none"
            and (model["readout"] == "stack" or model["alignment"] != "random")
        ),
        "a softmax over labels for trials with exactly one": training.get("label_loss", "binary") != "binary",
        "voxel maps that start from an alignment or a ridge regression": model["alignment"] != "random",
        "a linear head": model["head"] == "linear",
        f"dropout of voxels ({model['input_dropout']:g})": model["input_dropout"] > 0,
        f"mixup ({training['mixup']:g})": training["mixup"] > 0,
        f"weight decay ({training['weight_decay']:g})": training["weight_decay"] > 0,
        f"an average over {training['n_seeds']} seeds": training["n_seeds"] > 1,
        "the orthogonality loss divided by the squared width": training["perp_scale"] == "batch+width",
        "a last training on training and validation trials together": options["fit_on"] != "train",
    }
    used = [words for words, is_used in found.items() if is_used]
    return f" Additions to the published method: {', '.join(used)}." if used else ""


def _scores(_: MethodsFacts) -> str:
    return (
        "Mean average precision, the area under the ROC curve and the Hamming distance at 0.5 were averaged over "
        "labels with a positive and a negative test trial, and over participants with equal weight; each stands "
        "beside the score of knowing nothing."
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
