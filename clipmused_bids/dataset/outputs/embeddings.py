"""Cache of CLIP features, by content: many processes fill it at once and none loses another's rows.

A shard is one safetensors file with the features of several stimuli. Its name is made of the first digit of
its keys' content hashes, a hash of the settings (model, weights, preprocessing) and a hash of the keys it
holds, so two processes that hold different rows never write the same file. There is no index that could
fall behind: a reader lists the folder and takes the union of all shards with its settings.

Files stay few. Work is planned in shards of up to 1,024 rows, and where small shards of one digit pile up
they are merged: first the merged shard is made, durably, then the ones it contains are removed. A file is
only ever removed when another file holds all its rows, so at every moment each row is in some file; a
reader that finds a file gone lists again. 73,000 stimuli computed by eight jobs are a few hundred files.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.dataset.files.atomic import make_folder, remove
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import canonical_json, write_json
from clipmused_bids.dataset.files.tensors import digest, parse_header, read_array, write_tensors
from clipmused_bids.errors import DataError, MissingInputError

logger = logging.getLogger(__name__)

SHARD_ROWS = 1024
_SMALL = SHARD_ROWS // 2
_MOST_SMALL = 8
_MOST_ATTEMPTS = 100


class _ShardGoneError(Exception):
    """A shard was merged into another one after it was listed."""


@dataclass(frozen=True)
class EmbeddingCache:
    """Features of stimuli by content hash, for one set of settings.

    Parameters
    ----------
    folder : Path
        ``OUT/stimuli/desc-<clip>_embeddings``; need not exist.
    settings : mapping
        JSON values on which the features depend: model, SHA-256 of its weights, preprocessing, form, ...
        Shards of other settings may lie in the same folder; they are not seen.
    sources : tuple of str
        BIDS URIs of the folders the stimuli come from, for the sidecars.
    """

    folder: Path
    settings: Mapping[str, Any]
    sources: tuple[str, ...] = ()

    def missing(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Keys without stored features, each once, in the order given."""
        stored = self._index()
        return tuple(key for key in dict.fromkeys(keys) if key not in stored)

    def plan(self, keys: Sequence[str], *, rows: int = SHARD_ROWS) -> tuple[tuple[str, ...], ...]:
        """Group the keys that are missing so that one group, computed and added at once, is one shard.

        Parameters
        ----------
        keys : sequence of str
        rows : int
            Largest number of keys in a group.
        """
        by_digit: dict[str, list[str]] = {}
        for key in sorted(self.missing(keys)):
            by_digit.setdefault(key[0], []).append(key)
        return tuple(
            tuple(group[start : start + rows])
            for group in by_digit.values()
            for start in range(0, len(group), rows)
        )

    def read(self, keys: Sequence[str], *, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Read features.

        Parameters
        ----------
        keys : sequence of str
            Content hashes, hexadecimal; may repeat.
        names : sequence of str, optional
            Arrays that are wanted; all without it. Of the others nothing is read.

        Returns
        -------
        dict of str to ndarray of shape (n_keys, ...)
            One array for each that was added, rows in the order of ``keys``, in memory.

        Raises
        ------
        MissingInputError
            If features are missing.
        DataError
            If shards of the same settings hold arrays of different shapes.
        """
        for _ in range(_MOST_ATTEMPTS):
            try:
                return self._read_rows(keys, names=names)
            except _ShardGoneError:
                continue
        raise MissingInputError(f"{self.folder}: shards vanish while they are read.")

    def add(self, keys: Sequence[str], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Store features; keys that are stored already are left as they are.

        Parameters
        ----------
        keys : sequence of str
            Content hashes, hexadecimal, each once; best a group of :meth:`plan`.
        tensors : mapping of str to ndarray of shape (n_keys, ...)
            The same names and widths at every call.

        Raises
        ------
        CannotCreateError, OutputWriteError
            If writing fails.
        """
        for name, values in tensors.items():
            if len(values) != len(keys) or len(set(keys)) != len(keys):
                raise ValueError(
                    f"{len(keys)} keys ({len(set(keys))} different) for {len(values)} rows of {name}"
                )
        stored = self._index()
        make_folder(self.folder)
        new = [k for k, key in enumerate(keys) if key not in stored]
        for digit in sorted({keys[k][0] for k in new}):
            rows = sorted((k for k in new if keys[k][0] == digit), key=lambda k: keys[k])
            self._write(
                [keys[k] for k in rows], {name: np.asarray(values)[rows] for name, values in tensors.items()}
            )
            self._merge_small(digit)

    def _write(self, keys: list[str], tensors: Mapping[str, NDArray[Any]]) -> Path:
        path = self.folder / f"{keys[0][0]}-{self._settings_hash}-{digest(*keys)[:16]}.safetensors"
        write_json(
            path.with_suffix(".json"),
            {
                "Description": "CLIP features of stimuli; row k of each array belongs to the stimulus whose file has "
                "the SHA-256 `Keys[k]`.",
                "Sources": list(self.sources),
                "Settings": self.settings,
                "Arrays": {
                    name: {"shape": values.shape, "dtype": str(values.dtype)}
                    for name, values in tensors.items()
                },
                "Keys": keys,
            },
        )
        write_tensors(path, tensors, metadata={"settings": self.settings, "keys": keys})
        return path

    @property
    def _settings_hash(self) -> str:
        return digest(canonical_json(self.settings))[:12]

    def _shards(self, digit: str = "?") -> list[Path]:
        return sorted(self.folder.glob(f"{digit}-{self._settings_hash}-*.safetensors"))

    def _index(self) -> dict[str, tuple[Path, int]]:
        """Find the shard and row of every key that is stored."""
        for _ in range(_MOST_ATTEMPTS):
            try:
                shards = {path: _keys(path) for path in self._shards()}
            except _ShardGoneError:
                continue
            return {key: (path, row) for path, keys in shards.items() for row, key in enumerate(keys)}
        raise MissingInputError(f"{self.folder}: shards vanish while they are listed.")

    def _read_rows(self, keys: Sequence[str], *, names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
        index = self._index()
        lacking = [key for key in dict.fromkeys(keys) if key not in index]
        if lacking:
            raise MissingInputError(
                f"{self.folder}: no features of {len(lacking)} of {len(set(keys))} stimuli ({lacking[0][:12]}...).",
                hint="--prepare computes them",
            )
        wanted: dict[Path, list[int]] = {}
        for k, key in enumerate(keys):
            wanted.setdefault(index[key][0], []).append(k)
        out: dict[str, NDArray[Any]] = {}
        for path, places in wanted.items():
            for name, values in _load(path, names=names)[1].items():
                rows = values[[index[keys[k]][1] for k in places]]
                whole = out.setdefault(name, np.empty((len(keys), *rows.shape[1:]), dtype=rows.dtype))
                if whole.shape[1:] != rows.shape[1:]:
                    raise DataError(
                        f"{path}: {name} has rows of {rows.shape[1:]}, other shards {whole.shape[1:]}."
                    )
                whole[places] = rows
        return out

    def _merge_small(self, digit: str) -> None:
        try:
            sizes = {path: len(_keys(path)) for path in self._shards(digit)}
            small = sorted((path for path, n in sizes.items() if n < _SMALL), key=lambda path: sizes[path])
            if len(small) <= _MOST_SMALL:
                return
            fitting = [
                path for k, path in enumerate(small) if sum(sizes[p] for p in small[: k + 1]) <= SHARD_ROWS
            ]
            loaded = {path: _load(path) for path in fitting}
        except _ShardGoneError:
            return  # Another process is merging these.
        place = {key: (path, row) for path, (keys, _) in loaded.items() for row, key in enumerate(keys)}
        keys = sorted(place)
        names = next(iter(loaded.values()))[1]
        merged = {
            name: np.stack([loaded[place[key][0]][1][name][place[key][1]] for key in keys]) for name in names
        }
        kept = self._write(keys, merged)
        for path in fitting:
            if path != kept:
                remove(path)
                remove(path.with_suffix(".json"))


def stored_caches(folder: Path) -> tuple[EmbeddingCache, ...]:
    """Find what a folder holds, one cache for each set of settings."""
    settings = {
        canonical_json(found): found
        for path in sorted(folder.glob("*.safetensors"))
        if path.with_suffix(".json").is_file()
        and isinstance(found := read_json(path.with_suffix(".json")).get("Settings"), Mapping)
    }
    return tuple(EmbeddingCache(folder, one) for one in settings.values())


def _keys(path: Path) -> list[str]:
    """Read the keys of a shard; none where the file is broken, so that its rows are computed again."""
    try:
        with path.open("rb") as stream:
            return [str(key) for key in parse_header(stream, path=path)[1]["keys"]]
    except (DataError, KeyError) as error:
        logger.warning("%s is left out: %s", path, error)
        return []
    except OSError as error:
        raise _gone(path, error) from error


def _load(path: Path, *, names: Sequence[str] | None = None) -> tuple[list[str], dict[str, NDArray[Any]]]:
    # Read, not mapped: a mapped file that another machine removes can end this process (SIGBUS on NFS).
    try:
        with path.open("rb") as stream:
            entries, metadata = parse_header(stream, path=path)
            wanted = {n: entry for n, entry in entries.items() if names is None or n in names}
            return metadata["keys"], {name: read_array(stream, entry) for name, entry in wanted.items()}
    except OSError as error:
        raise _gone(path, error) from error


def _gone(path: Path, error: OSError) -> Exception:
    if error.errno in {errno.ENOENT, errno.ESTALE}:
        return _ShardGoneError(str(path))
    return MissingInputError(f"{path}: {error.strerror or error}.")
