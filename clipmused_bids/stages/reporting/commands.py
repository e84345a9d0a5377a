"""Command lines that use a stored decoder."""

from __future__ import annotations

from collections.abc import Sequence

from clipmused_bids.config import Config
from clipmused_bids.dataset.outputs.weights import ModelRecord
from clipmused_bids.methods.registry import METHODS

_START = "clipmused-bids BIDS_DIR OUTPUT_DIR participant"


def commands_of(config: Config, label: str, records: Sequence[ModelRecord]) -> dict[str, str]:
    """Say how new runs of known people are decoded, and new people where the method can be fitted to them.

    Parameters
    ----------
    config : Config
        Of the run that writes; says which inputs must be named.
    label : str
    records : sequence of ModelRecord
    """
    first = records[0]
    known = [name for record in records for name in record.config["participants"]]
    decode = f"{_START} --decode --model-label {label} --participant-label {known[0]}{_inputs(config, first)}"
    found = {"Decode all runs of a participant that it knows, new ones included": decode}
    # In native space what links a new participant's voxels is made of several people's.
    linked = first.config["common_space"] or len(known) > 1
    adaptable = first.participant is None and METHODS[first.config["method"]].deep and linked
    if adaptable:
        fit = f"{_START} --train --decode --base-model {label} --model-label NEWLABEL --participant-label NEW"
        found["Fit it to a new participant, with the decoder staying as it is"] = (
            f"{fit}{_inputs(config, first)}"
        )
    return found


def _inputs(config: Config, record: ModelRecord) -> str:
    """Options without which the data would not be found, or be read otherwise."""
    mask = record.config["mask"] not in {"derivative", "computed"}
    needed = {
        "--derivatives": " ".join("PATH" for _ in config.inputs.derivatives),
        "--betas": "TABLE" if config.inputs.betas is not None else "",
        "--mask": "FILE" if mask else "",
        "--movie": "FILE" if config.inputs.movie is not None else "",
    }
    return "".join(f" {option} {value}" for option, value in needed.items() if value)
