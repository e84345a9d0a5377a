"""Results on disk: one file of JSON lines for each seed, whole after every result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.files.contents import read_bytes
from clipmused_bids.dataset.files.documents import canonical_json, plain
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.simulation.benchmark.regimes import Regime, Setting, kind_of_seeds

STUDY = "study"  # row of what is known of a study
_ENDING = ".jsonl"


@dataclass(frozen=True)
class Case:
    """What a result is of.

    Parameters
    ----------
    seed : int
    regime : {"many", "few", "newcomer"}
    row : str
        A variant, or ``study``.
    setting : Setting
    trials : str
        Trials of the newcomer (``0``, ``10``, ``all``); "" in the other regimes.
    """

    seed: int
    regime: Regime
    row: str
    setting: Setting
    trials: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the case as values that JSON can hold."""
        return {
            "seed": self.seed,
            "regime": self.regime,
            "trials": self.trials,
            "row": self.row,
            "native": self.setting.native,
            "sweep": self.setting.sweep,
            "value": self.setting.value,
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Case:
        """Read back what ``fields`` gave."""
        setting = Setting(native=record["native"], sweep=record["sweep"], value=record["value"])
        return cls(record["seed"], record["regime"], record["row"], setting, record["trials"])


class Journal:
    """Results of one seed. One process at a time writes it.

    Parameters
    ----------
    folder : Path
    seed : int

    Raises
    ------
    CannotCreateError
        If the file cannot be written.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / f"seed-{seed:04d}{_ENDING}"
        self._lines = _lines(self.path)
        self._done = {Case.of(record): record["made_with"] for record in map(json.loads, self._lines)}

    def holds(self, case: Case, *, made_with: str) -> bool:
        """Whether there is a result already.

        Raises
        ------
        CannotCreateError
            If it was made with other parameters or hyper-parameters.
        """
        if case not in self._done:
            return False
        if self._done[case] != made_with:
            raise CannotCreateError(
                f"{self.path}: {case.row} ({case.regime}) was made with other parameters.",
                hint="name another folder, or remove the file",
            )
        return True

    def add(self, case: Case, result: Mapping[str, Any], *, made_with: str) -> None:
        """Add a result; the file holds it as a whole, or not at all."""
        record = case.fields() | {"made_with": made_with} | dict(result)
        self._lines.append(json.dumps(plain(record), allow_nan=False))
        write_bytes(self.path, "".join(f"{line}\n" for line in self._lines).encode())
        self._done[case] = made_with


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Results of all seeds, in the order in which they were made.

    Raises
    ------
    DataError
        If there is none, or a file is broken.
    UsageError
        If seeds for development and for reports lie in one folder.
    """
    records = [json.loads(line) for path in sorted(folder.glob(f"seed-*{_ENDING}")) for line in _lines(path)]
    if not records:
        raise DataError(f"{folder}: no results.", hint="name the folder of a benchmark")
    kind_of_seeds(sorted({record["seed"] for record in records}))
    return records


def fingerprint(*parts: Any) -> str:
    """Sixteen digits that change with anything that decides about a result."""
    return hashlib.sha256(canonical_json({"parts": parts}).encode()).hexdigest()[:16]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines: Sequence[str] = read_bytes(path).decode("utf-8").splitlines()
    try:
        for line in lines:
            Case.of(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the results of a benchmark ({error}).", hint="remove the file"
        ) from error
    return list(lines)
