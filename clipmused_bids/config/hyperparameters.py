"""Hyper-parameters: everything that a preset or ``--config-file`` may set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from clipmused_bids.errors import UsageError

ResponseKind = Literal["auto", "lss", "lsa", "window", "betas"]
LabelLoss = Literal["binary", "softmax"]
VoxelWeights = Literal["none", "labels"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
# nilearn's models whose derivatives can be summed over trials.
HRF_MODELS = tuple(
    shape + terms
    for shape in ("spm", "glover")
    for terms in ("", " + derivative", " + derivative + dispersion")
)
LONGEST_WINDOW = 120.0  # s; a response is over by then
WIDEST_KERNEL = 50.0  # mm; beyond it nothing of a brain is left


@dataclass(frozen=True)
class ResponseOptions:
    """How one response per trial is estimated.

    Parameters
    ----------
    kind : {"auto", "lss", "lsa", "window", "betas"}
    noise : {"ols", "ar1"}
        For ``lss`` and ``lsa``: white noise, or autocorrelated noise of first order, estimated for each voxel and
        cut to hundredths as nilearn does.
    others : {"together", "by-condition"}
        For ``lss``: all other trials are one regressor, or those of each condition are one.
    hrf : str
        For ``lss`` and ``lsa``: nilearn's name of the haemodynamic response (``spm``, ``glover``, with
        ``+ derivative`` or ``+ derivative + dispersion``); derivatives enter as their sums over trials, as nuisance.
    high_pass : float
        For ``lss`` and ``lsa``: cut-off of the cosine drift in Hz (128 s as in fMRIPrep, SPM and FSL); not used
        where the confounds bring their own cosines.
    lag : float or None
        For ``window``: shift in s between a stimulus and the volumes that are averaged; None: 4 s for samples of
        movies, else 5 s.
    window : float
        For ``window``: length in s of that average; 0 for the duration of the trial, and for the nearest volume
        where trials are samples of movies.
    smoothing_fwhm : float
        Width in mm of a Gaussian kernel the images are smoothed with; 0: none.
    standardize : {"auto", "run", "session", "participant", "none"}
        ``auto`` is ``session`` for betas and ``run`` otherwise.
    scaling : {"zscore", "minmax"}
        Within that unit, by the same trials: mean 0 and standard deviation 1, or from 0 to 1,
        (x - min) / (max - min), as the reference code does for movies.
    reliable_voxels : int
        Number of voxels with the most reliable responses to repeated training stimuli that are kept; 0: all.
    storage : {"float32", "float16"}
        ``float16`` halves the disk space; values are kept relative to a power of two for each voxel.
    """

    kind: ResponseKind = "auto"
    noise: Literal["ols", "ar1"] = "ols"
    others: Literal["together", "by-condition"] = "together"
    hrf: str = "glover"
    high_pass: float = 0.0078125
    lag: float | None = None
    window: float = 0.0
    smoothing_fwhm: float = 0.0
    standardize: Literal["auto", "run", "session", "participant", "none"] = "auto"
    scaling: Literal["zscore", "minmax"] = "zscore"
    reliable_voxels: int = 0
    storage: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.hrf not in HRF_MODELS:
            raise UsageError(f"--hrf {self.hrf}: unknown.", hint=f"one of {', '.join(HRF_MODELS)}")
        _require(0 <= self.high_pass < math.inf, "responses.high_pass must not be negative (Hz)")
        _require(
            self.lag is None or 0 <= self.lag <= LONGEST_WINDOW,
            f"--lag must lie in 0 to {LONGEST_WINDOW:g} s",
        )
        _require(0 <= self.window <= LONGEST_WINDOW, f"--window must lie in 0 to {LONGEST_WINDOW:g} s")
        _require(
            0 <= self.smoothing_fwhm <= WIDEST_KERNEL,
            f"--smoothing-fwhm must lie in 0 to {WIDEST_KERNEL:g} mm",
        )
        _require(
            self.standardize != "none" or self.scaling == "zscore",
            "responses.scaling needs a unit to scale within; responses.standardize is none",
        )
        _require(self.reliable_voxels >= 0, "responses.reliable_voxels must not be negative")


@dataclass(frozen=True)
class TargetOptions:
    """How CLIP targets are made.

    Parameters
    ----------
    clip_model : str
        ``demo``, or an open_clip model name.
    clip_weights : str or None
        A weight file or a folder in open_clip's local-dir form; None for the cached OpenAI weights.
    low : {"auto", "flat", "projection", "mean"}
        ``auto`` is ``flat`` up to 2 GB over all images in the folders of stimuli, else a seeded random projection.
    high : {"mean", "image", "text", "concat"}
    """

    clip_model: str = "ViT-B-16"
    clip_weights: str | None = None
    low: Literal["auto", "flat", "projection", "mean"] = "auto"
    high: Literal["mean", "image", "text", "concat"] = "mean"
    projection_width: int = 4096
    batch_size: int = 32

    def __post_init__(self) -> None:
        _require(self.projection_width > 0, "targets.projection_width must be positive")
        _require(self.batch_size > 0, "targets.batch_size must be positive")


@dataclass(frozen=True)
class ModelOptions:
    """Shape of the decoder.

    Parameters
    ----------
    patches : {"auto", "cnn", "roi", "aligned"}
        ``cnn``: 3D CNN over the volume. ``roi``: one patch for each region. ``aligned``: each participant's
        own linear map into shared features, read as patches; for native space without corresponding regions.
        ``auto``: ``roi`` in a common space or with an atlas, else ``aligned``.
    width, depth, heads : int
        D, L and attention heads.
    mlp_ratio : float
        Hidden width of a block's MLP over D.
    tokens : {"pair", "one"}
        Of ``clip-mused``: a pair for each participant, or (an ablation of the paper) one that both levels guide,
        without L_perp.
    hidden_width, hidden_layers : int
        Of the methods that are multilayer perceptrons.
    head : {"mlp", "linear"}
    dropout, input_dropout : float
        Of block outputs; of voxels.
    n_regions : int
        Regions made by clustering where no atlas is given.
    n_shared : int
        Features of ``aligned`` patches (K), or of each region in native space.
    n_patches : int
        Patches that the shared features are read as.
    alignment : {"auto", "srm", "ridge", "random"}
        Start of the linear maps, fitted on training trials (the paper: random). In native space ``srm`` (on what
        all participants saw) or ``ridge`` (to labels and CLIP targets) for each participant's own maps, ``auto``
        the first that the data allow. In a common space region maps start from ``ridge``, unless ``random``.
    readout : {"none", "learned", "ridge", "stack"}
        A linear readout in parallel with the tokens (the paper: none). ``learned``: of the features, trained with
        the rest. ``ridge``: of the voxels, a ridge regression whose held-out predictions stand in for its own
        while the rest is trained, times a learned weight. ``stack``: in the same way, the sum of several ridge
        regressions (each participant's own, pooled), weighted by how well they predict held-out training trials.
    voxel_weights : {"none", "labels"}
        Voxels that the readout's regressions and the start of the maps are fitted to: as they are (the paper), or
        each times the share of its variance that the labels of the training trials explain. ``readout = "stack"``
        reads both.
    """

    patches: Literal["auto", "cnn", "roi", "aligned"] = "auto"
    width: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 2.0
    tokens: Literal["pair", "one"] = "pair"
    hidden_width: int = 512
    hidden_layers: int = 2
    head: Literal["mlp", "linear"] = "mlp"
    dropout: float = 0.0
    input_dropout: float = 0.0
    n_regions: int = 32
    n_shared: int = 32
    n_patches: int = 8
    alignment: Literal["auto", "srm", "ridge", "random"] = "auto"
    readout: Literal["none", "learned", "ridge", "stack"] = "none"
    voxel_weights: VoxelWeights = "none"

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "n_regions", "n_shared", "n_patches"):
            _require(getattr(self, name) > 0, f"model.{name} must be positive")
        _require(
            self.width % self.heads == 0,
            f"model.width {self.width} must be a multiple of model.heads {self.heads}",
        )
        for name in ("hidden_width", "hidden_layers"):
            _require(getattr(self, name) > 0, f"model.{name} must be positive")
        _require(self.mlp_ratio > 0, "model.mlp_ratio must be positive")
        for name in ("dropout", "input_dropout"):
            _require(0 <= getattr(self, name) < 1, f"model.{name} must lie in [0, 1)")


@dataclass(frozen=True)
class TrainingOptions:
    """How the decoder is trained.

    Parameters
    ----------
    learning_rate, weight_decay : float
        Adam; with weight decay it is decoupled (AdamW).
    decay_every, decay_factor : int, float
        The learning rate is multiplied by ``decay_factor`` every ``decay_every`` epochs (0: never).
    batch_size, max_epochs, patience : int
        Patience in epochs without a better validation score.
    choose_by : {"map", "loss", "loss-1se"}
        What chooses the epoch: the validation trials' mAP, or the loss of their labels, which few trials tell better.
        ``loss-1se``: and the decoder stays as it started unless the loss is better by a standard error of the
        difference over validation trials (Breiman et al. 1984, Classification and Regression Trees).
    label_loss : {"binary", "softmax", "auto"}
        L_c: each label by itself (the paper), or one of all labels for trials that have exactly one; ``auto`` is
        ``softmax`` for such data.
    lambda_perp, lambda_low, lambda_high : float
        Weights of the losses of Zhou et al. 2024.
    perp_scale : {"batch", "batch+width"}
        L_perp over B^2 as printed, or over B^2 D^2.
    mixup : float
        Parameter of the Beta distribution; 0 for none (not in the paper).
    n_seeds : int
        Decoders that are trained from consecutive seeds and averaged (the paper: 1).
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Of the network, as Lightning Fabric names it; losses are computed in float32.
    micro_batch : int
        Most trials that pass through the network at once (0: all of the batch that a process has). The loss is that
        of the whole batch, and the result the same but for rounding; memory shrinks, time grows by a second
        forward pass.
    compile : bool
        Whether torch compiles the network for training. It takes minutes at the start and needs a C++ compiler (on a
        GPU triton besides); the result is the same but for rounding.
    keep_minutes : float
        Time between two states of a training that are kept so that it can go on after it was stopped (0: after each
        step). Changes nothing in a decoder.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay_every: int = 0
    decay_factor: float = 1.0
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 15
    choose_by: Literal["map", "loss", "loss-1se"] = "map"
    label_loss: Literal["binary", "softmax", "auto"] = "binary"
    lambda_perp: float = 0.001
    lambda_low: float = 0.1
    lambda_high: float = 0.001
    perp_scale: Literal["batch", "batch+width"] = "batch"
    mixup: float = 0.0
    n_seeds: int = 1
    precision: Precision = "32-true"
    micro_batch: int = 0
    compile: bool = False
    keep_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "patience", "n_seeds"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        for name in ("learning_rate", "decay_factor"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        for name in ("weight_decay", "lambda_perp", "lambda_low", "lambda_high", "mixup", "decay_every",
            "micro_batch", "keep_minutes",
        ):  # fmt: skip
            _require(getattr(self, name) >= 0, f"training.{name} must not be negative")


# How a training runs on a machine: decides about no decoder (of micro_batch and compile, but for rounding).
HOW_TRAINING_RUNS = ("micro_batch", "compile", "keep_minutes")


@dataclass(frozen=True)
class LinearOptions:
    """What linear rivals choose from, by leaving training groups out.

    Parameters
    ----------
    alphas : tuple of float
        Penalties of ridge regressions, relative to the mean eigenvalue of the Gram matrix.
    logistic_c : tuple of float
        C of logistic regressions as scikit-learn defines it (its default is 1): the smaller, the stronger the
        penalty. Of ``logistic``, and of the classifier of ``srm``.
    srm_features : tuple of int
        Numbers of shared features of ``srm``.
    """

    # Fine where decoders of single trials have their best penalty: steps of ten cost pooled ridge .04 mAP there.
    alphas: tuple[float, ...] = (1e-3, 1e-2, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 1e1, 2e1, 3e1, 1e2, 1e3)
    logistic_c: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
    srm_features: tuple[int, ...] = (10, 20, 30, 50, 100)

    def __post_init__(self) -> None:
        for name in ("alphas", "logistic_c", "srm_features"):
            values = getattr(self, name)
            _require(len(values) > 0 and min(values) > 0, f"linear.{name} must be positive numbers")


@dataclass(frozen=True)
class EvaluationOptions:
    """How decoders are scored; nothing of it changes a decoder.

    Parameters
    ----------
    permutations : int
        Of the permutation test of each method's predictions by the main metric; 0: none.
    calibrate : bool
        Whether the probabilities of all methods are calibrated (Platt) on validation trials before they are scored;
        needs ``fit_on = "train"``.
    """

    permutations: int = 1000
    calibrate: bool = False

    def __post_init__(self) -> None:
        _require(self.permutations >= 0, "evaluation.permutations must not be negative")


@dataclass(frozen=True)
class MapOptions:
    """Brain maps of an evaluation; nothing of it changes a decoder or a score.

    Parameters
    ----------
    enabled : bool
        Whether they are made.
    trials : int
        Most test trials of a participant that they are made from; of more, so many at equal distances.
    regions : int
        Parcels that are knocked out one by one where the decoder has no regions; fewer where voxels are few.
    draws : int
        Decoders with randomised weights whose maps are compared with the decoder's.
    processor_operations : float
        Most floating-point operations that knocking out the regions of one participant may take on a processor, some
        hours of it at the default; beyond, regions are knocked out on a GPU only, which has no such limit.
    """

    enabled: bool = True
    trials: int = 1000
    regions: int = 64
    draws: int = 3
    processor_operations: float = 5e14

    def __post_init__(self) -> None:
        for name in ("trials", "draws", "processor_operations"):
            _require(getattr(self, name) > 0, f"maps.{name} must be positive")
        _require(self.regions > 1, "maps.regions must be 2 or more")


@dataclass(frozen=True)
class Hyperparameters:
    """Everything a preset or ``--config-file`` may set.

    Parameters
    ----------
    min_label_frequency : float
        Labels that are rarer among the training trials are left out.
    fit_on : {"train", "train+validation"}
        Trials the final decoder of every method is fitted to. ``train+validation``: once validation trials have
        chosen the epoch, the decoder is trained again on both for as many epochs (the paper: ``train``).
    """

    responses: ResponseOptions = field(default_factory=ResponseOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    linear: LinearOptions = field(default_factory=LinearOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    maps: MapOptions = field(default_factory=MapOptions)
    min_label_frequency: float = 0.0
    fit_on: Literal["train", "train+validation"] = "train"

    def __post_init__(self) -> None:
        _require(0 <= self.min_label_frequency < 1, "min_label_frequency must lie in [0, 1)")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(f"configuration: {message}.")
