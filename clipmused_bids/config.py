"""Configuration: frozen values, checked when built, read from and written to TOML; presets.

Values come from the command line, over the user's ``--config-file``, over the preset, over the defaults here.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clipmused_bids.errors import MissingInputError, UsageError

Level = Literal["participant", "group"]
Action = Literal["prepare", "train", "decode", "evaluate"]
ResponseKind = Literal["auto", "lss", "window", "betas"]
PRESETS = ("hcp", "nsd", "small")
# nilearn's models whose derivatives can be summed over trials.
HRF_MODELS = tuple(
    shape + terms
    for shape in ("spm", "glover")
    for terms in ("", " + derivative", " + derivative + dispersion")
)
LONGEST_WINDOW = 120.0  # s; a response is over by then


@dataclass(frozen=True)
class Selection:
    """What is asked for; empty means everything.

    Parameters
    ----------
    participants, exclude_participants : tuple of str
        Labels with or without ``sub-``, or text files with one a line.
    sessions, tasks : tuple of str
        Labels without prefix.
    runs : tuple of int
    space : str or None
    """

    participants: tuple[str, ...] = ()
    exclude_participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    runs: tuple[int, ...] = ()
    space: str | None = None


@dataclass(frozen=True)
class InputOptions:
    """Where things are and how events are read.

    Parameters
    ----------
    derivatives : tuple of str
        ``PATH`` or ``NAME=PATH``; empty for what lies in ``<bids>/derivatives``.
    merge_blocks : str
        ``auto``, ``off``, or the largest gap in s within a block.
    common_space : bool or None
        None: decided by the name of the space.
    """

    derivatives: tuple[str, ...] = ()
    stimuli_dirs: tuple[str, ...] = ()
    stimulus_column: str | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    mask: str | None = None
    atlas: str | None = None
    confounds: Literal["default", "simple", "motion", "compcor", "scrubbing", "none"] = "default"
    trial_types: tuple[str, ...] = ()
    merge_blocks: str = "auto"
    common_space: bool | None = None

    def __post_init__(self) -> None:
        if self.merge_blocks not in {"auto", "off"} and not _is_positive_number(self.merge_blocks):
            raise UsageError(
                f"--merge-blocks {self.merge_blocks}: expected auto, off or a number of seconds.",
                hint="for example --merge-blocks 4",
            )


@dataclass(frozen=True)
class ResponseOptions:
    """How one response per trial is estimated.

    Parameters
    ----------
    kind : {"auto", "lss", "window", "betas"}
    hrf : str
        For ``lss``: nilearn's name of the haemodynamic response (``spm``, ``glover``, with ``+ derivative`` or
        ``+ derivative + dispersion``); derivatives enter as their sums over trials, as nuisance.
    high_pass : float
        For ``lss``: cut-off of the cosine drift in Hz (128 s as in fMRIPrep, SPM and FSL); not used where the
        confounds bring their own cosines.
    lag : float
        For ``window``: shift in s between a stimulus and the volumes that are averaged.
    window : float
        For ``window``: length in s of that average; 0 for the duration of the trial.
    standardize : {"auto", "run", "session", "participant", "none"}
        ``auto`` is ``session`` for betas and ``run`` otherwise.
    storage : {"float32", "float16"}
        ``float16`` halves the disk space; values are kept relative to a power of two for each voxel.
    """

    kind: ResponseKind = "auto"
    hrf: str = "glover"
    high_pass: float = 0.0078125
    lag: float = 5.0
    window: float = 0.0
    standardize: Literal["auto", "run", "session", "participant", "none"] = "auto"
    storage: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.hrf not in HRF_MODELS:
            raise UsageError(f"--hrf {self.hrf}: unknown.", hint=f"one of {', '.join(HRF_MODELS)}")
        _require(0 <= self.high_pass < math.inf, "responses.high_pass must not be negative (Hz)")
        _require(0 <= self.lag <= LONGEST_WINDOW, f"--lag must lie in 0 to {LONGEST_WINDOW:g} s")
        _require(0 <= self.window <= LONGEST_WINDOW, f"--window must lie in 0 to {LONGEST_WINDOW:g} s")


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
        ``auto`` is ``flat`` up to 2 GB over all stimuli, else a seeded random projection.
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
    readout : {"none", "learned", "ridge"}
        A linear readout in parallel with the tokens (the paper: none). ``learned``: of the features, trained with
        the rest. ``ridge``: of the voxels, a ridge regression whose held-out predictions stand in for its own
        while the rest is trained, times a learned weight.
    """

    patches: Literal["auto", "cnn", "roi", "aligned"] = "auto"
    width: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 2.0
    head: Literal["mlp", "linear"] = "mlp"
    dropout: float = 0.0
    input_dropout: float = 0.0
    n_regions: int = 32
    n_shared: int = 32
    n_patches: int = 8
    alignment: Literal["auto", "srm", "ridge", "random"] = "auto"
    readout: Literal["none", "learned", "ridge"] = "none"

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "n_regions", "n_shared", "n_patches"):
            _require(getattr(self, name) > 0, f"model.{name} must be positive")
        _require(
            self.width % self.heads == 0,
            f"model.width {self.width} must be a multiple of model.heads {self.heads}",
        )
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
        Patience in epochs without a better validation mAP.
    lambda_perp, lambda_low, lambda_high : float
        Weights of the losses of Zhou et al. 2024.
    perp_scale : {"batch", "batch+width"}
        L_perp over B^2 as printed, or over B^2 D^2.
    mixup : float
        Parameter of the Beta distribution; 0 for none (not in the paper).
    n_seeds : int
        Decoders that are trained from consecutive seeds and averaged (the paper: 1).
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay_every: int = 0
    decay_factor: float = 1.0
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 15
    lambda_perp: float = 0.001
    lambda_low: float = 0.1
    lambda_high: float = 0.001
    perp_scale: Literal["batch", "batch+width"] = "batch"
    mixup: float = 0.0
    n_seeds: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "patience", "n_seeds"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        for name in ("learning_rate", "decay_factor"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive")
        for name in ("weight_decay", "lambda_perp", "lambda_low", "lambda_high", "mixup", "decay_every"):
            _require(getattr(self, name) >= 0, f"training.{name} must not be negative")


@dataclass(frozen=True)
class LinearOptions:
    """Ridge baselines: the grid of penalties, relative to the mean eigenvalue of the Gram matrix."""

    alphas: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)

    def __post_init__(self) -> None:
        _require(len(self.alphas) > 0 and min(self.alphas) > 0, "linear.alphas must be positive numbers")


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
    min_label_frequency: float = 0.0
    fit_on: Literal["train", "train+validation"] = "train"

    def __post_init__(self) -> None:
        _require(0 <= self.min_label_frequency < 1, "min_label_frequency must lie in [0, 1)")


