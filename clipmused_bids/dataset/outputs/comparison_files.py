"""Methods beside each other on disk: scores with intervals and verdicts, single labels, folds, and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from clipmused_bids.dataset.files.documents import write_json, write_tsv
from clipmused_bids.dataset.outputs.metric_files import MetricRow
from clipmused_bids.dataset.outputs.tree import OutputTree

_METHOD = {"Description": "Method, or ablation of one, as `--method` takes it"}
_LABEL = {"Description": "Model label: the `desc-` of its predictions, and its folder in `models`"}
_WHO = {"Description": "Participant; `group` for their mean with equal weight"}
_METRIC = {"Description": "mAP and AUC: macro average over labels; Hamming: share of wrong labels at 0.5"}
_VERDICT = {
    "yes": "The whole interval is on the better side of 0",
    "no": "The whole interval is on the worse side of 0",
    "undetermined": "Everything else, and where there is no interval",
}
_COLUMNS: Mapping[str, Any] = {
    "method": _METHOD,
    "model_label": _LABEL,
    "participant_id": _WHO,
    "metric": _METRIC,
    "value": {"Description": "Score of single test trials; n/a where nothing can be scored"},
    "low": {"Description": "Lower end of the 95 % t interval over participants; n/a for one participant"},
    "high": {"Description": "Upper end of that interval"},
    "floor": {"Description": "What knowing nothing would score on the same trials"},
    "n_labels": {"Description": "Labels with a positive and a negative among the scored trials"},
    "n_trials": {"Description": "Scored trials"},
    "baseline": {"Description": "The linear method with the highest score, that is compared with"},
    "difference": {"Description": "Value minus that of the baseline, over the participants that both have"},
    "people_low": {"Description": "Lower end of the 95 % t interval of the difference over participants"},
    "people_high": {"Description": "Upper end of that interval"},
    "people_verdict": {"Description": "Beats the baseline, for other people", "Levels": _VERDICT},
    "people_p": {"Description": "Two-sided paired t test of the difference over participants"},
    "people_p_holm": {"Description": "The same, corrected for the number of methods (Holm)"},
    "stimuli_low": {"Description": "Lower end of the 95 % interval of the difference over stimuli"},
    "stimuli_high": {"Description": "Upper end of that interval"},
    "stimuli_verdict": {"Description": "Beats the baseline, for other stimuli", "Levels": _VERDICT},
    "p_value": {
        "Description": "One-sided permutation test of the predictions, by the main metric; n/a where it was not done"
    },
    "parameters_shared": {"Description": "Numbers that were fitted and that all participants share"},
    "parameters_own": {"Description": "Numbers that one more participant costs (group: mean)"},
    "note": {"Description": "Why there is no score, or who lacks one"},
}
_LABEL_COLUMNS: Mapping[str, Any] = {
    "method": _METHOD,
    "model_label": _LABEL,
    "participant_id": _WHO,
    "label": {"Description": "Label"},
    "average_precision": {"Description": "Average precision; mean over folds after a cross-validation"},
    "floor": {"Description": "Expected average precision of a random ranking"},
    "prevalence": {"Description": "Share of the scored trials that have the label"},
    "auc": {"Description": "Area under the ROC curve"},
    "n_positive": {"Description": "Scored trials that have the label"},
    "n_trials": {"Description": "Scored trials for which the label is known"},
}
_FOLD_COLUMNS: Mapping[str, Any] = {
    "method": _METHOD,
    "model_label": _LABEL,
    "fold": {"Description": "Fold that was held out"},
    "participant_id": _WHO,
    "metric": _METRIC,
    **{name: _COLUMNS[name] for name in ("value", "floor", "n_labels", "n_trials")},
}
_TIMING_COLUMNS: Mapping[str, Any] = {
    "model_label": _LABEL,
    "fit_seconds": {
        "Description": "Seconds from stored responses to a stored decoder, over all participants and folds; of the run "
        "that fitted it. Not reproducible",
        "Units": "s",
    },
    "decode_seconds": {
        "Description": "Seconds from stored responses to stored predictions. Not reproducible",
        "Units": "s",
    },
}

Verdict = Literal["yes", "no", "undetermined", ""]


@dataclass(frozen=True)
class ComparisonRow:
    """One score of one method; the fields are the columns of the table, whose sidecar describes them."""

    method: str
    model_label: str
    participant_id: str
    metric: str
    value: float
    low: float
    high: float
    floor: float
    n_labels: int | None
    n_trials: int | None
    baseline: str
    difference: float
    people_low: float
    people_high: float
    people_verdict: Verdict
    people_p: float
    people_p_holm: float
    stimuli_low: float
    stimuli_high: float
    stimuli_verdict: Verdict
    p_value: float
    parameters_shared: int | None
    parameters_own: int | None
    note: str


@dataclass(frozen=True)
class LabelRow:
    """Scores of one label; the fields are the columns of the table."""

    method: str
    model_label: str
    participant_id: str
    label: str
    average_precision: float
    floor: float
    prevalence: float
    auc: float
    n_positive: int
    n_trials: int


def write_comparison(
    tree: OutputTree,
    rows: Sequence[ComparisonRow],
    *,
    model_label: str,
    sources: Sequence[str],
    details: Mapping[str, Any],
) -> None:
    """Write the table of all methods, and what was compared with what.

    Parameters
    ----------
    tree : OutputTree
    rows : sequence of ComparisonRow
    model_label : str
        Label of the main decoder.
    sources : sequence of str
        BIDS URIs of the predictions.
    details : mapping
        JSON values for the sidecar: regime, main metric, folds, seed, ...

    Raises
    ------
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    path = tree.group_table(model_label=model_label, kind="comparison")
    write_tsv(path, {name: [getattr(row, name) for row in rows] for name in _COLUMNS})
    about = f"The decoder {model_label} beside the other methods on the same split."
    write_json(
        path.with_suffix(".json"), {**_COLUMNS, "Description": about, "Sources": list(sources), **details}
    )


