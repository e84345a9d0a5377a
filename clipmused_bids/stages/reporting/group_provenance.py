"""Section: from what, by what and how everything on the group's page was made."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from clipmused_bids import __version__
from clipmused_bids.config import as_tables, build_hyperparameters, read_preset
from clipmused_bids.dataset.files.contents import read_bytes, read_json
from clipmused_bids.errors import DataError
from clipmused_bids.report.blocks import Section
from clipmused_bids.report.provenance import (
    RunRecord,
    changed_settings,
    decoder_rows,
    description_rows,
    provenance_blocks,
)
from clipmused_bids.stages.reporting.group_files import config_of
from clipmused_bids.stages.reporting.view import ReportView

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "nibabel",
    "nilearn",
    "safetensors",
    "open_clip_torch",
)
_TELLS_ONLY = ("reports_only", "boilerplate_only", "dry_run", "check")


def provenance_section(view: ReportView) -> Section:
    """Dataset, program, command, choices and hashes."""
    config = config_of(view, model_label=view.model_label)
    description = view.tree.root / "dataset_description.json"
    facts = description_rows(read_json(description)) if description.exists() else []
    facts += (
        decoder_rows(config) if config else [("decoder", f"none under the model label {view.model_label}")]
    )
    preset = str(config.get("preset") or view.plan.preset)
    settings = config.get("hyperparameters") or as_tables(view.plan.hyperparameters)
    blocks = provenance_blocks(
        facts,
        runs=runs_of(view.tree.root / "logs"),
        versions=_versions(),
        changed=changed_settings(settings, as_tables(build_hyperparameters(read_preset(preset)))),
        preset=preset,
        files=_files(view.tree.root),
    )
    return Section("provenance", "Provenance", blocks)


def runs_of(logs: Path) -> list[RunRecord]:
    """Runs of the program that computed anything, the latest first.

    Raises
    ------
    DataError
        If a configuration is broken.
    """
    found = [_run(path) for path in logs.glob("*/config.toml")]
    runs = [run for run in found if not any(run.config.get(name) for name in _TELLS_ONLY)]
    return sorted(runs, key=lambda run: (run.started, run.uuid), reverse=True)


def _run(path: Path) -> RunRecord:
    try:
        config: dict[str, Any] = tomllib.loads(read_bytes(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}.") from error
    return RunRecord(path.parent.name, _first_time(path.with_name("log.txt")), config)


def _first_time(log: Path) -> str:
    """Time stamp of the first line, to the second; file times do not survive copying."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as lines:
        stamp = lines.readline()[:19]
    return stamp if len(stamp) == 19 and stamp[10] == " " else ""


def _versions() -> dict[str, str]:
    found = {"clipmused-bids": __version__, "Python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _files(root: Path) -> list[str]:
    """Everything in the output folder but logs, pages and what is hidden."""
    names = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    kept = [
        name.as_posix()
        for name in names
        if name.parts[0] != "logs"
        and name.suffix != ".html"
        and not any(part.startswith(".") for part in name.parts)
    ]
    return sorted(kept)
