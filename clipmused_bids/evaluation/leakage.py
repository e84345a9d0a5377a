"""The leakage auditor: what would make a score better than the decoder is, looked for before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.evaluation.hold_out import GAP
from clipmused_bids.evaluation.label_order import LabelOrder, label_order
from clipmused_bids.records import FloatArray, SetName

_SCORED: tuple[SetName, ...] = ("train", "val", "test")


Purpose = Literal["fit", "refit", "tuning"]
HINT = "make another --split; --allow-leakage goes on all the same and names the leaks in every output"


@dataclass(frozen=True)
class Fitted:
    """Something that was fitted with labels, targets or responses, and on which sets.

    Parameters
    ----------
    name : str
        ``label choice``, ``voxel choice``, ``PCA``, ``SRM``, ...
    sets : tuple of str
        Sets whose trials entered.
    purpose : {"fit", "refit", "tuning"}
        Fits may see training trials only; a last fit to training and validation trials (``fit_on``), and tuning
        (early stopping, thresholds, calibration), validation trials too.
    example : str
        A trial that should not have entered; "" where the sets are all that is known.
    """

    name: str
    sets: tuple[SetName, ...]
    purpose: Purpose = "fit"
    example: str = ""

    @property
    def outside(self) -> tuple[SetName, ...]:
        """Sets whose trials should not have entered."""
        allowed = {"train"} if self.purpose == "fit" else {"train", "val"}
        return tuple(name for name in self.sets if name not in allowed)


@dataclass(frozen=True)
class Audit:
    """What the auditor found: errors, and what deserves a warning."""

    leaks: tuple[str, ...]
    warnings: tuple[str, ...]

    def refuse(self, what: str) -> None:
        """Refuse what leaks, naming all leaks.

        Raises
        ------
        DataError
        """
        if self.leaks:
            raise DataError(f"{what}:" + "".join(f"\n  {leak}" for leak in self.leaks), hint=HINT)


def audit(
    *,
    set_name: Sequence[SetName],
    run_key: Sequence[str],
    participant: Sequence[str],
    stimulus_id: Sequence[str],
    onset: FloatArray,
    regime: str,
    design: Literal["events", "continuous"],
    content: Sequence[str] | None = None,
    labels: FloatArray | None = None,
    fitted: Sequence[Fitted] = (),
    on_leak: Literal["raise", "report"] = "raise",
) -> Audit:
    """Look for leaks between the sets of a split.

    Leaks are: a stimulus (by content, and by name) in two sets when the regime claims unseen stimuli; a
    participant in the training and test sets when it claims an unseen participant; samples of one continuous
    run in different sets closer than 15 s; in designs of events, labels that are alike in neighbouring trials
    of sets that interleave (see ``label_order``); anything fitted with labels or targets on other than
    training trials.

    Parameters
    ----------
    set_name, run_key, participant, stimulus_id : sequence of str, length n
        One entry for each trial; trials of sets ``none`` and ``new`` do not matter.
    onset : ndarray of shape (n,)
        Seconds from the start of the run.
    regime : str
        As the split claims it.
    design : {"events", "continuous"}
    content : sequence of str, length n, optional
        Hash of each stimulus file; "" where there is none.
    labels : ndarray of shape (n, C), optional
        1, 0, NaN where unknown; without, their order is not looked at.
    fitted : sequence of Fitted
    on_leak : {"raise", "report"}

    Returns
    -------
    Audit

    Raises
    ------
    DataError
        If there is a leak and ``on_leak`` is "raise"; names all of them.
    """
    sets = np.asarray(set_name, dtype=str)
    leaks = _fitted_elsewhere(fitted)
    if "unseen stimuli" in regime:
        leaks += _in_two_sets(stimulus_id, sets, what="stimuli, by name,")
        if content is not None:
            leaks += _in_two_sets(content, sets, what="stimuli, by content,")
    if "unseen participant" in regime:
        merged = np.where(sets == "val", "train", sets)
        leaks += _in_two_sets(participant, merged, what="participants")
    warnings = _warnings(stimulus_id, content, sets, regime)
    if design == "continuous":
        leaks += _too_close(run_key, onset, sets)
    elif labels is not None and len(labels):
        order = label_order(labels, run_key=run_key, onset=onset, set_name=set_name)
        (leaks if order.leaks else warnings).extend(_alike(order))
    found = Audit(tuple(leaks), tuple(warnings))
    if on_leak == "raise":
        found.refuse(f"the split leaks (regime: {regime})")
    return found


def fits_elsewhere(fitted: Sequence[Fitted]) -> tuple[str, ...]:
    """Name what was fitted on trials that it should not have seen."""
    return tuple(_fitted_elsewhere(fitted))


def _in_two_sets(names: Sequence[str], sets: np.ndarray, *, what: str) -> list[str]:
    keys = np.asarray(names, dtype=str)
    counts = np.isin(sets, _SCORED) & (keys != "")
    keys, sets = keys[counts], sets[counts]
    if len(keys) == 0:
        return []
    names_of, code = np.unique(keys, return_inverse=True)
    present = np.zeros((len(names_of), len(_SCORED)), dtype=bool)
    for k, name in enumerate(_SCORED):
        present[code[sets == name], k] = True
    double = np.flatnonzero(present.sum(axis=1) > 1)
    if len(double) == 0:
        return []
    listed = "; ".join(
        f"{_short(names_of[i])} ({', '.join(s for s, here in zip(_SCORED, present[i], strict=True) if here)})"
        for i in double[:5]
    )
    return [f"{len(double)} {what} are in two sets: {listed}{'; ...' if len(double) > 5 else ''}"]


def _too_close(run_key: Sequence[str], onset: FloatArray, sets: np.ndarray) -> list[str]:
    scored = np.isin(sets, _SCORED)
    runs, times, sets = np.asarray(run_key, dtype=str)[scored], np.asarray(onset)[scored], sets[scored]
    order = np.lexsort((times, runs))
    runs, times, sets = runs[order], times[order], sets[order]
    # Sorted by time: if any two samples of different sets are close, two neighbours are.
    close = (runs[1:] == runs[:-1]) & (sets[1:] != sets[:-1]) & (np.diff(times) < GAP - 1e-6)
    where = np.flatnonzero(close)
    if len(where) == 0:
        return []
    i = int(where[0])
    example = f"{runs[i]}: {sets[i]} at {times[i]:g} s, {sets[i + 1]} at {times[i + 1]:g} s"
    return [
        f"{len(where)} pairs of samples of one run in different sets are closer than {GAP:g} s: {example}"
    ]


def _fitted_elsewhere(fitted: Sequence[Fitted]) -> list[str]:
    return [
        f"{each.name} was fitted on trials of set {', '.join(each.outside)}"
        f"{f' ({each.example})' if each.example else ''}"
        for each in fitted
        if each.outside
    ]


def _alike(order: LabelOrder) -> list[str]:
    """Say how alike labels of neighbouring trials are, where they are."""
    shown = ", ".join(f"{value:.2f}" for value in order.excess)
    alike = f"labels of neighbouring trials are alike: autocorrelation at lags 1 to 4 above shuffled order {shown}"
    if order.leaks:
        where = f"sets interleave within runs, and across sets it is {order.across_sets:.2f}"
        return [f"{alike}; {where}: the noise that neighbours share decodes them"]
    return [alike] if order.above_shuffled else []


def _warnings(
    stimulus_id: Sequence[str], content: Sequence[str] | None, sets: np.ndarray, regime: str
) -> list[str]:
    if "unseen stimuli" not in regime:
        return _hardly_seen(stimulus_id, sets)
    scored = np.isin(sets, _SCORED)
    names = np.asarray(stimulus_id, dtype=str)
    hashes = np.asarray(content if content is not None else [""] * len(names), dtype=str)
    unhashed = np.unique(names[scored & (hashes == "") & (names != "")])
    if len(unhashed) == 0:
        return []
    total = len(np.unique(names[scored & (names != "")]))
    return [f"{len(unhashed)} of {total} stimuli were compared by name only: their files were not found"]


def _hardly_seen(stimulus_id: Sequence[str], sets: np.ndarray) -> list[str]:
    """A few seen stimuli among many unseen ones decide about the regime: most likely a mistake."""
    names = np.asarray(stimulus_id, dtype=str)
    test = np.unique(names[(sets == "test") & (names != "")])
    seen = test[np.isin(test, names[np.isin(sets, ("train", "val"))])]
    if not 0 < len(seen) <= len(test) / 2:
        return []
    shown = f"{', '.join(map(_short, seen[:5]))}{', ...' if len(seen) > 5 else ''}"
    most = "without them the scores would speak about unseen stimuli"
    return [f"{len(seen)} of {len(test)} test stimuli are in another set too ({shown}); {most}"]


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:12]}..."
