"""``--bids-exec-spec``: a Boutiques descriptor of the command, made from its own options.

References
----------
Glatard et al. 2018, Boutiques: a flexible framework to integrate command-line applications in computing platforms,
doi:10.1093/gigascience/giy016; schema 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from clipmused_bids import __version__
from clipmused_bids.errors import ExitCode

NAME = "clipmused-bids"
URL = "https://github.com/clipmused-bids/clipmused-bids"
# Values that platforms need not have before a run: folders that the command makes.
_MADE = frozenset({"output_dir", "work_dir"})
_LEVELS = ("participant", "subject", "group", "dataset")
_EXIT_CODES = {
    ExitCode.UNEXPECTED: "An unexpected error.",
    ExitCode.DATASET_INVALID: "The dataset as a whole cannot serve this purpose.",
    ExitCode.UNKNOWN_LEVEL: "The analysis level is unknown.",
    ExitCode.NOTHING_SELECTED: "The filters select nothing.",
    ExitCode.USAGE: "Options that are unknown, contradict each other or have no meaning.",
    ExitCode.BAD_DATA: "A file was read and its content cannot be used.",
    ExitCode.INPUT_MISSING: "A file that is needed is not there or cannot be read.",
    ExitCode.CANNOT_CREATE: "An output cannot be created, or exists and differs.",
    ExitCode.IO_ERROR: "Writing failed on the way.",
    ExitCode.INTERRUPTED: "Interrupted; the same command goes on where it stopped.",
}
_OUTPUTS = {
    "description": ("dataset_description.json", "The output folder as a BIDS derivative."),
    "split": ("split.tsv", "Which trials train, validate and test (after training)."),
    "models": ("models", "Weights, configuration and training curves of each decoder (after training)."),
    "responses": ("sub-*/func/*_responses.*", "One response per trial and voxel, of datasets without sessions."),
    "responses_of_sessions": ("sub-*/ses-*/func/*_responses.*", "The same, of datasets with sessions."),
    "predictions": ("sub-*/func/*_predictions.tsv", "Probability of each label for each trial (after decoding)."),
    "predictions_of_sessions": ("sub-*/ses-*/func/*_predictions.tsv", "The same, of datasets with sessions."),
    "scores": ("group_desc-*_metrics.tsv", "Scores with their floors (after evaluation)."),
    "citation": ("logs/CITATION.md", "Methods text with the numbers filled in, and references."),
}  # fmt: skip


def descriptor(parameters: Sequence[click.Parameter]) -> dict[str, Any]:
    """Describe the command by the Boutiques schema 0.5.

    Parameters
    ----------
    parameters : sequence of click.Parameter
        Arguments and options of the command; those that end it at once (``--help``) are left out.
    """
    inputs = [entry for parameter in parameters for entry in _inputs(parameter)]
    return {
        "name": NAME,
        "tool-version": __version__,
        "schema-version": "0.5",
        "description": "Decode what people saw from their fMRI: CLIP-MUSED on a BIDS dataset.",
        "author": "The clipmused-bids developers",
        "url": URL,
        "command-line": " ".join([NAME, *(entry["value-key"] for entry in inputs)]),
        "container-image": {"type": "docker", "image": f"{NAME}:{__version__}", "entrypoint": True},
        "inputs": inputs,
        "groups": [group for parameter in parameters for group in _groups(parameter)],
        "output-files": [
            {
                "id": f"out_{name}",
                "name": name.replace("_", " "),
                "description": text,
                "path-template": f"[OUTPUT_DIR]/{path}",
                "optional": name != "description",
                "list": "*" in path,
            }
            for name, (path, text) in _OUTPUTS.items()
        ],
        "error-codes": [{"code": int(code), "description": text} for code, text in _EXIT_CODES.items()],
        "suggested-resources": {"cpu-cores": 4, "ram": 16},
        "tags": {"domain": ["neuroinformatics", "bids", "fmri"]},
    }


def print_descriptor(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the descriptor and end the command."""
    if asked and not context.resilient_parsing:
        click.echo(json.dumps(descriptor(context.command.params), indent=2))
        context.exit()


def _inputs(parameter: click.Parameter) -> Iterator[dict[str, Any]]:
    """Entries of one parameter: a switch with two names is two flags."""
    if isinstance(parameter, click.Argument):
        yield {**_entry(str(parameter.name)), **_value(parameter), "optional": False}
    elif isinstance(parameter, click.Option) and not parameter.is_eager:
        help_text = {"description": parameter.help} if parameter.help else {}
        for flag, name in _flags(parameter):
            yield {
                **_entry(name),
                **_value(parameter),
                **help_text,
                "command-line-flag": flag,
                "optional": True,
            }


def _entry(name: str) -> dict[str, Any]:
    return {"id": name, "name": name.replace("_", " "), "value-key": f"[{name.upper()}]"}


def _flags(option: click.Option) -> list[tuple[str, str]]:
    """First long spelling and identifier of an option, and of its opposite if it has one."""
    flag, *opposite = (
        next(text for text in spellings if text.startswith("--"))
        for spellings in (option.opts, option.secondary_opts)
        if spellings
    )
    return [(flag, str(option.name)), *((text, text.lstrip("-").replace("-", "_")) for text in opposite)]


def _groups(parameter: click.Parameter) -> Iterator[dict[str, Any]]:
    if isinstance(parameter, click.Option) and parameter.secondary_opts:
        members = [name for _, name in _flags(parameter)]
        yield {
            "id": f"{parameter.name}_group",
            "name": " or ".join(members).replace("_", " "),
            "members": members,
            "mutually-exclusive": True,
        }


def _value(parameter: click.Parameter) -> dict[str, Any]:
    """Type and range of a value."""
    if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
        return {"type": "Flag"}
    return {**_kind(parameter), **({"list": True} if parameter.multiple else {})}


def _kind(parameter: click.Parameter) -> dict[str, Any]:
    kind = parameter.type
    if parameter.name == "analysis_level":
        return {"type": "String", "value-choices": list(_LEVELS)}
    if isinstance(kind, click.Choice):
        return {"type": "String", "value-choices": list(kind.choices)}
    if kind is click.FLOAT:
        return {"type": "Number"}
    if kind is click.INT:
        return {"type": "Number", "integer": True}
    if isinstance(kind, click.IntRange):
        return {"type": "Number", "integer": True, "minimum": kind.min}
    file = isinstance(kind, click.Path) and parameter.name not in _MADE
    return {"type": "File" if file else "String"}
