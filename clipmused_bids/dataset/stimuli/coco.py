"""COCO annotation files: categories and captions of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.stimuli.names import base_name, coco_id
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
        If a file has no images, annotations or categories, an entry lacks a number, or an annotation's category is
        unknown.
    """
    names: dict[int, str] = {}
    of_image: dict[int, set[str]] = {}
    ids: dict[str, int] = {}
    for path in paths:
        content = _content(path, ("images", "annotations", "categories"))
        for category in content["categories"]:
            names[_number(category, "id", path)] = str(category.get("name", ""))
        for image in content["images"]:
            number = _number(image, "id", path)
            of_image.setdefault(number, set())
            ids[base_name(str(image.get("file_name", "")))] = number
        for annotation in content["annotations"]:
            which = _number(annotation, "category_id", path)
            if which not in names:
                raise DataError(
                    f"{path}: an annotation has the category {which}, which the file does not define."
                )
            of_image.setdefault(_number(annotation, "image_id", path), set()).add(names[which])
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
        If a file has no captions, or an entry lacks a number.
    """
    captions: dict[int, list[str]] = defaultdict(list)
    ids: dict[str, int] = {}
    for path in paths:
        content = _content(path, ("images", "annotations"))
        for image in content["images"]:
            ids[base_name(str(image.get("file_name", "")))] = _number(image, "id", path)
        for annotation in content["annotations"]:
            number = _number(annotation, "image_id", path)
            if "caption" not in annotation:
                raise DataError(f"{path}: annotations without captions; a captions_*.json was expected.")
            captions[number].append(" ".join(str(annotation["caption"]).split()))
    return {key: tuple(sentences) for key, sentences in captions.items()}, ids


def image_id(keys: Iterable[str], *, ids: Mapping[str, int], known: Container[int]) -> int | None:
    """COCO image that a stimulus is.

    Parameters
    ----------
    keys : iterable of str
        Names of the stimulus, see ``label_keys``. A file name that COCO knows goes before a number in a name.
    ids : mapping of str to int
        Image id of each file name.
    known : container of int
        Images that the files describe.

    Returns
    -------
    int or None
        None if no key names such an image.
    """
    names = tuple(keys)
    numbers = [ids.get(base_name(name)) for name in names] + [coco_id(name) for name in names]
    return next((number for number in numbers if number is not None and number in known), None)


def _content(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_json(path)
    lacking = [key for key in keys if not _is_list_of_objects(content.get(key))]
    if lacking:
        raise DataError(
            f"{path}: no {', '.join(lacking)}; a COCO annotation file was expected.",
            hint="--labels takes instances_*.json, --captions takes captions_*.json",
        )
    return content


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _number(entry: Mapping[str, Any], name: str, path: Path) -> int:
    try:
        return int(entry[name])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: an entry without the number {name}; a COCO annotation file was expected."
        ) from error
