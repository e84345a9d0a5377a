"""The first screen of the group's page: who won, by how much, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipmused_bids.methods.registry import METHODS
from clipmused_bids.report.blocks import Block, Paragraph, Table
from clipmused_bids.report.comparison import score_figure
from clipmused_bids.report.doubts import Circumstances, doubts, scope
from clipmused_bids.report.leak_notes import leakage_lines, merged_fields
from clipmused_bids.report.standing import headline, verdicts
from clipmused_bids.stages.reporting.group_files import (
    GroupResults,
    config_of,
    configs_of,
    group_results,
    left_as_started,
)
from clipmused_bids.stages.reporting.view import ReportView


def group_summary(view: ReportView) -> Sequence[Block]:
    """Say what one has to know who reads nothing else."""
    failed = [
        Paragraph(f"sub-{participant} failed: {error}", tone="error")
        for participant, error in view.errors.items()
    ]
    results = group_results(view)
    return [*failed, *(_before_scores(view) if results is None else _of_scores(view, results))]


def _before_scores(view: ReportView) -> list[Block]:
    """What a run came to that did not evaluate."""
    n = len(view.plan.participants)
    people = f"{n} participant{'' if n == 1 else 's'}"
    configs = configs_of(view.tree.model_folder(view.model_label))
    if not configs:
        text = (
            f"Nothing was trained yet under the model label {view.model_label}: responses of {people} are prepared, "
            "and nothing can be said about how they decode."
        )
        return [Paragraph(text, tone="note")]
    method = next(iter(configs.values()))["method"]
    text = (
        f"{method} was trained with {people}, but not evaluated: there are no scores, so nothing here says that it "
        "decodes anything. The same command with --decode --evaluate scores it."
    )
    return [Paragraph(text, tone="warning")]


def _of_scores(view: ReportView, results: GroupResults) -> list[Block]:
    found = results.standing
    text, tone = headline(found)
    facts = circumstances(view, results)
    blocks: list[Block] = [Paragraph(text, tone=tone)]
    blocks += [Paragraph(line, tone=of) for line, of in verdicts(found, n_stimuli=facts.n_stimuli)]
    blocks.append(Paragraph(scope(str(results.details["Regime"]))))
    leaks = [line for line in facts.leakage if line.startswith("LEAKAGE")]
    blocks += [Paragraph(line, tone="error") for line in leaks]
    blocks += _lacking(results)
    if found.ranked:
        blocks.append(score_figure(found))
    rows = doubts(facts)
    blocks.append(Table("What speaks against believing it", ("what", "what follows"), rows))
    return blocks


def _lacking(results: GroupResults) -> list[Block]:
    """Methods without a score, and methods that lack participants."""
    texts = [
        _noted(row.method, row.note or "no score, and no reason is on record")
        for row in results.standing.unscored
    ]
    blocks: list[Block] = [Paragraph(f"Not compared: {text}", tone="warning") for text in texts]
    # One participant fails alike in many methods.
    notes: dict[str, list[str]] = {}
    for row in results.standing.ranked:
        if row.note:
            notes.setdefault(row.note, []).append(row.method)
    for note, methods in notes.items():
        blocks.append(Paragraph(f"Lacking in {', '.join(methods)}: {note}", tone="warning"))
    return blocks


def _noted(method: str, note: str) -> str:
    return note if note.startswith(f"{method}:") else f"{method}: {note}"


def circumstances(view: ReportView, results: GroupResults) -> Circumstances:
    """Gather what the files say about how far a comparison can be believed."""
    found, config = results.standing, config_of(view, model_label=view.model_label)
    guided = METHODS[config["method"]].guided if config else False
    levels = config.get("guidance") or {}
    simulated = view.catalogue is not None and view.catalogue.simulated
    pictures = () if view.catalogue is None else view.catalogue.stimuli.picture
    return Circumstances(
        n_people=found.n_people,
        n_stimuli=_n_test_stimuli(view, results),
        n_methods=len(found.ranked),
        n_folds=int(results.details.get("NumberOfFolds") or 0),
        leakage=leakage_lines(merged_fields(list(results.sidecars.values()))),
        n_near_duplicates=_near_duplicates(config),
        simulated=simulated,
        demo_clip=_is_demo(config) and not simulated,
        guided=not guided or any(levels.get(level, "off") != "off" for level in ("high", "low")),
        n_labels=len(config.get("label_names", ())),
        n_scored_labels=found.ours.n_labels or 0,
        untrained=left_as_started(view, results),
        stimuli_missing=sum(picture is None for picture in pictures),
        n_stimuli_in_all=len(pictures),
    )


def _n_test_stimuli(view: ReportView, results: GroupResults) -> int | None:
    """Distinct test stimuli: of the interval over stimuli, or of the split."""
    for one in results.ours.get("Comparisons", ()):
        if one["Interval"]["kind"] == "other stimuli":
            return int(one["Interval"]["n"])
    if view.split is None:
        return None
    rows = zip(view.split.set_name, view.split.stimulus_id, strict=True)
    return len({name for kind, name in rows if kind == "test"})


def _near_duplicates(config: dict[str, Any]) -> int | None:
    found = (config.get("leakage") or {}).get("near_duplicates")
    return None if found is None else int(found["n_pairs"])


def _is_demo(config: dict[str, Any]) -> bool:
    return (config.get("clip") or {}).get("model") == "demo"
