"""Nested tables of TOML and JSON values to dataclasses and back; every name and value is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clipmused_bids.errors import UsageError


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested tables over others."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def as_tables(value: Any) -> dict[str, Any]:
    """Turn a dataclass into nested tables of TOML and JSON values; None is left out, paths become text."""
    return {key: _plain(item) for key, item in asdict(value).items() if item is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def build(kind: Any, tables: Mapping[str, Any], *, where: str) -> Any:
    """Build a dataclass from nested tables.

    Parameters
    ----------
    kind : type
        A dataclass, whose fields may be dataclasses.
    tables : mapping
    where : str
        Prefix of the names in messages (``inputs.``).

    Raises
    ------
    UsageError
        If a name is unknown (the nearest ones are named) or a value has the wrong type.
    """
    import difflib

    types = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in tables.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=3) or names
            raise UsageError(
                f"configuration: unknown value {where}{key}.", hint=f"did you mean {', '.join(near)}?"
            )
        values[key] = _checked(types[key], value, where=f"{where}{key}")
    return kind(**values)


def _checked(kind: Any, value: Any, *, where: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UsageError(f"configuration: {where} must be a table.")
        return build(kind, value, where=f"{where}.")
    # Of "one of these, or nothing"; what is nothing is not in a table.
    kind = next((part for part in get_args(kind) if get_origin(part) is Literal), kind)
    if get_origin(kind) is Literal:
        if not any(value == known and type(value) is type(known) for known in get_args(kind)):
            raise UsageError(
                f"configuration: {where} = {value!r} is unknown.",
                hint=f"one of {', '.join(map(str, get_args(kind)))}",
            )
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"configuration: {where} must be a list.")
        return tuple(_checked(get_args(kind)[0], item, where=where) for item in value)
    accepted = get_args(kind) or (kind,)
    if float in accepted and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise UsageError(
            f"configuration: {where} = {value!r} must be {' or '.join(t.__name__ for t in accepted)}."
        )
    return value
