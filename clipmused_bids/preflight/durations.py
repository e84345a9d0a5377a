"""How long a run will take, roughly, by rates that were measured once."""

from __future__ import annotations

from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.row_space import MOST_FEATURES
from clipmused_bids.preflight.decoder_size import DecoderSize
from clipmused_bids.preflight.estimates import Estimate, Work, rows_of_fit
from clipmused_bids.stages.announcements import bytes_of_files
from clipmused_bids.stages.rates import (
    CPU_FLOPS,
    SECONDS_PER_GB,
    picture_seconds,
    response_seconds,
    usable_cores,
)
from clipmused_bids.stages.terminal import size_text

STEP_SECONDS = 0.008  # of a training step besides its operations
STEP_BYTES = 1e9  # of weights, moments and responses that a step moves in a second
RIDGE_SECONDS = 1e-9  # per voxel and pair of trials
# Times as long, as measured on one core with 4 people of 240 trials, 1,640 voxels and 12 or 24 labels.
STACK_FACTOR = 2.0
FACTOR_OF_A_LABEL = {"logistic": 0.7, "srm": 1.3}


def seconds(work: Work) -> tuple[Estimate, ...]:
    """Rough seconds of each stage on this machine's cores; training by its most epochs."""
    todo = [size for one in work.sizes for size in one.runs if not size.stored]
    unpacked = sum(size.header.n_bytes for size in todo if size.header is not None)
    unpacked += bytes_of_files([size.run for size in todo if size.run.betas])
    at_once = (
        max(1, min(work.plan.config.n_processes, len(todo))) if work.plan.config.inputs.betas is None else 1
    )
    lines = [
        Estimate(
            "responses",
            response_seconds(len(todo), unpacked) / at_once,
            f"{len(todo):,} runs, {size_text(unpacked)} unpacked, {SECONDS_PER_GB:.0f} s per GB"
            + (f", {at_once} at a time" if at_once > 1 else ""),
        )
    ]
    cores = usable_cores()
    if work.clip is not None:
        each = picture_seconds(work.clip.flops_per_image, device="cpu")
        basis = f"{work.n_pictures:,} pictures, {1 / each:.3g} a second on {cores} core(s); a GPU: many more"
        lines.append(Estimate("CLIP features", work.n_pictures * each, basis))
    if work.n_training is not None:
        lines.append(_training_seconds(work, cores=cores))
    return tuple(lines)


def _training_seconds(work: Work, *, cores: int) -> Estimate:
    n_training = work.n_training or 0
    n_voxels = max((size.n_voxels for size in work.sizes), default=0)
    linear = sum(RIDGE_SECONDS * n_voxels * work.n_parts * _ridge_pairs(work, name) for name in work.methods)
    fits = f", {work.n_parts} times" if work.n_parts > 1 else ""
    if not work.decoders:
        return Estimate(
            "training", linear, f"linear fits of {n_training:,} trials x {n_voxels:,} voxels{fits}"
        )
    options = work.plan.hyperparameters.training
    steps = -(-n_training // options.batch_size) * options.max_epochs * options.n_seeds
    steps *= 2 if work.plan.hyperparameters.fit_on == "train+validation" else 1
    steps *= work.n_parts
    each = [
        _step_seconds(work, work.decoders[name], n_voxels=n_voxels, cores=cores)
        for name in work.methods
        if name in work.decoders
    ]
    largest = max(work.decoders.values(), key=lambda size: size.step_flops)
    basis = (
        f"at most {steps * len(each):,} steps of up to {largest.step_flops / 1e9:.2g} GFLOP, {max(each):.2g} s each "
        f"on {cores} core(s); fewer epochs are usual, and a GPU is faster"
    )
    return Estimate("training", linear + steps * sum(each), basis)


def _ridge_pairs(work: Work, method: str) -> float:
    """Pairs of trials that a ridge regression would have, to take as long as the linear fits of a method."""
    if method == "prevalence":
        return 0.0
    rows, n_people, info = rows_of_fit(work, method), len(work.sizes), METHODS[method]
    if method in FACTOR_OF_A_LABEL:
        own = rows if info.per_participant else rows / max(n_people, 1)
        return FACTOR_OF_A_LABEL[method] * work.n_labels * n_people * own * min(own, MOST_FEATURES)
    readout = info.network.model_options(work.plan.hyperparameters.model).readout if info.network else ""
    factor = STACK_FACTOR if method == "ridge-stack" or readout == "stack" else 1.0
    return factor * float(rows) ** 2 * (n_people if info.per_participant else 1)


def _step_seconds(work: Work, size: DecoderSize, *, n_voxels: int, cores: int) -> float:
    moved = size.state_bytes + 16.0 * work.plan.hyperparameters.training.batch_size * n_voxels
    return STEP_SECONDS + size.step_flops / (CPU_FLOPS * cores) + moved / STEP_BYTES
