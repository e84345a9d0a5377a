"""Who won: sentences against numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clipmused_bids.dataset.outputs.comparison_files import ComparisonRow
from clipmused_bids.report.comparison import difference_figure, score_figure, score_table
from clipmused_bids.report.doubts import Circumstances, doubts, scope
from clipmused_bids.report.numbers import signed
from clipmused_bids.report.standing import Standing, between, headline, standing, verdicts
from tests.report.comparisons import missing, rows_of
from tests.report.test_figures import texts

TO_RIDGE: dict[str, Any] = {
    "baseline": "ridge", "people_low": -0.1, "people_high": 0.3, "people_verdict": "undetermined",
    "stimuli_low": 0.05, "stimuli_high": 0.15, "stimuli_verdict": "yes",
}  # fmt: skip


def made(*tables: list[ComparisonRow]) -> Standing:
    found = standing([one for table in tables for one in table], metric="mAP", model_label="m")
    assert found is not None
    return found


def test_ours_is_below_and_people_cannot_tell() -> None:
    found = made(
        rows_of(
            "clip-mused", [0.5, 0.7], difference=-0.05, **{**TO_RIDGE, "people_low": -0.3, "people_high": 0.2}
        ),
        rows_of("ridge", [0.6, 0.7]),
    )
    text, tone = headline(found)
    assert text == (
        "ridge scores highest of 2 methods: mAP 0.650 (floor 0.200); clip-mused is 0.050 below it, and 2 participants "
        "cannot tell them apart."
    )
    assert tone == "note"


def test_ours_is_below_for_other_people_too() -> None:
    away = {**TO_RIDGE, "people_low": -0.08, "people_high": -0.02, "people_verdict": "no"}
    found = made(rows_of("clip-mused", [0.5, 0.7], difference=-0.05, **away), rows_of("ridge", [0.6, 0.7]))
    assert "0.050 below it (95 % interval over 2 participants: 0.020 to 0.080)" in headline(found)[0]


def test_ours_leads_and_the_next_is_named() -> None:
    beats = {**TO_RIDGE, "people_verdict": "yes", "people_low": 0.1}
    found = made(
        rows_of("clip-mused", [0.8, 0.9, 0.7], difference=0.2, **beats), rows_of("ridge", [0.6, 0.7, 0.5])
    )
    text, tone = headline(found)
    assert text.startswith(
        "clip-mused scores highest of 2 methods: mAP 0.800 (floor 0.200); the next, ridge, the best"
    )
    assert "is 0.200 below it" in text
    assert tone == "good"


def test_a_difference_that_the_table_lacks_is_the_paired_t_interval() -> None:
    ours, theirs = [0.5, 0.7, 0.55], [0.6, 0.72, 0.81]
    found = made(rows_of("clip-mused", ours, difference=0.0, **TO_RIDGE), rows_of("ms-emb", theirs))
    one = between(found, "clip-mused", "ms-emb")
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
    assert (one.mean, one.n) == (pytest.approx(np.mean(ours) - np.mean(theirs)), 3)
    tabled = between(found, "clip-mused", "ridge")
    assert (tabled.low, tabled.high) == (-0.1, 0.3)


def test_only_participants_of_both_are_compared() -> None:
    found = made(rows_of("clip-mused", [0.5, 0.7, 0.9]), rows_of("ms-emb", [0.6, 0.6]))
    one = between(found, "clip-mused", "ms-emb")
    assert (one.n, one.mean) == (2, pytest.approx(0.0))


def test_those_that_score_the_same_share_the_first_place() -> None:
    found = made(rows_of("clip-mused", [0.5]), rows_of("ms-emb", [0.6]), rows_of("ss-vit", [0.6]))
    text, _ = headline(found)
    assert text == (
        "ms-emb and ss-vit score highest of 3 methods: mAP 0.600 each (floor 0.200); clip-mused is 0.100 below them, "
        "and one participant cannot tell whether that holds for others."
    )


def test_nothing_above_the_floor_is_said_first() -> None:
    text, tone = headline(made(rows_of("clip-mused", [0.1, 0.2]), rows_of("ridge", [0.2, 0.2])))
    assert text.endswith("no method scores above what knowing nothing would.")
    assert tone == "warning"


def test_a_failed_method_of_ours_is_an_error() -> None:
    found = made([missing("clip-mused", "clip-mused: out of memory")], rows_of("ridge", [0.6, 0.7]))
    assert headline(found) == (
        "ridge scores highest: mAP 0.650 (floor 0.200); clip-mused has no score.",
        "error",
    )
    assert verdicts(found, n_stimuli=30) == [
        ("clip-mused could not be scored. clip-mused: out of memory", "error")
    ]
    assert headline(made([missing("clip-mused", "x")])) == (
        "No method has a score on these test trials.",
        "error",
    )
    assert standing(rows_of("ridge", [0.6]), metric="mAP", model_label="m") is None


def test_verdicts_repeat_the_table() -> None:
    found = made(rows_of("clip-mused", [0.6, 0.8], difference=0.1, **TO_RIDGE), rows_of("ridge", [0.6, 0.6]))
    assert verdicts(found, n_stimuli=30) == [
        (("clip-mused beats the best linear baseline, ridge, for other people: undetermined (mAP +0.100, 95 % interval "
         "[-0.100, +0.300], 2 participants)."), "note"),
        (("clip-mused beats the best linear baseline, ridge, for other stimuli: yes (mAP +0.100, 95 % interval "
         "[+0.050, +0.150], 30 stimuli)."), "good"),
    ]  # fmt: skip


def test_verdicts_without_interval_and_without_rival() -> None:
    alone = {**TO_RIDGE, "people_low": math.nan, "people_high": math.nan}
    (first, _), _ = verdicts(
        made(rows_of("clip-mused", [0.6], difference=0.1, **alone), rows_of("ridge", [0.5])), n_stimuli=None
    )
    assert first.endswith("undetermined (mAP +0.100, no interval from 1 participant).")
    ((text, _),) = verdicts(made(rows_of("clip-mused", [0.6])), n_stimuli=3)
    assert "compared with no linear baseline" in text


def test_the_highest_gets_its_verdict_too_where_it_is_another() -> None:
    found = made(
        rows_of("clip-mused", [0.6, 0.6], difference=0.1, **TO_RIDGE),
        rows_of("ms-emb", [0.7, 0.8], difference=0.25, **TO_RIDGE),
        rows_of("ridge", [0.5, 0.5]),
    )
    assert [text.split()[0] for text, _ in verdicts(found, n_stimuli=30)] == ["clip-mused"] * 2 + [
        "ms-emb"
    ] * 2


def test_figures_name_all_methods_and_hide_many_ablations() -> None:
    variants = [rows_of(f"clip-mused:v{k}", [0.5, 0.6], difference=0.0, **TO_RIDGE) for k in range(5)]
    main = (rows_of("clip-mused", [0.6, 0.8], difference=0.1, **TO_RIDGE), rows_of("ridge", [0.6, 0.6]))
    few, many = made(*main, *variants[:4]), made(*main, *variants)
    assert len(few.variants) == 4
    assert {"clip-mused", "ridge", "clip-mused:v0", "floor"} <= set(texts(score_figure(few).image))
    assert "clip-mused:v0" not in texts(score_figure(many).image)
    assert "5 ablations" in score_figure(many).caption
    assert score_figure(few).alt.startswith("mAP of 6 methods: clip-mused 0.700; ridge 0.600;")
    figure = difference_figure(
        found_rows(few), metric="mAP", rival="ridge", ours="clip-mused", what="a rival"
    )
    assert {"over participants", "over stimuli"} <= set(texts(figure.image))
    bare = [replace(one, people_low=math.nan, stimuli_low=math.nan) for one in found_rows(few)]
    alone = difference_figure(bare, metric="mAP", rival="ridge", ours="clip-mused", what="a rival")
    assert "over participants" not in texts(alone.image)
    assert "There is no interval" in alone.caption
    table = score_table(many)
    assert len(table.rows) == 7
    assert table.rows[table.marked[0]][0] == "clip-mused"


def found_rows(found: Standing) -> list[ComparisonRow]:
    return [one for one in found.ranked if one.baseline]


def test_a_zero_has_no_minus() -> None:
    assert (signed(-1e-17), signed(-0.0004), signed(-0.0006), signed(math.nan)) == (
        "+0.000",
        "+0.000",
        "-0.001",
        "n/a",
    )


GOOD = Circumstances(n_people=8, n_stimuli=100, n_methods=2, n_folds=5, n_labels=3, n_scored_labels=3)


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({}, []),
        ({"n_people": 1}, ["One participant"]),
        ({"n_people": 4}, ["4 participants"]),
        ({"n_people": 5}, []),
        ({"n_stimuli": 19}, ["19 test stimuli"]),
        ({"n_stimuli": 20}, []),
        ({"n_stimuli": None}, []),
        ({"n_methods": 3}, ["3 methods compared"]),
        ({"n_folds": 0}, ["A single split"]),
        ({"n_near_duplicates": 0}, []),
        ({"n_near_duplicates": 2}, ["2 pairs of near-duplicates"]),
        ({"n_scored_labels": 2}, ["2 of 3 labels scored"]),
        ({"simulated": True}, ["Simulated data"]),
        ({"demo_clip": True}, ["CLIP model demo"]),
        ({"guided": False}, ["No guidance"]),
        ({"untrained": ("clip-mused",)}, ["Left as it started"]),
        ({"stimuli_missing": 5, "n_stimuli_in_all": 10}, ["5 of 10 stimuli without picture"]),
        ({"leakage": ("Transductive: the responses of 2 unit(s).",)}, ["Transductive"]),
        ({"leakage": ("LEAKAGE, allowed by --allow-leakage: x.",)}, ["Leakage, allowed by --allow-leakage"]),
    ],
)  # fmt: skip
def test_each_doubt_is_said_only_where_it_holds(changes: dict[str, Any], heads: list[str]) -> None:
    found = [head for head, _ in doubts(Circumstances(**{**vars(GOOD), **changes}))]
    assert found == [*heads, "What cannot be known"]


def test_the_scope_follows_the_regime() -> None:
    assert "not about new people" in scope("unseen stimuli")
    assert "nor about new people" in scope("unseen trials of seen stimuli")
    assert "not about new stimuli" in scope("unseen participant")
    assert scope("something") == "The scores speak about: something."
