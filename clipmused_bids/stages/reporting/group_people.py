"""Sections on participants side by side and on single labels over them."""

from __future__ import annotations

from clipmused_bids.dataset.outputs.comparison_reading import read_labels
from clipmused_bids.report.blocks import Block, Details, Link, Links, Paragraph, Section
from clipmused_bids.report.group_labels import label_figure, label_table, over_people
from clipmused_bids.report.participants import all_scores_table, people_figure, people_table
from clipmused_bids.report.standing import count, metric_name
from clipmused_bids.stages.reporting.group_files import GroupResults, group_results
from clipmused_bids.stages.reporting.view import ReportView


def participants_section(view: ReportView) -> Section | None:
    """Scores of each participant, and the way to each one's page."""
    results = group_results(view)
    links = _links(view, results)
    if results is None or not results.standing.people:
        text = f"{count(len(view.people), 'participant', 'participants')}; there are no scores to put side by side."
        return Section("participants", "Participants", [Paragraph(text), *links])
    found = results.standing
    own = {
        row.participant_id: row
        for row in results.rows
        if row.model_label == view.model_label
        and row.metric == found.metric
        and row.participant_id != "group"
    }
    ceilings = {
        who: float(value)
        for who, value in results.ours.get("MedianVoxelNoiseCeiling", {}).items()
        if value is not None
    }
    failed = {f"sub-{who}": f"failed: {str(error).splitlines()[0]}" for who, error in view.errors.items()}
    blocks: list[Block] = [
        Paragraph(_seen(results, own_people=len(own))),
        people_figure(found, {who: row.floor for who, row in own.items()}),
        people_table(found, own, ceilings, failed),
    ]
    if len(found.ranked) > 1:
        blocks.append(Details("Every method's score of every participant", [all_scores_table(found)]))
    return Section("participants", "Participants", [*blocks, *links])


def _seen(results: GroupResults, *, own_people: int) -> str:
    found = results.standing
    values = list(found.people.get(found.ours.method, {}).values())
    if not values:
        return f"{found.ours.method} has no score of any participant."
    if len(values) == 1:
        return (
            f"One participant: {found.ours.method} {metric_name(found.metric)} {values[0]:.3f}. One person gives no "
            "interval over people, so nothing here speaks about others."
        )
    ahead = ""
    if found.baseline and found.baseline != found.ours.method:
        theirs = found.people.get(found.baseline, {})
        both = [
            (value, theirs[who]) for who, value in found.people[found.ours.method].items() if who in theirs
        ]
        higher = sum(mine > other for mine, other in both)
        equal = sum(mine == other for mine, other in both)
        tied = f" and equal in {equal}" if equal else ""
        ahead = f" It is above {found.baseline} in {higher} of {len(both)}{tied}."
    return (
        f"{own_people} participants: {found.ours.method} {metric_name(found.metric)} from {min(values):.3f} to "
        f"{max(values):.3f}.{ahead}"
    )


def _links(view: ReportView, results: GroupResults | None) -> list[Block]:
    """Links to the pages of participants that are there."""
    scored = () if results is None else (who.removeprefix("sub-") for who in results.participants)
    people = dict.fromkeys((*view.people, *scored))
    paths = [view.tree.report(who) for who in people]
    # Those of this run were written before this page.
    links = [Link(path.stem, path.name) for path in paths if path.exists()]
    return [Links("Pages of participants", links)] if links else []


def labels_section(view: ReportView) -> Section | None:
    """Average precision of each label over participants; None where nothing was evaluated."""
    path = view.tree.group_table(model_label=view.model_label, kind="labels")
    results = group_results(view)
    if results is None or not path.exists():
        return None
    summaries = over_people(read_labels(path), model_label=view.model_label)
    scored = [one for one in summaries if one.n_people]
    if not scored:
        text = "No label could be scored: none has a positive and a negative test trial of one participant."
        return Section("labels", "Labels", [Paragraph(text, tone="warning")])
    method = results.standing.ours.method
    above = sum(one.mean > one.floor for one in scored)
    lost = len(summaries) - len(scored)
    unscored = f" {lost} more have no positive or no negative test trial, and no score." if lost else ""
    single = (
        " There is a single label, so its score is the mean over labels too." if len(summaries) == 1 else ""
    )
    share = f"{above} of {count(len(scored), 'label', 'labels')}"
    text = f"{share} above the floor, in the mean over participants.{unscored}{single}"
    return Section(
        "labels",
        "Labels",
        [
            Paragraph(text),
            label_figure(summaries, method=method),
            Details("All labels", [label_table(summaries)]),
        ],
    )
