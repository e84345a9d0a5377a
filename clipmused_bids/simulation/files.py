"""Bytes that depend on their content alone: NIfTI, TSV, JSON, PNG."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.errors import CannotCreateError
from clipmused_bids.records import Grid


def make_folder(root: Path) -> None:
    """Make the folder of a new dataset.

    Raises
    ------
    CannotCreateError
        If it holds anything, or cannot be written.
    """
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise CannotCreateError(f"{root}: exists and is not empty.", hint="name a new folder")
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreateError(f"{root}: {error.strerror}.") from error


def write_nifti(
    path: Path,
    data: NDArray[np.integer[Any]],
    *,
    grid: Grid,
    repetition_time: float | None = None,
    template: bool,
) -> None:
    """Write an integer image; the gzip header holds no time."""
    import nibabel as nib

    make: Any = nib.Nifti1Image
    image = make(data, grid.affine)
    code = 4 if template else 1
    image.header.set_sform(grid.affine, code=code)
    image.header.set_qform(grid.affine, code=code)
    image.header.set_xyzt_units("mm", "sec")
    if repetition_time is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], repetition_time))
    write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, two spaces deep."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_tsv(path: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    """Write a table; floats with six digits, NaN as ``n/a``."""
    rows = zip(*([_text(value) for value in values] for values in columns.values()), strict=True)
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def as_written(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return numbers as a table keeps them, (n,): with six digits."""
    return np.array([float(f"{value:.6g}") for value in values])


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an RGB image of shape (height, width, 3)."""
    write_bytes(path, png_bytes(pixels))


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an RGB image of shape (height, width, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "n/a" if np.isnan(value) else f"{value:.6g}"
    return str(value)
