"""Tokens of one participant, as the last evaluation stored them, for his page."""

from __future__ import annotations

import numpy as np

from clipmused_bids.dataset.files.atomic import write_bytes
from clipmused_bids.dataset.outputs.token_files import read_stimulus_tokens
from clipmused_bids.report.blocks import Section
from clipmused_bids.report.token_findings import ClipAgreement, TokenFindings
from clipmused_bids.report.tokens import token_figures, token_section
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.targets.similarity import similarity_matrix

_NUMBERS = {"value": "Spearman", "p_value": "PValue", "chance_low": "ChanceLow", "chance_high": "ChanceHigh"}


def participant_tokens(view: ReportView, participant: str) -> Section | None:
    """Similarities of the participant's tokens beside CLIP's; None where no evaluation stored any.

    The figures are also written to the participant's folder of figures.

    Raises
    ------
    ClipMusedError
        If what is stored is broken, or a figure cannot be written.
    """
    found = token_findings(view, participant)
    if found is None:
        return None
    figures = token_figures(found)
    for name, figure in figures.items():
        ending = "svg" if figure.media_type == "image/svg+xml" else "png"
        stem = f"sub-{participant}_desc-{view.model_label}_{name}.{ending}"
        write_bytes(view.tree.figures(participant) / stem, figure.image)
    return token_section(found, figures)


def token_findings(view: ReportView, participant: str) -> TokenFindings | None:
    """Read what an evaluation found about a participant's tokens; None where it found nothing."""
    runs = view.plan.runs_of(participant)
    if not runs:
        return None
    path = view.tree.tokens(runs[0], model_label=view.model_label)
    if not path.exists():
        return None
    tokens, sidecar = read_stimulus_tokens(path)
    first = tokens.fold == tokens.fold[0]
    return TokenFindings(
        participant=participant,
        brain={
            "low": similarity_matrix(tokens.low[first]),
            "high": similarity_matrix(tokens.high[first]),
        },
        clip={level: values[np.ix_(first, first)] for level, values in tokens.clip.items()},
        group=tokens.group[first],
        group_names=tokens.group_names,
        ordered_by=sidecar["OrderedBy"],
        agreements=[
            ClipAgreement(one["Brain"], one["Clip"], **{k: _number(one[v]) for k, v in _NUMBERS.items()})
            for one in sidecar["Agreements"]
        ],
        n_stimuli=len(tokens.stimulus_id),
        n_tested=sidecar["NumberOfTestStimuli"],
        n_folds=len(np.unique(tokens.fold)) if tokens.fold.any() else 0,
        guided=sidecar["Guidance"],
        seen="unseen stimuli" not in sidecar["Regime"],
        no_clip=sidecar["NoClip"] or "",
        untrained=sidecar["BestEpoch"] == 0,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
