"""Which studies are simulated: seeds, regimes, sweeps. All other parameters are the simulator's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clipmused_bids.errors import UsageError
from clipmused_bids.simulation.parameters import SimulationParameters

Regime = Literal["many", "few", "newcomer"]
SeedKind = Literal["development", "report"]
SweepName = Literal["clip_alignment", "topographic_difference"]

REGIMES: tuple[Regime, ...] = ("many", "few", "newcomer")
# Whatever is chosen by looking at scores is chosen on the first; claims are made on the second.
SEEDS: dict[SeedKind, tuple[int, ...]] = {
    "development": tuple(range(1000, 1008)),
    "report": tuple(range(8)),
}
SWEEPS: dict[SweepName, tuple[float, ...]] = {
    "clip_alignment": (0.0, 0.25, 0.5, 0.75, 1.0),
    "topographic_difference": (0.0, 0.3, 0.6, 1.0),
}
# Trials of the newcomer that are learnt from; "all" of those that are not test trials.
NEWCOMER_TRIALS = ("0", "10", "50", "all")

_DEFAULT = SimulationParameters()
# A participant's trials, divisible by the six runs: 400 or 62 of them are not test trials.
_TRIALS: dict[str, dict[str, Any]] = {
    "many": {"n_trials": 480, "n_shared": 40},
    "few": {"n_trials": 102, "n_shared": 20},
}


@dataclass(frozen=True)
class Setting:
    """What differs from the defaults of the simulator in all studies of a benchmark, or of one point of a sweep.

    Parameters
    ----------
    native : bool
        Every participant in a space of his own.
    sweep : {"clip_alignment", "topographic_difference"} or None
    value : float or None
        Of the swept parameter.
    """

    native: bool = False
    sweep: SweepName | None = None
    value: float | None = None

    @property
    def changed(self) -> dict[str, Any]:
        """Parameters of the simulator that it fixes."""
        fixed: dict[str, Any] = {"native": self.native}
        if self.sweep is not None:
            fixed[self.sweep] = self.value
        return fixed


def settings_of(*, native: bool, sweep: SweepName | None) -> tuple[Setting, ...]:
    """One setting, or one for each value of a sweep."""
    if sweep is None:
        return (Setting(native=native),)
    return tuple(Setting(native=native, sweep=sweep, value=value) for value in SWEEPS[sweep])


def study_parameters(regime: Regime, *, seed: int, setting: Setting) -> SimulationParameters:
    """Parameters of the study of a regime; a newcomer is the last participant of the study with many trials.

    The bank grows with the number of stimuli, as for the demo.
    """
    trials = _TRIALS["few" if regime == "few" else "many"]
    n_bank = max(_DEFAULT.n_bank, _DEFAULT.n_participants * trials["n_trials"] + trials["n_shared"])
    return SimulationParameters(n_bank=n_bank, seed=seed, **trials, **setting.changed)


def kind_of_seeds(seeds: Sequence[int]) -> SeedKind:
    """Say whether seeds are for development or for reports.

    Raises
    ------
    UsageError
        If they are of both kinds, or of none.
    """
    kinds = [kind for kind, known in SEEDS.items() if set(seeds) <= set(known)]
    if len(kinds) != 1 or not seeds:
        listed = ", ".join(map(str, sorted(seeds)))
        raise UsageError(
            f"benchmark: seeds {listed} are neither all for development nor all for reports.",
            hint="; ".join(f"{kind}: {known[0]} to {known[-1]}" for kind, known in SEEDS.items()),
        )
    return kinds[0]
