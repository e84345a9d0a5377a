"""Sentences on single-trial responses: mask, confounds, estimation, standardisation, choice of voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.report.methods.facts import DecoderConfig, MethodsFacts, ResponseFacts
from clipmused_bids.report.methods.wording import count, listed, span

# What a strategy takes of a table of confounds.
STRATEGIES: Mapping[str, str] = {
    "default": "six motion parameters, mean signals of white matter and cerebrospinal fluid, and the cosines of the "
    "high-pass filter, as far as the tables held them",
    "simple": "24 motion parameters, mean signals of white matter and cerebrospinal fluid, and the cosines of the "
    "high-pass filter",
    "motion": "24 motion parameters and the cosines of the high-pass filter",
    "compcor": "24 motion parameters, anatomical CompCor components and the cosines of the high-pass filter",
    "scrubbing": "24 motion parameters, mean signals of white matter and cerebrospinal fluid with their derivatives "
    "and squares, and the cosines of the high-pass filter; volumes with much motion were left out",
}
_HRF = {"glover": "[@glover1999]", "spm": "[@friston1998]"}


def response_paragraphs(facts: MethodsFacts) -> list[str]:
    """From images to one response per trial, and to what decoders read."""
    how = {"lss": _least_squares, "lsa": _least_squares, "window": _window, "betas": _betas}
    one = facts.responses
    first = [how[one.kind](one)]
    if one.kind != "betas":
        first += [_confounds(facts), _smoothing(one), "Responses are in percent signal change."]
    first.append(_mask(one))
    if not one.stored:
        first.insert(0, "No response was estimated yet; by the settings of this run it is done as follows.")
    return [" ".join(filter(None, first)), *_read_by_decoders(facts)]


def _least_squares(one: ResponseFacts) -> str:
    options = one.options
    model = {
        "lss": "least squares - separate, a model of its own for each trial, solved in closed form",
        "lsa": "least squares - all, one model with a regressor for each trial",
    }[one.kind]
    if one.kind == "lss" and options["others"] == "by-condition":
        model += ", with one regressor for the other trials of each condition"
    shape, _, terms = options["hrf"].partition(" + ")
    derived = f", with its {terms.replace(' + ', ' and ')} as nuisance" if terms else ""
    noise = {
        "ols": "White noise was assumed.",
        "ar1": "Data and design were prewhitened by a first-order autoregressive model of the noise, with one "
        "coefficient for each voxel and run.",
    }[options["noise"]]
    return (
        f"One response was estimated for each trial by {model} [@mumford2012]. Events were convolved with the "
        f"{shape.replace('spm', 'SPM').replace('glover', 'Glover')} haemodynamic response {_HRF[shape]}{derived}, as "
        f"Nilearn implements it [@nilearn]. {_drift(options['high_pass'])} {noise}"
    )


def _drift(high_pass: float) -> str:
    if high_pass == 0:
        return "Slow drifts were not modelled where the confounds brought no cosines."
    period = f"{high_pass:.4f} Hz ({1 / high_pass:.3g} s)"
    return (
        f"Slow drifts were modelled by cosines with a cut-off of {period} where the confounds brought none."
    )


def _window(one: ResponseFacts) -> str:
    lag, length = one.options["lag"], one.options["window"]
    during = "its duration" if length == 0 else f"{length:g} s"
    return (
        f"One response was taken for each trial as the mean signal from {lag:g} s after its onset over {during}, after "
        "a linear trend was removed."
    )


def _betas(_: ResponseFacts) -> str:
    return (
        "Responses to single trials were not estimated here, but read from existing images of a derivative."
    )


def _confounds(facts: MethodsFacts) -> str:
    one = facts.responses
    having = sum(run.confounds for run in facts.data.runs)
    if one.confounds == "none" or not having:
        why = "as asked for" if one.confounds == "none" else "since there was no table of them"
        return f"No confounds were removed, {why}."
    some = (
        "" if having == len(facts.data.runs) else f" of the {count(having, 'run')} that have a table of them"
    )
    example = ""
    if one.confound_columns:
        example = f"; in {one.confound_example} these were {listed(_collapsed(one.confound_columns))}"
    return (
        f"Confounds{some} were removed in the same step by the strategy “{one.confounds}” ({STRATEGIES[one.confounds]}"
        f"{example}) [@nilearn]."
    )


def _collapsed(names: Sequence[str]) -> list[str]:
    """Names of columns, with numbered ones (``cosine00``, ...) counted."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = name.rstrip("0123456789_")
        groups.setdefault(stem if stem != name and name[-1].isdigit() else name, []).append(name)
    return [f"{stem} ({len(found)})" if len(found) > 1 else found[0] for stem, found in groups.items()]


def _smoothing(one: ResponseFacts) -> str:
    width = one.options["smoothing_fwhm"]
    if width == 0:
        return "Images were not smoothed here."
    return f"Images were smoothed with a Gaussian kernel of {width:g} mm (full width at half maximum)."


def _mask(one: ResponseFacts) -> str:
    masks = {
        "derivative": "Voxels were those of the derivative's brain masks.",
        "computed": "Voxels were those of masks computed from the images, since the derivative has none.",
    }
    mask = masks.get(one.mask, "Voxels were those of a mask that was given.")
    if one.resample is not None:
        mask += f" Images were resampled to the grid {one.resample}."
    return mask


def _read_by_decoders(facts: MethodsFacts) -> list[str]:
    if not facts.decoders:
        return []
    first = facts.decoders[0]
    voxels = [n for config in facts.decoders for n in _voxels(config)]
    each = "" if first["common_space"] else " of each participant"
    read = f" Decoders read {span(voxels)} voxels{each}." if voxels else ""
    return [f"{_scaling(facts.decoders)}{_choice(facts.decoders)}{read}".strip()]


def _voxels(config: DecoderConfig) -> list[int]:
    """Voxels of each participant; methods of each participant keep signatures of their own."""
    decoder = config["decoder"]
    parts = [decoder, *decoder.get("participants", {}).values()]
    return [int(n) for part in parts for n in part.get("signature", {}).get("n_voxels", {}).values()]


def _scaling(decoders: Sequence[DecoderConfig]) -> str:
    scaling = decoders[0]["standardization"]
    if scaling["unit"] == "none":
        return "Responses were not standardised."
    sources: dict[str, Any] = {}
    for config in decoders:
        sources |= config["standardization"]["sources"]
    transductive = sum(source == "transductive" for source in sources.values())
    done = "z-scored" if scaling["scaling"] == "zscore" else "scaled from 0 (minimum) to 1 (maximum)"
    text = f"Responses of each voxel were {done} within each {scaling['unit']}, by training trials."
    if transductive:
        text += (
            f" In {transductive} of {len(sources)} units there were too few training trials, so all their trials, "
            "without labels, were used (transductive)."
        )
    return text


def _choice(decoders: Sequence[DecoderConfig]) -> str:
    """Which voxels were read, where not all."""
    choices = [config["voxel_choice"] for config in decoders if config["voxel_choice"] is not None]
    if not choices:
        return ""
    sizes = [n for choice in choices for n in choice["n_voxels"].values()]
    lowest = min(value for choice in choices for value in choice["threshold"].values())
    return (
        f" Of each participant, the {span(sizes)} voxels with the most reliable responses to repeated training stimuli "
        f"were kept ({choices[0]['criterion']}, at least {lowest:.2f})."
    )
