"""Sentences on participants, runs, stimuli and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmused_bids.report.bibliography import without_citations
from clipmused_bids.report.methods.facts import DataFacts, DecoderConfig, MethodsFacts, StimulusFacts
from clipmused_bids.report.methods.wording import count, listed, span


def data_paragraphs(facts: MethodsFacts) -> list[str]:
    """What was read, and what was shown."""
    return [_runs(facts.data, version=facts.version), _stimuli(facts.data, facts.decoders)]


def _runs(data: DataFacts, *, version: str) -> str:
    people = {run.participant for run in data.runs}
    sessions = {(run.participant, run.session) for run in data.runs if run.session is not None}
    units = [
        count(len(people), "participant"),
        *([count(len(sessions), "session")] if sessions else []),
        count(len(data.runs), "run"),
        count(sum(run.n_trials for run in data.runs), "trial"),
    ]
    named = f"the dataset “{without_citations(data.name)}”" if data.name else "a dataset"
    doi = f" (https://doi.org/{without_citations(data.doi)})" if data.doi else ""
    tasks = f"{'task' if len(data.tasks) == 1 else 'tasks'} {listed(data.tasks)}"
    text = (
        f"Functional MRI data of {listed(units)} ({tasks}) were read from {named}{doi}, organised as the Brain "
        f"Imaging Data Structure [@gorgolewski2016], with clipmused-bids {version}, a BIDS App [@gorgolewski2017]."
    )
    if data.simulated:
        text += " The data are simulated: nobody was scanned."
    return f"{text}{_pipelines(data)}{_space(data)}{_times(data)}"


def _pipelines(data: DataFacts) -> str:
    if not data.pipelines:
        return ""
    cites = " [@esteban2019]" if any(name.lower().startswith("fmriprep") for name in data.pipelines) else ""
    return f" The derivatives that were read name as their origin: {without_citations(listed(data.pipelines))}{cites}."


def _space(data: DataFacts) -> str:
    size = ""
    if data.voxel_size is not None:
        size = f", with voxels of {' x '.join(f'{edge:.3g}' for edge in data.voxel_size)} mm"
    where = f"the common space {data.space}" if data.space else "each participant's native space"
    return f" Analyses were done in {where}{size}."


def _times(data: DataFacts) -> str:
    known = [run.repetition_time for run in data.runs if run.repetition_time is not None]
    return f" The repetition time was {span(known)} s." if known else ""


def _stimuli(data: DataFacts, decoders: Sequence[DecoderConfig]) -> str:
    parts = []
    if data.continuous:
        every = f"every {data.frame_interval:g} s" if data.frame_interval else "at a fixed interval"
        parts.append(f"Movies were sampled {every}; a trial is one such sample.")
    if data.stimuli is not None:
        parts.append(_shown(data.stimuli))
    parts.append(_labels(data.stimuli, decoders))
    return " ".join(filter(None, parts))


def _shown(stimuli: StimulusFacts) -> str:
    if not stimuli.n_stimuli:
        return ""
    pictures, captions = (_share(n, stimuli.n_stimuli) for n in (stimuli.n_pictures, stimuli.n_captioned))
    return f"There were {count(stimuli.n_stimuli, 'stimulus')}; {pictures} had a picture, and {captions} had captions."


def _share(n: int, total: int) -> str:
    return "none" if n == 0 else "all" if n == total else f"{n:,} of them"


def _labels(stimuli: StimulusFacts | None, decoders: Sequence[DecoderConfig]) -> str:
    coco = " from the annotations of COCO [@lin2014]" if stimuli is not None and stimuli.coco else ""
    if not decoders:
        if stimuli is None or not stimuli.n_labels:
            return ""
        kind = "Each stimulus had one of" if stimuli.single_label else "Stimuli were described by"
        return f"{kind} {count(stimuli.n_labels, 'label')}{coco}."
    config = decoders[0]
    kind = (
        "Each stimulus had exactly one of"
        if config["single_label"]
        else "Each stimulus could have several of"
    )
    return f"{kind} {count(len(config['label_names']), 'label')}{coco}.{_left_out(config)}"


def _left_out(config: Mapping[str, Any]) -> str:
    text = ""
    labels, pictures = len(config["labels_left_out"]), len(config.get("left_out", ()))
    if labels:
        least = config["hyperparameters"]["min_label_frequency"]
        why = (
            f"fewer than {least:.3g} of the training trials had them"
            if least
            else "no training trial had them"
        )
        text += f" {count(labels, 'further label')} {'was' if labels == 1 else 'were'} left out, since {why}."
    if pictures:
        text += f" {count(pictures, 'stimulus')} whose picture could not be read {'was' if pictures == 1 else 'were'} "
        text += "left out."
    return text
