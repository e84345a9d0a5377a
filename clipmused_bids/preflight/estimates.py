"""What a run will need: disk, memory and GPU memory, each with what the estimate is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipmused_bids.methods.registry import METHODS
from clipmused_bids.preflight.decoder_size import DecoderSize
from clipmused_bids.preflight.run_sizes import ParticipantSize, shared_voxels
from clipmused_bids.stages.contenders import contenders
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.terminal import size_text
from clipmused_bids.stages.training_set import standardization_unit
from clipmused_bids.targets.features import choose_low
from clipmused_bids.targets.shapes import ClipShape
from clipmused_bids.training.batches import BYTES_AHEAD
from clipmused_bids.training.rows import KEPT_BYTES

# Measured on one core of a server (AMD EPYC, 2020s) with series of 97,280 voxels and decoders of 297 trials of them.
LIBRARIES_BYTES = 1.0e9  # torch, nilearn and scikit-learn, as loaded
SERIES_COPIES = 3.5  # of a run inside its mask, in float32, while its responses are estimated
TRIAL_COPIES = {"linear": 8.0, "deep": 12.0}  # of the trials that a ridge regression is fitted to
CUDA_BYTES = 0.5e9  # what CUDA keeps for itself

# Of a parameter in float32: now, at the best epoch and at the start, and two moments; of a training that is over, only
# the best and the start.
STATE_BYTES, DONE_BYTES = 20, 8

# Bytes of the text files beside the arrays, as they come out.
ROW_OF_TRIALS, SIDECAR, ROW_OF_SPLIT, ROW_OF_STIMULI = 80, 2500, 115, 145
ROW_OF_PREDICTIONS, PREDICTED_LABEL = 45, 14.5
REPORTS = 60_000  # logs, model cards, scores
# Page, figures and maps of a participant, and the group's page; of a participant of whom nothing is scored.
PAGES = {"linear": (360_000, 100_000), "deep": (1_200_000, 430_000)}
PAGE_OF_INPUTS = 150_000


@dataclass(frozen=True)
class Estimate:
    """One line of the table.

    Parameters
    ----------
    what : str
    amount : float
        Bytes or seconds.
    basis : str
        What it is made of.
    """

    what: str
    amount: float
    basis: str


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Parameters
    ----------
    plan : Plan
    sizes : tuple of ParticipantSize
        Participants whose headers could be read.
    n_labels, n_pictures, n_sentences, n_stimuli : int
        Labels that are decoded; files and sentences that CLIP reads; entries of the catalogue.
    n_training : int or None
        Training (and validation, where they are fitted to as well) trials of everyone; None without training.
    clip : ClipShape or None
        None where no CLIP model is loaded or its sizes are unknown.
    decoders : mapping of str to DecoderSize
        By method; of those that are networks and are trained.
    n_parts : int
        Fits of each method: one, or one for each fold and one for all of them.
    """

    plan: Plan
    sizes: tuple[ParticipantSize, ...]
    n_labels: int
    n_pictures: int
    n_sentences: int
    n_stimuli: int
    n_training: int | None
    clip: ClipShape | None
    decoders: Mapping[str, DecoderSize] = field(default_factory=dict)
    n_parts: int = 1

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that are fitted or decode."""
        return methods_of(self.plan)

    @property
    def n_low(self) -> int:
        """Numbers of the low level that are stored for each picture."""
        if self.clip is None:
            return 0
        options, flat = self.plan.hyperparameters.targets, self.clip.n_patches * self.clip.patch_width
        kind = choose_low(self.n_pictures, n_features=flat, wanted=options.low)
        return {"flat": flat, "mean": self.clip.patch_width, "projection": options.projection_width}[kind]


def methods_of(plan: Plan) -> tuple[str, ...]:
    """Methods that are fitted or decode, an ablation under the name of its method: those asked for, and baselines."""
    if not {"train", "decode", "evaluate"} & set(plan.config.actions):
        return ()
    return tuple(one.variant.method for one in contenders(plan.config))


def disk(work: Work) -> tuple[Estimate, ...]:
    """Bytes that OUT will hold of this run; what is stored already is in it."""
    lines = [_responses(work)]
    if work.plan.config.write_betas:
        values = sum(4.0 * size.n_trials * size.n_voxels for size in work.sizes)
        lines.append(
            Estimate("responses as NIfTI", values, "one volume a trial, zeros outside the mask packed")
        )
    if work.clip is not None:
        per_picture = 2 * work.n_low + 4 * work.clip.embedding_width + 300
        per_sentence = 4 * work.clip.embedding_width + 300
        lines.append(
            Estimate(
                "CLIP features",
                work.n_pictures * per_picture + work.n_sentences * per_sentence,
                f"{work.n_pictures:,} pictures x {work.n_low:,} numbers in float16; {work.n_sentences:,} sentences",
            )
        )
    models = sum(_model_bytes(work, name) for name in work.methods if "train" in work.plan.config.actions)
    models += sum(_model_bytes(work, name) for name in work.methods[1:] if work.n_training is None)
    if models:
        folds = f"{work.n_parts} fits each: " if work.n_parts > 1 else ""
        lines.append(Estimate("decoders", work.n_parts * models, folds + ", ".join(work.methods)))
    rows = sum(size.n_trials for size in work.sizes)
    runs = sum(len(size.runs) for size in work.sizes)
    text: float = REPORTS + _pages_bytes(work) + ROW_OF_STIMULI * work.n_stimuli
    text += ROW_OF_SPLIT * rows if "train" in work.plan.config.actions else 0
    per_row = ROW_OF_PREDICTIONS + PREDICTED_LABEL * work.n_labels
    text += len(work.methods) * (per_row * rows + (SIDECAR + 1200) * runs)
    lines.append(Estimate("tables and reports", text, f"{rows:,} trials in {runs:,} runs"))
    return tuple(lines)


def kept_states(work: Work) -> tuple[Estimate, ...]:
    """Bytes that OUT holds besides while a network trains, so that it can go on when it was stopped."""
    if not work.decoders:
        return ()
    options = work.plan.hyperparameters
    refits = options.fit_on == "train+validation" or work.n_parts > 1
    done = options.training.n_seeds * (2 if refits else 1) - 1
    n = max(size.n_parameters for size in work.decoders.values())
    basis = "while a network trains: weights and moments, two of each at the moment of writing; removed at the end"
    return (Estimate("training state", n * (2 * STATE_BYTES + DONE_BYTES * done), basis),)


def memory(work: Work) -> tuple[Estimate, ...]:
    """Peak bytes of main memory of each stage; the largest counts."""
    lines = []
    series = max(_series_bytes(work), default=0.0)
    limit = work.plan.config.memory
    if series:
        at_once = work.plan.config.n_processes
        held = SERIES_COPIES * series * at_once
        basis = f"the largest run inside its mask is {size_text(series)} in float32"
        basis += f", {at_once} at a time" if at_once > 1 else ""
        if limit is not None and held > limit:
            basis = f"--mem; without it {size_text(LIBRARIES_BYTES + held)}"
            held = float(limit)
        lines.append(Estimate("responses", LIBRARIES_BYTES + held, basis))
    if work.clip is not None:
        batch = work.plan.hyperparameters.targets.batch_size
        lines.append(
            Estimate("CLIP features", LIBRARIES_BYTES + _clip_bytes(work.clip, batch), f"batches of {batch}")
        )
    trials = [_fitting_bytes(work, name) for name in work.methods]
    if work.n_training is not None and trials:
        held = max(trials)
        basis = f"{work.n_training:,} trials; the largest fit is {work.methods[trials.index(held)]}"
        lines.append(Estimate("training", LIBRARIES_BYTES + held, basis))
    return tuple(lines)


def gpu_memory(work: Work) -> tuple[Estimate, ...]:
    """Peak bytes of GPU memory of each stage that can use one."""
    lines = []
    if work.clip is not None:
        batch = work.plan.hyperparameters.targets.batch_size
        held = CUDA_BYTES + _clip_bytes(work.clip, batch)
        lines.append(
            Estimate(
                "CLIP features", held, f"{work.clip.n_parameters / 1e6:.0f} M parameters, batches of {batch}"
            )
        )
    if work.decoders:
        lines.append(
            max((_gpu_training(work, size) for size in work.decoders.values()), key=lambda e: e.amount)
        )
    return tuple(lines)


def _gpu_training(work: Work, size: DecoderSize) -> Estimate:
    options = work.plan.hyperparameters.training
    batch = 4 * options.batch_size * (max(one.n_voxels for one in work.sizes) + 2 * work.n_low)
    # Half as wide in mixed precision.
    kept = size.activation_bytes / (1 if options.precision == "32-true" else 2)
    return Estimate(
        "training",
        CUDA_BYTES + size.state_bytes + kept + batch,
        f"{size.n_parameters / 1e6:.2g} M parameters with gradients and moments "
        f"{size_text(size.state_bytes)}, activations {size_text(kept)}",
    )


def _responses(work: Work) -> Estimate:
    plan = work.plan
    values, total = 2 if plan.hyperparameters.responses.storage == "float16" else 4, 0.0
    for size in work.sizes:
        n_runs = len(size.runs)
        total += size.n_trials * (values * size.n_voxels + ROW_OF_TRIALS)
        total += n_runs * (size.n_voxels * (9 if values == 4 else 13) + SIDECAR)
    n_trials = sum(size.n_trials for size in work.sizes)
    largest = max((size.n_voxels for size in work.sizes), default=0)
    computed = any(size.mask == "computed" for size in work.sizes)
    bound = "; no mask file, so this is the whole grid, an upper bound" if computed else ""
    return Estimate(
        "responses", total, f"{n_trials:,} trials x up to {largest:,} voxels x {values} bytes{bound}"
    )


def _pages_bytes(work: Work) -> float:
    """Reports with their figures and maps, which hardly grow with trials."""
    if "evaluate" not in work.plan.config.actions:
        return PAGE_OF_INPUTS * len(work.sizes)
    own, group = PAGES["deep" if METHODS[work.methods[0]].deep else "linear"]
    return own * len(work.sizes) + (group if work.plan.config.level == "group" else 0)


def _model_bytes(work: Work, method: str) -> float:
    """Weights, and voxels with their standardisation by unit."""
    one_each, deep = METHODS[method].per_participant, METHODS[method].deep
    common = work.plan.common_space and not one_each
    n_voxels = (
        [len(shared_voxels(work.sizes))] * len(work.sizes) if common else [s.n_voxels for s in work.sizes]
    )
    total = 0.0
    for one, n in zip(work.sizes, n_voxels, strict=True):
        total += 8.0 * n * _n_units(work.plan, one)
        total += 0 if common else 16 * n
        total += 8.0 * n * work.n_labels if one_each and not deep and method != "prevalence" else 0
    total += 16 * n_voxels[0] if common else 0
    if method in {"ridge-pooled", "ridge-stack"}:
        total += 8.0 * work.n_labels * (n_voxels[0] if common else sum(n_voxels))
    if method == "srm":
        # A mean and at most so many features for each voxel of each participant.
        total += 8.0 * (1 + max(work.plan.hyperparameters.linear.srm_features)) * sum(n_voxels)
    if method in work.decoders:
        size = work.decoders[method]
        total += 4 * size.n_parameters * size.n_decoders * work.plan.hyperparameters.training.n_seeds
    return total + 15_000


def _n_units(plan: Plan, size: ParticipantSize) -> int:
    unit = standardization_unit(plan)
    if unit == "run":
        return len(size.runs)
    return len({one.run.session for one in size.runs}) if unit == "session" else int(unit == "participant")


def _series_bytes(work: Work) -> list[float]:
    return [
        4.0 * size.n_volumes * one.n_voxels
        for one in work.sizes
        for size in one.runs
        if size.n_volumes is not None and not size.stored
    ]


def _clip_bytes(clip: ClipShape, batch: int) -> float:
    # A block holds about ten vectors for each token of a batch at once; without gradients one block at a time.
    return 4.0 * (clip.n_parameters + 10 * batch * clip.n_patches * clip.patch_width)


def _fitting_bytes(work: Work, method: str) -> float:
    """Bytes that the fit of one method holds besides the libraries."""
    trials = 4.0 * rows_of_fit(work, method) * max((size.n_voxels for size in work.sizes), default=0)
    kind = METHODS[method].network
    if kind is None or method not in work.decoders:
        return TRIAL_COPIES["linear"] * trials
    network = float(work.decoders[method].state_bytes + work.decoders[method].activation_bytes)
    model = kind.model_options(work.plan.hyperparameters.model)
    if model.readout in {"ridge", "stack"} or model.alignment != "random":
        return network + TRIAL_COPIES["deep"] * trials
    batch = 4.0 * work.plan.hyperparameters.training.batch_size * max(one.n_voxels for one in work.sizes)
    return network + min(trials, KEPT_BYTES + max(BYTES_AHEAD, 2 * batch))


def rows_of_fit(work: Work, method: str) -> int:
    """Trials of the largest fit of one method."""
    rows = work.n_training or 0
    if not METHODS[method].per_participant or not work.sizes:
        return rows
    n_trials = [size.n_trials for size in work.sizes]
    return rows * max(n_trials) // max(sum(n_trials), 1)


def total(lines: Sequence[Estimate]) -> float:
    """Sum of the amounts."""
    return sum(line.amount for line in lines)
