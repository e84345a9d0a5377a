"""Where the numbers come from: data, software, command, choices, and the hashes that tie them together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.report.blocks import Block, Details, Paragraph, Table


def description_rows(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows on dataset, derivatives, program and container from ``dataset_description.json``."""
    rows = [("dataset", str(description.get("Name", "unnamed")))]
    # Links are relative to the output folder, and of no use to who reads a copy of the page.
    links = description.get("DatasetLinks") or {}
    rows += [("read as", ", ".join(links))] if links else []
    known = [str(one["URL"]) for one in description.get("SourceDatasets") or () if "URL" in one]
    named = [url for url in known if not url.startswith("bids:")]
    rows += [("sources", ", ".join(named))] if named else []
    for one in description.get("GeneratedBy") or ():
        rows.append(("program", f"{one.get('Name')} {one.get('Version', '')}".strip()))
        container = one.get("Container")
        image = f"{container.get('Type')}: {container.get('Tag')}" if container else "none recorded"
        rows.append(("container", image))
    return rows


def decoder_rows(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows on a stored decoder: what it was fitted to, by which choices, and hashes."""
    split, clip = config.get("split") or {}, config.get("clip") or {}
    levels = config.get("guidance") or {}
    facts = {
        "method": config.get("variant") or config.get("method"),
        "preset": config.get("preset"),
        "random seed": config.get("random_seed"),
        "task": ", ".join(config.get("tasks") or ()),
        "space": config.get("space") or "native",
        "responses": config.get("response_kind"),
        "trials": f"{config.get('n_training_trials')} training, {config.get('n_validation_trials')} validation",
        "split": f"rule: {split.get('rule')}; regime: {split.get('regime')}; SHA-256 {split.get('hash')}",
        "CLIP": f"{clip.get('model')}, weights SHA-256 {clip.get('weights_sha256')}" if clip else "none",
        "guidance": ", ".join(f"{level} level: {source}" for level, source in levels.items()) or "none",
        "decoder": f"SHA-256 {config.get('weights_sha256')}",
        "made by version": config.get("version"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def changed_settings(
    found: Mapping[str, Any], preset: Mapping[str, Any], *, prefix: str = ""
) -> list[tuple[str, str, str]]:
    """List what differs from a preset: dotted name, value, value of the preset."""
    rows: list[tuple[str, str, str]] = []
    for name, value in found.items():
        other = preset.get(name)
        if isinstance(value, Mapping):
            below = other if isinstance(other, Mapping) else {}
            rows += changed_settings(value, below, prefix=f"{prefix}{name}.")
        elif value != other:
            rows.append((f"{prefix}{name}", _value(value), "not set" if other is None else _value(other)))
    return rows


def provenance_blocks(
    facts: Sequence[tuple[str, str]],
    *,
    versions: Mapping[str, str],
    changed: Sequence[tuple[str, str, str]],
    preset: str,
) -> list[Block]:
    """Lay provenance out; nothing of it is another where the same work was done in other runs of the program.

    Parameters
    ----------
    facts : sequence of (str, str)
    versions : mapping of str to str
        Of the software that wrote the page.
    changed : sequence of (str, str, str)
        What differs from the preset.
    preset : str
    """
    blocks: list[Block] = [Table("What was made from what", ("what", "value"), facts)]
    heads = ("setting", "value", f"preset {preset}")
    if changed:
        blocks.append(
            Table(
                f"Settings that differ from the preset {preset}, also where auto was settled", heads, changed
            )
        )
    else:
        blocks.append(Paragraph(f"No setting differs from the preset {preset}."))
    blocks.append(
        Details(
            "Software that wrote this page",
            [Table("Versions", ("package", "version"), list(versions.items()))],
        )
    )
    blocks.append(
        Paragraph(
            "Command lines, settings and logs of all runs of the program lie in the folder logs, one folder each."
        )
    )
    return blocks


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
