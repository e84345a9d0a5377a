"""What the page of options is made of, when it is built: the command in groups, and its hyper-parameters."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from clipmused_bids.cli import options
from clipmused_bids.config import PRESETS, Hyperparameters, read_preset
from clipmused_bids.config.tables import as_tables


def _group(decorators: Sequence[options.Decorator]) -> click.Command:
    """Return a command that has these options alone, for sphinx-click."""

    def nothing() -> None:
        """Do nothing."""

    for decorator in reversed(decorators):
        decorator(nothing)
    return click.command(help="")(nothing)


arguments = _group(options.ARGUMENTS)
actions = _group(options.ACTIONS)
selection = _group(options.SELECTION)
inputs = _group(options.INPUTS)
responses = _group(options.RESPONSES)
model = _group(options.MODEL)
resources = _group(options.RESOURCES)
control = _group(options.CONTROL)


def hyperparameters() -> str:
    """Tables of every value that ``--config-file`` may set: kind, default, presets that differ, meaning."""
    top = [field for field in dataclasses.fields(Hyperparameters) if not _is_table(field)]
    parts = [_table("", Hyperparameters, top)]
    for field in dataclasses.fields(Hyperparameters):
        if _is_table(field):
            kind: Any = field.default_factory
            first = inspect.cleandoc(kind.__doc__).splitlines()[0]
            parts.append(
                f"### [{field.name}]\n\n{_plain(first)}\n\n"
                + _table(field.name, kind, dataclasses.fields(kind))
            )
    return "\n\n".join(parts) + "\n"


def _is_table(field: dataclasses.Field[Any]) -> bool:
    return field.default_factory is not dataclasses.MISSING


def _table(table: str, kind: type, fields: Sequence[dataclasses.Field[Any]]) -> str:
    told = dict(_described(inspect.cleandoc(str(kind.__doc__))))
    lines = ["| value | default | presets | meaning |", "|---|---|---|---|"]
    for field in fields:
        values, meaning = told.get(field.name, ("", ""))
        text = " ".join(part for part in (_plain(values), _plain(meaning)) if part)
        lines.append(
            f"| `{field.name}` | {_shown(field.default)} | {_of_presets(table, field.name)} | {text} |"
        )
    return "\n".join(lines)


def _of_presets(table: str, name: str) -> str:
    stored = {preset: read_preset(preset) for preset in PRESETS}
    found = {
        preset: (values.get(table, {}) if table else values).get(name) for preset, values in stored.items()
    }
    usual = as_tables(Hyperparameters())
    default = (usual[table] if table else usual).get(name)
    return ", ".join(
        f"{preset} {_shown(value)}"
        for preset, value in found.items()
        if value is not None and value != default
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(f"`{one:g}`" for one in value)
    return "by the data" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _described(docstring: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, choices and meaning of each value that a numpydoc docstring describes."""
    body = docstring.partition("Parameters\n----------\n")[2]
    for heading, text in re.findall(
        r"^(\w[^\n]*?(?: : [^\n]*)?)\n((?:    [^\n]*\n?|\n)*)", body + "\n", re.MULTILINE
    ):
        names, _, kind = heading.partition(" : ")
        choices = kind if kind.startswith("{") else ""
        for name in names.split(", "):
            yield (
                name,
                (choices.strip("{}").replace('"', "`") + ("." if choices else ""), " ".join(text.split())),
            )


def _plain(text: str) -> str:
    """Docstring markup as Markdown in a table."""
    return text.replace("``", "`").replace("|", "\\|")


def write_hyperparameters(folder: Path) -> None:
    """Write the tables where the page of options includes them from."""
    folder.mkdir(exist_ok=True)
    path, text = folder / "hyperparameters.md", hyperparameters()
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