def write_labels(tree: OutputTree, rows: Sequence[LabelRow], *, model_label: str) -> None:
    """Write the scores of single labels of all methods; errors as in :func:`write_comparison`."""
    path = tree.group_table(model_label=model_label, kind="labels")
    names = [field.name for field in fields(LabelRow)]
    write_tsv(path, {name: [getattr(row, name) for row in rows] for name in names})
    about = "Scores of single labels, single test trials."
    write_json(path.with_suffix(".json"), {**_LABEL_COLUMNS, "Description": about})


def write_folds(
    tree: OutputTree, rows: Sequence[tuple[str, str, int, MetricRow]], *, model_label: str
) -> None:
    """Write the scores of each fold: (method, model label, fold, score); errors as in :func:`write_comparison`."""
    path = tree.group_table(model_label=model_label, kind="folds")
    columns: dict[str, list[Any]] = {
        "method": [method for method, *_ in rows],
        "model_label": [label for _, label, *_ in rows],
        "fold": [fold for _, _, fold, _ in rows],
        "participant_id": [f"sub-{row.participant}" for *_, row in rows],
        "metric": [row.score.metric for *_, row in rows],
        "value": [row.score.value for *_, row in rows],
        "floor": [row.score.floor for *_, row in rows],
        "n_labels": [row.score.n_labels for *_, row in rows],
        "n_trials": [row.score.n_trials for *_, row in rows],
    }
    write_tsv(path, columns)
    about = "Scores of each fold of the cross-validation, single trials."
    write_json(path.with_suffix(".json"), {**_FOLD_COLUMNS, "Description": about})


def write_timing(tree: OutputTree, rows: Sequence[tuple[str, float, float]], *, model_label: str) -> None:
    """Write seconds of fitting and decoding by model label; errors as in :func:`write_comparison`."""
    path = tree.group_table(model_label=model_label, kind="timing")
    seconds = [
        [round(value, 2) for value in column] for column in zip(*(row[1:] for row in rows), strict=True)
    ]
    fit, decode = seconds or [[], []]
    write_tsv(
        path,
        {"model_label": [row[0] for row in rows], "fit_seconds": fit, "decode_seconds": decode},
    )
    about = "How long fitting and decoding took on the machine at hand."
    write_json(path.with_suffix(".json"), {**_TIMING_COLUMNS, "Description": about})
