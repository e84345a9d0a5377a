"""A study whose stimuli are real COCO images: random responses of one person to each of them, twice, as a manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

PARTS = ("train2017", "val2017")
SHAPE = (5, 6, 4)


def image_files(coco: Path) -> list[Path]:
    """Return all images of both parts, in order of their names."""
    return sorted(
        (path for part in PARTS for path in (coco / part).glob("*.jpg")), key=lambda path: path.name
    )


def annotations(coco: Path, kind: str) -> list[Path]:
    """Return the annotation files of one kind: ``instances`` or ``captions``."""
    return [coco / "annotations" / f"{kind}_{part}.json" for part in PARTS]


def categories_of(coco: Path) -> dict[str, set[str]]:
    """Category names of each image file, read from the JSON without the package."""
    found: dict[str, set[str]] = {path.name: set() for path in image_files(coco)}
    for path in annotations(coco, "instances"):
        table = json.loads(path.read_text())
        names = {entry["id"]: entry["name"] for entry in table["categories"]}
        files = {entry["id"]: Path(entry["file_name"]).name for entry in table["images"]}
        for entry in table["annotations"]:
            found[files[entry["image_id"]]].add(names[entry["category_id"]])
    return found


def write_study(folder: Path, stimuli: Sequence[str], *, seed: int = 0) -> Path:
    """Write responses, mask and manifest, and an empty raw dataset; returns the manifest."""
    rng = np.random.default_rng(seed)
    (folder / "bids").mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), np.diag([2.0, 2, 2, 1])).to_filename(folder / "mask.nii.gz")
    lines = ["participant_id\tsession\tfile\tindex\tstimulus_id"]
    for session in ("1", "2"):
        np.save(folder / f"ses-{session}.npy", rng.normal(size=(len(stimuli), np.prod(SHAPE))))
        order = rng.permutation(len(stimuli))
        lines += [
            f"sub-01\tses-{session}\tses-{session}.npy\t{row}\t{stimuli[k]}" for row, k in enumerate(order)
        ]
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def command_words(folder: Path, coco: Path, *more: object) -> list[object]:
    """Words of the command that prepares the study with real labels and captions."""
    words: list[object] = [
        folder / "bids", folder / "out", "group", "--betas", folder / "manifest.tsv", "--mask", folder / "mask.nii.gz",
    ]  # fmt: skip
    words += [word for part in PARTS for word in ("--stimuli-dir", coco / part)]
    words += [word for path in annotations(coco, "instances") for word in ("--labels", path)]
    words += [word for path in annotations(coco, "captions") for word in ("--captions", path)]
    return [*words, *more]
