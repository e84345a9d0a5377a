"""COCO annotation files: categories and captions of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.contents import read_json
from clipmused_bids.dataset.stimulus_names import base_name, coco_id
from clipmused_bids.errors import DataError


@dataclass(frozen=True)
class CocoLabels:
    """Categories of images.

    Parameters
    ----------
    names : tuple of str
        All categories, in order of their COCO ids, whether they occur or not.
    of_image : mapping of int to frozenset of str
        Categories of each image that the files list; an image without objects has none.
    ids : mapping of str to int
        Image id of each file name.
    """

    names: tuple[str, ...]
    of_image: Mapping[int, frozenset[str]]
    ids: Mapping[str, int]


def read_instances(paths: Sequence[Path]) -> CocoLabels:
    """Read one or several ``instances_*.json``.

    Raises
    ------
    DataError
        If a file has no images, annotations or categories, or an annotation's category is unknown.
    """
    names: dict[int, str] = {}
    of_image: dict[int, set[str]] = {}
    ids: dict[str, int] = {}
    for path in paths:
        content = _content(path, ("images", "annotations", "categories"))
        names |= {int(category["id"]): str(category["name"]) for category in content["categories"]}
        for image in content["images"]:
            of_image.setdefault(int(image["id"]), set())
            ids[base_name(str(image.get("file_name", "")))] = int(image["id"])
        for annotation in content["annotations"]:
            category = annotation.get("category_id")
            if category not in names:
                raise DataError(
                    f"{path}: an annotation has the category {category}, which the file does not define."
                )
            of_image.setdefault(int(annotation["image_id"]), set()).add(names[category])
    ordered = tuple(dict.fromkeys(names[key] for key in sorted(names)))
    return CocoLabels(ordered, {key: frozenset(found) for key, found in of_image.items()}, ids)


def read_coco_captions(paths: Iterable[Path]) -> tuple[dict[int, tuple[str, ...]], dict[str, int]]:
    """Read one or several ``captions_*.json``.

    Returns
    -------
    dict of int to tuple of str
        Captions of each image id, in the file's order.
    dict of str to int
        Image id of each file name.

    Raises
    ------
    DataError
        If a file has no captions.
    """
    captions: dict[int, list[str]] = defaultdict(list)
    ids: dict[str, int] = {}
    for path in paths:
        content = _content(path, ("images", "annotations"))
        ids |= {base_name(str(image.get("file_name", ""))): int(image["id"]) for image in content["images"]}
        for annotation in content["annotations"]:
            if "caption" not in annotation:
                raise DataError(f"{path}: annotations without captions; a captions_*.json was expected.")
            captions[int(annotation["image_id"])].append(" ".join(str(annotation["caption"]).split()))
    return {key: tuple(sentences) for key, sentences in captions.items()}, ids


def image_id(stimulus: str, ids: Mapping[str, int]) -> int | None:
    """COCO image a stimulus is: by file name, else by the number in its name; None if it has none."""
    by_name = ids.get(base_name(stimulus))
    return by_name if by_name is not None else coco_id(stimulus)


def _content(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_json(path)
    lacking = [key for key in keys if not isinstance(content.get(key), list)]
    if lacking:
        raise DataError(
            f"{path}: no {', '.join(lacking)}; a COCO annotation file was expected.",
            hint="--labels takes instances_*.json, --captions takes captions_*.json",
        )
    return content
