"""From click's values to the checked configuration."""

from __future__ import annotations

import re
from typing import Any, Literal

from clipmused_bids.cli.methods import named_variants
from clipmused_bids.config import (
    Action,
    Config,
    InputOptions,
    Level,
    Selection,
    build_hyperparameters,
    hdf5_place,
    merge,
    read_config_file,
)
from clipmused_bids.errors import UnknownLevelError, UsageError
from clipmused_bids.methods.variants import Variant

LEVELS: dict[str, Level] = {
    "participant": "participant",
    "subject": "participant",
    "group": "group",
    "dataset": "group",
}
_BASES: dict[str | None, Literal[0, 1] | None] = {None: None, "0": 0, "1": 1}
_UNITS = {"": 2**30, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def config_from_arguments(arguments: dict[str, Any]) -> Config:
    """Build the checked configuration from click's values.

    Raises
    ------
    UnknownLevelError, UsageError, MissingInputError
        For values that mean nothing; with a hint.
    """
    level = LEVELS.get(arguments["analysis_level"])
    if level is None:
        raise UnknownLevelError(
            f"analysis level {arguments['analysis_level']}: unknown.",
            hint="participant or group (subject, dataset)",
        )
    actions: tuple[Action, ...] = tuple(
        action for action in ("prepare", "train", "decode", "evaluate") if arguments[action]
    )
    _require_alone(arguments)
    methods = named_variants(arguments["method"])
    if arguments["base_model"] and arguments["method"]:
        raise UsageError(
            f"--method {','.join(arguments['method'])}: new participants are fitted by the method of --base-model "
            f"{arguments['base_model']}.",
            hint="leave --method out; a base of another method is trained by group --train --method",
        )
    return Config(
        bids_dir=arguments["bids_dir"],
        output_dir=arguments["output_dir"],
        level=level,
        actions=actions,
        selection=_selection(arguments),
        inputs=_inputs(arguments),
        method=methods[0].method,
        variant=methods[0].name,
        compared=tuple(variant.name for variant in methods[1:]),
        preset=arguments["preset"],
        overrides=_overrides(arguments),
        model_label=_model_label(arguments, main=methods[0]),
        base_model=arguments["base_model"],
        calibration_trials=arguments["calibration_trials"],
        split=arguments["split"],
        cv=arguments["cv"],
        device=arguments["device"],
        random_seed=arguments["random_seed"],
        work_dir=arguments["work_dir"],
        overwrite=arguments["overwrite"],
        memory=_bytes(arguments["mem"]),
        n_processes=arguments["nprocs"],
        omp_threads=arguments["omp_nthreads"],
        write_betas=arguments["write_betas"],
        stop_on_first_crash=arguments["stop_on_first_crash"],
        allow_leakage=arguments["allow_leakage"],
        dry_run=arguments["dry_run"],
        check=arguments["check"],
        offline=arguments["offline"],
        reports_only=arguments["reports_only"],
        boilerplate_only=arguments["boilerplate_only"],
    )


def _require_alone(arguments: dict[str, Any]) -> None:
    """Refuse to do more than what is asked to be done alone."""
    flags = ("reports_only", "boilerplate_only", "prepare", "train", "decode", "evaluate")
    asked = [f"--{name.replace('_', '-')}" for name in flags if arguments[name]]
    if len(asked) > 1 and asked[0].endswith("-only"):
        raise UsageError(
            f"{asked[0]} {asked[1]}: the first tells about what is there already, and does nothing else.",
            hint=f"leave {asked[0]} out: every run writes its reports and the methods text",
        )


def _model_label(arguments: dict[str, Any], *, main: Variant) -> str:
    """Name of what is trained; new participants stand apart from the decoder that they are fitted to."""
    usual = f"{arguments['base_model']}+new" if arguments["base_model"] else main.label
    return str(arguments["model_label"] or usual)


def _selection(arguments: dict[str, Any]) -> Selection:
    return Selection(
        participants=arguments["participant_label"],
        exclude_participants=arguments["exclude_participant_label"],
        sessions=tuple(label.removeprefix("ses-") for label in arguments["session_id"]),
        tasks=tuple(label.removeprefix("task-") for label in arguments["task_id"]),
        runs=arguments["run_id"],
        space=arguments["space"].removeprefix("space-") if arguments["space"] else None,
        filter_file=arguments["bids_filter_file"],
    )


def _inputs(arguments: dict[str, Any]) -> InputOptions:
    if arguments["stimulus_index_base"] and not any(map(hdf5_place, arguments["stimuli_dir"])):
        raise UsageError(
            f"--stimulus-index-base {arguments['stimulus_index_base']}: no --stimuli-dir is a bank of images.",
            hint="--stimuli-dir FILE.hdf5:/DATASET",
        )
    return InputOptions(
        derivatives=arguments["derivatives"],
        betas=arguments["betas"],
        stimuli_dirs=arguments["stimuli_dir"],
        stimulus_column=arguments["stimulus_column"],
        stimulus_map=arguments["stimulus_map"],
        stimulus_index_base=_BASES[arguments["stimulus_index_base"]],
        labels=arguments["labels"],
        captions=arguments["captions"],
        targets=arguments["targets"],
        movie=arguments["movie"],
        frame_interval=arguments["frame_interval"],
        resample=arguments["resample"],
        mask=arguments["mask"],
        atlas=arguments["atlas"],
        confounds=arguments["confounds"],
        trial_types=arguments["trial_type"],
        merge_blocks=arguments["merge_blocks"],
        common_space=arguments["common_space"],
    )


def _overrides(arguments: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters set explicitly: the configuration file, and the options over it."""
    options: dict[str, dict[str, Any]] = {
        "responses": {
            "kind": arguments["response"],
            "lag": arguments["lag"],
            "window": arguments["window"],
            "hrf": arguments["hrf"],
            "smoothing_fwhm": arguments["smoothing_fwhm"],
            "standardize": arguments["standardize"],
        },
        "model": {"n_regions": _clusters(arguments["atlas"])},
        "training": {"precision": arguments["precision"]},
        "targets": {"clip_model": arguments["clip_model"], "clip_weights": arguments["clip_weights"]},
    }
    given: dict[str, Any] = {
        table: {name: value for name, value in values.items() if value is not None}
        for table, values in options.items()
        if any(value is not None for value in values.values())
    }
    if arguments["min_label_frequency"] is not None:
        given["min_label_frequency"] = arguments["min_label_frequency"]
    from_file = read_config_file(arguments["config_file"]) if arguments["config_file"] else {}
    overrides = merge(from_file, given)
    build_hyperparameters(overrides)
    return overrides


def _clusters(atlas: str | None) -> int | None:
    """Number of regions in ``--atlas clusters:M`` or ``grid:M``; None where it names none."""
    kind, _, number = (atlas or "").partition(":")
    if kind not in {"clusters", "grid"} or not number:
        return None
    if not number.isdigit() or int(number) < 2:
        raise UsageError(f"--atlas {atlas}: expected at least two regions.", hint=f"--atlas {kind}:32")
    return int(number)


def _bytes(text: str | None) -> int | None:
    """Read an amount of memory: ``16G``, ``800M``, ``4GiB``; a number alone is GB, as in fMRIPrep."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--mem {text}: expected an amount of memory.", hint="for example --mem 16G")
    return int(float(match[1]) * _UNITS[match[2].upper()])
