"""Which trials of a new participant fit and which test a decoder that others trained."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import model_path, read_config, stored_participants
from clipmused_bids.errors import DataError, MissingInputError, UsageError
from clipmused_bids.evaluation.assignment import SET_NAMES, split_rows
from clipmused_bids.evaluation.split_design import SplitDesign
from clipmused_bids.evaluation.splits import make_split, regime_of
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import IntArray, Run, SetName, Split
from clipmused_bids.stages.auditing import SplitAudit, audit_split, say_audit
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.splitting import design_of, sets_of_runs, split_hash, split_of_decoder

logger = logging.getLogger(__name__)

_TRAIN = SET_NAMES.index("train")


def newcomer_split(plan: Plan, catalogue: Catalogue, tree: OutputTree) -> Split:
    """The base's split, with the new participants' trials in it, and the regime of their test trials.

    Trials that the split knows stay where they are. Of runs that it does not know, a trial goes where the base has
    its stimulus (regimes of unseen stimuli) or its run index; what the base does not know fits. Where that tests
    nothing, a split is made of the new participants' trials alone. Test trials never have a stimulus that the base
    was trained on where the regime says so: the auditor looks.

    Raises
    ------
    MissingInputError
        If there is no such base, or no split of it.
    UsageError
        If it is a decoder of one participant each, or was cross-validated.
    DataError
        If it knows a participant already, the split is not the one it was trained with, or a set is empty.
    """
    stored = base_config(tree, label=str(plan.config.base_model))
    _require_new(plan, stored)
    split = _of_base(plan, tree, stored)
    unknown = {run.key for run in plan.event_runs} - set(split.run_key)
    if any(run.key in unknown for run in plan.runs):
        split = _extended(split, plan, catalogue, unknown=unknown)
    split = replace(split, regime=_regime(split, plan, stored["participants"]))
    say_audit(audit_newcomers(plan, catalogue, split, stored["participants"]), contents_read=True)
    return split


def base_config(tree: OutputTree, *, label: str) -> Mapping[str, object]:
    """Configuration of a group's decoder that new participants can be fitted to.

    Raises
    ------
    MissingInputError
        If there is none.
    UsageError
        If there are decoders of one participant each only, the method shares nothing, or it was cross-validated.
    """
    folder = tree.model_folder(label)
    if not model_path(folder, participant=None).exists():
        own = stored_participants(folder)
        if own:
            raise UsageError(
                f"--base-model {label}: decoders of one participant each; nothing in them is shared.",
                hint="name a decoder that was trained at level group",
            )
        known = sorted(path.parent.name for path in folder.parent.glob("*/model.safetensors"))
        raise MissingInputError(
            f"--base-model {label}: {folder} holds no decoder of a group; there is {', '.join(known) or 'none'}.",
            hint="group --train makes one, in the same OUTPUT_DIR",
        )
    stored: Mapping[str, object] = read_config(folder, participant=None)
    info = METHODS[str(stored["method"])]
    if not info.deep or info.per_participant:
        raise UsageError(
            f"--base-model {label}: method {stored['method']} has nothing that a new participant could share.",
            hint="name a decoder of clip-mused or one of its shared rivals",
        )
    described = stored["split"]
    assert isinstance(described, dict)
    if "folds" in described:
        raise UsageError(
            f"--base-model {label}: trained with --cv, which holds every trial out once; nothing is left that tests "
            "new participants.",
            hint="train a base with --split",
        )
    return stored


def told_by_decoders(split: Split | None, plan: Plan, tree: OutputTree) -> Split | None:
    """The split with the regime of its decoders: that of a new participant depends on what was fitted to him."""
    folder = tree.model_folder(plan.config.model_label)
    own = [p for p in plan.participants if model_path(folder, participant=p).exists()]
    if split is None or not own:
        return split
    stored = [read_config(folder, participant=p) for p in own]
    regimes = {one["split"]["regime"] for one in stored if "base" in one}
    return replace(split, regime="; ".join(sorted(regimes))) if regimes else split


def _require_new(plan: Plan, stored: Mapping[str, object]) -> None:
    known = stored["participants"]
    assert isinstance(known, list)
    old = [p for p in plan.participants if p in known]
    if old:
        raise DataError(
            f"--base-model {plan.config.base_model}: it knows {', '.join(f'sub-{p}' for p in old)} already.",
            hint="name new participants with --participant-label; --decode alone decodes those it knows",
        )


def _of_base(plan: Plan, tree: OutputTree, stored: Mapping[str, object]) -> Split:
    config = replace(
        plan.config, model_label=str(plan.config.base_model), base_model=None, calibration_trials=None
    )
    split = split_of_decoder(replace(plan, config=config), tree)
    if split is None:
        raise MissingInputError(
            f"--base-model {plan.config.base_model}: its split is not there.", hint="copy split.tsv along"
        )
    described = stored["split"]
    assert isinstance(described, dict)
    theirs = _rows(split, [k for k, key in enumerate(split.run_key) if not _is_of(key, plan.participants)])
    if described["hash"] not in {split_hash(split), split_hash(theirs)}:
        raise DataError(
            f"--base-model {plan.config.base_model}: the split is not the one it was trained with, so its training "
            "trials are not known.",
            hint="use the split.tsv of that training",
        )
    return split


def _rows(split: Split, rows: Sequence[int]) -> Split:
    return replace(
        split,
        run_key=tuple(split.run_key[k] for k in rows),
        stimulus_id=tuple(split.stimulus_id[k] for k in rows),
        set_name=tuple(split.set_name[k] for k in rows),
        reason=tuple(split.reason[k] for k in rows),
    )


def _is_of(run_key: str, participants: Sequence[str]) -> bool:
    return run_key.split("_", maxsplit=1)[0].removeprefix("sub-") in participants


def _extended(split: Split, plan: Plan, catalogue: Catalogue, *, unknown: set[str]) -> Split:
    """Add rows of runs that the split does not know."""
    design = design_of(plan, catalogue, "auto")
    is_new = np.array([key in unknown for key in design.run_key])
    known = np.flatnonzero(~is_new)
    sets = sets_of_runs(split, plan.event_runs, plan.trials)
    names = np.array([name for run in plan.event_runs for name in sets[run.key]])
    new = design.take(is_new & (np.asarray(design.stimulus_id, dtype=str) != ""))
    keys, own = _keys(design, split.regime), _keys(new, split.regime)
    home: dict[str, Counter[str]] = {}
    for k in known.tolist():
        if names[k] in SET_NAMES:
            home.setdefault(keys[k], Counter())[str(names[k])] += 1
    codes = np.array([SET_NAMES.index(_usual(home.get(key))) for key in own])
    why = f"as the base's split has its {'stimulus' if 'unseen stimuli' in split.regime else 'run'}"
    if not (codes == SET_NAMES.index("test")).any():
        made = make_split(new, rule="auto", seed=plan.config.random_seed)
        logger.info("Split: the base tests nothing of the new runs; they are divided anew (%s).", made.rule)
        return _joined(split, made)
    return _joined(split, _as_rows(new, codes, like=split, reason=why))


def _keys(design: SplitDesign, regime: str) -> list[str]:
    """What decides about a trial's set: its stimulus, by content where known, or its run."""
    if "unseen stimuli" in regime:
        content = design.content or ("",) * design.n_trials
        return [c or name for c, name in zip(content, design.stimulus_id, strict=True)]
    return [f"ses-{session}_run-{run}" for session, run in zip(design.session, design.run, strict=True)]


