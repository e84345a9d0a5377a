"""What all rows of one study share: responses, labels, split, targets, and what only the simulator knows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.config import TargetOptions
from clipmused_bids.evaluation.metrics import prevalences
from clipmused_bids.evaluation.splits import SplitDesign, assign, make_split
from clipmused_bids.records import BoolArray, IntArray, Split, TrialData, VoxelSpace
from clipmused_bids.simulation.anatomy import REGION_NAMES
from clipmused_bids.simulation.benchmark.encoding import EncodedStimuli, encode
from clipmused_bids.simulation.benchmark.scans import ScannedPerson, scan, standardized
from clipmused_bids.simulation.files import png_bytes
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.run_files import participant_label
from clipmused_bids.simulation.scenes import CATEGORIES
from clipmused_bids.simulation.study import SimulatedParticipant, Study, make_participant, make_study
from clipmused_bids.simulation.writer import picture_name

SetNames = np.ndarray[Any, np.dtype[np.str_]]


@dataclass(frozen=True)
class TrialSets:
    """Trials and which of them train, validate and test.

    Parameters
    ----------
    trials : TrialData
        Without targets.
    set_name : ndarray of str, shape (n_trials,)
        ``train``, ``val`` or ``test``.
    encoded : EncodedStimuli
        Of the training and validation stimuli of the study only: what is not there cannot leak.
    """

    trials: TrialData
    set_name: SetNames
    encoded: EncodedStimuli

    def with_targets(self, options: TargetOptions) -> TrialSets:
        """Return the same trials with the targets of those that are not test trials."""
        targets = self.encoded.targets(options)
        row_of = {name: k for k, name in enumerate(targets.stimulus_id)}
        stimulus = np.array([row_of.get(name, -1) for name in self.trials.stimulus_id], dtype=np.int64)
        return replace(self, trials=replace(self.trials, targets=targets, stimulus=stimulus))

    def of(self, name: str, *, among: BoolArray | None = None) -> TrialData:
        """Trials of one set; of those alone that ``among``, shape (n_trials,), marks."""
        chosen = self.set_name == name
        return self.trials.subset(np.flatnonzero(chosen if among is None else chosen & among))


@dataclass(frozen=True)
class PreparedStudy:
    """One simulated study, ready for any method.

    Parameters
    ----------
    together : TrialSets
        All participants, with the voxels that they have in common.
    alone : tuple of TrialSets
        Each participant, with all voxels of his own mask, as decoders of one participant read them.
    split : Split
    facts : mapping
        What a reader should know of the study: numbers of trials and voxels, prevalence, true ceiling, oracle.
    """

    together: TrialSets
    alone: tuple[TrialSets, ...]
    split: Split
    facts: Mapping[str, Any]


def prepare_study(parameters: SimulationParameters) -> PreparedStudy:
    """Simulate a study, estimate responses, divide the trials and encode the stimuli."""
    study = make_study(parameters)
    people, truth = [], []
    for number in range(parameters.n_participants):
        participant = make_participant(study, number)
        people.append(scan(participant, label=participant_label(number), parameters=parameters))
        truth.append(_truth(participant))
    # As the command does, which divides trials by a seed of its own.
    split = make_split(_design(study, people), seed=0)
    sets = [np.array(assign(split, one.run_of_row, one.stimulus_id).set_name) for one in people]
    encoded = _encoded(study, people, sets)
    parts = _Parts(study, people, sets, encoded, common_space=not parameters.native)
    together = parts.of(range(len(people)))
    alone = tuple(parts.of([k]) for k in range(len(people)))
    return PreparedStudy(together, alone, split, _facts(together, split, truth))


def _encoded(study: Study, people: Sequence[ScannedPerson], sets: Sequence[SetNames]) -> EncodedStimuli:
    guiding = {
        name
        for person, own in zip(people, sets, strict=True)
        for name, where in zip(person.stimulus_id, own, strict=True)
        if where != "test"
    }
    number_of = _numbers(study)
    return encode(study, sorted(guiding), numbers=[number_of[name] for name in sorted(guiding)])


@dataclass(frozen=True)
class _Parts:
    """Everyone's responses, sets and labels, to be put together for some participants."""

    study: Study
    people: Sequence[ScannedPerson]
    sets: Sequence[SetNames]
    encoded: EncodedStimuli
    common_space: bool

    def of(self, members: Sequence[int]) -> TrialSets:
        people = [self.people[k] for k in members]
        sets = [self.sets[k] for k in members]
        voxels = _usable(people, common_space=self.common_space)
        sizes = [len(own) for own in sets]
        stimulus_id = tuple(name for person in people for name in person.stimulus_id)
        names, labels = self._labels(stimulus_id)
        trials = TrialData(
            participants=tuple(person.label for person in people),
            responses=tuple(
                standardized(person, own, train=rows == "train")
                for person, own, rows in zip(people, voxels, sets, strict=True)
            ),
            spaces=_spaces(people, voxels),
            common_space=self.common_space,
            participant=np.repeat(np.arange(len(people)), sizes),
            row=np.concatenate([np.arange(size) for size in sizes]),
            labels=labels,
            label_names=names,
            single_label=False,
            stimulus=np.full(len(stimulus_id), -1),
            stimulus_id=stimulus_id,
            targets=None,
            # The test stimuli are new, so trials of one stimulus stay together.
            group=np.unique(np.array(stimulus_id), return_inverse=True)[1],
        )
        return TrialSets(trials, np.concatenate(sets), self.encoded)

    def _labels(self, stimulus_id: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Labels that anyone's training trials have, for everyone the same."""
        trained = [
            name
            for person, own in zip(self.people, self.sets, strict=True)
            for name, where in zip(person.stimulus_id, own, strict=True)
            if where == "train"
        ]
        kept = np.flatnonzero(_labels_of(self.study, trained).any(axis=0))
        names = tuple(CATEGORIES[k] for k in kept.tolist())
        return names, _labels_of(self.study, stimulus_id)[:, kept].astype(np.float32)


def _numbers(study: Study) -> dict[str, int]:
    return {picture_name(k): k for k in range(len(study.stimuli.scene))}


def _labels_of(study: Study, stimulus_id: Sequence[str]) -> NDArray[np.int64]:
    number_of = _numbers(study)
    labels: NDArray[np.int64] = study.bank.labels[
        study.stimuli.scene[[number_of[name] for name in stimulus_id]]
    ]
    return labels


def _usable(people: Sequence[ScannedPerson], *, common_space: bool) -> list[IntArray]:
    own = [person.usable() for person in people]
    if not common_space:
        return own
    shared = own[0]
    for voxels in own[1:]:
        shared = np.intersect1d(shared, voxels, assume_unique=True)
    return [shared] * len(people)


def _spaces(people: Sequence[ScannedPerson], voxels: Sequence[IntArray]) -> tuple[VoxelSpace, ...]:
    """Places and regions of the voxels; a region that someone has no voxel of belongs to nobody."""
    regions = []
    for person, own in zip(people, voxels, strict=True):
        of_mask = person.anatomy.region
        regions.append(of_mask[np.searchsorted(np.flatnonzero(person.anatomy.mask), own)])
    common = [k for k in range(len(REGION_NAMES)) if all((region == k).any() for region in regions)]
    number = np.array([common.index(k) if k in common else -1 for k in range(len(REGION_NAMES))] + [-1])
    names = tuple(REGION_NAMES[k] for k in common)
    return tuple(
        VoxelSpace(person.anatomy.grid, own, number[region], names)
        for person, own, region in zip(people, voxels, regions, strict=True)
    )


def _design(study: Study, people: Sequence[ScannedPerson]) -> SplitDesign:
    """All trials of all participants, as the split rules look at them in the written dataset."""
    runs = [
        (person, key, k, trials)
        for person in people
        for k, (key, trials) in enumerate(zip(person.run_key, person.trials, strict=True))
    ]
    per_trial = [(person.label, key, k + 1) for person, key, k, trials in runs for _ in trials.stimulus_id]
    stimuli = tuple(name for _, _, _, trials in runs for name in trials.stimulus_id)
    number_of = _numbers(study)
    content = {
        name: hashlib.sha256(png_bytes(study.bank.images[study.stimuli.scene[number_of[name]]])).hexdigest()
        for name in set(stimuli)
    }
    return SplitDesign(
        run_key=tuple(key for _, key, _ in per_trial),
        participant=tuple(label for label, _, _ in per_trial),
        session=(None,) * len(stimuli),
        run=tuple(number for _, _, number in per_trial),
        stimulus_id=stimuli,
        labels=_labels_of(study, stimuli).astype(float),
        onset=np.concatenate([trials.onset for _, _, _, trials in runs]),
        label_names=CATEGORIES,
        blocked=False,
        continuous=False,
        content=tuple(content[name] for name in stimuli),
    )


def _truth(participant: SimulatedParticipant) -> dict[str, float | None]:
    responsive = participant.brain.anatomy.region >= 0
    ceiling = participant.truth.noise_ceiling[responsive]
    return {
        "median_ceiling": float(np.median(ceiling)),
        "ceiling_90th_percentile": float(np.quantile(ceiling, 0.9)),
        "oracle_map": participant.truth.oracle_single,
    }


def _facts(together: TrialSets, split: Split, truth: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        known = [one[name] for one in truth if one[name] is not None]
        return float(np.mean(np.array(known, dtype=float))) if known else None

    test = together.of("test")
    return {
        "n_participants": len(test.participants),
        "n_voxels": int(np.mean([table.n_voxels for table in test.responses])),
        **{f"n_{name}": together.of(name).n_trials for name in ("train", "val", "test")},
        "n_test_stimuli": len(set(test.stimulus_id)),
        "split_rule": split.rule,
        "split_regime": split.regime,
        "n_labels": len(test.label_names),
        "prevalence": float(np.mean(prevalences(test.labels))),
        **{name: mean(name) for name in truth[0]},
    }
