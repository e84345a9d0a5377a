"""What becomes of every row of the events and of every stimulus they name: a table, and what it allows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from clipmused_bids.dataset.stimuli.finding import Resolved
from clipmused_bids.errors import DataError
from clipmused_bids.stages.contenders import asked_for
from clipmused_bids.stages.plan import Plan

logger = logging.getLogger(__name__)

_LEAST_COVERAGE = 0.5
_SHOWN = 5


def coverage_table(plan: Plan, resolved: Resolved | None) -> str:
    """Text table: rows, trials, rows modelled besides, rows left out by reason; stimuli, and their pictures.

    Parameters
    ----------
    plan : Plan
    resolved : Resolved or None
        Pictures of the stimuli; None where the events name none, or nobody asked for them.
    """
    runs = [plan.trials[run.key] for run in plan.event_runs]
    excluded: Counter[str] = Counter()
    for trials in runs:
        excluded.update(trials.excluded)
    modelled = Counter(kind for trials in runs for kind in trials.nuisance_kind)
    names = {name for trials in runs for name in trials.stimulus_id if name}
    columns = sorted({trials.stimulus_column for trials in runs if trials.stimulus_column})
    named = f"named in column {', '.join(columns)}" if columns else "told apart by condition"
    people = len({run.participant for run in plan.event_runs})
    lines = [
        ("rows", f"{sum(trials.n_rows for trials in runs)}"),
        ("trials", f"{sum(t.n_trials for t in runs)}, made of {sum(t.n_rows_in_trials for t in runs)} rows"),
        ("modelled besides", _counted(modelled)),
        ("left out", _counted(excluded)),
        ("stimuli", f"{len(names)}, {named}" if names else "none named"),
        *(() if resolved is None else _pictures(resolved)),
    ]
    width = max(len(name) for name, _ in lines)
    body = "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)
    return f"Events of {len(runs)} run(s), {people} participant(s):\n{body}"


def require_pictures(plan: Plan, resolved: Resolved) -> None:
    """Judge how many stimuli have pictures, once their labels are known.

    Labels (and captions) make text, and text can guide the high level alone, so that missing pictures end nothing;
    unless the high level is to be made of pictures only.

    Raises
    ------
    DataError
        If fewer than half of the stimuli have a picture and nothing can stand in for them.
    """
    n, missing = len(resolved.names), resolved.missing
    if not missing:
        return
    share = f"{len(missing)} of {n} stimuli have no picture"
    if resolved.coverage < _LEAST_COVERAGE and _of_pictures_only(plan):
        raise DataError(
            f"{share}: {_shown(list(missing))}. At least half must have one: targets.high = image takes no text.",
            hint="--stimuli-dir names a folder of stimuli or an image bank; targets.high = mean takes text too",
        )
    if not resolved.places:
        logger.info("There is no folder of stimuli: captions and labels stand in for the pictures.")
    elif resolved.coverage < _LEAST_COVERAGE:
        logger.warning(
            "WARNING: %s; the folders of stimuli may be wrong (%s). It goes on, since labels and captions stand in for "
            "pictures; the low level is known of %d stimuli only.",
            share, ", ".join(resolved.places), n - len(missing),
        )  # fmt: skip
    else:
        logger.warning("%s; captions and labels stand in for them.", share)


def _pictures(resolved: Resolved) -> list[tuple[str, str]]:
    missing = resolved.missing
    lines = [("pictures found", f"{len(resolved.names) - len(missing)}")]
    first = [f"{name} ({why})" for name, why in list(missing.items())[:_SHOWN]]
    more = ", ..." if len(missing) > _SHOWN else ""
    lines.append(
        ("pictures missing", f"{len(missing)}: {', '.join(first)}{more}" if missing else "0"),
    )
    return lines


def _of_pictures_only(plan: Plan) -> bool:
    guided = any(one.info.guided for one in asked_for(plan.config))
    makes_targets = bool({"prepare", "train"} & set(plan.config.actions)) and guided
    return (
        makes_targets and plan.config.inputs.targets is None and plan.hyperparameters.targets.high == "image"
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.most_common()) or "none"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
