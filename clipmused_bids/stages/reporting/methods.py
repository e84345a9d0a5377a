"""Methods text and its citations: gathered, written, and shown on both pages."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clipmused_bids import __version__
from clipmused_bids.config import as_tables
from clipmused_bids.dataset.files.contents import read_bytes, read_json
from clipmused_bids.dataset.files.documents import write_text
from clipmused_bids.dataset.files.tsv import read_table
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import (
    ModelRecord,
    decoders_in,
    history_path,
    read_record,
)
from clipmused_bids.evaluation.cross_validation import fold_numbers
from clipmused_bids.report.blocks import Link, Links, Listing, Paragraph, Section
from clipmused_bids.report.methods.facts import (
    DataFacts,
    MethodsFacts,
    ResponseFacts,
    SplitFacts,
    StimulusFacts,
)
from clipmused_bids.report.methods.text import methods_text, stored_as
from clipmused_bids.stages.catalogue import is_simulated
from clipmused_bids.stages.reporting.read_runs import ReadRuns, example_confounds, read_runs
from clipmused_bids.stages.reporting.scored_methods import evaluation_facts
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.splitting import sets_of_runs

TITLE = "Methods text"
ANCHOR = "methods"
_WRITTEN = "methods text"


def write_methods(view: ReportView) -> None:
    """Write ``logs/CITATION.md`` and ``logs/CITATION.bib`` about the decoder of the model label, or about the data.

    A run that looks at a part of the data (one participant is decoded) leaves the text of the same decoders as it is.

    Raises
    ------
    MissingInputError, DataError
        If a stored decoder or its scores are broken.
    CannotCreateError, OutputWriteError
        If writing fails.
    """
    facts = gather_facts(view)
    if not _sees_everything(view, facts.decoders) and _is_of_these(view.tree, facts):
        view.kept[_WRITTEN] = _stored(view.tree)
        return
    text = methods_text(facts)
    view.kept[_WRITTEN] = text.markdown, text.bibtex
    write_text(view.tree.citation, text.markdown)
    write_text(bibliography_path(view.tree), text.bibtex)


def _sees_everything(view: ReportView, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this run knows all stimuli, and all runs that the decoders were made of."""
    known = {run.key for run in view.plan.event_runs}
    return view.catalogue is not None and all(set(config["runs"]) <= known for config in configs)


def _is_of_these(tree: OutputTree, facts: MethodsFacts) -> bool:
    """Whether the text that is there is about the same decoders."""
    if not (facts.decoders and tree.citation.is_file() and bibliography_path(tree).is_file()):
        return False
    return stored_as(facts) in _text(tree.citation)


def bibliography_path(tree: OutputTree) -> Path:
    """BibTeX of what the methods text cites."""
    return tree.citation.with_suffix(".bib")


def participant_methods(view: ReportView, participant: str) -> Section | None:
    """Where the methods text lies: it is about all, and jobs of other participants may be writing it."""
    del participant
    if not view.tree.citation.is_file():
        return None
    links = [Link("logs/CITATION.md", "logs/CITATION.md"), Link("logs/CITATION.bib", "logs/CITATION.bib")]
    return Section(ANCHOR, TITLE, [Links("Methods text and BibTeX, in this run's numbers", links)])


def group_methods(view: ReportView) -> Section | None:
    """Methods text that this run wrote, or that lies in the output folder; None where there is none.

    Another run, with another model label, may have written the file since.
    """
    if _WRITTEN not in view.kept and not (
        view.tree.citation.is_file() and bibliography_path(view.tree).is_file()
    ):
        return None
    markdown, bibtex = view.kept.get(_WRITTEN) or _stored(view.tree)
    about = "Copy this into a paper; it says what was done and what was not, in this run's numbers."
    return Section(
        ANCHOR,
        TITLE,
        [
            Paragraph(about),
            Listing("Markdown, also in logs/CITATION.md", markdown),
            Listing("BibTeX, also in logs/CITATION.bib", bibtex),
        ],
    )


def _stored(tree: OutputTree) -> tuple[str, str]:
    return _text(tree.citation), _text(bibliography_path(tree))


def stored_records(tree: OutputTree, label: str) -> tuple[ModelRecord, ...]:
    """Decoders of a label: the one of all participants, or else those of single ones."""
    folder = tree.model_folder(label)
    found = decoders_in(folder)
    chosen = found[:1] if found[:1] == (None,) else found
    return tuple(read_record(folder, participant=participant) for participant in chosen)


def gather_facts(view: ReportView) -> MethodsFacts:
    """Look up what the text says; errors as in :func:`write_methods`."""
    plan, tree, label = view.plan, view.tree, view.model_label
    records = stored_records(tree, label)
    configs = [record.config for record in records]
    options: Mapping[str, Any] = as_tables(plan.hyperparameters.responses)
    kind, tasks, space = plan.kind, sorted({run.task for run in plan.runs}), plan.runs[0].space
    people = sorted({name for config in configs for name in config["participants"]})
    if configs:
        options = configs[0]["hyperparameters"]["responses"]
        kind, tasks, space = configs[0]["response_kind"], configs[0]["tasks"], configs[0]["space"]
    read = read_runs(plan, tree, kind=kind, tasks=tasks, space=space, people=people, without=view.errors)
    columns, example = example_confounds(plan.runs, read.confounds) if kind != "betas" else ((), "")
    evaluation = evaluation_facts(tree, label, configs)
    return MethodsFacts(
        version=__version__,
        packages=_packages(kind, configs, evaluated=evaluation is not None),
        data=_data(view, read, tasks=tasks, space=space),
        responses=ResponseFacts(
            kind=kind,
            options=options,
            stored=read.stored,
            mask=read.mask,
            resample=read.resample,
            confounds=read.confounds,
            confound_columns=columns,
            confound_example=example,
        ),
        split=_split(view, configs),
        decoders=configs,
        n_epochs=[n for record in records if (n := _epochs(record)) is not None],
        evaluation=evaluation,
        model_label=label,
        weights=[record.weights_hash for record in records],
    )


