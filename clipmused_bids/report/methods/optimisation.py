"""Sentences on the training of deep decoders, and on what the published method does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipmused_bids.report.methods.facts import DecoderConfig, MethodsFacts
from clipmused_bids.report.methods.wording import count, span

_READOUTS = {
    "learned": "a linear readout in parallel with the tokens (trained with the rest)",
    "ridge": "a linear readout in parallel with the tokens (a ridge regression [@hoerl1970])",
    "stack": "a linear readout in parallel with the tokens (a stack of ridge regressions, weighted by their "
    "predictions of held-out training trials [@breiman1996])",
}
_CHOICES = {
    "map": "the best mean average precision of the validation trials",
    "loss": "the lowest loss of the validation trials",
    "loss-1se": "the lowest loss of the validation trials, if that was lower than that of the untrained network by a "
    "standard error of the paired difference [@breiman1984]; otherwise the network was left as it started",
}


def training_sentences(facts: MethodsFacts, *, trained_here: bool) -> str:
    """Loss, optimiser, epochs, seeds."""
    config = facts.decoders[0]
    parts = [_loss(config), _optimiser(config["hyperparameters"]["training"])]
    if trained_here:
        parts += [_epochs(facts), _refit(config)]
    parts.append(_seeds(facts))
    return " ".join(filter(None, parts))


def _loss(config: DecoderConfig) -> str:
    training = config["hyperparameters"]["training"]
    kind = _label_loss(config)
    labels = (
        "cross-entropy of a softmax over labels"
        if kind == "softmax"
        else "binary cross-entropy of each label"
    )
    if config["method"] != "clip-mused":
        return f"The loss was the {labels}."
    weights = {
        "L_perp": training["lambda_perp"],
        "L_llv": training["lambda_low"],
        "L_hlv": training["lambda_high"],
    }
    if config["hyperparameters"]["model"]["tokens"] == "one":
        weights.pop("L_perp")
    for level, term in (("low", "L_llv"), ("high", "L_hlv")):
        if config["guidance"][level] in {"off", "none"}:
            weights.pop(term)
    terms = [f"{weight:g} {name}" for name, weight in weights.items() if weight]
    meanings = {
        "L_perp": "L_perp keeps the two tokens of a participant orthogonal",
        "L_llv": "L_llv fits similarities of stimuli in the low-level tokens to those in the guiding features",
        "L_hlv": "L_hlv fits similarities of stimuli in the high-level tokens to those in the guiding features",
    }
    said = [meanings[name] for name, weight in weights.items() if weight]
    meaning = f"; {'; '.join(said)}" if said else ""
    return f"The loss was {' + '.join(['L_c', *terms])}, where L_c is the {labels}{meaning}."


def _label_loss(config: DecoderConfig) -> str:
    """As it was settled for the data; ``auto`` alone says nothing."""
    decoder = config["decoder"]
    parts = [decoder, *decoder.get("participants", {}).values()]
    return str(next(part["label_loss"] for part in parts if "label_loss" in part))


def _optimiser(training: Mapping[str, Any]) -> str:
    decay = training["weight_decay"]
    name = f"AdamW (weight decay {decay:g}) [@loshchilov2019]" if decay else "Adam [@kingma2015]"
    rate = f"a learning rate of {training['learning_rate']:g}"
    if training["decay_every"]:
        rate += f", multiplied by {training['decay_factor']:g} every {training['decay_every']} epochs"
    precision = "" if training["precision"] == "32-true" else f", with {training['precision']} precision"
    return f"It was minimised by {name} with {rate} and batches of {count(training['batch_size'], 'trial')}{precision}."


def _epochs(facts: MethodsFacts) -> str:
    training = facts.decoders[0]["hyperparameters"]["training"]
    kept = [int(config["best_epoch"]) for config in facts.decoders]
    trained = f" {span(facts.n_epochs)} epochs were trained, and" if facts.n_epochs else ""
    kept_text = (
        f" the network after epoch {span(kept)} was kept"
        if any(kept)
        else " the network was kept as it started"
    )
    return (
        f"Training lasted for at most {training['max_epochs']} epochs, and stopped when validation had not improved "
        f"for {training['patience']} of them. The epoch was chosen by {_CHOICES[training['choose_by']]}."
        f"{trained or ' In the end'}{kept_text}."
    )


def _refit(config: DecoderConfig) -> str:
    if config["hyperparameters"]["fit_on"] == "train":
        return ""
    again = "on training and validation trials together"
    if config["best_epoch"] == 0:
        return f"What is fitted in closed form was then fitted again {again}."
    return f"Then the decoder was trained again for as many epochs {again}."


def _seeds(facts: MethodsFacts) -> str:
    seed = int(facts.decoders[0]["random_seed"])
    members = int(facts.decoders[0]["parameters"]["members"])
    if members == 1:
        return f"The random seed was {seed}."
    return f"Predictions are the average of {members} decoders, trained from the seeds {seed} to {seed + members - 1}."


def additions(config: DecoderConfig) -> list[str]:
    """What was on that the paper does not have."""
    options = config["hyperparameters"]
    guided, perceptron = config["method"] == "clip-mused", config["method"].endswith("mlp")
    model, training = options["model"], options["training"]
    start = model["alignment"] if guided else config["parameters"]["alignment"]
    fitted_start = config["parameters"]["alignment"]
    source = " [@chen2015]" if fitted_start.startswith("SRM") else ""
    found = {
        **(_of_tokens(config, model, training) if guided else {}),
        f"maps of voxels that start from another fit ({fitted_start}{source}; the paper: at random)": (
            start != "random" and fitted_start != "random"
        ),
        "a linear classifier": model["head"] == "linear" and not perceptron,
        f"dropout of voxels ({model['input_dropout']:g})": model["input_dropout"] > 0,
        f"mixup (Beta parameter {training['mixup']:g}) [@zhang2018]": training["mixup"] > 0,
        f"weight decay ({training['weight_decay']:g})": training["weight_decay"] > 0,
        f"an average over {training['n_seeds']} seeds": training["n_seeds"] > 1,
        "a softmax over labels": _label_loss(config) == "softmax",
        "a last training on training and validation trials together": options["fit_on"] != "train",
    }
    return [words for words, is_used in found.items() if is_used]


def _of_tokens(
    config: DecoderConfig, model: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, bool]:
    """Additions that a network without readout and L_perp does not have."""
    readout = model["readout"]
    reads_weights = readout == "stack" or config["parameters"]["alignment"].startswith("ridge")
    return {
        _READOUTS.get(readout, ""): readout != "none",
        "regressions that read voxels weighted by the variance that labels explain": (
            model["voxel_weights"] != "none" and reads_weights
        ),
        "the orthogonality loss divided by the squared width": (
            training["perp_scale"] == "batch+width"
            and training["lambda_perp"] > 0
            and model["tokens"] == "pair"
        ),
    }
