"""Checks of places: the dataset, every file and folder that is named, and where outputs go."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from clipmused_bids.config import Config, hdf5_place
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.description import refuse_foreign
from clipmused_bids.dataset.runs.participants import list_participants
from clipmused_bids.errors import (
    CannotCreateError,
    ClipMusedError,
    DatasetError,
    ExitCode,
    MissingInputError,
)
from clipmused_bids.preflight.check import Check, failed
from clipmused_bids.stages.places import nearest_folder, require_own_place
from clipmused_bids.stages.terminal import size_text

LITTLE_SPACE = 10e9
NO_SPACE = 50e6


def dataset_check(bids_dir: Path, *, of_manifest: bool = False) -> Check:
    """Whether ``BIDS_DIR`` is there, can be read, and looks like a BIDS dataset.

    With a manifest of responses (``of_manifest``) it need not hold the participants, who are named there.
    """
    name = "BIDS_DIR"
    try:
        _require_folder(bids_dir)
        participants = list_participants(bids_dir)
        if not participants and not of_manifest:
            raise DatasetError(
                f"{bids_dir}: no sub-* folder; this is not the root of a BIDS dataset.",
                hint="give the folder that holds dataset_description.json and the sub-* folders",
            )
        description = bids_dir / "dataset_description.json"
        if not description.exists():
            return Check(
                name,
                "warning",
                f"{bids_dir}: no dataset_description.json",
                "BIDS wants one, with Name and BIDSVersion",
            )
        title = read_json(description).get("Name", "unnamed")
    except ClipMusedError as error:
        return failed(name, error)
    access = "read-only" if _is_read_only(bids_dir) else "writable, though nothing is written there"
    return Check(name, "ok", f"{bids_dir} ({title}): {len(participants)} participant(s); {access}")


def input_checks(config: Config) -> Iterator[Check]:
    """Whether what the options name is there; inside a container only bound folders are."""
    for flag, text in _named(config):
        # Of a pattern, the folder above the first field must be there.
        path = Path(text) if "{" not in text else Path(text.partition("{")[0]).parent
        if not path.exists():
            yield failed(flag, MissingInputError(f"{path}: not there."))
        elif not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            yield failed(flag, _unreadable(path))
        else:
            yield Check(flag, "ok", str(path))


def output_checks(config: Config) -> Iterator[Check]:
    """Whether ``OUTPUT_DIR`` and the scratch folder can be written to, and have space."""
    yield _writable("OUTPUT_DIR", config.output_dir, refused=lambda: _refuse_place(config))
    yield _space("disk of OUTPUT_DIR", config.output_dir)
    if config.work_dir is not None:
        yield _writable("--work-dir", config.work_dir, refused=lambda: None)
        yield _space("disk of --work-dir", config.work_dir)


def _refuse_place(config: Config) -> None:
    require_own_place(config.output_dir, bids_dir=config.bids_dir, derivatives=())
    refuse_foreign(config.output_dir)


def _named(config: Config) -> Iterator[tuple[str, str]]:
    inputs = config.inputs
    yield from (("--derivatives", text.rpartition("=")[2]) for text in inputs.derivatives)
    yield from (("--stimuli-dir", _without_dataset(text)) for text in inputs.stimuli_dirs)
    yield from (("--labels", _without_dataset(text)) for text in inputs.labels)
    yield from (("--captions", text) for text in inputs.captions)
    single = {
        "--betas": inputs.betas,
        "--stimulus-map": inputs.stimulus_map,
        "--targets": inputs.targets,
        "--movie": inputs.movie,
        "--mask": inputs.mask,
        "--atlas": inputs.atlas if _is_file_name(inputs.atlas) else None,
        "--split": config.split if _is_file_name(config.split) else None,
        "--bids-filter-file": config.selection.filter_file,
    }
    yield from ((flag, text) for flag, text in single.items() if text is not None)


def _without_dataset(text: str) -> str:
    """``FILE.hdf5:/dataset`` without the dataset."""
    return (hdf5_place(text) or (text, ""))[0]


def _is_file_name(text: str | None) -> bool:
    """Whether an option names a file, and not a rule or an atlas by its name."""
    return text is not None and ("/" in text or text.endswith((".nii", ".nii.gz", ".tsv")))


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise MissingInputError(f"{folder}: no such folder.")
    if not folder.is_dir():
        raise MissingInputError(
            f"{folder}: a file, not a folder.", hint="the first argument is the BIDS dataset"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise _unreadable(folder)


def _unreadable(path: Path) -> MissingInputError:
    return MissingInputError(f"{path}: cannot be read.", hint="chmod +r (folders: +rx), or ask its owner")


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY) or not os.access(folder, os.W_OK)


def _writable(name: str, folder: Path, *, refused: Callable[[], None]) -> Check:
    there = nearest_folder(folder)
    try:
        refused()
        if not there.is_dir():
            raise CannotCreateError(
                f"{folder}: {there} is a file, not a folder.", hint="choose another folder"
            )
        with tempfile.TemporaryFile(dir=there, prefix=".clipmused_probe_"):
            pass
    except OSError as error:
        return Check(
            name,
            "FAIL",
            f"{folder}: {there} cannot be written to ({error.strerror}).",
            "in a container bind it without :ro, e.g. -B /path/to/out:/out",
            ExitCode.CANNOT_CREATE,
        )
    except ClipMusedError as error:
        return failed(name, error)
    return Check(
        name, "ok", f"{folder}: writable" if there == folder else f"{folder}: can be made in {there}"
    )


def _space(name: str, folder: Path) -> Check:
    free = shutil.disk_usage(nearest_folder(folder)).free
    if free < NO_SPACE:
        hint = "free space (df -h), or choose another place"
        return Check(name, "FAIL", f"{size_text(free)} free", hint, ExitCode.IO_ERROR)
    if free < LITTLE_SPACE:
        return Check(name, "warning", f"{size_text(free)} free", "--dry-run says how much a run needs")
    return Check(name, "ok", f"{size_text(free)} free")
