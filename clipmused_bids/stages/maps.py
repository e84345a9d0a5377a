"""Brain maps of the decoders of an evaluation: where they look, and how far that can be believed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from clipmused_bids.config import MapOptions, as_tables
from clipmused_bids.dataset.files.atomic import remove
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.files.tensors import digest
from clipmused_bids.dataset.images.maps import sidecar_path
from clipmused_bids.dataset.outputs.description import write_descriptions
from clipmused_bids.dataset.outputs.map_files import maps_are_current
from clipmused_bids.dataset.outputs.tree import MapKind, OutputTree
from clipmused_bids.dataset.outputs.weights import decoders_in, read_config
from clipmused_bids.long_work import each_of, long_work
from clipmused_bids.methods.network_kinds import MS_EMB
from clipmused_bids.methods.prediction_cost import operations_of_a_trial
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.records import Split
from clipmused_bids.stages.carry_out import Job
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.contenders import label_beside
from clipmused_bids.stages.decoder_choice import left_out_by
from clipmused_bids.stages.map_making import FoldDecoder, attention_maps, fold_decoders, occlusion_map
from clipmused_bids.stages.map_regions import MapRegions, map_regions
from clipmused_bids.stages.map_trials import MapTrials, map_trials
from clipmused_bids.stages.map_writing import MapWriter, map_kind
from clipmused_bids.stages.plan import Plan
from clipmused_bids.stages.predicting import trials_to_decode
from clipmused_bids.stages.splitting import split_hash, tested_people
from clipmused_bids.stages.stored_model import stored_decoder

logger = logging.getLogger(__name__)

# Changes where equal requests give other maps than before.
_FORMAT = 1
_OCCLUSION: tuple[MapKind, ...] = ("Occlusion", "OcclusionLabels", "Regions")


@dataclass(frozen=True)
class MapWork:
    """What the maps of all participants of one decoder share.

    Parameters
    ----------
    plan : Plan
    tree : OutputTree
    split : Split
    catalogue : Catalogue
    device : str
    model_label : str
    occludes : bool
        Whether regions are knocked out, besides the attention.
    """

    plan: Plan
    tree: OutputTree
    split: Split
    catalogue: Catalogue
    device: str
    model_label: str
    occludes: bool

    @property
    def options(self) -> MapOptions:
        """How maps are made."""
        return self.plan.hyperparameters.maps

    @property
    def seed(self) -> int:
        """Of all that is random."""
        return self.plan.config.random_seed


def make_maps(job: Job) -> None:
    """Make the maps of the main decoder, and the attention of ``ms-emb`` where it was trained on the same split.

    A participant whose maps cannot be made does not keep those of the others away.
    """
    if job.split is None or job.catalogue is None:
        return
    main = job.plan.config.model_label
    if not job.plan.hyperparameters.maps.enabled:
        logger.info("Maps: not made; maps.enabled is false.")
        return
    if main in job.methods.errors:
        return
    plan = job.plan.without(job.failures)
    catalogue = job.catalogue.without(left_out_by(job.tree, model_label=main))
    beside = label_beside(main, VARIANTS[MS_EMB.name])
    for label in (main, beside):
        if label == beside and not _same_split(job.tree, label, job.split):
            continue
        work = MapWork(
            plan, job.tree, job.split, catalogue, job.device, model_label=label, occludes=label == main
        )
        _make_all(job, work)
    write_descriptions(job.tree)


def _same_split(tree: OutputTree, label: str, split: Split) -> bool:
    """Whether decoders of a label are stored that were trained on this split."""
    folder = tree.model_folder(label)
    found = [read_config(folder, participant=owner)["split"]["hash"] for owner in decoders_in(folder)]
    return bool(found) and set(found) == {split_hash(split)}


def _make_all(job: Job, work: MapWork) -> None:
    people = tested_people(work.plan, work.split)
    what = (
        "regions knocked out one by one, and attention of tokens" if work.occludes else "attention of tokens"
    )
    logger.info(
        "Maps (%s): %s, of at most %d test trials of each of %d participant(s); also for halves of the stimuli, and "
        "%d draws of random weights ([maps] in --config-file).",
        work.model_label, what, work.options.trials, len(people), work.options.draws,
    )  # fmt: skip
    started, done = time.monotonic(), Counter[str]()
    failures = job.failures if work.occludes else job.methods.of_people(work.model_label)
    with each_of(people, f"Maps ({work.model_label})", "participant", announced=True) as participants:
        for participant in participants:
            with failures.of_participant(participant):
                done[_make(work, participant)] += 1
    logger.info(
        "Maps (%s): of %d participant(s) made, of %d reused, in %.0f s.",
        work.model_label, done["made"], done["reused"], time.monotonic() - started,
    )  # fmt: skip


def _make(work: MapWork, participant: str) -> str:
    """Make what is not there yet of one participant; say what became of it."""
    trials = map_trials(
        work.plan, work.tree, work.split, work.catalogue, participant,
        model_label=work.model_label, most=work.options.trials,
    )  # fmt: skip
    if trials.problem:
        logger.warning("sub-%s: no map by %s: %s.", participant, work.model_label, trials.problem)
        return "impossible"
    request = _request(work, trials)
    if not work.plan.config.overwrite and maps_are_current(_files(work, trials), request=request):
        return "reused"
    decoders = fold_decoders(trials, device=work.device)
    # After a cross-validation no trial here is one of the decoder of all folds.
    loaded = [one.model for one in decoders if one.model.path == trials.record.path]
    model = loaded[0] if loaded else trials.record.load()
    data = trials_to_decode(model, trials.person)
    regions = map_regions(stored_decoder(model), data, sets=trials.sets, n_regions=work.options.regions)
    if work.occludes and not _may_occlude(work, trials, decoders[0], regions):
        work = replace(work, occludes=False)
        if not work.plan.config.overwrite and maps_are_current(_files(work, trials), request=request):
            return "reused"
    writer = MapWriter(
        work.tree, trials, regions, data.spaces[0],
        model_label=work.model_label, seed=work.seed, draws=work.options.draws,
    )  # fmt: skip
    _remove_others(work, trials)
    if work.occludes:
        what = f"Occlusion of {len(regions.names)} regions, sub-{participant}"
        with long_work(what, _n_passes(work, trials, regions), "trial", announced=True) as passes:
            made = occlusion_map(
                trials, decoders, regions, draws=work.options.draws, seed=work.seed, done=passes.advance
            )
        writer.write_occlusion(made, request=request)
    attention = attention_maps(trials, decoders, regions, draws=work.options.draws, seed=work.seed)
    writer.write_attention(attention, request=request)
    return "made"


def _n_passes(work: MapWork, trials: MapTrials, regions: MapRegions) -> int:
    """Trials that are predicted: whole, and without each region, by the decoder and by those of random weights."""
    return (len(regions.names) + 1) * len(trials.rows) * (1 + work.options.draws)


def _may_occlude(work: MapWork, trials: MapTrials, decoder: FoldDecoder, regions: MapRegions) -> bool:
    """Whether knocking out is left to do in a time that somebody waits for; else say what would help."""
    if work.device != "cpu":
        return True
    needed = _n_passes(work, trials, regions) * operations_of_a_trial(decoder.method, decoder.data)
    if needed <= work.options.processor_operations:
        return True
    logger.warning(
        "sub-%s: regions are not knocked out: %.1e operations, and a processor may take %.1e "
        "(maps.processor_operations). A GPU has no such limit; fewer maps.trials or maps.draws need less.",
        trials.person.participant, needed, work.options.processor_operations,
    )  # fmt: skip
    return False


def _request(work: MapWork, trials: MapTrials) -> str:
    return digest(
        canonical_json(
            {
                "format": _FORMAT,
                "options": as_tables(work.options),
                "seed": work.seed,
                "trials": trials.fingerprint(),
            }
        )
    )


def _files(work: MapWork, trials: MapTrials) -> list[Path]:
    """Files that a participant's maps are stored in; which tokens there are is told by the decoder's configuration."""
    run, label = trials.person.runs[0], work.model_label
    paths: list[Path] = []
    if work.occludes:
        paths += [work.tree.statmap(run, model_label=label, kind=kind) for kind in _OCCLUSION]
        paths.append(work.tree.map_table(run, model_label=label))
    for token in trials.tokens:
        for reading in ("last block", "rollout"):
            kind = map_kind(token, reading)
            paths.append(work.tree.statmap(run, model_label=label, kind=kind))
    return paths


def _remove_others(work: MapWork, trials: MapTrials) -> None:
    """Remove maps of an earlier decoder under this label that the one at hand does not have."""
    made = _files(work, trials)
    for kind in get_args(MapKind):
        path = work.tree.statmap(trials.person.runs[0], model_label=work.model_label, kind=kind)
        if path not in made:
            remove(path)
            remove(sidecar_path(path))
