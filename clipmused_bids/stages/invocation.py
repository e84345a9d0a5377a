"""One run of the command: which stages, in which order, and how it ends."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clipmused_bids.config import Action, Config
from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.images.masks import expand_pattern
from clipmused_bids.dataset.outputs.description import prepare_tree
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import ClipMusedError, DataError, ExitCode, UsageError
from clipmused_bids.evaluation.leakage import audit
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import Split
from clipmused_bids.stages.announcements import announce_responses, announce_unused
from clipmused_bids.stages.atlas import choose_atlas
from clipmused_bids.stages.catalogue import Catalogue, leave_out, make_catalogue, store_catalogue
from clipmused_bids.stages.coverage import coverage_table
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.grids import reference_grid, require_one_grid
from clipmused_bids.stages.newcomer_split import newcomer_split, told_by_decoders
from clipmused_bids.stages.places import require_own_place, require_writable
from clipmused_bids.stages.plan import Plan, make_plan
from clipmused_bids.stages.prepare import prepare_responses
from clipmused_bids.stages.run_log import early_lines, run_log
from clipmused_bids.stages.splitting import choose_split, design_of, sets_of_runs, split_of_decoder
from clipmused_bids.stages.voxel_choice import planned_fits, require_repeats

if TYPE_CHECKING:
    from clipmused_bids.stages.target_source import TargetSource

logger = logging.getLogger(__name__)


def run(config: Config, *, command_line: Sequence[str]) -> ExitCode:
    """Do what was asked for; everything that can be refused is refused before anything is written.

    Parameters
    ----------
    config : Config
    command_line : sequence of str
        As typed; kept with the log.

    Returns
    -------
    ExitCode
        0, or the code of the first participant that failed.

    Raises
    ------
    ClipMusedError
        If nothing could be done.
    """
    started = time.monotonic()
    tree = OutputTree(config.output_dir)
    require_writable(config.output_dir)
    if config.work_dir is not None:
        require_writable(config.work_dir, option="--work-dir")
    failures = Failures(stop_at_first=config.stop_on_first_crash)
    with early_lines() as early:
        config = replace(config, actions=chosen_actions(config, tree))
        if uses_stored_decoder(config) or config.base_model is not None:
            from clipmused_bids.stages.decode import config_of_decoder

            config = config_of_decoder(config, tree)
        plan = make_plan(config, failures=failures)
        require_own_place(config.output_dir, bids_dir=config.bids_dir, derivatives=plan.derivatives)
        _say_plan(plan)
        catalogue = needed_catalogue(plan)
        split = settle_split(plan, catalogue, tree)
        require_images(plan)
        device = choose_device(config.device) if _computes(plan) or config.device == "cuda" else "cpu"
        maker = None
        if catalogue is not None and needs_clip(plan):
            from clipmused_bids.stages.target_source import load_target_source

            maker = load_target_source(plan, catalogue, split, tree, device=device)
        if split is not None and "train" in config.actions:
            from clipmused_bids.stages.train import refuse_other_decoders

            refuse_other_decoders(plan, split, tree, maker=maker)
        derivatives = {derivative.name: derivative.path for derivative in plan.derivatives}
        prepare_tree(config.output_dir, bids_dir=config.bids_dir, derivatives=derivatives, environ=os.environ)
        with run_log(tree, replace(config, preset=plan.preset), command_line=command_line, early=early):
            try:
                _do(plan, tree, catalogue, split, maker, device=device, failures=failures)
            except ClipMusedError:
                # A single one is the error itself.
                if len(failures.errors) > 1:
                    failures.report()
                raise
            failures.report()
            logger.info("Done in %.0f s: %s.", time.monotonic() - started, config.output_dir)
    return failures.exit_code


def choose_device(asked: str) -> str:
    """Name the device to compute on.

    Raises
    ------
    UsageError
        If a GPU is asked for and none can be used.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError(
            "--device cuda: no GPU can be used here.",
            hint="in Singularity add --nv; on a cluster ask the scheduler for a GPU; or --device cpu",
        )
    return "cpu"