@dataclass(frozen=True)
class Config:
    """One invocation of the command.

    Parameters
    ----------
    preset : str or None
        None: chosen by the number of trials when training starts.
    overrides : mapping
        Hyper-parameters set explicitly (``--config-file`` and options), by table; over the preset's.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    trained_mask : str or None
        Where a stored decoder is used: which mask it was trained with, as its configuration says.
    """

    bids_dir: Path
    output_dir: Path
    level: Level
    actions: tuple[Action, ...]
    selection: Selection = field(default_factory=Selection)
    inputs: InputOptions = field(default_factory=InputOptions)
    method: str = "clip-mused"
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    model_label: str = "clipmused"
    split: str = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_seed: int = 0
    work_dir: Path | None = None
    overwrite: bool = False
    trained_mask: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-zA-Z+]+", self.model_label):
            cleaned = re.sub(r"[^0-9a-zA-Z+]", "", self.model_label)
            raise UsageError(
                f"--model-label {self.model_label}: BIDS labels hold letters, digits and + only.",
                hint=f"--model-label {cleaned}" if cleaned else "--model-label clipmused",
            )
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"--preset {self.preset}: unknown preset.", hint=f"one of {', '.join(PRESETS)}")

    def hyperparameters(self, *, default_preset: str = "small") -> Hyperparameters:
        """Preset (or ``default_preset`` where none was asked for) with the explicit values over it."""
        return build_hyperparameters(merge(read_preset(self.preset or default_preset), self.overrides))


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset that ships with the package, as plain tables."""
    return tomllib.loads((files("clipmused_bids") / "data" / "presets" / f"{name}.toml").read_text("utf-8"))


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a user's TOML file of hyper-parameters and check every name and value in it.

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    UsageError
        If it is not TOML, or names a value that does not exist.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MissingInputError(f"--config-file {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config-file {path}: not a TOML file ({error}).") from error
    build_hyperparameters(tables)
    return tables


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested tables over others."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def build_hyperparameters(tables: Mapping[str, Any]) -> Hyperparameters:
    """Build checked hyper-parameters from nested tables.

    Raises
    ------
    UsageError
        If a name is unknown (the nearest ones are named) or a value has the wrong type.
    """
    built: Hyperparameters = _build(Hyperparameters, tables, where="")
    return built


def checked_inputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn stored values of ``InputOptions`` into what its fields hold; errors as for `build_hyperparameters`."""
    options = _build(InputOptions, values, where="inputs.")
    return {name: getattr(options, name) for name in values}


def as_tables(value: Any) -> dict[str, Any]:
    """Turn a dataclass into nested tables of TOML and JSON values; None is left out, paths become text."""
    return {key: _plain(item) for key, item in asdict(value).items() if item is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _build(kind: Any, tables: Mapping[str, Any], *, where: str) -> Any:
    import difflib

    types = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in tables.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=3) or names
            raise UsageError(
                f"configuration: unknown value {where}{key}.", hint=f"did you mean {', '.join(near)}?"
            )
        values[key] = _checked(types[key], value, where=f"{where}{key}")
    return kind(**values)


def _checked(kind: Any, value: Any, *, where: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UsageError(f"configuration: {where} must be a table.")
        return _build(kind, value, where=f"{where}.")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(
                f"configuration: {where} = {value!r} is unknown.", hint=f"one of {', '.join(get_args(kind))}"
            )
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"configuration: {where} must be a list.")
        return tuple(_checked(get_args(kind)[0], item, where=where) for item in value)
    accepted = get_args(kind) or (kind,)
    if float in accepted and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise UsageError(
            f"configuration: {where} = {value!r} must be {' or '.join(t.__name__ for t in accepted)}."
        )
    return value


def _is_positive_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(f"configuration: {message}.")
