"""Sentences on deep decoders: architecture, guidance by CLIP, loss, optimiser, and what the paper does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.report.methods.facts import DecoderConfig, MethodsFacts
from clipmused_bids.report.methods.optimisation import additions, training_sentences
from clipmused_bids.report.methods.rivals import DESCRIPTIONS
from clipmused_bids.report.methods.wording import count, span

_GUIDED = "clip-mused"
_PATCHES = {
    "cnn": "A 3D convolutional network turned the volume into {n} patches; they are not local.",
    "roi": "Each of {n} regions was one patch{atlas}.",
    "own-roi": "Each of {n} regions was one patch{atlas}; voxels of each participant had their own linear maps into "
    "{k} features of each region.",
    "aligned": "Since voxels do not correspond between participants, each participant had a linear map of their own "
    "into {k} shared features, read as {n} patches.",
}


def network_paragraphs(facts: MethodsFacts, *, trained_here: bool) -> list[str]:
    """Describe networks of one method and one configuration.

    Parameters
    ----------
    trained_here : bool
        Else they were trained for other participants, and epochs are not this run's.
    """
    config = facts.decoders[0]
    paragraphs = [_architecture(facts.decoders), _guidance(config)]
    paragraphs.append(training_sentences(facts, trained_here=trained_here))
    extra = additions(config)
    if extra:
        paragraphs.append(f"Additions to the published method: {'; '.join(extra)}.")
    elif config["method"] == _GUIDED:
        paragraphs.append("No addition to the published method was on.")
    return paragraphs


def _architecture(decoders: Sequence[DecoderConfig]) -> str:
    config = decoders[0]
    options = config["hyperparameters"]["model"]
    what = f"Labels were decoded with {DESCRIPTIONS[config['method']]}"
    if config["method"] == _GUIDED:
        what += _of_clip_mused(decoders)
    shape = _perceptron(options) if config["method"].endswith("mlp") else _transformer(config)
    known = f" Subject information: {config['parameters']['subject_information']}."
    return f"{what} (preset {config['preset']}). {shape}{'' if config['method'] == _GUIDED else known}{_size(decoders)}"


def _of_clip_mused(decoders: Sequence[DecoderConfig]) -> str:
    """The shared transformer with tokens of each participant."""
    one = decoders[0]["hyperparameters"]["model"]["tokens"] == "one"
    tokens = (
        "one token for each participant instead of two"
        if one
        else "two tokens for each participant, one of the low and one of the high level of seeing"
    )
    own = f", {len(decoders)} decoders of one participant each" if len(decoders) > 1 else ""
    return f", a transformer [@dosovitskiy2021] with {tokens}{own}"


def _transformer(config: DecoderConfig) -> str:
    options = config["hyperparameters"]["model"]
    head = "a linear classifier" if options["head"] == "linear" else "a classifier with a hidden layer"
    depth, heads = options["depth"], options["heads"]
    return (
        f"{_patches(config)} The transformer has a width of D = {options['width']}, {count(depth, 'block')} with "
        f"{count(heads, 'attention head')}{' each' if depth > 1 else ''}, and {head}."
    )


def _patches(config: DecoderConfig) -> str:
    options = config["hyperparameters"]["model"]
    kind = _kind_of_patches(config)
    atlas = config["inputs"].get("atlas")
    named = f" (atlas {atlas})" if atlas else ""
    n = int(config["parameters"]["patches"])
    text = _PATCHES[kind].format(n=n, k=options["n_shared"], atlas=named)
    if atlas and atlas.startswith("clusters"):
        text += " Regions were clusters of voxels with similar responses [@ward1963]."
    return text


def _kind_of_patches(config: DecoderConfig) -> str:
    decoder = config["decoder"]
    parts = [decoder, *decoder.get("participants", {}).values()]
    return str(next(part["architecture"]["kind"] for part in parts if "architecture" in part))


def _perceptron(options: Mapping[str, Any]) -> str:
    layers = count(options["hidden_layers"], "hidden layer")
    return f"It has {layers} of width {options['hidden_width']}."


def _size(decoders: Sequence[DecoderConfig]) -> str:
    shared = [int(config["parameters"]["shared"]) for config in decoders]
    own = [int(n) for config in decoders for n in config["parameters"]["per_participant"].values()]
    parts = [f"{span(shared)} parameters shared by all participants"] if any(shared) else []
    parts += [f"{span(own)} {'' if parts else 'parameters '}of each participant's own"] if any(own) else []
    return f" It has {' and '.join(parts)}." if parts else ""


def _guidance(config: DecoderConfig) -> str:
    """What guided the tokens, and what did not."""
    if config["method"] != _GUIDED:
        return "It was not guided by CLIP."
    levels = [_high(config), _low(config)]
    on = [text for text, used in levels if used]
    off = [text for text, used in levels if not used]
    text = f"{_features(config)} {' '.join(on)}" if on else "CLIP guided nothing."
    return " ".join([text, *off])


def _features(config: DecoderConfig) -> str:
    clip = config["clip"]
    if clip["model"].startswith("targets:"):
        name = clip["model"].removeprefix("targets:")
        return (
            f"Tokens were guided by features of the stimuli that were made elsewhere (file {name}, SHA-256 "
            f"{clip['weights_sha256'][:12]})."
        )
    demo = "a small one that ships with this program and knows simulated scenes only; "
    return (
        f"Tokens were guided by features of the stimuli from CLIP [@radford2021], model {clip['model']} "
        f"({demo if clip['model'] == 'demo' else ''}SHA-256 of its weights {clip['weights_sha256'][:12]}), computed "
        "with OpenCLIP [@ilharco2021]."
    )


def _high(config: DecoderConfig) -> tuple[str, bool]:
    source = config["guidance"]["high"]
    weight = config["hyperparameters"]["training"]["lambda_high"]
    if source == "none":
        return "The high level did not guide: there were no features of it.", False
    if weight == 0:
        return "The high level did not guide (its weight in the loss was 0).", False
    made = {
        "file": "that file's high level",
        "image+text": f"embeddings of image and text ({_JOINED[_joined(config)]})",
    }.get(source, f"{source} embeddings")
    return f"High-level tokens were guided by {made}.", True


_JOINED = {"mean": "their mean", "concat": "side by side"}


def _joined(config: DecoderConfig) -> str:
    how = config["hyperparameters"]["targets"].get("high", "mean")
    return how if how in _JOINED else "mean"


def _low(config: DecoderConfig) -> tuple[str, bool]:
    source = config["guidance"]["low"]
    weight = config["hyperparameters"]["training"]["lambda_low"]
    if source == "off":
        why = "there were no features of it" if _from_file(config) else "there were no pictures"
        return f"The low level did not guide: {why}.", False
    if weight == 0:
        return "The low level did not guide (its weight in the loss was 0).", False
    made = (
        "that file's low level"
        if source == "file"
        else "patch tokens after the first block of the image tower"
    )
    return f"Low-level tokens were guided by {made}.", True


def _from_file(config: DecoderConfig) -> bool:
    return str(config["clip"]["model"]).startswith("targets:")