def _usual(counts: Counter[str] | None) -> SetName:
    name: SetName = "train"
    return name if not counts else next(s for s in SET_NAMES if s == counts.most_common(1)[0][0])


def _as_rows(design: SplitDesign, sets: IntArray, *, like: Split, reason: str) -> Split:
    rows, names = split_rows(design, sets)
    return replace(
        like,
        run_key=tuple(design.run_key[i] for i in rows.tolist()),
        stimulus_id=names,
        set_name=tuple(SET_NAMES[k] for k in sets[rows].tolist()),
        reason=(reason,) * len(rows),
    )


def _joined(split: Split, more: Split) -> Split:
    return replace(
        split,
        run_key=split.run_key + more.run_key,
        stimulus_id=split.stimulus_id + more.stimulus_id,
        set_name=split.set_name + more.set_name,
        reason=split.reason + more.reason,
    )


def _concerned(plan: Plan, known: object) -> list[Run]:
    """Runs of the base's participants and of the new ones; others have no part in this."""
    assert isinstance(known, list)
    return [run for run in plan.event_runs if run.participant in {*known, *plan.participants}]


def _regime(split: Split, plan: Plan, known: object) -> str:
    """Say what scores of the new participants' test trials speak about."""
    runs = _concerned(plan, known)
    by_run = sets_of_runs(split, runs, plan.trials)
    pairs = [(run, name) for run in runs for name in plan.trials[run.key].stimulus_id]
    sets = np.array([name for run in runs for name in by_run[run.key]])
    new = np.array([run.participant in plan.participants for run, _ in pairs])
    fits = np.isin(sets, ["train", "val"])
    if plan.config.calibration_trials == 0:
        fits &= ~new
    _, stimulus = np.unique(np.array([name for _, name in pairs]), return_inverse=True)
    # Whoever is new is one person here: what one learnt is no use to the next.
    person = np.where(new, 1, 0)
    return regime_of(stimulus, person, train=fits, test=(sets == "test") & new)


def audit_newcomers(
    plan: Plan, catalogue: Catalogue, split: Split, known: object, *, tree: OutputTree | None = None
) -> SplitAudit:
    """Look for leaks between what the base or the new participants are fitted to and what tests them.

    Trials that nobody is fitted to (all of a new participant's, without calibration trials) and, where he is an
    unseen participant, the test trials of people whom the base was trained on are in no set of this question.

    Parameters
    ----------
    known : list of str
        The base's participants.
    plan, catalogue, split, tree
        As in ``audit_split``.

    Raises
    ------
    DataError
        If no trial tests them, or the split leaks and ``allow_leakage`` is off.
    """
    runs = tuple(_concerned(plan, known))
    sets = sets_of_runs(split, runs, plan.trials)
    if not any("test" in sets[run.key] for run in runs if run.participant in plan.participants):
        raise DataError(
            "new participants: no trial tests them.", hint="--split FILE with test trials of theirs"
        )
    return audit_split(replace(plan, event_runs=runs), catalogue, _in_question(split, plan), tree=tree)


def _in_question(split: Split, plan: Plan) -> Split:
    nothing: SetName = "none"
    rows = zip(split.run_key, split.set_name, strict=True)
    mine = [(_is_of(key, plan.participants), name) for key, name in rows]
    idle = plan.config.calibration_trials == 0
    unseen = "unseen participant" in split.regime
    return replace(
        split,
        set_name=tuple(
            nothing
            if (new and idle and name in {"train", "val"}) or (not new and unseen and name == "test")
            else name
            for new, name in mine
        ),
    )
