"""How long a run will take, roughly, by rates that were measured once."""

from __future__ import annotations

from clipmused_bids.methods.registry import METHODS
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


def seconds(work: Work) -> tuple[Estimate, ...]:
    """Rough seconds of each stage on this machine's cores; training by its most epochs."""
    todo = [size for one in work.sizes for size in one.runs if not size.stored]
    unpacked = sum(size.header.n_bytes for size in todo if size.header is not None)
    unpacked += bytes_of_files([size.run for size in todo if size.run.betas])
    lines = [
        Estimate(
            "responses",
            response_seconds(len(todo), unpacked),
            f"{len(todo):,} runs, {size_text(unpacked)} unpacked, {SECONDS_PER_GB:.0f} s per GB",
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
    pairs = sum(
        rows_of_fit(work, name) ** 2 * (len(work.sizes) if METHODS[name].per_participant else 1)
        for name in work.methods
        if name != "prevalence"
    )
    linear = RIDGE_SECONDS * pairs * n_voxels
    if not work.decoders:
        return Estimate(
            "training", linear, f"ridge regressions of {n_training:,} trials x {n_voxels:,} voxels"
        )
    options = work.plan.hyperparameters.training
    steps = -(-n_training // options.batch_size) * options.max_epochs * options.n_seeds
    steps *= 2 if work.plan.hyperparameters.fit_on == "train+validation" else 1
    each = [_step_seconds(work, size, n_voxels=n_voxels, cores=cores) for size in work.decoders.values()]
    largest = max(work.decoders.values(), key=lambda size: size.step_flops)
    basis = (
        f"at most {steps * len(each):,} steps of up to {largest.step_flops / 1e9:.2g} GFLOP, {max(each):.2g} s each "
        f"on {cores} core(s); fewer epochs are usual, and a GPU is faster"
    )
    return Estimate("training", linear + steps * sum(each), basis)


def _step_seconds(work: Work, size: DecoderSize, *, n_voxels: int, cores: int) -> float:
    moved = size.state_bytes + 16.0 * work.plan.hyperparameters.training.batch_size * n_voxels
    return STEP_SECONDS + size.step_flops / (CPU_FLOPS * cores) + moved / STEP_BYTES
