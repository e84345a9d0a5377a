"""Section: from what, by what and how everything on the group's page was made."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from clipmused_bids import __version__
from clipmused_bids.config import as_tables, build_hyperparameters, read_preset
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.report.blocks import Section
from clipmused_bids.report.provenance import (
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


def provenance_section(view: ReportView) -> Section:
    """Dataset, program, choices and hashes."""
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
        versions=_versions(),
        changed=changed_settings(settings, as_tables(build_hyperparameters(read_preset(preset)))),
        preset=preset,
    )
    return Section("provenance", "Provenance", blocks)


def _versions() -> dict[str, str]:
    found = {"clipmused-bids": __version__, "Python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
