"""One invocation of the command, and where its hyper-parameters come from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from clipmused_bids.config.hyperparameters import Hyperparameters
from clipmused_bids.config.inputs import InputOptions, Selection
from clipmused_bids.config.tables import build, merge
from clipmused_bids.errors import MissingInputError, UsageError

Level = Literal["participant", "group"]
Action = Literal["prepare", "train", "decode", "evaluate"]
PRESETS = ("hcp", "nsd", "small")


@dataclass(frozen=True)
class Config:
    """One invocation of the command.

    Parameters
    ----------
    method : str
        The decoder under ``model_label``; a name of the registry.
    variant : str or None
        The named variant of it that was asked for (``clip-mused:paper``); None: the method itself.
    compared : tuple of str
        Further methods and variants, stored beside it as ``<model_label>+<label of the variant>``.
    preset : str or None
        None: chosen by the number of trials when training starts.
    overrides : mapping
        Hyper-parameters set explicitly (``--config-file`` and options), by table; over the preset's.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    memory : int or None
        ``--mem`` in bytes: what the process may hold in all while responses are estimated; None: half of the memory
        that is available.
    n_processes : int
        Runs that are prepared at the same time, each by a process of its own.
    omp_threads : int or None
        Threads of linear algebra and torch in each process; None: as the environment, the scheduler or the cores say.
    write_betas : bool
        Whether responses are exported as NIfTI.
    stop_on_first_crash : bool
        Whether the first failure of a participant, or the first unreadable stimulus, ends the run.
    allow_leakage : bool
        Whether leaks are warnings, named in every output, and not errors.
    dry_run, check : bool
        Say what would be done; look whether everything that is needed is there.
    cv : str or None
        Cross-validation: ``runs``, ``runs:K`` or ``stimuli:K``.
    offline : bool
        Whether missing templates and CLIP weights may not be fetched.
    trained_mask : str or None
        Where a stored decoder is used: which mask it was trained with, as its configuration says.
    base_model : str or None
        Label of a group's decoder that new participants are fitted to.
    calibration_trials : int or None
        How many training trials of each new participant are used; None: all.
    reports_only : bool
        Whether reports are written from what is there, and nothing else is done.
    boilerplate_only : bool
        Whether the methods text is written, and nothing else is done.
    """

    bids_dir: Path
    output_dir: Path
    level: Level
    actions: tuple[Action, ...]
    selection: Selection = field(default_factory=Selection)
    inputs: InputOptions = field(default_factory=InputOptions)
    method: str = "clip-mused"
    variant: str | None = None
    compared: tuple[str, ...] = ()
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    model_label: str = "clipmused"
    split: str = "auto"
    cv: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_seed: int = 0
    work_dir: Path | None = None
    overwrite: bool = False
    memory: int | None = None
    n_processes: int = 1
    omp_threads: int | None = None
    write_betas: bool = False
    stop_on_first_crash: bool = False
    allow_leakage: bool = False
    dry_run: bool = False
    check: bool = False
    offline: bool = True
    trained_mask: str | None = None
    base_model: str | None = None
    calibration_trials: int | None = None
    reports_only: bool = False
    boilerplate_only: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-zA-Z+]+", self.model_label):
            cleaned = re.sub(r"[^0-9a-zA-Z+]", "", self.model_label)
            raise UsageError(
                f"--model-label {self.model_label}: BIDS labels hold letters, digits and + only.",
                hint=f"--model-label {cleaned}" if cleaned else "--model-label clipmused",
            )
        if self.cv is not None and self.split != "auto":
            raise UsageError(
                f"--cv {self.cv} --split {self.split}: folds hold every trial out once; both name what is held out.",
                hint="give one of the two",
            )
        self._check_base()
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"--preset {self.preset}: unknown preset.", hint=f"one of {', '.join(PRESETS)}")

    def _check_base(self) -> None:
        if self.base_model is None:
            if self.calibration_trials is not None:
                raise UsageError(
                    f"--calibration-trials {self.calibration_trials}: for new participants of a stored decoder only.",
                    hint="name the decoder with --base-model",
                )
            return
        if self.level == "group":
            raise UsageError(
                f"--base-model {self.base_model}: new participants are fitted one by one.",
                hint="clipmused-bids BIDS_DIR OUTPUT_DIR participant --train --base-model LABEL",
            )
        if self.actions and "train" not in self.actions:
            raise UsageError(
                f"--base-model {self.base_model}: nothing is fitted without --train.",
                hint=f"--train, or --model-label {self.model_label} alone for what is fitted already",
            )
        if self.base_model == self.model_label:
            raise UsageError(
                f"--model-label {self.model_label}: the base's own label.",
                hint="choose another for new participants",
            )
        self._check_asked_of_base()

    def _check_asked_of_base(self) -> None:
        """Refuse to ask for what the base has decided already."""
        if self.cv is not None or self.split.startswith(("runs:", "column:", "participants:")):
            asked = f"--split {self.split}" if self.cv is None else f"--cv {self.cv}"
            raise UsageError(
                f"{asked}: new participants are divided as the base's are.",
                hint="leave it out, or name a --split file that holds the base's rows and theirs",
            )
        if self.compared:
            raise UsageError(
                f"--base-model {self.base_model}: one decoder is fitted to new participants, not "
                f"{1 + len(self.compared)} methods.",
                hint="leave --method out; each base is adapted by a command of its own",
            )
        if self.preset is not None and self.trained_mask is None:
            raise UsageError(
                f"--preset {self.preset}: the base's hyper-parameters stand.", hint="leave --preset out"
            )

    @property
    def tells_only(self) -> bool:
        """Whether this run only tells about what is there already, in reports or the methods text."""
        return self.reports_only or self.boilerplate_only

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


def build_hyperparameters(tables: Mapping[str, Any]) -> Hyperparameters:
    """Build checked hyper-parameters from nested tables.

    Raises
    ------
    UsageError
        If a name is unknown (the nearest ones are named) or a value has the wrong type.
    """
    built: Hyperparameters = build(Hyperparameters, tables, where="")
    return built


def checked_inputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn stored values of ``InputOptions`` into what its fields hold; errors as for `build_hyperparameters`."""
    options = build(InputOptions, values, where="inputs.")
    return {name: getattr(options, name) for name in values}
