"""What every output says about leakage: as fields of a sidecar, and as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEAKAGE_FIELDS = ("Leakage", "LeakageWarnings", "TransductiveUnits")


def leakage_fields(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Fields for a sidecar from the configuration of the decoder it is about.

    Returns
    -------
    dict of str to list of str
        ``Leakage``: leaks that ``--allow-leakage`` let pass. ``LeakageWarnings``: what the auditor warned of.
        ``TransductiveUnits``: units whose responses were standardised by all their trials, without labels.
    """
    found: Mapping[str, Any] = config.get("leakage", {})
    sources: Mapping[str, str] = config.get("standardization", {}).get("sources", {})
    return {
        "Leakage": list(found.get("leaks", ())),
        "LeakageWarnings": list(found.get("warnings", ())),
        "TransductiveUnits": sorted(name for name, source in sources.items() if source == "transductive"),
    }


def merged_fields(fields: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Join the fields of several sidecars, each text once."""
    return {
        name: list(dict.fromkeys(text for one in fields for text in one.get(name, ())))
        for name in LEAKAGE_FIELDS
    }


def leakage_lines(fields: Mapping[str, Sequence[str]]) -> list[str]:
    """Sentences for people from what `leakage_fields` gives; none where there is nothing to say."""
    lines = [f"LEAKAGE, allowed by --allow-leakage: {leak}." for leak in fields["Leakage"]]
    lines += [f"Leakage warning: {warning}." for warning in fields["LeakageWarnings"]]
    units = fields["TransductiveUnits"]
    if units:
        shown = ", ".join(units[:5]) + (", ..." if len(units) > 5 else "")
        lines.append(
            f"Transductive: the responses of {len(units)} unit(s) ({shown}) were standardised by all their trials, "
            "without labels."
        )
    return lines
