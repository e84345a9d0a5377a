"""Selection of confounds by column name, for tables that nilearn does not read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.records import IntArray

if TYPE_CHECKING:
    import pandas as pd

_BEFORE_1_2 = {
    "X": "trans_x", "Y": "trans_y", "Z": "trans_z", "RotX": "rot_x", "RotY": "rot_y", "RotZ": "rot_z",
    "CSF": "csf", "WhiteMatter": "white_matter", "GlobalSignal": "global_signal",
    "FramewiseDisplacement": "framewise_displacement", "stdDVARS": "std_dvars",
}  # fmt: skip
_NUMBERED = {"Cosine": "cosine", "aCompCor": "a_comp_cor_", "tCompCor": "t_comp_cor_",
             "NonSteadyStateOutlier": "non_steady_state_outlier"}  # fmt: skip
_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
_SIGNALS = {"motion": _MOTION, "wm_csf": ("csf", "white_matter")}
_PREFIXES = {"high_pass": "cosine", "compcor": "a_comp_cor_"}


def rename_old_columns(table: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Give columns of fMRIPrep before 1.2 their present names; says whether the table was such a one."""
    names = {name: _present_name(str(name)) for name in table.columns}
    is_old = "RotX" in table.columns or "WhiteMatter" in table.columns
    return (table.rename(columns=names) if is_old else table), is_old


def select_columns(
    frame: pd.DataFrame, options: dict[str, Any], *, path: Path, strategy: str
) -> tuple[pd.DataFrame, IntArray | None]:
    """Select and centre columns as ``nilearn.interfaces.fmriprep.load_confounds`` does.

    Parameters
    ----------
    frame : DataFrame of n_scans rows
        Present names.
    options : mapping
        Arguments of ``load_confounds``: ``strategy`` of high_pass, motion, wm_csf and compcor; ``motion`` and
        ``wm_csf`` are ``basic`` or ``full`` (with temporal derivatives and squares, computed where they are absent).
    path : Path
        For messages.
    strategy : str
        For messages.

    Returns
    -------
    DataFrame of n_scans rows
    ndarray of int, or None
        Indices of the scans that are no non-steady-state outliers; None if all are kept.

    Raises
    ------
    DataError
        If a column is lacking, or for the strategy ``scrubbing``.
    """
    import pandas as pd

    if "scrub" in options["strategy"]:
        raise DataError(
            f"{path}: --confounds scrubbing needs a table with fMRIPrep's present names beside its image.",
            hint="--confounds simple",
        )
    chosen: dict[str, Any] = {}
    for part in options["strategy"]:
        chosen |= _part(frame, part, model=options.get(part, "basic"), path=path, strategy=strategy)
    selected = pd.DataFrame(chosen, index=frame.index, dtype=float)
    kept = _steady_scans(frame)
    if selected.size:
        # Temporal derivatives have no first value.
        first = selected.iloc[0]
        selected.iloc[0] = first.where(first.notna(), selected.iloc[min(1, len(selected) - 1)])
        selected = selected - (selected if kept is None else selected.iloc[kept]).mean()
    return selected, kept


def _part(frame: pd.DataFrame, part: str, *, model: str, path: Path, strategy: str) -> dict[str, Any]:
    if part in _PREFIXES:
        names = [str(name) for name in frame.columns if str(name).startswith(_PREFIXES[part])]
        if part == "compcor" and not names:
            raise _lacking([_PREFIXES[part] + "00"], path, strategy)
        return {name: frame[name] for name in names}
    lacking = [name for name in _SIGNALS[part] if name not in frame.columns]
    if lacking:
        raise _lacking(lacking, path, strategy)
    selected = {name: frame[name] for name in _SIGNALS[part]}
    return selected | (_expansion(selected) if model == "full" else {})


def _expansion(signals: dict[str, Any]) -> dict[str, Any]:
    expanded: dict[str, Any] = {}
    for name, values in signals.items():
        derivative = values.diff()
        expanded |= {
            f"{name}_derivative1": derivative,
            f"{name}_power2": values**2,
            f"{name}_derivative1_power2": derivative**2,
        }
    return expanded


def _steady_scans(frame: pd.DataFrame) -> IntArray | None:
    names = [name for name in frame.columns if re.match(r"non_steady_state", str(name))]
    outlier = frame[names].to_numpy(dtype=float).any(axis=1) if names else np.zeros(len(frame), dtype=bool)
    return np.flatnonzero(~outlier) if outlier.any() else None


def _present_name(name: str) -> str:
    numbered = re.fullmatch(r"([A-Za-z]+?)(\d+)", name)
    if numbered and numbered[1] in _NUMBERED:
        return _NUMBERED[numbered[1]] + numbered[2]
    return _BEFORE_1_2.get(name, name)


def _lacking(names: list[str], path: Path, strategy: str) -> DataError:
    return DataError(
        f"{path}: --confounds {strategy} needs the columns {', '.join(names)}.",
        hint="--confounds default takes what exists",
    )
