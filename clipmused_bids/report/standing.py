"""Who scores highest, by how much, and whether people tell the methods apart: in sentences, from the comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.evaluation.inference import ROUNDING, Answer, Interval, answer, paired_difference
from clipmused_bids.report.blocks import Tone

METRIC_NAMES: Mapping[str, str] = {"top1": "top-1 accuracy", "Hamming": "Hamming distance"}
_ANSWER_TONES: Mapping[str, Tone] = {"yes": "good", "no": "warning"}


@dataclass(frozen=True)
class Standing:
    """The comparison by the metric that decides; higher is better.

    Parameters
    ----------
    metric : str
        mAP or top1.
    ranked : tuple of ComparisonRow
        The group's rows, highest value first.
    people : mapping of str to mapping of str to float
        By method and participant, those with a value.
    unscored : tuple of ComparisonRow
        Methods that could not be compared.
    ours : ComparisonRow
        The decoder that the report is about.
    """

    metric: str
    ranked: tuple[ComparisonRow, ...]
    people: Mapping[str, Mapping[str, float]]
    unscored: tuple[ComparisonRow, ...]
    ours: ComparisonRow

    @property
    def best(self) -> tuple[ComparisonRow, ...]:
        """The highest, and those that score the same."""
        return tuple(row for row in self.ranked if self.ranked[0].value - row.value <= ROUNDING)

    @property
    def baseline(self) -> str:
        """The best linear baseline; "" where nothing is compared with one."""
        return next((row.baseline for row in self.ranked if row.baseline), "")

    @property
    def n_people(self) -> int:
        """Participants that anything was scored of."""
        return len({who for values in self.people.values() for who in values})

    @property
    def variants(self) -> tuple[ComparisonRow, ...]:
        """Ablations of the report's decoder."""
        prefix = f"{self.ours.method.partition(':')[0]}:"
        return tuple(row for row in self.ranked if row.method.startswith(prefix) and row is not self.ours)

    def row_of(self, method: str) -> ComparisonRow | None:
        """Row of a method that has a score."""
        return next((row for row in self.ranked if row.method == method), None)


def standing(rows: Sequence[ComparisonRow], *, metric: str, model_label: str) -> Standing | None:
    """Order the methods; None where the decoder itself is not in the table.

    Parameters
    ----------
    rows : sequence of ComparisonRow
        The whole table.
    metric : str
        The one that decides.
    model_label : str
        Of the decoder that the report is about.
    """
    group = [row for row in rows if row.participant_id == "group" and row.metric in {metric, ""}]
    ours = next((row for row in group if row.model_label == model_label), None)
    if ours is None:
        return None
    people: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.participant_id != "group" and row.metric == metric and math.isfinite(row.value):
            people.setdefault(row.method, {})[row.participant_id] = row.value
    scored = [row for row in group if math.isfinite(row.value)]
    return Standing(
        metric=metric,
        ranked=tuple(sorted(scored, key=lambda row: -row.value)),
        people=people,
        unscored=tuple(row for row in group if not math.isfinite(row.value)),
        ours=ours,
    )


def between(found: Standing, method: str, rival: str) -> Interval:
    """Paired difference of two methods over the participants that both have, with its t interval.

    That of a method to the best linear baseline is the table's own.
    """
    mine, theirs = found.people.get(method, {}), found.people.get(rival, {})
    both = [who for who in mine if who in theirs]
    row = found.row_of(method)
    if row is not None and row.baseline == rival:
        return Interval(row.difference, row.people_low, row.people_high, len(both))
    return paired_difference({who: mine[who] for who in both}, {who: theirs[who] for who in both})


def headline(found: Standing) -> tuple[str, Tone]:
    """Say who scores highest, and where the report's decoder stands; with the tone of the box."""
    if not found.ranked:
        return "No method has a score on these test trials.", "error"
    best, ours = found.best, found.ours
    names, first = _listed([row.method for row in best]), best[0]
    many = len(best) > 1
    among = f" of {len(found.ranked)} methods" if len(found.ranked) > 1 else ""
    score = (
        f"{metric_name(found.metric)} {first.value:.3f}{' each' if many else ''} (floor {first.floor:.3f})"
    )
    text = f"{names} score{'' if many else 's'} highest{among}: {score}"
    if first.value <= first.floor + ROUNDING:
        return f"{text}: no method scores above what knowing nothing would.", "warning"
    if not math.isfinite(ours.value):
        return f"{text}; {ours.method} has no score.", "error"
    if len(found.ranked) == 1:
        return f"{text}; nothing stands beside it.", "note"
    if ours.method in {row.method for row in best}:
        return f"{text}{_next_below(found)}", "good" if _leads(found) else "note"
    below = between(found, ours.method, first.method)
    return f"{text}; {_apart(ours.method, first.method, below, tied=many)}.", "note"