def require_images(plan: Plan) -> None:
    """Look for masks, atlas and grids, before anything is computed."""
    mask, actions = plan.config.inputs.mask, set(plan.config.actions)
    for participant in plan.participants if mask is not None else ():
        session = plan.runs_of(participant)[0].session
        require_content(expand_pattern(str(mask), participant=participant, session=session, flag="--mask"))
    if not {"prepare", "train"} & actions:
        return  # a stored decoder holds its regions, and stored responses their grid
    if plan.config.inputs.atlas is not None or (
        "train" in actions and METHODS[plan.config.method].reads_regions
    ):
        choose_atlas(plan)
    reference_grid(plan)
    require_one_grid(plan)


def chosen_actions(config: Config, tree: OutputTree) -> tuple[Action, ...]:
    """What the command line asks for, or the level's default."""
    if config.actions:
        return config.actions
    if config.level == "group":
        return ("train", "decode", "evaluate")
    if config.base_model is not None:
        return ("train", "decode")
    folder = tree.model_folder(config.model_label)
    return ("prepare", "decode") if any(folder.glob("*model.safetensors")) else ("prepare",)


def uses_stored_decoder(config: Config) -> bool:
    """Whether a decoder is used that this run does not train."""
    return "train" not in config.actions and bool({"decode", "evaluate"} & set(config.actions))


def _say_plan(plan: Plan) -> None:
    """Log what was found."""
    logger.info(
        "%s: %d participant(s), %d run(s), %s.",
        " + ".join(plan.config.actions), len(plan.participants), len(plan.runs),
        f"common space {plan.runs[0].space}" if plan.common_space else "native space",
    )  # fmt: skip
    if not uses_stored_decoder(plan.config):
        announce_unused(plan)
    confounds = sum(run.confounds is None for run in plan.runs if run.image_kind == "bold")
    if confounds and plan.config.inputs.confounds != "none":
        logger.warning(
            "%d of %d run(s) have no confounds file; none are removed there.", confounds, len(plan.runs)
        )


def needed_catalogue(plan: Plan, *, read_contents: bool = True) -> Catalogue | None:
    """The stimuli with their labels; None for decoding alone, which needs neither."""
    actions = set(plan.config.actions)
    if not {"prepare", "train", "evaluate"} & actions and not plan.config.inputs.labels:
        logger.info("%s", coverage_table(plan, None))
        return None
    return make_catalogue(plan, read_contents=read_contents and bool({"prepare", "train"} & actions))


def settle_split(
    plan: Plan, catalogue: Catalogue | None, tree: OutputTree, *, contents_read: bool = True
) -> Split | None:
    """Make or read the split, and look for leaks in it; None where nothing was ever held out.

    Parameters
    ----------
    contents_read : bool
        Whether the catalogue knows the contents of the stimuli; without, nothing is said about those that it
        lacks.

    Raises
    ------
    ClipMusedError
        If there is no usable split, or it leaks.
    """
    if "train" not in plan.config.actions or catalogue is None:
        return told_by_decoders(split_of_decoder(plan, tree), plan, tree)
    if plan.config.base_model is not None:
        return newcomer_split(plan, catalogue, tree)
    split = choose_split(plan, catalogue, tree)
    _require_sets(split, evaluates="evaluate" in plan.config.actions)
    design = design_of(plan, catalogue, plan.config.split)
    sets = sets_of_runs(split, plan.event_runs, plan.trials)
    found = audit(
        set_name=[name for run in plan.event_runs for name in sets[run.key]],
        run_key=design.run_key,
        participant=design.participant,
        stimulus_id=design.stimulus_id,
        onset=design.onset,
        regime=split.regime,
        design="continuous" if design.continuous else "events",
        content=design.content,
        fitted=planned_fits(plan),
    )
    for warning in found.warnings if contents_read else ():
        logger.warning("Split: %s.", warning)
    require_repeats(plan, split)
    return split


