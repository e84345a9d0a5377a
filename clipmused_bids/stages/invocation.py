"""One run of the command: which stages, in which order, and how it ends."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from clipmused_bids.config import Action, Config
from clipmused_bids.dataset.files.contents import require_content
from clipmused_bids.dataset.images.masks import expand_pattern
from clipmused_bids.dataset.outputs.description import prepare_tree
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import (
    CannotCreateError,
    ClipMusedError,
    DataError,
    ExitCode,
    UsageError,
)
from clipmused_bids.evaluation.cross_validation import parts_of
from clipmused_bids.records import Split
from clipmused_bids.stages.announcements import announce_unused
from clipmused_bids.stages.atlas import choose_atlas
from clipmused_bids.stages.auditing import audit_split, require_scorable, say_audit
from clipmused_bids.stages.carry_out import Job, carry_out, stimuli_of
from clipmused_bids.stages.catalogue import Catalogue, make_catalogue
from clipmused_bids.stages.contenders import Contender, asked_for, plan_of
from clipmused_bids.stages.coverage import coverage_table
from clipmused_bids.stages.failures import Failures, MethodFailures
from clipmused_bids.stages.grids import reference_grid, require_one_grid
from clipmused_bids.stages.newcomer_split import newcomer_split, told_by_decoders
from clipmused_bids.stages.places import (
    clear_leftovers,
    require_own_place,
    require_still_there,
    require_writable,
    require_writable_below,
)
from clipmused_bids.stages.plan import Plan, make_plan
from clipmused_bids.stages.reporting.telling import tell, write_texts
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.run_log import early_lines, run_log
from clipmused_bids.stages.splitting import choose_split, split_of_decoder
from clipmused_bids.stages.voxel_choice import require_repeats

if TYPE_CHECKING:
    # Preparing alone needs no torch.
    from clipmused_bids.training.processes import Processes

__all__ = ["choose_device", "chosen_actions", "run", "stimuli_of"]

logger = logging.getLogger(__name__)


def run(config: Config, *, command_line: Sequence[str], processes: Processes | None = None) -> ExitCode:
    """Do what was asked for; everything that can be refused is refused before anything is written.

    Parameters
    ----------
    config : Config
    command_line : sequence of str
        As typed; kept with the log.
    processes : Processes, optional
        That train networks together; without, this one alone.

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
    methods = MethodFailures(alone=not config.compared, stop_at_first=config.stop_on_first_crash)
    with early_lines() as early:
        config = replace(config, actions=chosen_actions(config, tree))
        if uses_stored_decoder(config) or config.base_model is not None:
            from clipmused_bids.stages.decoder_settings import config_of_decoder

            config = config_of_decoder(config, tree)
        plan = make_plan(config, failures=failures)
        require_own_place(config.output_dir, bids_dir=config.bids_dir, derivatives=plan.derivatives)
        require_writable_below(plan, tree)
        _say_plan(plan)
        catalogue = needed_catalogue(plan, read_contents=not config.tells_only)
        split = settle_split(plan, catalogue, tree)
        if config.tells_only:
            view = ReportView(plan, tree, catalogue, split, failures.errors)
            return tell(view, command_line=command_line, early=early)
        require_images(plan)
        device = choose_device(config.device) if _computes(plan) or config.device == "cuda" else "cpu"
        maker = None
        if catalogue is not None and needs_clip(plan):
            from clipmused_bids.stages.target_source import load_target_source

            maker = load_target_source(plan, catalogue, split, tree, device=device)
        if split is not None and "train" in config.actions:
            from clipmused_bids.stages.target_source import source_of
            from clipmused_bids.stages.train import refuse_other_decoders

            for one in asked_for(plan.config):
                with _left_to_its_row(one, config=plan.config):
                    own = source_of(maker, plan, one)
                    refuse_other_decoders(plan_of(plan, one), split, tree, maker=own)
        derivatives = {derivative.name: derivative.path for derivative in plan.derivatives}
        prepare_tree(config.output_dir, bids_dir=config.bids_dir, derivatives=derivatives, environ=os.environ)
        clear_leftovers(plan, tree)
        with run_log(tree, replace(config, preset=plan.preset), command_line=command_line, early=early):
            try:
                carry_out(Job(plan, tree, catalogue, split, maker, device, failures, methods, processes))
            except ClipMusedError:
                require_still_there(tree)
                # A single one is the error itself.
                if len(failures.errors) > 1:
                    failures.report()
                raise
            require_still_there(tree)
            write_texts(_seen_whole(ReportView(plan, tree, catalogue, split, failures.errors)))
            failures.report()
            logger.info("Done in %.0f s: %s.", time.monotonic() - started, config.output_dir)
    main = methods.errors.get(config.model_label)
    return main.exit_code if main is not None else failures.exit_code


def _seen_whole(view: ReportView) -> ReportView:
    """Look at the stimuli and labels that decoding alone leaves alone, so that its pages are as full as any.

    What decodes must not see them; what tells about it afterwards may. Where they are not there, the view stays.
    """
    if view.catalogue is not None:
        return view
    try:
        plan = make_plan(replace(view.plan.config, actions=("evaluate",)), failures=Failures())
        catalogue = needed_catalogue(plan, read_contents=False)
        split = settle_split(plan, catalogue, view.tree)
    except ClipMusedError as error:
        logger.debug("Reports without labels: %s", error)
        return view
    return replace(view, plan=plan, catalogue=catalogue, split=split)


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
    regions = any(one.info.reads_regions for one in asked_for(plan.config))
    if plan.config.inputs.atlas is not None or ("train" in actions and regions):
        choose_atlas(plan)
    reference_grid(plan)
    require_one_grid(plan)


def chosen_actions(config: Config, tree: OutputTree) -> tuple[Action, ...]:
    """What the command line asks for, or the level's default."""
    if config.actions:
        return config.actions
    folder = tree.model_folder(config.model_label)
    if config.tells_only:
        # As what is there was read: by the settings of its decoder, if it has one.
        return ("evaluate",) if any(folder.glob("*model.safetensors")) else ("prepare",)
    if config.level == "group":
        return ("train", "decode", "evaluate")
    if config.base_model is not None:
        return ("train", "decode")
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
    # Rivals are fitted where decoders are scored, and their split is looked at too.
    fits = bool({"prepare", "train", "evaluate"} & actions)
    return make_catalogue(plan, read_contents=read_contents and fits)


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
    for part in parts_of(split):
        if not part.of_all_folds:
            _require_sets(part.split, evaluates="evaluate" in plan.config.actions)
            say_audit(audit_split(plan, catalogue, part.split), contents_read=contents_read, where=part.name)
            if "evaluate" in plan.config.actions and part.fold is None:
                require_scorable(plan, catalogue, part.split)
        require_repeats(plan, part.split)
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
    return bool(asks) and any(one.info.guided for one in asked_for(plan.config))


def _computes(plan: Plan) -> bool:
    """Whether anything runs on a device: responses do not, and need no torch either."""
    return needs_clip(plan) or bool({"train", "decode", "evaluate"} & set(plan.config.actions))


@contextmanager
def _left_to_its_row(contender: Contender, *, config: Config) -> Iterator[None]:
    """Leave an error of one of several methods to the stage that meets it; refusals of outputs end the run."""
    try:
        yield
    except ClipMusedError as error:
        if isinstance(error, CannotCreateError) or not config.compared:
            raise
        logger.debug("%s: %s", contender.name, error)
