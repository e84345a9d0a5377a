"""The whole text, as Markdown, and its BibTeX."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from clipmused_bids.report.bibliography import bibtex, references, with_citations
from clipmused_bids.report.methods.data import data_paragraphs
from clipmused_bids.report.methods.decoders import decoder_paragraphs
from clipmused_bids.report.methods.facts import MethodsFacts
from clipmused_bids.report.methods.responses import response_paragraphs
from clipmused_bids.report.methods.scores import score_paragraphs
from clipmused_bids.report.methods.splits import split_paragraphs
from clipmused_bids.report.methods.wording import listed

_CITED_PACKAGES = {"numpy": " [@harris2020]", "torch": " [@paszke2019]"}


@dataclass(frozen=True)
class MethodsText:
    """What is written for one decoder.

    Parameters
    ----------
    markdown : str
        Methods section and list of references.
    bibtex : str
        Entries of the works that are cited, and no others.
    """

    markdown: str
    bibtex: str


def methods_text(facts: MethodsFacts) -> MethodsText:
    """Write what was done, in sentences for a methods section, with the works to cite.

    Parameters
    ----------
    facts : MethodsFacts

    Returns
    -------
    MethodsText
        Equal facts give equal bytes.
    """
    sections = {
        "Participants and stimuli": data_paragraphs(facts),
        "Responses": response_paragraphs(facts),
        "Training, validation and test trials": split_paragraphs(facts),
        "Decoder": decoder_paragraphs(facts),
        "Evaluation": score_paragraphs(facts),
        "Software": [_software(facts)],
    }
    body = "\n\n".join(
        _section(title, [text for text in found if text]) for title, found in sections.items() if found
    )
    shown, cited = with_citations(body)
    return MethodsText(f"# Methods\n\n{shown}\n\n# References\n\n{references(cited)}", bibtex(cited))


def _section(title: str, paragraphs: Sequence[str]) -> str:
    return "\n\n".join([f"## {title}", *paragraphs])


def _software(facts: MethodsFacts) -> str:
    used = [f"{name} {version}{_CITED_PACKAGES.get(name, '')}" for name, version in facts.packages.items()]
    text = f"This text was written by clipmused-bids {facts.version}, in an environment with {listed(used)}."
    if not facts.decoders:
        return text
    trained = sorted({str(config["version"]) for config in facts.decoders})
    return f"{text} Decoders were fitted with clipmused-bids {listed(trained)}. {stored_as(facts)}"


def stored_as(facts: MethodsFacts) -> str:
    """Say which decoders the text is about: their label, and a hash that no others have."""
    hashes = "".join(facts.weights)
    one = len(facts.weights) == 1
    found = hashes if one else hashlib.sha256(hashes.encode("ascii")).hexdigest()
    of = "SHA-256 of the weights" if one else "SHA-256 of the hashes of their weights"
    return f"They are stored under the model label {facts.model_label} ({of}: {found[:16]})."
