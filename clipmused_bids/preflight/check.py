"""``--check``: whether everything that a run needs is there; nothing is written beyond a probe that is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clipmused_bids import __version__
from clipmused_bids.config import Config
from clipmused_bids.errors import ClipMusedError, ExitCode
from clipmused_bids.stages.terminal import item, show

State = Literal["ok", "warning", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Parameters
    ----------
    name : str
        What was looked at.
    state : {"ok", "warning", "FAIL"}
    text : str
        What was found.
    hint : str or None
        What helps.
    code : ExitCode
        What a run would end with; 0 unless ``FAIL``.
    """

    name: str
    state: State
    text: str
    hint: str | None = None
    code: ExitCode = ExitCode.OK


def failed(name: str, error: ClipMusedError) -> Check:
    """Turn an error into a line of the table."""
    return Check(name, "FAIL", str(error.args[0]), error.hint, error.exit_code)


def check(config: Config) -> ExitCode:
    """Print a table of checks.

    Returns
    -------
    ExitCode
        0 if nothing fails, else the code of the first failure.
    """
    checks = tuple(all_checks(config))
    show(report(checks))
    return next((one.code for one in checks if one.state == "FAIL"), ExitCode.OK)


def all_checks(config: Config) -> Iterator[Check]:
    """Look at the dataset, the places, the machine and the models, in this order."""
    from clipmused_bids.preflight.machine_checks import device_check, machine_checks
    from clipmused_bids.preflight.model_checks import model_checks
    from clipmused_bids.preflight.place_checks import dataset_check, input_checks, output_checks

    yield dataset_check(config.bids_dir, of_manifest=config.inputs.betas is not None)
    yield from input_checks(config)
    yield from output_checks(config)
    yield from machine_checks(os.environ)
    yield device_check(config.device)
    yield from model_checks(config, os.environ)


def report(checks: tuple[Check, ...]) -> str:
    """Return the table as text: one entry for each check, its hint below it, and a last line that sums up."""
    width = max(len(one.name) for one in checks)
    lines = [f"clipmused-bids {__version__}, check", ""]
    for one in checks:
        lines += item(f"{one.state:7}  {one.name.ljust(width)} ", one.text, hint=one.hint, indent=width + 13)
    n_failed = sum(one.state == "FAIL" for one in checks)
    n_warnings = sum(one.state == "warning" for one in checks)
    verdict = f"{n_failed} of {len(checks)} checks failed" if n_failed else "nothing is in the way of a run"
    return "\n".join([*lines, "", f"{verdict}; {n_warnings} warning(s)."]) + "\n"
