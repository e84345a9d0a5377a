"""Find the runs of a request: raw events beside preprocessed images, masks, confounds and metadata."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clipmused_bids.config import Selection
from clipmused_bids.dataset.files.contents import require_contents
from clipmused_bids.dataset.runs.derivatives import Derivative, ImageKind, images_of
from clipmused_bids.dataset.runs.filters import FileFilters, read_filters
from clipmused_bids.dataset.runs.names import natural_key, run_index
from clipmused_bids.dataset.runs.participants import nearest
from clipmused_bids.dataset.runs.run_records import DerivedImage, FoundRun, RunBuilder
from clipmused_bids.dataset.runs.spaces import choose_space, space_of
from clipmused_bids.dataset.runs.walk import (
    FileIndex,
    Folders,
    functional_files,
    inherited_files,
    most_specific,
)
from clipmused_bids.errors import DatasetError, SelectionError, UsageError
from clipmused_bids.records import RUN_ENTITIES, Run

logger = logging.getLogger(__name__)

_RunKey = tuple[str | int | None, ...]


def find_runs(
    bids_dir: Path,
    *,
    derivatives: tuple[Derivative, ...],
    selection: Selection,
    participants: tuple[str, ...],
    image_kind: Literal["auto", "bold", "betas"],
    need_events: bool,
    need_images: bool = True,
) -> tuple[Run, ...]:
    """Find the runs that were asked for, in natural order.

    Only ``func`` folders of these participants and the folders above them are listed. Runs of raw and derived data
    are the same run if participant, session, task, acq-, ce-, rec-, dir- and the number after ``run-`` are.

    Parameters
    ----------
    bids_dir : Path
    derivatives : tuple of Derivative
    selection : Selection
        Sessions, tasks, runs, the space and filters; its participants are not read here.
    participants : tuple of str
        Labels without prefix.
    image_kind : {"auto", "bold", "betas"}
        ``auto``: BOLD, or betas where there is no BOLD.
    need_events, need_images : bool
        Runs that lack what is needed are left out, counted and logged. Without ``need_images`` no derivative is
        looked at.

    Raises
    ------
    SelectionError
        If a session, task, run or space does not exist, or the filters leave nothing.
    UsageError
        If the filters name what does not exist, or there are several tasks, or several spaces without a preferred
        one, and none was chosen.
    DatasetError
        If there are no images or no events, or several images for one run.
    MissingInputError
        If the content of a file was not fetched.
    """
    used = derivatives if need_images else ()
    folders = Folders()
    kind = _resolve_kind(used, participants, image_kind, folders)
    filters = read_filters(selection.filter_file)
    found = {}
    for label in participants:
        found.update(_found_of(Path(bids_dir), used, label, kind=kind, folders=folders, filters=filters))
    found = {key: item for key, item in found.items() if filters.keeps_run(kind, item.entities)}
    found = _select(found, selection)
    try:
        complete = _complete(found, need_events=need_events, need_images=need_images)
    except DatasetError as error:
        raise filters.nothing_left(error) from error
    complete = _one_task(complete, selection)
    if need_images:
        complete = _in_one_space(complete, selection.space)
    builder = RunBuilder(Path(bids_dir), used, kind, folders, filters)
    runs = [builder.build(item) for item in complete.values()]
    filters.say()
    require_contents(
        path for run in runs for path in (run.events, run.image, run.mask, run.confounds) if path
    )
    return tuple(sorted(runs, key=lambda run: natural_key(run.key)))


def _resolve_kind(
    derivatives: Sequence[Derivative],
    participants: Sequence[str],
    image_kind: Literal["auto", "bold", "betas"],
    folders: Folders,
) -> ImageKind:
    if image_kind != "auto":
        return image_kind
    any_bold = any(
        images_of(d.path, label, kind="bold", folders=folders) for d in derivatives for label in participants
    )
    return "bold" if any_bold or not derivatives else "betas"


def _run_key(entities: Mapping[str, str]) -> _RunKey:
    labels = [entities.get(key) for key in RUN_ENTITIES if key != "run"]
    index = run_index(entities.get("run"))
    return (*labels, entities.get("run") if index is None else index)


def _found_of(
    bids_dir: Path,
    derivatives: Sequence[Derivative],
    participant: str,
    *,
    kind: ImageKind,
    folders: Folders,
    filters: FileFilters,
) -> dict[_RunKey, FoundRun]:
    images: dict[_RunKey, list[DerivedImage]] = defaultdict(list)
    for derivative in derivatives:
        for file in filters.keep(kind, images_of(derivative.path, participant, kind=kind, folders=folders)):
            images[_run_key(file.entities)].append(DerivedImage(file, derivative))
    endings = ("_events.tsv", "_bold.nii", "_bold.nii.gz")
    raw = functional_files(bids_dir, participant, accept=lambda name: name.endswith(endings), folders=folders)
    above = inherited_files(
        bids_dir, participant, accept=lambda name: name.endswith("_events.tsv"), folders=folders
    )
    events = filters.keep("events", [file for file in raw if file.name.suffix == "events"])
    index = FileIndex([*filters.keep("events", above), *events])
    targets = {key: group[0].file.entities for key, group in images.items()}
    for file in raw:
        if file.name.suffix == "bold" and "task" in file.entities:
            targets.setdefault(_run_key(file.entities), file.entities)
    # An events file that names no run may serve several; one that serves no other file is a run by itself.
    used = {file.path for target in targets.values() for file in index.serving(target)}
    alone = [file for file in events if file.path not in used]
    targets |= {_run_key(file.entities): file.entities for file in alone if "task" in file.entities}
    return {
        key: FoundRun(entities, most_specific(index.serving(entities)), tuple(images.get(key, ())))
        for key, entities in targets.items()
    }


def _select(found: Mapping[_RunKey, FoundRun], selection: Selection) -> dict[_RunKey, FoundRun]:
    kept = dict(found)
    wanted: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("ses", "--session-id", selection.sessions),
        ("task", "--task-id", selection.tasks),
        ("run", "--run-id", tuple(str(index) for index in selection.runs)),
    )
    for entity, flag, labels in wanted:
        if not labels:
            continue
        existing = tuple(sorted({_label(item, entity) for item in kept.values()}, key=natural_key))
        unknown = [label for label in labels if label not in existing]
        if unknown and existing:
            if existing == ("",):
                raise SelectionError(
                    f"{flag} {' '.join(labels)}: no image or events file of this request has {entity}- in its name.",
                    hint=f"leave {flag} out",
                )
            near = [match for label in unknown for match in nearest(label, existing)] or list(existing[:3])
            raise SelectionError(
                f"No {entity}-{', '.join(unknown)} in this request; there are {', '.join(filter(None, existing))}.",
                hint=f"{flag} {' '.join(filter(None, dict.fromkeys(near)))}",
            )
        kept = {key: item for key, item in kept.items() if _label(item, entity) in labels}
    return kept


def _label(item: FoundRun, entity: str) -> str:
    label = item.entities.get(entity, "")
    index = run_index(label) if entity == "run" else None
    return label if index is None else str(index)


def _complete(
    found: Mapping[_RunKey, FoundRun], *, need_events: bool, need_images: bool
) -> dict[_RunKey, FoundRun]:
    kept = {
        key: item
        for key, item in found.items()
        if (item.events is not None or not need_events) and (item.images or not need_images)
    }
    no_image = [item for item in found.values() if item.events is not None and not item.images]
    no_events = [item for item in found.values() if item.images and item.events is None]
    if need_images and no_image:
        logger.warning(
            "%d runs have events but no image; they are left out: %s.", len(no_image), _shown(no_image)
        )
    if need_events and no_events:
        logger.warning(
            "%d runs have an image but no events; they are left out: %s.", len(no_events), _shown(no_events)
        )
    if not kept:
        raise _nothing_left(no_image, no_events, need_images=need_images)
    return kept


def _nothing_left(
    no_image: Sequence[FoundRun], no_events: Sequence[FoundRun], *, need_images: bool
) -> DatasetError:
    if no_events and not no_image:
        return DatasetError(
            f"No events for {_shown(no_events)}: images exist, but no *_events.tsv of these runs.",
            hint="BIDS_DIR must be the raw dataset, where sub-*/func/*_events.tsv lie",
        )
    if no_image and not no_events and need_images:
        return DatasetError(
            f"No image for {_shown(no_image)}: events exist, but no preprocessed image of these runs.",
            hint="-d PATH names the folder of preprocessed data",
        )
    if no_image and no_events:
        return DatasetError(
            f"Events and images do not belong together: events for {_shown(no_image)}; images for {_shown(no_events)}.",
            hint="the labels after sub-, ses-, task-, acq-, dir- and run- must be the same in both",
        )
    return DatasetError(
        "No functional runs of these participants.", hint="sub-*/[ses-*/]func/*_events.tsv are read"
    )


def _shown(items: Sequence[FoundRun]) -> str:
    keys = ("sub", "ses", "task", "acq", "dir", "run")
    names = [
        "_".join(f"{key}-{item.entities[key]}" for key in keys if key in item.entities) for item in items[:3]
    ]
    return ", ".join(names) + (", ..." if len(items) > 3 else "")


def _one_task(found: dict[_RunKey, FoundRun], selection: Selection) -> dict[_RunKey, FoundRun]:
    tasks = sorted({item.entities["task"] for item in found.values()}, key=natural_key)
    if len(tasks) > 1 and not selection.tasks:
        raise UsageError(
            f"Several tasks: {', '.join(tasks)}.", hint=f"choose with -t, for example -t {tasks[0]}"
        )
    return found


def _in_one_space(found: Mapping[_RunKey, FoundRun], wanted: str | None) -> dict[_RunKey, FoundRun]:
    spaces = [{space_of(image.file.entities) for image in item.images} for item in found.values()]
    chosen = choose_space(spaces, wanted=wanted)
    kept: dict[_RunKey, FoundRun] = {}
    for key, item in found.items():
        images = tuple(image for image in item.images if space_of(image.file.entities) == chosen)
        if len(images) > 1:
            raise DatasetError(
                f"Several images for one run: {', '.join(str(image.file.path) for image in images)}.",
                hint="-d PATH names a derivative that holds one image for each run",
            )
        if images:
            kept[key] = FoundRun(images[0].file.entities, item.events, images)
    left_out = [item for key, item in found.items() if key not in kept]
    if left_out:
        logger.warning(
            "%d runs have no image in space %s: %s.", len(left_out), chosen or "native", _shown(left_out)
        )
    return kept
