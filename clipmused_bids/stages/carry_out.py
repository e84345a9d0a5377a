"""What a run does once nothing refuses it: prepare, train, decode, evaluate, for every method that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.evaluation.cross_validation import parts_of, trials_of_decoder
from clipmused_bids.long_work import each_of
from clipmused_bids.records import Split
from clipmused_bids.stages.announcements import announce_responses
from clipmused_bids.stages.auditing import SplitAudit, say_near_duplicates
from clipmused_bids.stages.catalogue import Catalogue, leave_out, store_catalogue
from clipmused_bids.stages.contenders import Contender, asked_for, plan_of
from clipmused_bids.stages.failures import Failures, MethodFailures
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.prepare import prepare_responses
from clipmused_bids.stages.prepare_ahead import prepare_ahead
from clipmused_bids.stages.timing import Stopwatch

if TYPE_CHECKING:
    from clipmused_bids.stages.target_source import TargetSource
    from clipmused_bids.training.processes import Processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run's data and settings.

    Parameters
    ----------
    plan : Plan
    tree : OutputTree
    catalogue : Catalogue or None
        None for decoding alone.
    split : Split or None
        None where nothing was ever held out.
    maker : TargetSource or None
        None where no method reads targets.
    device : str
    failures : Failures
        Of participants.
    methods : MethodFailures
        Of methods that cannot run, and of participants in one method only.
    processes : Processes or None
        That train networks together; None: this one alone.
    watch : Stopwatch
    audits : dict of str to SplitAudit
        What was found in each part of the split: every method of a run is trained on the same parts.
    """

    plan: Plan
    tree: OutputTree
    catalogue: Catalogue | None
    split: Split | None
    maker: TargetSource | None
    device: str
    failures: Failures
    methods: MethodFailures
    processes: Processes | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    audits: dict[str, SplitAudit] = field(default_factory=dict)

    def failures_of(self, contender: Contender) -> Failures:
        """Participants that failed: of the run, or in one method beside the main one."""
        return self.failures if contender.main else self.methods.of_people(contender.label)

    def plan_for(self, contender: Contender) -> Plan:
        """Return the plan of one contender, without the participants that failed in it."""
        plan = plan_of(self.plan.without(self.failures), contender)
        return plan.without(self.failures_of(contender))


def carry_out(job: Job) -> None:
    """Do every action of a job, in order."""
    actions = set(job.plan.config.actions)
    announce_responses(job.plan, job.tree)
    ahead = prepare_ahead(job.plan, job.tree)
    prepare_responses(job.plan, job.tree, failures=job.failures, ahead=ahead)
    job = replace(job, plan=job.plan.without(job.failures))
    if job.failures.seen:
        logger.warning("Going on without %s.", ", ".join(f"sub-{p}" for p in job.failures.errors))
    job = _with_targets(job) if {"prepare", "train"} & actions else job
    if "train" in actions:
        _train_all(job)
    ceilings = _measured_ceilings(job) if {"train", "evaluate"} & actions else {}
    if "decode" in actions:
        _decode_all(job)
    job = replace(job, plan=job.plan.without(job.failures))
    if "evaluate" in actions and job.catalogue is not None:
        from clipmused_bids.stages.evaluate import evaluate
        from clipmused_bids.stages.tokens import measure_tokens

        evaluate(job, ceilings=ceilings)
        if job.split is not None and job.plan.config.model_label not in job.methods.errors:
            measure_tokens(job.plan, job.tree, job.catalogue, job.split, failures=job.failures)


def stimuli_of(plan: Plan) -> list[str]:
    """Stimuli of the plan's runs, each once."""
    return sorted({name for run in plan.runs for name in plan.trials[run.key].stimulus_id if name})


def _with_targets(job: Job) -> Job:
    """Encode stimuli and store the catalogue; stimuli that cannot be read are left out from here on."""
    if job.catalogue is None:
        return job
    catalogue = job.catalogue
    if job.maker is not None:
        from clipmused_bids.stages.target_source import prepare_source

        unreadable = prepare_source(job.maker, catalogue, stimuli_of(job.plan), job.tree)
        catalogue = leave_out(job.plan, catalogue, unreadable)
    store_catalogue(job.plan, catalogue, job.tree)
    return replace(job, catalogue=catalogue)


def _train_all(job: Job) -> None:
    if job.catalogue is not None and job.split is not None:
        for part in parts_of(job.split):
            say_near_duplicates(job.plan, job.catalogue, part.described, job.tree)
    if job.plan.config.base_model is not None:
        _adapt(job)
        return
    with each_of(asked_for(job.plan.config), "Methods to train", "method") as methods:
        for one in methods:
            with job.methods.of_method(one.label, name=one.name, main=one.main):
                train_contender(job, one)
    if job.plan.config.level == "group":
        job.watch.store(job.tree, model_label=job.plan.config.model_label)


def _adapt(job: Job) -> None:
    """Fit new participants by the base's variant: its own hyper-parameters are the base's too."""
    from clipmused_bids.stages.newcomers import adapt_participants
    from clipmused_bids.stages.target_source import source_of

    assert job.catalogue is not None
    assert job.split is not None
    (one,) = asked_for(job.plan.config)
    adapt_participants(
        job.plan_for(one),
        job.tree,
        job.catalogue,
        job.split,
        maker=source_of(job.maker, job.plan, one),
        device=job.device,
        failures=job.failures,
    )


def train_contender(job: Job, contender: Contender) -> None:
    """Train one contender; no time is noted where its decoders are there."""
    from clipmused_bids.stages.target_source import source_of
    from clipmused_bids.stages.train import train_group

    assert job.catalogue is not None
    assert job.split is not None
    plan = job.plan_for(contender)
    if plan.config.level == "participant" and not contender.info.per_participant:
        logger.info("%s: at level participant it is fitted to one participant at a time.", contender.name)
    with job.watch.measured(contender.label, "fit"):
        fresh = train_group(
            plan, job.tree, job.catalogue, job.split, method=plan.config.method, model_label=contender.label,
            maker=source_of(job.maker, job.plan, contender), device=job.device, failures=job.failures_of(contender),
            audits=job.audits, processes=job.processes,
        )  # fmt: skip
    if not fresh:
        job.watch.discard(contender.label, "fit")


def _measured_ceilings(job: Job) -> Mapping[str, float]:
    """After training: where a decoder of another configuration is refused, its maps stay as they are."""
    from clipmused_bids.stages.ceilings import measure_ceilings

    split = trials_of_decoder(job.split)
    if split is None:
        return {}
    return measure_ceilings(job.plan.without(job.failures), job.tree, split, failures=job.failures)


def _decode_all(job: Job) -> None:
    asks = job.catalogue is not None and job.plan.config.inputs.labels
    labels = job.catalogue.stimuli.label_names if job.catalogue is not None and asks else ()
    with each_of(asked_for(job.plan.config), "Methods to decode with", "method") as methods:
        for one in methods:
            if one.label not in job.methods.errors:
                with job.methods.of_method(one.label, name=one.name, main=one.main):
                    decode_contender(job, one, label_names=labels)


def decode_contender(job: Job, contender: Contender, *, label_names: tuple[str, ...] = ()) -> None:
    """Write the predictions of one contender; ``label_names`` as for ``decode_participants``."""
    from clipmused_bids.stages.decode import decode_participants

    with job.watch.measured(contender.label, "decode"):
        decode_participants(
            job.plan_for(contender), job.tree, job.split, model_label=contender.label,
            failures=job.failures_of(contender), label_names=label_names,
        )  # fmt: skip
