"""What a page says of scores that are missing, partial or doubtful; decoders and predictions are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clipmused_bids.dataset.files.tensors import write_tensors
from clipmused_bids.dataset.outputs.metric_files import (
    MetricRow,
    write_group_metrics,
    write_run_metrics,
)
from clipmused_bids.dataset.outputs.prediction_files import Predictions, write_predictions
from clipmused_bids.dataset.outputs.weights import model_path
from clipmused_bids.errors import DataError
from clipmused_bids.records import Score
from clipmused_bids.report.blocks import Figure, Paragraph
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.reporting.pages import participant_page
from clipmused_bids.stages.reporting.score_section import scores_section
from clipmused_bids.stages.reporting.score_summary import participant_summary
from clipmused_bids.stages.reporting.view import ReportView
from tests.stages.conftest import World, make_catalogue, make_run
from tests.stages.reporting.page_parts import flat, made, said, tables

NAMES = ("cat", "dog", "cow")
STIMULI = [f"s{k:02d}" for k in range(50)]
LABELS = {name: [float(k % 2 == 0), float(k % 3 == 0), float(k % 5 == 0)] for k, name in enumerate(STIMULI)}
TABLES = {"fit_on": "train", "evaluation": {"permutations": 0}, "linear": {"alphas": [1.0, 10.0]}}


def decoder(world: World, *, names: Sequence[str] = NAMES, **changes: Any) -> None:
    """A decoder that was never trained."""
    config = {
        "method": "clip-mused", "participants": ["01"], "label_names": list(names), "best_epoch": 4, "clip": None,
        "split": {"rule": "stimuli", "regime": "unseen stimuli"},
        "hyperparameters": {"fit_on": "train", "model": {"readout": "ridge"}}, **changes,
    }  # fmt: skip
    path = model_path(world.tree.model_folder("m"), participant=None)
    write_tensors(path, {"x": np.zeros(1)}, metadata=config)


def predict(
    world: World, stimuli: Sequence[str], *, sets: Sequence[str], names: Sequence[str] = NAMES, **details: Any
) -> np.ndarray:
    """Predictions of one run, written down as if it had been decoded; with scores of the run, as if evaluated."""
    n, run = len(stimuli), make_run("01")
    guess = np.random.default_rng(1).random((n, len(names)))
    predictions = Predictions(
        onset=np.arange(n) * 4.0, duration=np.ones(n), trial_number=np.arange(1, n + 1), stimulus_id=tuple(stimuli),
        set_name=tuple(sets), fold=(None,) * n, label_names=tuple(names), probabilities=guess,  # type: ignore[arg-type]
    )  # fmt: skip
    write_predictions(world.tree, run, predictions, model_label="m", sources=(), details=details)
    world.add(run, stimuli, np.ones((n, 2)))
    return guess


def view_of(world: World, catalogue: Catalogue | None, *, scored: bool = True, **changes: Any) -> ReportView:
    run = make_run("01")
    if scored:
        write_run_metrics(world.tree, run, (), model_label="m", sources=(), details={})
    plan = replace(world.plan(hyperparameters=TABLES, model_label="m"), participants=("01",))
    return ReportView(plan, world.tree, catalogue, None, changes.pop("errors", {}))


TESTED = STIMULI[:20]
KNOWN = make_catalogue({name: LABELS[name] for name in TESTED}, names=NAMES)


def test_prepared_only_there_is_no_section_and_the_summary_says_so(world: World) -> None:
    world.add(make_run("01"), TESTED, np.ones((20, 2)))
    view = view_of(world, KNOWN, scored=False)
    assert scores_section(view, "01") is None
    assert "No decoder m knows this participant yet" in said(participant_summary(view, "01"))


def test_trained_and_not_decoded(world: World) -> None:
    world.add(make_run("01"), TESTED, np.ones((20, 2)))
    decoder(world)
    view = view_of(world, KNOWN, scored=False)
    assert "nothing of this participant was decoded" in said(made(view).blocks)
    assert "nothing was decoded by it yet" in said(participant_summary(view, "01"))


def test_decoded_only_means_are_shown_and_no_scores(world: World) -> None:
    guess = predict(world, TESTED, sets=["new"] * 20)
    decoder(world)
    section = made(view_of(world, None, scored=False))
    assert "there is no score" in said(section.blocks)
    (table,) = tables(section)
    assert {row[0]: row[1] for row in table.rows} == {
        name: f"{mean:.3f}" for name, mean in zip(NAMES, guess.mean(axis=0), strict=True)
    }
    assert not any(isinstance(block, Figure) for block in flat(section.blocks))


def test_decoded_held_out_and_not_evaluated(world: World) -> None:
    predict(world, TESTED, sets=["test"] * 8 + ["train"] * 12)
    decoder(world)
    view = view_of(world, KNOWN, scored=False)
    assert "20 trials were decoded, 8 of them held out, and not scored yet" in said(made(view).blocks)
    assert "There are no scores" in said(participant_summary(view, "01"))


def test_scored_before_and_the_stimuli_not_looked_at_now(world: World) -> None:
    """Decoding alone reads no labels: scores that are stored stay on the page, drawings wait."""
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    row = MetricRow("01", "test", "single trials", Score("mAP", 0.5, 0.2, 3, 20))
    write_group_metrics(world.tree, [row], model_label="m", sources=(), details={})
    section = made(view_of(world, None))
    assert tables(section)[0].rows[0][1] == "0.500"
    assert "--reports-only" in said(section.blocks)
    assert not any(isinstance(block, Figure) for block in flat(section.blocks))


def test_labels_that_cannot_be_scored_are_named_and_not_drawn(world: World) -> None:
    labels = {name: [*LABELS[name][:2], 0.0] for name in TESTED}
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    section = made(view_of(world, make_catalogue(labels, names=NAMES)))
    assert "1 of 3 labels cannot be scored" in said(section.blocks)
    assert "(cow)" in said(section.blocks)
    assert {row[0] for row in tables(section)[1].rows} == {"cat", "dog", "cow"}
    bars = next(block for block in section.blocks if isinstance(block, Figure))
    assert b"cow" not in bars.image
    assert "2 labels" in bars.alt


def test_a_single_label_has_scores_and_no_ranking(world: World) -> None:
    labels = {name: LABELS[name][:1] for name in TESTED}
    predict(world, TESTED, sets=["test"] * 20, names=("cat",))
    decoder(world, names=("cat",))
    section = made(view_of(world, make_catalogue(labels, names=("cat",))))
    assert "There is one label only" in said(section.blocks)
    assert tables(section)[0].rows[0][4:] == ("1", "20")


def test_nothing_positive_leaves_scores_undefined_and_says_so(world: World) -> None:
    labels = {name: [0.0, 0.0, 0.0] for name in TESTED}
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    view = view_of(world, make_catalogue(labels, names=NAMES))
    section = made(view)
    assert {row[1] for row in tables(section)[0].rows} == {"n/a"}
    assert "3 of 3 labels cannot be scored" in said(section.blocks)
    assert not any(isinstance(block, Figure) for block in flat(section.blocks))
    assert "cannot be computed" in said(participant_summary(view, "01"))


def test_half_the_stimuli_without_labels_is_counted(world: World) -> None:
    labels = {name: LABELS[name] if k < 10 else [np.nan] * 3 for k, name in enumerate(TESTED)}
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    section = made(view_of(world, make_catalogue(labels, names=NAMES)))
    assert "10 of 20 held-out trials are in no score" in said(section.blocks)
    assert tables(section)[0].rows[0][5] == "10"


def test_stimuli_whose_pictures_the_decoder_could_not_read_are_left_out(world: World) -> None:
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world, left_out=TESTED[:2])
    section = made(view_of(world, KNOWN))
    assert "2 of 20 held-out trials are in no score" in said(section.blocks)
    assert tables(section)[0].rows[0][5] == "18"


def test_a_failed_participant_keeps_the_reason_above_what_is_there(world: World) -> None:
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    view = view_of(world, KNOWN, errors={"01": DataError("the image is broken.")})
    summary = participant_summary(view, "01")
    assert isinstance(summary[0], Paragraph)
    assert (summary[0].tone, "the image is broken" in summary[0].text) == ("error", True)


def test_predictions_that_cannot_be_read_leave_the_page_whole(world: World) -> None:
    predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    view = view_of(world, KNOWN)
    path = world.tree.predictions(make_run("01"), model_label="m")
    path.write_text(path.read_text("utf-8").replace("prob_cow", "prob_sow"), "utf-8")
    page = participant_page(view, "01")
    assert "prob_cow is missing" in said(page.summary)
    (section,) = [one for one in page.sections if one.anchor == "scores"]
    assert "could not be made" in said(section.blocks)


@pytest.mark.parametrize(
    ("config", "details", "simulated", "words"),
    [
        ({}, {"Leakage": ["s01 is in two sets"]}, True, "LEAKAGE, allowed"),
        ({}, {"LeakageWarnings": ["s01 looks like s02"]}, True, "s01 looks like s02"),
        ({"clip": {"model": "demo"}}, {}, False, "demonstration CLIP"),
        ({"best_epoch": 0}, {}, True, "left as it started. What decodes is its linear readout (ridge)"),
        ({}, {"TransductiveUnits": ["sub-01_run-1"]}, True, "Transductive"),
    ],
)
def test_what_weakens_the_scores_is_said(
    world: World, config: dict[str, Any], details: dict[str, Any], simulated: bool, words: str
) -> None:
    predict(world, TESTED * 3, sets=["test"] * 60, **details)
    decoder(world, **config)
    view = view_of(world, replace(KNOWN, simulated=simulated))
    assert words in said(participant_summary(view, "01"))
    assert words in said(made(view).blocks)
    other = view_of(world, replace(KNOWN, simulated=True))
    if not simulated:
        assert words not in said(made(other).blocks)


def test_confusions_are_those_of_single_label_sets(world: World) -> None:
    labels = {name: np.eye(3)[k % 3].tolist() for k, name in enumerate(TESTED)}
    guess = predict(world, TESTED, sets=["test"] * 20)
    decoder(world)
    catalogue = make_catalogue(labels, names=NAMES, single_label=True)
    section = made(view_of(world, catalogue))
    right = int((guess.argmax(axis=1) == np.arange(20) % 3).sum())
    (matrix,) = [b for b in section.blocks if isinstance(b, Figure) and "Confusion matrix" in b.alt]
    assert f"{right} of 20" in matrix.alt
    assert (world.tree.figures("01") / "sub-01_desc-m_confusion.png").read_bytes() == matrix.image
    (pairs,) = [t for t in tables(section) if t.caption == "Most frequent confusions."]
    truth, first = pairs.rows[0][0], pairs.rows[0][1]
    assert all(row[0] != row[1] for row in pairs.rows)
    wrong = [(NAMES[k % 3], NAMES[guess[k].argmax()]) for k in range(20)].count((truth, first))
    assert pairs.rows[0][2] == str(wrong)
    assert tables(section)[0].rows[next(iter(tables(section)[0].marked))][0] == "top1"
    many = made(view_of(world, make_catalogue(labels, names=NAMES)))
    assert not [b for b in many.blocks if isinstance(b, Figure) and "Confusion matrix" in b.alt]
