"""Where the targets of the stimuli come from: a CLIP model that is loaded, or a file made elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmused_bids.config import as_tables
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.target_files import TargetFile, open_target_file
from clipmused_bids.errors import ClipMusedError, DataError, UsageError
from clipmused_bids.evaluation.cross_validation import trials_of_decoder
from clipmused_bids.records import SetName, Split, Targets
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.clip_targets import TargetMaker, load_target_maker, load_targets, prepare_targets
from clipmused_bids.stages.contenders import Contender, plan_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.portable import without_places
from clipmused_bids.stages.splitting import sets_of_runs

logger = logging.getLogger(__name__)

TargetSource = TargetMaker | TargetFile

FILE_PREFIX = "targets:"
LEAST_COVERAGE = 0.5


def load_target_source(
    plan: Plan, catalogue: Catalogue, split: Split | None, tree: OutputTree, *, device: str
) -> TargetSource | None:
    """Load what the targets of a method that needs some come from.

    With ``--targets`` no CLIP model is loaded, and none either, nor any file, for more data of a decoder that was
    trained so (None).

    Raises
    ------
    UsageError
        If ``--targets`` and options of a CLIP model contradict each other.
    DataError
        If the file cannot serve, or has rows for fewer than half of the training stimuli.
    """
    if _of_decoder_with_a_file(plan):
        return None
    if plan.config.inputs.targets is None:
        return load_target_maker(plan, catalogue, tree, device=device)
    named = sorted(plan.config.overrides.get("targets", {}))
    if named:
        raise UsageError(
            f"--targets takes the place of a CLIP model, but {', '.join(f'targets.{name}' for name in named)} say "
            "how one makes features.",
            hint="leave out --targets, or --clip-model, --clip-weights and the table [targets] of the configuration",
        )
    source = open_target_file(Path(plan.config.inputs.targets))
    _check_coverage(source, plan, trials_of_decoder(split))
    return source


def prepare_source(
    source: TargetSource, catalogue: Catalogue, stimulus_ids: Sequence[str], tree: OutputTree
) -> dict[str, ClipMusedError]:
    """Encode stimuli whose features are not stored yet; a file made elsewhere holds what it holds.

    Returns
    -------
    dict of str to ClipMusedError
        Why a stimulus's picture cannot be read, by stimulus.
    """
    return prepare_targets(source, catalogue, stimulus_ids, tree) if isinstance(source, TargetMaker) else {}


def guiding_targets(
    source: TargetSource | None,
    catalogue: Catalogue,
    stimulus_id: Sequence[str],
    set_name: Sequence[SetName],
) -> Targets | None:
    """Targets of training and validation stimuli only: what is not loaded cannot leak.

    Parameters
    ----------
    source : TargetSource or None
    catalogue : Catalogue
    stimulus_id, set_name : sequence of str
        Of each trial.
    """
    if source is None:
        return None
    pairs = zip(stimulus_id, set_name, strict=True)
    targets = targets_of(
        source, catalogue, sorted({name for name, where in pairs if where in {"train", "val"}})
    )
    logger.info("Guidance: high level from %s; low level %s.", targets.high_source, _low_coverage(targets))
    return targets


def targets_of(source: TargetSource, catalogue: Catalogue, stimulus_ids: Sequence[str]) -> Targets:
    """Targets of stimuli, rows in the order of ``stimulus_ids``; zero rows where a level is unknown."""
    if isinstance(source, TargetMaker):
        return load_targets(source, catalogue, stimulus_ids)
    low, high = source.read(stimulus_ids)
    return Targets(
        stimulus_id=tuple(stimulus_ids),
        low=low,
        high=high,
        high_source="none" if high is None else "file",
        clip_model=source_identity(source)["model"],
        weights_hash=source.content_hash,
        low_source="file",
    )


def source_of(source: TargetSource | None, plan: Plan, contender: Contender) -> TargetSource | None:
    """Return where a contender's targets come from: the same features, joined as its options say.

    Raises
    ------
    UsageError
        If it differs in targets only, and these come from a file made elsewhere.
    """
    if source is None or not contender.info.guided:
        return None
    if isinstance(source, TargetMaker):
        return replace(source, options=plan_of(plan, contender).hyperparameters.targets)
    changed = sorted(contender.variant.overrides.get("targets", {}))
    if changed:
        raise UsageError(
            f"{contender.name}: it differs by targets.{changed[0]}, but --targets holds one kind of features.",
            hint="leave out --targets, or make a file for each kind",
        )
    return source


def source_identity(source: TargetSource) -> dict[str, str]:
    """Name and content hash of what the targets come from, as stored with a decoder; no place of this machine."""
    if isinstance(source, TargetMaker):
        return {"model": source.clip.name, "weights_sha256": source.clip.weights_hash}
    return {"model": f"{FILE_PREFIX}{source.path.name}", "weights_sha256": source.content_hash}


def stored_hyperparameters(plan: Plan, source: TargetSource | None) -> dict[str, Any]:
    """Hyper-parameters as stored with a decoder: without places, nor options of a CLIP model that was not used."""
    tables = without_places(as_tables(plan.hyperparameters))
    # A decoder is the same, byte for byte, however often its training was kept.
    tables["training"] = {name: value for name, value in tables["training"].items() if name != "keep_minutes"}
    if isinstance(source, TargetFile):
        tables["targets"] = {"clip_model": source_identity(source)["model"]}
    return tables


def _low_coverage(targets: Targets) -> str:
    """Say of how many stimuli the low level is known."""
    if targets.low is None:
        return "off (no images)" if targets.low_source == "images" else "off (not in the file)"
    known, n = int(targets.low.any(axis=1).sum()), len(targets.low)
    if targets.low_source == "file":
        return f"from file for {known} of {n} stimuli"
    return "from the images" if known == n else f"from {known} of {n} images"


def _of_decoder_with_a_file(plan: Plan) -> bool:
    """Whether data are prepared for a stored decoder whose targets were made elsewhere: it needs no more of them."""
    uses_stored = "train" not in plan.config.actions and {"decode", "evaluate"} & set(plan.config.actions)
    return bool(uses_stored or plan.config.base_model) and plan.hyperparameters.targets.clip_model.startswith(
        FILE_PREFIX
    )


def _check_coverage(source: TargetFile, plan: Plan, split: Split | None) -> None:
    """Say of how many stimuli the file knows something; too few training stimuli are refused."""
    sets = sets_of_runs(split, plan.runs, plan.trials)
    asked = {
        name
        for run in plan.runs
        for name, set_name in zip(plan.trials[run.key].stimulus_id, sets[run.key], strict=True)
        if name and (split is None or set_name == "train")
    }
    names = sorted(asked)
    missing = [name for name, row in zip(names, source.rows_of(names), strict=True) if row is None]
    which = "stimuli" if split is None else "training stimuli"
    shown = f" Missing: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}." if missing else ""
    message = f"--targets {source.path}: rows for {len(names) - len(missing)} of {len(names)} {which}.{shown}"
    if names and len(missing) > (1 - LEAST_COVERAGE) * len(names) and split is not None:
        raise DataError(
            f"{message} At least half must have one.",
            hint="stimulus_id must name stimuli as the events do",
        )
    level = logging.WARNING if missing else logging.INFO
    logger.log(level, "%s", message)
    for name in ("low", "high"):
        if getattr(source, name) is None:
            logger.info("--targets: the file has no %s level; its guidance is off.", name)
