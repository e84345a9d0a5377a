"""How far a map can be believed, in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from clipmused_bids.report.blocks import Tone

# Conventional marks of reliability; below the lower one single regions are not to be read.
RELIABLE, PARTLY = 0.7, 0.4
SURVIVES = 0.5
SAME_AS_UNIFORM = 0.9

WEIGHTS_NOTE = (
    "A map that equal attention to all patches would give shows the weights that patches are made by, not where "
    "attention goes, and its reliability is theirs."
)


@dataclass(frozen=True)
class MapTrust:
    """Numbers that stand beside a map; NaN where they cannot be told.

    Parameters
    ----------
    split_half : float
        Over halves of the test stimuli, Spearman-Brown.
    randomised : float
        Correlation with the map of the same decoder with random weights.
    uniform : float
        Correlation with the map that equal attention to all patches would give.
    """

    split_half: float
    randomised: float
    uniform: float = float("nan")

    @property
    def repeats(self) -> bool:
        """Whether regions of the map may be read one by one."""
        return self.split_half >= RELIABLE

    @property
    def learned(self) -> bool:
        """Whether the map differs from one that knows nothing."""
        return abs(self.randomised) < SURVIVES and not self.shows_weights

    @property
    def shows_weights(self) -> bool:
        """Whether equal attention would give nearly the same map."""
        return self.uniform >= SAME_AS_UNIFORM

    @property
    def tone(self) -> Tone:
        """How a page says it: ``plain`` where the map can be believed, else ``note`` or ``warning``."""
        if not (self.split_half >= PARTLY and self.learned):
            return "warning"
        return "plain" if self.repeats else "note"


def short_words(trust: MapTrust) -> str:
    """Say the same in a few words, for a caption that speaks of several maps."""
    if isnan(trust.split_half):
        repeats = "reliability unknown"
    else:
        words = "repeats itself" if trust.repeats else "repeats itself in part"
        repeats = f"{words if trust.split_half >= PARTLY else 'unreliable'} ({trust.split_half:.2f})"
    if isnan(trust.randomised):
        learned = "not comparable with random weights"
    else:
        unlike = "unlike" if abs(trust.randomised) < SURVIVES else "much like"
        learned = f"{unlike} that of random weights ({trust.randomised:.2f})"
    weights = f", nearly that of equal attention ({trust.uniform:.2f})" if trust.shows_weights else ""
    return f"{repeats}, {learned}{weights}"


def trust_words(trust: MapTrust) -> str:
    """Say in two or three sentences whether a map repeats itself, and whether it comes from learning."""
    return " ".join(part for part in (_repeats(trust), _learned(trust), _weights(trust)) if part)


def _repeats(trust: MapTrust) -> str:
    value = trust.split_half
    if isnan(value):
        return (
            "Its reliability cannot be told (too few test stimuli or regions, or the map is the same everywhere): do "
            "not read single regions."
        )
    number = f"split-half reliability {value:.2f}"
    if value >= RELIABLE:
        return f"It repeats itself in the other half of the test stimuli ({number})."
    if value >= PARTLY:
        return f"It repeats itself only in part in the other half of the test stimuli ({number}): read it with care."
    return (
        f"Unreliable: it does not repeat itself in the other half of the test stimuli ({number}); do not read single "
        "regions."
    )


def _learned(trust: MapTrust) -> str:
    value = trust.randomised
    if isnan(value):
        return "It cannot be compared with random weights, whose map, or this one, is the same everywhere."
    number = f"mean correlation {value:.2f}"
    if abs(value) >= SURVIVES:
        return f"With random weights the map is much the same ({number}): little of it comes from what was learned."
    return f"With random weights the map is another one ({number})."


def _weights(trust: MapTrust) -> str:
    if not trust.shows_weights:
        return ""
    return f"Equal attention would give nearly this map (correlation {trust.uniform:.2f}). {WEIGHTS_NOTE}"