def _require_sets(split: Split, *, evaluates: bool) -> None:
    """Refuse a split that cannot serve before anything is trained by it."""
    needed = ("train", "val", "test") if evaluates else ("train", "val")
    lacking = [name for name in needed if name not in split.set_name]
    if lacking:
        raise DataError(
            f"the split has no trials in {' and '.join(lacking)}.",
            hint="name another with --split; sets are train, val and test",
        )


def needs_clip(plan: Plan) -> bool:
    """Whether features of the stimuli are computed."""
    asks = {"prepare", "train"} & set(plan.config.actions)
    return bool(asks) and METHODS[plan.config.method].guided


def _computes(plan: Plan) -> bool:
    """Whether anything runs on a device: responses do not, and need no torch either."""
    return needs_clip(plan) or bool({"train", "decode", "evaluate"} & set(plan.config.actions))


def _do(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue | None,
    split: Split | None,
    maker: TargetSource | None,
    *,
    device: str,
    failures: Failures,
) -> None:
    actions = plan.config.actions
    announce_responses(plan, tree)
    prepare_responses(plan, tree, failures=failures)
    plan = plan.without(failures)
    if failures.seen:
        logger.warning("Going on without %s.", ", ".join(f"sub-{p}" for p in failures.errors))
    if catalogue is not None and {"prepare", "train"} & set(actions):
        if maker is not None:
            from clipmused_bids.stages.target_source import prepare_source

            unreadable = prepare_source(maker, catalogue, stimuli_of(plan), tree)
            catalogue = leave_out(plan, catalogue, unreadable)
        store_catalogue(plan, catalogue, tree)
    if "train" in actions and catalogue is not None and split is not None:
        _train(plan, tree, catalogue, split, maker, device=device, failures=failures)
        plan = plan.without(failures)
    ceilings: dict[str, float] = {}
    # After training: where a decoder of another configuration is refused, its maps stay as they are.
    if split is not None and {"train", "evaluate"} & set(actions):
        from clipmused_bids.stages.ceilings import measure_ceilings

        ceilings = measure_ceilings(plan.without(failures), tree, split, failures=failures)
    if "decode" in actions:
        from clipmused_bids.stages.decode import decode_participants

        labels = catalogue.stimuli.label_names if catalogue is not None and plan.config.inputs.labels else ()
        decode_participants(
            plan, tree, split, model_label=plan.config.model_label, failures=failures, label_names=labels
        )
    plan = plan.without(failures)
    if "evaluate" in actions and catalogue is not None:
        from clipmused_bids.stages.evaluate import evaluate

        evaluate(plan, tree, catalogue, split, ceilings=ceilings, device=device, failures=failures)


def stimuli_of(plan: Plan) -> list[str]:
    """Stimuli of the plan's runs, each once."""
    return sorted({name for run in plan.runs for name in plan.trials[run.key].stimulus_id if name})


def _train(
    plan: Plan,
    tree: OutputTree,
    catalogue: Catalogue,
    split: Split,
    maker: TargetSource | None,
    *,
    device: str,
    failures: Failures,
) -> None:
    from clipmused_bids.stages.train import train_decoder, train_group

    label, method = plan.config.model_label, plan.config.method
    if plan.config.base_model is not None:
        from clipmused_bids.stages.newcomers import adapt_participants

        adapt_participants(plan, tree, catalogue, split, maker=maker, device=device, failures=failures)
        return
    if plan.config.level == "group":
        train_group(
            plan, tree, catalogue, split, method=method, model_label=label, maker=maker, device=device
        )
        return
    for participant in plan.participants:
        with failures.of_participant(participant):
            train_decoder(
                plan, tree, catalogue, split, members=[participant], participant=participant, method=method,
                model_label=label, maker=maker, device=device,
            )  # fmt: skip
