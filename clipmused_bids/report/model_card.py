"""Model card: what a decoder is, what it was fitted to, how well it does, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipmused_bids.report.bibliography import references, with_citations, without_citations
from clipmused_bids.report.methods.wording import count

FOLDED_ABOVE = 12  # entries of a list, which is folded away beyond
_FRONT = """\
---
library_name: clipmused-bids
license: unknown
tags: [fmri, bids, brain-decoding, clip]
---
"""
_USE = """\
- Meant for: research on how seen stimuli are represented in the brain, with data of the people named here, recorded and
  preprocessed in the same way, and with their consent.
- Out of scope: diagnosis; decisions about a person; lie detection, surveillance or marketing; decoding somebody who did
  not agree to it; other people, scanners, spaces, masks or response estimates than those below; stimuli and labels
  that are not listed."""
_PRIVACY = """\
These weights were fitted to brain recordings of people. Per-participant parameters, and decoders fitted to few people,
may identify them or reveal what they perceived. Share them only as far as the participants' consent and the data's
terms of use allow."""
_LIMITS = (
    "It tells which of the labels were probably seen, under the conditions of the training data.",
    "It does not read thoughts, and says nothing about labels that are not listed.",
    "Scores hold for the participants, stimuli and preprocessing named here.",
    "It is a research instrument, not a medical device.",
)
_LICENCE = """\
Unknown to the program that wrote this. Whoever shares these weights decides, after looking at three things: the licence
and terms of use of the data they were fitted to, the participants' consent, and, where CLIP guided the training, the
licence of the CLIP weights. Then replace `license: unknown` at the top, here and in what is shared."""


@dataclass(frozen=True)
class CardTable:
    """Rows under heads, as text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Evaluated:
    """Scores of a decoder.

    Parameters
    ----------
    regime : str
        What they speak about.
    group : CardTable
        The group's scores of this decoder and of others on the same trials.
    people : CardTable
        Scores of each participant.
    verdicts : sequence of str
        Whether it beats the best linear baseline, a line each.
    """

    regime: str
    group: CardTable
    people: CardTable
    verdicts: Sequence[str]


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Parameters
    ----------
    label, method, software : str
        Model label; the method, in words with citations; program with its version.
    data, training : mapping of str to str
        Facts by what they are called.
    participants, label_names, left_out : sequence of str
        Labels of participants; labels that it decodes; those that were too rare.
    evaluated : Evaluated or None
        None before the decoder was evaluated.
    leakage, limits : sequence of str
        What the auditor found; limits beyond those that hold for every decoder.
    commands : mapping of str to str
        How it is used: command lines by what they do.
    files : mapping of str to str
        SHA-256 of each file, by name.
    """

    label: str
    method: str
    software: str
    data: Mapping[str, str]
    training: Mapping[str, str]
    participants: Sequence[str]
    label_names: Sequence[str]
    left_out: Sequence[str]
    evaluated: Evaluated | None
    leakage: Sequence[str]
    limits: Sequence[str]
    commands: Mapping[str, str]
    files: Mapping[str, str]


def model_card(card: Card) -> str:
    """Write a model card, in Markdown.

    Parameters
    ----------
    card : Card

    Returns
    -------
    str

    References
    ----------
    Mitchell et al. 2019, doi:10.1145/3287560.3287596
    """
    people = [f"sub-{name}" for name in card.participants]
    sections = {
        "Model": f"{card.method}. Fitted with {card.software}; `config.json` holds every setting.",
        "Intended use": _USE,
        "Evaluation": _evaluation(card.evaluated),
        "Training data": _facts(card.data),
        "Participants": _folded(people, "participant"),
        "Labels": _labels(card),
        "Training": _facts(card.training),
        "Limits": _bullets([*_LIMITS, *card.limits]),
        "Leakage": _bullets(card.leakage) if card.leakage else "None was found.",
        "Privacy": _PRIVACY,
        "How to use it": _commands(card.commands),
        "Licence": _LICENCE,
        "Citation": "Cite the works below; the sentences of a methods section are in `logs/CITATION.md`, the BibTeX in "
        "`logs/CITATION.bib`. This card follows Model Cards for Model Reporting [@mitchell2019].",
        "Files": _files(card.files),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    shown, cited = with_citations(body)
    return f"{_FRONT}\n# Decoder `{card.label}`\n\n{shown}\n\n## References\n\n{references(cited)}"


def _evaluation(evaluated: Evaluated | None) -> str:
    if evaluated is None:
        return "Not evaluated yet; `--evaluate` adds the scores."
    about = (
        f"Scores of held-out trials; they speak about: {evaluated.regime}. The floor is what knowing nothing would "
        "score on the same trials. Each participant has equal weight."
    )
    parts = [
        about,
        _table(evaluated.group),
        *([_bullets(evaluated.verdicts)] if evaluated.verdicts else []),
        _maybe_folded(_table(evaluated.people), len(evaluated.people.rows), "Scores of each participant"),
    ]
    return "\n\n".join(parts)


def _labels(card: Card) -> str:
    text = _folded(card.label_names, "label")
    if card.left_out:
        n = len(card.left_out)
        text += f"\n\nLeft out, since too few training trials had {'it' if n == 1 else 'them'}: "
        text += _shortened(card.left_out)
    return text


def _folded(names: Sequence[str], noun: str) -> str:
    text = without_citations(", ".join(names))
    if len(names) <= FOLDED_ABOVE:
        return f"{count(len(names), noun)}: {text}"
    return _details(count(len(names), noun), text)


def _shortened(names: Sequence[str]) -> str:
    shown = without_citations(", ".join(names[:FOLDED_ABOVE]))
    more = len(names) - FOLDED_ABOVE
    return f"{shown}, and {more} more (`labels_left_out` in the configuration)" if more > 0 else shown


def _maybe_folded(text: str, n_rows: int, title: str) -> str:
    return f"{title}:\n\n{text}" if n_rows <= FOLDED_ABOVE else _details(title, text)


def _details(summary: str, text: str) -> str:
    """Folded away where Markdown is shown as a page; plain text elsewhere."""
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n\n</details>"


def _files(files: Mapping[str, str]) -> str:
    rows = [[f"`{name}`", f"`{found}`"] for name, found in files.items()]
    table = _table(CardTable(["file", "SHA-256"], rows))
    note = "Weights are tensors only (safetensors); nothing in these files is code."
    return f"{note}\n\n{_maybe_folded(table, len(rows), 'Files of this folder')}"


def _commands(commands: Mapping[str, str]) -> str:
    parts = [f"{purpose}:\n\n```\n{line}\n```" for purpose, line in commands.items()]
    return "\n\n".join(parts)


def _table(table: CardTable) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _facts(facts: Mapping[str, str]) -> str:
    return _bullets([f"{name}: {value}" for name, value in facts.items()])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
