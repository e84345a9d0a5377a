"""What a simulated study is made of. The defaults are frozen before methods are compared with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipmused_bids.errors import UsageError


@dataclass(frozen=True)
class SimulationParameters:
    """One simulated study; the seed fixes every byte of it.

    Parameters
    ----------
    n_participants, n_trials, n_runs : int
        Trials of each participant, spread evenly over the runs.
    n_shared, n_repeats : int
        Stimuli that every participant sees, and how often each does; they make the test set (split rule 4).
    n_repeated_own : int
        Stimuli of his own that a participant sees ``n_repeats`` times: noise ceilings from training data need them.
    n_bank : int
        Scenes that stimuli are taken from; the oracle's candidates.
    topographic_difference : float
        0: voxel weights are the same function of place in all participants; 1: nothing in common.
    clip_alignment : float
        Share of the late areas' signal variance that captions can explain; the rest follows hidden factors.
    snr : float
        Standard deviation of the evoked amplitudes over that of the noise of one scan, in a typical voxel.
    variability : float
        Variance of an amplitude from trial to trial over its variance from scene to scene; along the same
        directions, so that no decoder can average it away over voxels.
    noise_correlation : float
        Share of the noise variance that neighbouring voxels have in common.
    repetition_time, start_time, duration : float
        Between scans; of the first scan's reference slice; of a stimulus (s).
    native : bool
        Every participant in a space, and on a grid, of his own.
    leak : {"none", "copies"}
        ``copies``: some shared stimuli come back under other names among the participants' own.
    """

    n_participants: int = 4
    n_trials: int = 240
    n_runs: int = 6
    n_shared: int = 40
    n_repeats: int = 2
    n_repeated_own: int = 20
    n_bank: int = 1000
    topographic_difference: float = 0.3
    clip_alignment: float = 0.8
    snr: float = 0.7
    variability: float = 1.0
    noise_correlation: float = 0.3
    repetition_time: float = 2.0
    start_time: float = 1.0
    duration: float = 2.0
    native: bool = False
    leak: Literal["none", "copies"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_participants", "n_trials", "n_runs", "n_repeats", "n_bank"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("topographic_difference", "clip_alignment", "noise_correlation"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must lie in [0, 1]")
        _require(self.snr > 0, "snr must be positive")
        _require(self.variability >= 0, "variability must not be negative")
        _require(
            self.n_trials % self.n_runs == 0, f"{self.n_trials} trials do not divide into {self.n_runs} runs"
        )
        _require(self.n_once >= 0, f"{self.n_trials} trials are fewer than those of the repeated stimuli")
        _require(
            self.n_stimuli <= self.n_bank, f"{self.n_stimuli} stimuli need a larger bank than {self.n_bank}"
        )

    @property
    def n_once(self) -> int:
        """Stimuli that one participant alone sees, and once."""
        return self.n_trials - (self.n_shared + self.n_repeated_own) * self.n_repeats

    @property
    def n_own(self) -> int:
        """Stimuli that one participant alone sees."""
        return self.n_once + self.n_repeated_own

    @property
    def n_stimuli(self) -> int:
        """Stimuli of the whole study."""
        return self.n_shared + self.n_participants * self.n_own


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(f"simulation: {message}.")