def _text(path: Path) -> str:
    return read_bytes(path).decode("utf-8")


def _data(view: ReportView, read: ReadRuns, *, tasks: Sequence[str], space: str | None) -> DataFacts:
    plan = view.plan
    raw = _description(plan.config.bids_dir)
    made_by = [_generators(_description(one.path)) for one in plan.derivatives]
    inputs = plan.config.inputs
    return DataFacts(
        name=str(raw.get("Name") or ""),
        doi=_doi(raw),
        pipelines=sorted({name for names in made_by for name in names}),
        simulated=is_simulated(plan),
        tasks=tasks,
        runs=read.runs,
        space=space,
        voxel_size=read.voxel_size,
        continuous=any(trials.continuous for trials in plan.trials.values()),
        frame_interval=inputs.frame_interval,
        stimuli=_stimuli(view),
    )


def _stimuli(view: ReportView) -> StimulusFacts | None:
    if view.catalogue is None:
        return None
    stimuli = view.catalogue.stimuli
    return StimulusFacts(
        n_stimuli=len(stimuli.stimulus_id),
        n_pictures=sum(picture is not None for picture in stimuli.picture),
        n_captioned=sum(bool(captions) for captions in stimuli.captions),
        n_labels=len(stimuli.label_names),
        single_label=stimuli.single_label,
        coco=bool(view.plan.config.inputs.labels)
        and all(name.endswith(".json") for name in view.plan.config.inputs.labels),
    )


def _description(folder: Path) -> Mapping[str, Any]:
    path = folder / "dataset_description.json"
    return read_json(path) if path.is_file() else {}


def dataset_name(folder: Path) -> str:
    """Name and DOI of a dataset, in words."""
    described = _description(folder)
    doi = _doi(described)
    return f"{described.get('Name') or 'unnamed'}{f' (https://doi.org/{doi})' if doi else ''}"


def _doi(described: Mapping[str, Any]) -> str:
    """DOI without what stands before it; empty where there is none."""
    return re.sub(r"^(doi:|https?://(dx\.)?doi\.org/)", "", str(described.get("DatasetDOI") or "").strip())


def _generators(described: Mapping[str, Any]) -> list[str]:
    """Names and versions of what made a dataset."""
    entries = described.get("GeneratedBy", [])
    if isinstance(entries, Mapping):
        entries = [entries]
    named = [entry for entry in entries if isinstance(entry, Mapping) and entry.get("Name")]
    return [f"{entry['Name']} {entry.get('Version', '')}".strip() for entry in named]


def _split(view: ReportView, configs: Sequence[Mapping[str, Any]]) -> SplitFacts | None:
    """Rule and regime of the decoder, with trials and stimuli of each set where the whole split is at hand."""
    if not configs:
        return None
    rule, regime = configs[0]["split"]["rule"], configs[0]["split"]["regime"]
    plan, split = view.plan, view.split
    wanted = {key for config in configs for key in config["runs"]}
    runs = [run for run in plan.event_runs if run.key in wanted]
    if split is None or len(runs) < len(wanted):
        return SplitFacts(rule, regime, n_folds=int(configs[0]["split"].get("folds", 0)))
    trials: Counter[str] = Counter()
    stimuli: dict[str, set[str]] = {}
    for key, sets in sets_of_runs(split, runs, plan.trials).items():
        for name, stimulus in zip(sets, plan.trials[key].stimulus_id, strict=True):
            trials[name] += 1
            stimuli.setdefault(name, set()).add(stimulus)
    return SplitFacts(
        rule,
        regime,
        n_trials=trials,
        n_stimuli={name: len(found) for name, found in stimuli.items()},
        n_folds=len(fold_numbers(split)),
    )


def _epochs(record: ModelRecord) -> int | None:
    """Epochs that a network was trained for; None of other methods."""
    path = history_path(record.folder, participant=record.participant)
    if record.config["preset"] is None or not path.is_file():
        return None
    epochs = read_table(path).columns.get("epoch", ())
    return max((int(float(cell)) for cell in epochs), default=None)


def _packages(kind: str, configs: Iterable[Mapping[str, Any]], *, evaluated: bool) -> dict[str, str]:
    """Versions of what this environment has of the packages that were used."""
    deep = [config for config in configs if config["preset"] is not None]
    clip = any(config["clip"] and not config["clip"]["model"].startswith("targets:") for config in deep)
    used = {
        "numpy": True,
        "scipy": True,
        "nilearn": kind != "betas",
        "torch": bool(deep),
        "open-clip-torch": clip,
        "scikit-learn": evaluated,
    }
    found = {name: version(name) for name, is_used in used.items() if is_used}
    return {"Python": platform.python_version(), **found}
