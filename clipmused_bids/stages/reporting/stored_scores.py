"""Scores of a label as they lie in the output folder, if they are those of its present weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.dataset.outputs.comparison_reading import read_comparison
from clipmused_bids.dataset.outputs.metric_files import MetricRow, read_metrics
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import weights_hashes


@dataclass(frozen=True)
class StoredScores:
    """Scores of one decoder, of each participant and the group.

    Parameters
    ----------
    rows : sequence of MetricRow
    details : mapping
        Sidecar: method, regime, intervals, verdicts, ...
    """

    rows: Sequence[MetricRow]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class StoredComparison:
    """A decoder beside other methods.

    Parameters
    ----------
    rows : sequence of ComparisonRow
    details : mapping
        Sidecar.
    """

    rows: Sequence[ComparisonRow]
    details: Mapping[str, Any]

    def group_rows(self, metric: str) -> tuple[ComparisonRow, ...]:
        """Rows of the group by one metric, in the table's order, those without any score included."""
        return tuple(row for row in self.rows if row.participant_id == "group" and row.metric in {metric, ""})


def stored_scores(tree: OutputTree, label: str) -> StoredScores | None:
    """Read the scores of a label; None where there are none, or they are those of other weights.

    Raises
    ------
    MissingInputError, DataError
        If a file is broken.
    """
    path = tree.group_metrics(model_label=label)
    if not path.is_file():
        return None
    details = read_json(path.with_suffix(".json"))
    hashes = weights_hashes(tree.model_folder(label))
    # Scores of earlier versions do not say whose they are.
    theirs = details.get("DecoderWeights", hashes)
    return StoredScores(read_metrics(path), details) if theirs == hashes else None


def stored_comparison(tree: OutputTree, label: str) -> StoredComparison | None:
    """Read the comparison of a label's decoder; None where there is none; errors as in :func:`stored_scores`."""
    path = tree.group_table(model_label=label, kind="comparison")
    if not path.is_file():
        return None
    return StoredComparison(read_comparison(path), read_json(path.with_suffix(".json")))


def runs_scored(tree: OutputTree, label: str) -> dict[str, tuple[MetricRow, ...]]:
    """Read scores of single runs by participant, where participants were scored alone with the present weights.

    Errors as in :func:`stored_scores`.
    """
    hashes = set(weights_hashes(tree.model_folder(label)).values())
    found: dict[str, tuple[MetricRow, ...]] = {}
    for pattern in ("sub-*/func", "sub-*/ses-*/func"):
        for path in sorted(tree.root.glob(f"{pattern}/*_desc-{label}_metrics.tsv")):
            predictions = path.with_name(path.name.replace("_metrics.tsv", "_predictions.json"))
            if predictions.is_file() and read_json(predictions).get("WeightsHash") in hashes:
                participant = path.name.partition("_")[0].removeprefix("sub-")
                found[participant] = found.get(participant, ()) + read_metrics(path)
    return found
