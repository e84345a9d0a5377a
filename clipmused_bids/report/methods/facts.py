"""Numbers and choices that a methods text is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DecoderConfig = Mapping[str, Any]


@dataclass(frozen=True)
class RunFacts:
    """One run that was read.

    Parameters
    ----------
    participant : str
    session : str or None
    n_trials : int
    repetition_time : float or None
        In s; None where responses were not estimated from images here.
    confounds : bool
        Whether it has a table of confounds.
    """

    participant: str
    session: str | None
    n_trials: int
    repetition_time: float | None
    confounds: bool


@dataclass(frozen=True)
class StimulusFacts:
    """Stimuli of a dataset.

    Parameters
    ----------
    n_stimuli, n_pictures, n_captioned : int
        All; those with a picture; those with a caption.
    n_labels : int
        Labels that the dataset names.
    single_label : bool
        Whether each stimulus has exactly one.
    coco : bool
        Whether labels were read from COCO's annotations.
    """

    n_stimuli: int
    n_pictures: int
    n_captioned: int
    n_labels: int
    single_label: bool
    coco: bool = False


@dataclass(frozen=True)
class DataFacts:
    """What was read.

    Parameters
    ----------
    name, doi : str
        Of the dataset; empty where it has none.
    pipelines : sequence of str
        What made the derivatives, with versions.
    simulated : bool
        Whether the simulator of this package made the data.
    tasks : sequence of str
    runs : sequence of RunFacts
    space : str or None
        None: each participant's own.
    voxel_size : tuple of float or None
        In mm; None where it is not known or differs.
    continuous : bool
        Whether trials are samples of movies.
    frame_interval : float or None
        Seconds between them, as asked for.
    stimuli : StimulusFacts or None
    """

    name: str
    doi: str
    pipelines: Sequence[str]
    simulated: bool
    tasks: Sequence[str]
    runs: Sequence[RunFacts]
    space: str | None
    voxel_size: tuple[float, float, float] | None
    continuous: bool
    frame_interval: float | None
    stimuli: StimulusFacts | None


@dataclass(frozen=True)
class ResponseFacts:
    """How responses were estimated.

    Parameters
    ----------
    kind : {"lss", "lsa", "window", "betas"}
    options : mapping
        Table ``responses`` of the hyper-parameters.
    stored : bool
        Whether any was estimated yet.
    mask : str
        As stored with responses: ``derivative``, ``computed``, or the hash of a file.
    resample : str or None
        Template grid that images were brought to.
    confounds : str
        Strategy.
    confound_columns : sequence of str
        Columns of one run, as an example.
    confound_example : str
        That run.
    """

    kind: str
    options: Mapping[str, Any]
    stored: bool
    mask: str
    resample: str | None
    confounds: str
    confound_columns: Sequence[str] = ()
    confound_example: str = ""


@dataclass(frozen=True)
class SplitFacts:
    """Trials and stimuli of each set, over the participants of the decoder.

    Parameters
    ----------
    rule, regime : str
    n_trials, n_stimuli : mapping of str to int
        By set; empty where not all of them are known.
    n_folds : int
        0: no cross-validation.
    """

    rule: str
    regime: str
    n_trials: Mapping[str, int] = field(default_factory=dict)
    n_stimuli: Mapping[str, int] = field(default_factory=dict)
    n_folds: int = 0


@dataclass(frozen=True)
class Compared:
    """A method of a comparison: name as ``--method`` takes it, and whether it could be scored."""

    name: str
    description: str
    scored: bool


@dataclass(frozen=True)
class EvaluationFacts:
    """How scores were made.

    Parameters
    ----------
    metric : str
        The one that decides.
    n_participants, n_test_trials : int
    repeats_averaged : bool
        Whether responses were averaged over repeats as well.
    together : bool
        Whether participants were scored together; else each alone, by a run of their own.
    methods : sequence of Compared
        The decoder first; alone where nothing was compared.
    best : str
        Linear method with the highest score; empty where none was compared with.
    interval_over_stimuli : bool
    n_permutations : int
        0: no test.
    exchanged : str
        What was permuted.
    calibrated : bool
    noise_ceiling : bool
        Whether noise ceilings of voxels were estimated.
    """

    metric: str
    n_participants: int
    n_test_trials: int
    repeats_averaged: bool
    together: bool
    methods: Sequence[Compared]
    best: str = ""
    interval_over_stimuli: bool = False
    n_permutations: int = 0
    exchanged: str = ""
    calibrated: bool = False
    noise_ceiling: bool = False


@dataclass(frozen=True)
class MethodsFacts:
    """Everything about one decoder, or about the data alone.

    Parameters
    ----------
    version : str
        Of this program.
    packages : mapping of str to str
        Versions of what it runs on, by name.
    data : DataFacts
    responses : ResponseFacts
    split : SplitFacts or None
    decoders : sequence of mapping
        Configurations as stored with the decoders: one for all participants, or one for each. Empty: nothing was
        trained.
    n_epochs : sequence of int
        Epochs that each decoder was trained for until it stopped; empty of methods without.
    evaluation : EvaluationFacts or None
        None: nothing was scored yet.
    model_label : str
    weights : sequence of str
        SHA-256 of the decoders' files.
    """

    version: str
    packages: Mapping[str, str]
    data: DataFacts
    responses: ResponseFacts
    split: SplitFacts | None
    decoders: Sequence[DecoderConfig]
    n_epochs: Sequence[int]
    evaluation: EvaluationFacts | None
    model_label: str = ""
    weights: Sequence[str] = ()
