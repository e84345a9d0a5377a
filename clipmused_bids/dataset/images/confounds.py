"""Confounds of a run by a named strategy: nilearn for fMRIPrep's present names, our own table for older ones."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.images.confound_tables import rename_old_columns, select_columns
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, Run

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Strategy = Literal["default", "simple", "motion", "compcor", "scrubbing", "none"]

_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
_STRATEGIES: dict[str, dict[str, Any]] = {
    "simple": {"strategy": ("high_pass", "motion", "wm_csf"), "motion": "full", "wm_csf": "basic"},
    "motion": {"strategy": ("high_pass", "motion"), "motion": "full"},
    "compcor": {"strategy": ("high_pass", "motion", "compcor"), "motion": "full", "compcor": "anat_combined"},
    "scrubbing": {"strategy": ("high_pass", "motion", "wm_csf", "scrub"), "motion": "full", "wm_csf": "full"},
}


@dataclass(frozen=True)
class Confounds:
    """Nuisance signals of one run.

    Parameters
    ----------
    matrix : ndarray of shape (n_scans, n_confounds), float64
        Without NaN; each column with mean 0 over the scans that are kept.
    names : tuple of str
    sample_mask : ndarray of int
        Indices of the scans to keep (without non-steady-state volumes, and scrubbed ones if asked for).
    has_cosines : bool
        Whether a discrete cosine drift is among the columns; another drift model must not be added.
    source : str
        Where the confounds come from, in words.
    """

    matrix: FloatArray
    names: tuple[str, ...]
    sample_mask: IntArray
    has_cosines: bool
    source: str


def read_confounds(run: Run, *, strategy: Strategy, n_scans: int) -> Confounds:
    """Read the confounds of a run.

    Parameters
    ----------
    run : Run
    strategy : {"default", "simple", "motion", "compcor", "scrubbing", "none"}
        ``default``: six motion parameters, mean white matter and CSF signal and the high-pass cosines, as far as
        the columns exist. ``simple``, ``compcor`` and ``scrubbing`` are nilearn's strategies of these names;
        ``motion`` is ``simple`` without tissue signals.
    n_scans : int
        Volumes of the run's image.

    Returns
    -------
    Confounds
        With no columns and all scans where the run has no confounds file, which is logged.

    Raises
    ------
    DataError
        If the table has another number of rows, lacks columns a named strategy needs, or holds n/a beyond the
        first row.
    """
    if strategy == "none":
        return _none(n_scans, "none, as asked for")
    if run.confounds is None:
        logger.debug("%s: no confounds file; responses are estimated without confounds.", run.label)
        return _none(n_scans, "no confounds file")
    table = _read(run.confounds, n_scans=n_scans)
    frame, is_old = rename_old_columns(table)
    options = default_options(frame) if strategy == "default" else _STRATEGIES[strategy]
    by_nilearn = bool(options["strategy"]) and not is_old and _nilearn_finds(run)
    if by_nilearn:
        selected, kept = _by_nilearn(run, options, strategy=strategy)
        how = "nilearn"
    else:
        selected, kept = select_columns(frame, options, path=run.confounds, strategy=strategy)
        how = "fMRIPrep's names before 1.2" if is_old else "by column name"
    _refuse_missing(selected, run.confounds)
    return Confounds(
        matrix=selected.to_numpy(dtype=float),
        names=tuple(str(name) for name in selected.columns),
        sample_mask=np.arange(n_scans) if kept is None else np.asarray(kept, dtype=int),
        has_cosines=any(str(name).startswith("cosine") for name in selected.columns),
        source=f"{run.confounds.name}, {strategy} ({how})",
    )


def _none(n_scans: int, source: str) -> Confounds:
    return Confounds(np.empty((n_scans, 0)), (), np.arange(n_scans), has_cosines=False, source=source)


def _read(path: Path, *, n_scans: int) -> pd.DataFrame:
    import pandas as pd

    require_content(path)
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"], encoding="utf-8-sig")
    except ValueError as error:
        raise DataError(f"{path}: not a tab-separated table of confounds ({error}).") from error
    if len(table) != n_scans:
        raise DataError(
            f"{path}: {len(table)} rows of confounds for {n_scans} volumes.",
            hint="confounds and image must come from the same preprocessing; --confounds none goes on without",
        )
    return table


def default_options(frame: pd.DataFrame) -> dict[str, Any]:
    """Arguments of ``load_confounds`` for the strategy ``default``: the parts that the table has columns for."""
    columns = set(frame.columns)
    parts = {
        "motion": set(_MOTION) <= columns,
        "wm_csf": {"csf", "white_matter"} <= columns,
        "high_pass": any(name.startswith("cosine") for name in columns),
    }
    absent = [name for name, exists in parts.items() if not exists]
    if absent:
        logger.info("Confounds without columns for %s; the others are used.", ", ".join(absent))
    strategy = tuple(name for name, exists in parts.items() if exists)
    return {"strategy": strategy, "motion": "basic", "wm_csf": "basic"}


def _nilearn_finds(run: Run) -> bool:
    """Whether nilearn, which looks beside the image, finds the very file that belongs to the run."""
    same_folder = (
        run.image is not None and run.confounds is not None and run.image.parent == run.confounds.parent
    )
    return same_folder and str(run.image).endswith("_desc-preproc_bold.nii.gz")


def _by_nilearn(run: Run, options: dict[str, Any], *, strategy: str) -> tuple[pd.DataFrame, IntArray | None]:
    from nilearn.interfaces.fmriprep import load_confounds

    try:
        with warnings.catch_warnings():
            # Squared tissue signals are large; centring them is exact enough for a nuisance column.
            warnings.filterwarnings("ignore", "Numerical issues were encountered", UserWarning)
            selected, kept = load_confounds(str(run.image), **options)
    except ValueError as error:
        raise DataError(
            f"{run.confounds}: cannot serve --confounds {strategy} ({' '.join(str(error).split())}).",
            hint="--confounds default takes what exists",
        ) from error
    return selected, kept


def _refuse_missing(selected: pd.DataFrame, path: Path) -> None:
    bad = [str(name) for name in selected.columns[selected.isna().any()]]
    if bad:
        raise DataError(
            f"{path}: n/a beyond the first row in {', '.join(bad[:5])}.",
            hint="--confounds none goes on without confounds, --confounds motion without tissue signals",
        )