def _leads(found: Standing) -> bool:
    """Whether ours beats the best linear baseline for other people."""
    return found.ours.people_verdict == "yes"


def _next_below(found: Standing) -> str:
    """How far the report's decoder, which is among the highest, is above the next method."""
    rest = found.ranked[len(found.best) :]
    if not rest:
        return "."
    below = between(found, rest[0].method, found.ours.method)
    best = ", the best linear baseline," if rest[0].method == found.baseline else ""
    tied = len(found.best) > 1
    return f"; {_apart(f'the next, {rest[0].method}{best}', found.ours.method, below, tied=tied)}."


def _apart(name: str, rival: str, difference: Interval, *, tied: bool) -> str:
    """How far a method is below the highest, of several that are tied, and what the participants say to it."""
    # The mean over those that both have: it may differ from that of the two means.
    where = "below" if difference.mean <= 0 else "above"
    amount = f"{name} is {abs(difference.mean):.3f} {where} {'them' if tied else 'it'}"
    if difference.n < 2:
        return f"{amount}, and one participant cannot tell whether that holds for others"
    if answer(difference) == "undetermined":
        which = f"cannot tell it from {rival}" if tied else "cannot tell them apart"
        return f"{amount}, and {difference.n} participants {which}"
    low, high = sorted((abs(difference.low), abs(difference.high)))
    of = f" to {rival}" if tied else ""
    return f"{amount} (95 % interval{of} over {difference.n} participants: {low:.3f} to {high:.3f})"


def verdicts(found: Standing, *, n_stimuli: int | None) -> list[tuple[str, Tone]]:
    """Lines on whether the report's decoder beats the best linear baseline: for other people, for other stimuli.

    Parameters
    ----------
    found : Standing
    n_stimuli : int or None
        Distinct test stimuli, where known.
    """
    ours = found.ours
    if not math.isfinite(ours.value):
        return [(f"{ours.method} could not be scored. {ours.note}".strip(), "error")]
    if not ours.baseline:
        linear = len(found.ranked) > 1
        text = "is itself the best linear baseline" if linear else "was compared with no linear baseline"
        return [(f"{ours.method} {text}, so there is no verdict on it.", "note")]
    lines = _verdict_lines(found, ours, n_stimuli)
    first = found.ranked[0]
    if first.baseline and ours.method not in {row.method for row in found.best}:
        lines += _verdict_lines(found, first, n_stimuli)
    return lines


def _verdict_lines(found: Standing, row: ComparisonRow, n_stimuli: int | None) -> list[tuple[str, Tone]]:
    n_people = between(found, row.method, row.baseline).n
    stimuli = "the stimuli" if n_stimuli is None else count(n_stimuli, "stimulus", "stimuli")
    kinds: tuple[tuple[str, Answer, float, float, str], ...] = (
        ("other people", row.people_verdict or "undetermined", row.people_low, row.people_high,
         count(n_people, "participant", "participants")),
        ("other stimuli", row.stimuli_verdict or "undetermined", row.stimuli_low, row.stimuli_high, stimuli),
    )  # fmt: skip
    lines: list[tuple[str, Tone]] = []
    for kind, verdict, low, high, units in kinds:
        known = f"95 % interval [{low:+.3f}, {high:+.3f}], {units}"
        extent = f"no interval from {units}" if math.isnan(low) else known
        numbers = f"{metric_name(found.metric)} {round(row.difference, 3) + 0.0:+.3f}, {extent}"
        text = (
            f"{row.method} beats the best linear baseline, {row.baseline}, for {kind}: {verdict} ({numbers})."
        )
        lines.append((text, _ANSWER_TONES.get(verdict, "note")))
    return lines


def metric_name(metric: str) -> str:
    """Name of a metric in sentences."""
    return METRIC_NAMES.get(metric, metric)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(n: int, one: str, many: str) -> str:
    """Write a number with its noun."""
    return f"{n} {one if n == 1 else many}"
