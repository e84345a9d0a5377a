"""Model card: what a decoder is, what it was fitted to, how well it does, and what it must not be used for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from clipmused_bids.dataset.outputs.metric_files import MetricRow

_PRIVACY = """\
These weights were fitted to brain recordings of people. Per-participant parameters, and decoders fitted to
few people, may identify them or reveal what they perceived. Share them only as far as the participants'
consent and the data's terms of use allow. Never decode somebody who did not agree to it."""

_LIMITS = """\
- It tells which of the labels above were probably seen, under the conditions of the training data; it does not
  read thoughts, and says nothing about labels that are not listed.
- Scores hold for the participants, stimuli and preprocessing named here; another scanner, space, mask or response
  estimate needs another decoder.
- It is a research instrument, not a medical device, and not fit for decisions about a person."""


def model_card(
    *,
    label: str,
    method: str,
    software: str,
    data: Mapping[str, str],
    participants: Sequence[str],
    label_names: Sequence[str],
    scores: Sequence[MetricRow],
    regime: str,
    baselines: Mapping[str, Sequence[MetricRow]],
    leakage: Sequence[str] = (),
    limits: Sequence[str] = (),
) -> str:
    """Write the text of a model card, in Markdown.

    Parameters
    ----------
    label, method, software : str
        Model label; method; program with its version.
    data : mapping of str to str
        Facts about the data by what they are called: dataset, task, space, trials, responses, CLIP model, ...
    participants : sequence of str
        Labels of those the decoder was fitted to.
    label_names : sequence of str
    scores : sequence of MetricRow
        Scores on held-out trials; may be empty before the decoder was evaluated.
    regime : str
        What the scores speak about.
    baselines : mapping of str to sequence of MetricRow
        Scores of other methods on the same trials, by method.
    leakage : sequence of str
        What the leakage auditor found, in sentences.
    limits : sequence of str
        Limits beyond those that hold for every decoder.

    Returns
    -------
    str
    """
    who, names = ", ".join(f"sub-{name}" for name in participants), ", ".join(label_names)
    sections = [
        f"# Decoder `{label}`\n\nMethod `{method}`, fitted with {software}. `config.json` holds every setting.",
        "## Data\n\n" + _bullets([f"{name}: {value}" for name, value in data.items()]),
        f"## Participants\n\n{_count(participants, 'participant')}: {who}",
        f"## Labels\n\n{_count(label_names, 'label')}: {names}",
        "## Scores\n\n" + _score_section(method, scores=scores, regime=regime, baselines=baselines),
        "## Leakage\n\n" + (_bullets(leakage) if leakage else "None was found."),
        "\n".join(["## Limits\n", _LIMITS, *(f"- {limit}" for limit in limits)]),
        f"## Privacy\n\n{_PRIVACY}",
    ]
    return "\n\n".join(sections) + "\n"


def _score_section(
    method: str, *, scores: Sequence[MetricRow], regime: str, baselines: Mapping[str, Sequence[MetricRow]]
) -> str:
    if not scores:
        return "Not evaluated yet; `--evaluate` adds the scores."
    header = "| method | participant | set | samples | metric | value | floor | labels | trials |"
    lines = [header, "|---|---|---|---|---|---|---|---|---|"]
    for name, rows in {method: scores, **baselines}.items():
        lines += [_score_line(name, row) for row in rows]
    intro = f"Regime: {regime}. The floor is what knowing nothing would score on the same trials."
    return f"{intro}\n\n" + "\n".join(lines)


def _score_line(method: str, row: MetricRow) -> str:
    who = row.participant if row.participant == "group" else f"sub-{row.participant}"
    score = row.score
    cells = [method, who, row.set_name, row.averaging, score.metric, _shown(score.value), _shown(score.floor)]
    return f"| {' | '.join([*cells, str(score.n_labels), str(score.n_trials)])} |"


def _shown(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
