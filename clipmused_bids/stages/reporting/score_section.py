"""How one participant is decoded: scores, curves, confusions, and the stimuli decoded best and worst."""

from __future__ import annotations

import numpy as np

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.stimuli.thumbnails import thumbnails
from clipmused_bids.report.blocks import Block, Details, Paragraph, Section
from clipmused_bids.report.decoded import chosen_stimuli, decoded_stimuli, stimulus_blocks
from clipmused_bids.report.scores import (
    REGIMES,
    ScoredPerson,
    difference_text,
    label_table,
    mean_probabilities,
    methods_blocks,
    scores_blocks,
    unscorable_note,
)
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.reporting.score_drawings import (
    FEWEST_POSITIVES,
    Drawing,
    calibration,
    confusions,
    label_bars,
    label_curves,
)
from clipmused_bids.stages.reporting.score_files import DecodedPerson, decoded_person
from clipmused_bids.stages.reporting.score_remarks import remarks
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.scored import LabelledPredictions

ANCHOR, TITLE = "scores", "How it decodes"


def scores_section(view: ReportView, participant: str) -> Section | None:
    """Say how a participant's held-out trials are decoded; None where he has no decoder.

    Writes the figures into the participant's folder ``figures`` too.
    """
    one = decoded_person(view, participant)
    if one is None:
        return None
    if one.predictions is None:
        text = "A decoder was trained, but nothing of this participant was decoded by it yet: --decode does."
        return Section(ANCHOR, TITLE, [Paragraph(text, tone="note")])
    blocks = _unscored(one.predictions) if one.scores is None else _scored(one, one.scores)
    blocks += _remarks(one)
    if one.scores is None:
        return Section(ANCHOR, TITLE, blocks)
    if not one.drawn or one.catalogue is None:
        blocks.append(Paragraph(_not_drawn(one), tone="note"))
        return Section(ANCHOR, TITLE, blocks)
    blocks += _drawn(view, one, one.predictions, one.scores)
    blocks += _stimuli(one.catalogue, one.predictions)
    return Section(ANCHOR, TITLE, blocks)


def _not_drawn(one: DecodedPerson) -> str:
    if one.catalogue is None:
        return (
            "Labels of the stimuli were not looked at in this run, so nothing is drawn; the same command with "
            "--reports-only and --labels, where they were given, writes this page with curves and pictures."
        )
    return "No label of a held-out trial is known in the dataset as it is now, so nothing can be drawn."


def _unscored(predictions: LabelledPredictions) -> list[Block]:
    """What is said of predictions without scores."""
    held_out = sum(name == "test" for name in predictions.set_name)
    n = len(predictions.stimulus_id)
    if held_out:
        text = (
            f"{n:,} trials were decoded, {held_out:,} of them held out, and not scored yet: --evaluate does."
        )
    else:
        text = (
            f"{n:,} trials were decoded. None of them is known to have been held out with known labels, so there is no "
            "score."
        )
    return [
        Paragraph(text, tone="note"),
        Details(
            "Predicted probabilities",
            [mean_probabilities(predictions.label_names, predictions.probabilities)],
        ),
    ]


def _scored(one: DecodedPerson, scores: ScoredPerson) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(f"Regime: {scores.regime}. {REGIMES.get(scores.regime, '')}".strip()),
        *scores_blocks(scores),
    ]
    if not scores.averaged and one.repeats:
        text = "Stimuli repeat: scores of responses averaged over repeats are stored by the evaluation of the group."
        blocks.append(Paragraph(text))
    if one.found is not None:
        text, tone = difference_text(one.found)
        blocks.append(Paragraph(text, tone=tone))
    else:
        blocks.append(Paragraph(one.no_difference))
    if one.methods:
        blocks += methods_blocks(one.methods, ours=scores.method, main=scores.main)
    return blocks


def _remarks(one: DecodedPerson) -> list[Block]:
    found = remarks(one)
    if not found:
        return []
    noun = "remark" if len(found) == 1 else "remarks"
    return [
        Details(
            f"{len(found)} {noun} on these predictions", [Paragraph(text, tone=tone) for tone, text in found]
        )
    ]


def _drawn(
    view: ReportView, one: DecodedPerson, predictions: LabelledPredictions, scores: ScoredPerson
) -> list[Block]:
    """Figures, each also a file of the participant."""
    title = f"sub-{one.participant}, {scores.method}"
    bars, curves = label_bars(one.labels, title=title), label_curves(one.labels, predictions, title=title)
    single = one.catalogue is not None and one.catalogue.stimuli.single_label
    matrix = confusions(predictions, title=title) if single else None
    reliability = calibration(predictions, title=title)
    for drawing in (bars, curves, matrix, reliability):
        _store(view, one.participant, drawing)
    blocks: list[Block] = [drawing.figure for drawing in (bars, curves) if drawing is not None]
    if curves is None:
        text = f"No label has {FEWEST_POSITIVES} scored trials with it, so precision against recall is not drawn."
        blocks.append(Paragraph(text))
    note = unscorable_note(one.labels)
    blocks += [] if note is None else [note]
    blocks.append(label_table(one.labels))
    blocks += [] if matrix is None else [matrix.figure, *matrix.beside]
    if reliability is not None:
        blocks.append(Details("Calibration", [reliability.figure]))
    return blocks


def _store(view: ReportView, participant: str, drawing: Drawing | None) -> None:
    if drawing is not None:
        extension = ".svg" if drawing.figure.media_type == "image/svg+xml" else ".png"
        name = f"sub-{participant}_desc-{view.model_label}_{drawing.suffix}{extension}"
        write_bytes(view.tree.figures(participant) / name, drawing.figure.image)


def _stimuli(catalogue: Catalogue, predictions: LabelledPredictions) -> list[Block]:
    """Stimuli decoded best and worst, with their pictures."""
    if len(predictions.label_names) < 2:
        return [Paragraph("There is one label only, so the stimuli cannot be ranked by their own labels.")]
    tested = np.flatnonzero(predictions.test)
    shown = [predictions.stimulus_id[k] for k in tested]
    ranked = decoded_stimuli(
        predictions.labels[tested], predictions.probabilities[tested], shown, predictions.label_names
    )
    if not ranked:
        return [
            Paragraph("No scored stimulus has some of the labels and lacks others, so none can be ranked.")
        ]
    chosen = [one.stimulus_id for group in chosen_stimuli(ranked).values() for one in group]
    of_stimulus = zip(chosen, catalogue.rows_of(chosen), strict=True)
    pictures = {name: catalogue.stimuli.picture[row] for name, row in of_stimulus}
    small = thumbnails({name: picture for name, picture in pictures.items() if picture is not None})
    return stimulus_blocks(ranked, small, n_unranked=len(set(shown)) - len(ranked))
