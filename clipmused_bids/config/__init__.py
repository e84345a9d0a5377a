"""Configuration: frozen values, checked when built, read from and written to TOML; presets.

Values come from the command line, over the user's ``--config-file``, over the preset, over the defaults here.
"""

from clipmused_bids.config.hyperparameters import (
    HOW_TRAINING_RUNS,
    HRF_MODELS,
    LONGEST_WINDOW,
    Hyperparameters,
    LabelLoss,
    LinearOptions,
    MapOptions,
    ModelOptions,
    Precision,
    ResponseKind,
    ResponseOptions,
    TargetOptions,
    TrainingOptions,
    VoxelWeights,
)
from clipmused_bids.config.inputs import InputOptions, Selection, hdf5_place
from clipmused_bids.config.invocation import (
    PRESETS,
    Action,
    Config,
    Level,
    build_hyperparameters,
    checked_inputs,
    read_config_file,
    read_preset,
)
from clipmused_bids.config.tables import as_tables, merge

__all__ = [
    "HOW_TRAINING_RUNS",
    "HRF_MODELS",
    "LONGEST_WINDOW",
    "PRESETS",
    "Action",
    "Config",
    "Hyperparameters",
    "InputOptions",
    "LabelLoss",
    "Level",
    "LinearOptions",
    "MapOptions",
    "ModelOptions",
    "Precision",
    "ResponseKind",
    "ResponseOptions",
    "Selection",
    "TargetOptions",
    "TrainingOptions",
    "VoxelWeights",
    "as_tables",
    "build_hyperparameters",
    "checked_inputs",
    "hdf5_place",
    "merge",
    "read_config_file",
    "read_preset",
]
