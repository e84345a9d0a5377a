"""What the output folder holds about all methods of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.dataset.outputs.comparison_reading import read_comparison
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.standing import Standing, standing
from clipmused_bids.stages.reporting.view import ReportView


@dataclass(frozen=True)
class GroupResults:
    """An evaluation as it lies on disk.

    Parameters
    ----------
    rows : tuple of ComparisonRow
        The whole table.
    details : mapping
        Its sidecar.
    standing : Standing
        The methods by the metric that decides.
    sidecars : mapping of str to mapping
        Sidecars of the scores, by model label.
    """

    rows: tuple[ComparisonRow, ...]
    details: Mapping[str, Any]
    standing: Standing
    sidecars: Mapping[str, Mapping[str, Any]]

    @property
    def ours(self) -> Mapping[str, Any]:
        """Sidecar of the scores of the report's decoder; empty where it has none."""
        return self.sidecars.get(self.standing.ours.model_label, {})

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants of the table, ``sub-01``, in its order."""
        return tuple(dict.fromkeys(row.participant_id for row in self.rows if row.participant_id != "group"))


def group_results(view: ReportView) -> GroupResults | None:
    """Read the comparison of the report's decoder; None where it was not evaluated.

    Raises
    ------
    DataError
        If a file is broken.
    """
    path = view.tree.group_table(model_label=view.model_label, kind="comparison")
    if not path.exists():
        return None
    rows, details = read_comparison(path), read_json(path.with_suffix(".json"))
    found = standing(rows, metric=str(details["MainMetric"]), model_label=view.model_label)
    if found is None:
        return None
    labels = dict.fromkeys(row.model_label for row in rows)
    paths = {label: view.tree.group_metrics(model_label=label).with_suffix(".json") for label in labels}
    sidecars = {label: read_json(path) for label, path in paths.items() if path.exists()}
    return GroupResults(rows, details, found, sidecars)


def configs_of(folder: Path) -> dict[str | None, dict[str, Any]]:
    """Configurations of the decoders of a folder, by participant; None: that of the whole group."""
    found: dict[str | None, dict[str, Any]] = {}
    if (folder / "config.json").exists():
        found[None] = read_json(folder / "config.json")
    for path in sorted(folder.glob("sub-*_config.json")):
        found[path.name.removeprefix("sub-").removesuffix("_config.json")] = read_json(path)
    return found


def config_of(view: ReportView, *, model_label: str) -> dict[str, Any]:
    """Return the configuration of a decoder, or of the first of one for each participant; empty where there is none."""
    return next(iter(configs_of(view.tree.model_folder(model_label)).values()), {})


def left_as_started(view: ReportView, results: GroupResults) -> tuple[str, ...]:
    """Name the networks that no epoch made better, so that their start is what is scored."""
    names = []
    for row in results.standing.ranked:
        configs = configs_of(view.tree.model_folder(row.model_label)).values()
        deep = [one for one in configs if METHODS[one["method"]].deep]
        if deep and all("no epoch was better than the start" in str(one.get("stopped", "")) for one in deep):
            names.append(row.method)
    return tuple(names)
