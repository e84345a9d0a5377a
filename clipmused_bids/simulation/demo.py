"""Write the demo dataset: ``python -m clipmused_bids.simulation.demo DIR``."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Literal

import click

from clipmused_bids.errors import ClipMusedError
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset

_DEFAULT = SimulationParameters()


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--participants", type=int, default=_DEFAULT.n_participants, show_default=True)
@click.option(
    "--trials", type=int, default=_DEFAULT.n_trials, show_default=True, help="Trials of each participant."
)
@click.option("--runs", type=int, default=_DEFAULT.n_runs, show_default=True)
@click.option(
    "--shared", type=int, default=_DEFAULT.n_shared, show_default=True, help="Stimuli that all see."
)
@click.option(
    "--repeats", type=int, default=_DEFAULT.n_repeats, show_default=True, help="Of repeated stimuli."
)
@click.option("--repeated-own", type=int, default=_DEFAULT.n_repeated_own, show_default=True)
@click.option("--snr", type=float, default=_DEFAULT.snr, show_default=True)
@click.option(
    "--topographic-difference", type=float, default=_DEFAULT.topographic_difference, show_default=True
)
@click.option("--clip-alignment", type=float, default=_DEFAULT.clip_alignment, show_default=True)
@click.option("--leak", type=click.Choice(["none", "copies"]), default="none", show_default=True)
@click.option("--native", is_flag=True, help="Every participant in a space of his own.")
@click.option("--seed", type=int, default=_DEFAULT.seed, show_default=True)
def main(
    directory: Path,
    *,
    participants: int,
    trials: int,
    runs: int,
    shared: int,
    repeats: int,
    repeated_own: int,
    snr: float,
    topographic_difference: float,
    clip_alignment: float,
    leak: Literal["none", "copies"],
    native: bool,
    seed: int,
) -> None:
    """Simulate a study and write it to DIRECTORY as a BIDS dataset with an fMRIPrep-named derivative."""
    logging.getLogger("clipmused_bids").addHandler(logging.StreamHandler())
    logging.getLogger("clipmused_bids").setLevel(logging.INFO)
    started = time.monotonic()
    try:
        parameters = SimulationParameters(
            n_participants=participants,
            n_trials=trials,
            n_runs=runs,
            n_shared=shared,
            n_repeats=repeats,
            n_repeated_own=repeated_own,
            n_bank=max(_DEFAULT.n_bank, participants * trials + shared),
            snr=snr,
            topographic_difference=topographic_difference,
            clip_alignment=clip_alignment,
            leak=leak,
            native=native,
            seed=seed,
        )
        write_dataset(directory, parameters)
    except ClipMusedError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(int(error.exit_code))
    click.echo(
        f"{directory}: {participants} participants, {trials} trials each, {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
