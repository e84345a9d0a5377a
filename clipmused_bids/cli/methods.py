"""``--method``: names of methods and ablations, one or many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clipmused_bids.methods.registry import METHODS
from clipmused_bids.methods.variants import PAPER, VARIANTS, Variant, find_variant

METHOD_HELP = (
    "The decoder; of several, the first is stored under --model-label and the others are compared with it. "
    f"One or more of {', '.join(VARIANTS)}; all: every method and {PAPER.name}; ablations: clip-mused and what "
    "is taken from it; all+ablations.  [default: clip-mused]"
)
_GROUPS: dict[str, tuple[str, ...]] = {
    "all": (*METHODS, PAPER.name),
    "ablations": ("clip-mused", *(name for name in VARIANTS if ":" in name and name != PAPER.name)),
    "all+ablations": tuple(VARIANTS),
}


def named_variants(words: Sequence[str]) -> tuple[Variant, ...]:
    """Read ``--method``: names, groups of names, and lists with commas; each once, in the order given.

    Parameters
    ----------
    words : sequence of str
        Empty for the default, ``clip-mused``.

    Returns
    -------
    tuple of Variant
        The first one is the main decoder.

    Raises
    ------
    UsageError
        If a name is unknown; names the nearest.
    """
    names = dict.fromkeys(_names(words))
    return tuple(find_variant(name) for name in names or ("clip-mused",))


def _names(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        for name in word.split(","):
            yield from _GROUPS.get(name.strip(), (name.strip(),))
