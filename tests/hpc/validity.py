"""Whether every file of an output folder is whole at this moment, and what the folder holds, file by file.

Files are read here by hand, not by the program's own readers.
"""

from __future__ import annotations

import json
import os
import struct
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path


def broken_files(out: Path) -> list[str]:
    """Every file under its final name that is not whole, with what is wrong; hidden neighbours are in nobody's way."""
    problems = []
    for path in files_below(out):
        check = CHECKS.get(path.suffix)
        if check is None or path.name.startswith("."):
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # replaced or merged since it was listed
        try:
            check(content)
        except Exception as error:  # noqa: BLE001 - whatever a reader makes of half a file
            problems.append(f"{path.relative_to(out)} ({len(content)} bytes): {type(error).__name__} {error}")
    return problems


def files_below(out: Path) -> list[Path]:
    """All files; folders that vanish meanwhile are passed over."""
    return [Path(place) / name for place, _, names in os.walk(out) for name in names]


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file but logs, times and hidden ones, by its path.

    Features are told by stimulus: which of them lie in one file depends on which job came first.
    """
    found: dict[str, str] = {}
    for path in files_below(out):
        name = path.relative_to(out).as_posix()
        # Seconds differ from run to run.
        if (
            name.startswith("logs/")
            or "_timing." in name
            or (path.name.startswith(".") and path.name != ".bidsignore")
        ):
            continue
        content = path.read_bytes()
        if "_embeddings/" in name:
            if path.suffix == ".safetensors":
                for key, row in rows_of_shard(content).items():
                    place = f"{path.parent.relative_to(out).as_posix()}/{key}"
                    assert found.setdefault(place, row) == row, (
                        f"{place}: stored twice, with different values"
                    )
            continue
        found[name] = sha256(content).hexdigest()
    return found


def rows_of_shard(content: bytes) -> dict[str, str]:
    """SHA-256 of each row of each array of a file of features, by its settings, key and array."""
    header, start = header_of(content)
    described = json.loads(header.pop("__metadata__")["clipmused"])
    settings, keys = json.dumps(described["settings"], sort_keys=True), described["keys"]
    rows = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        width = (last - first) // len(keys)
        for k, key in enumerate(keys):
            begin = start + first + k * width
            rows[f"{settings} {key} {name}"] = sha256(content[begin : begin + width]).hexdigest()
    return rows


def header_of(content: bytes) -> tuple[dict[str, dict[str, list[int]]], int]:
    """Header of a safetensors file, and where its data start."""
    (n_header,) = struct.unpack("<Q", content[:8])
    header: dict[str, dict[str, list[int]]] = json.loads(content[8 : 8 + n_header])
    return header, 8 + n_header


def _check_tensors(content: bytes) -> None:
    header, start = header_of(content)
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert start + max(ends, default=0) == len(content), "not as long as its header says"


def _check_table(content: bytes) -> None:
    assert content.endswith(b"\n"), "the last row is cut"
    widths = {line.count(b"\t") for line in content.rstrip(b"\r\n").splitlines()}
    assert len(widths) == 1, f"rows of {sorted(widths)} tabs"


def _check_text(content: bytes) -> None:
    assert content.decode("utf-8").endswith("\n")


CHECKS: dict[str, Callable[[bytes], object]] = {
    ".safetensors": _check_tensors,
    ".json": json.loads,
    ".tsv": _check_table,
    ".toml": lambda content: tomllib.loads(content.decode()),
    ".svg": ET.fromstring,
    ".md": _check_text,
}
