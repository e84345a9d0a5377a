"""From a list of seeds, regimes and rows to results: what is missing is computed, seeds side by side."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from clipmused_bids import __version__
from clipmused_bids.config import as_tables
from clipmused_bids.methods.variants import Variant, find_variant
from clipmused_bids.simulation.benchmark.fits import Result, fit_and_score, variant_hyperparameters
from clipmused_bids.simulation.benchmark.journal import STUDY, Case, Journal, fingerprint
from clipmused_bids.simulation.benchmark.newcomers import Newcomer
from clipmused_bids.simulation.benchmark.prepared import PreparedStudy, prepare_study
from clipmused_bids.simulation.benchmark.regimes import NEWCOMER_TRIALS, Regime, Setting, study_parameters
from clipmused_bids.simulation.parameters import SimulationParameters

# Libraries of linear algebra read these when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Work:
    """What is to be computed.

    Parameters
    ----------
    folder : Path
        Where the results are kept.
    seeds : tuple of int
    settings : tuple of Setting
    regimes : tuple of str
    rows : tuple of str
        Names of variants.
    over_preset : mapping
        Hyper-parameters over the preset, for every row.
    parameters_of : callable
        ``parameters_of(regime, seed=..., setting=...)`` gives the parameters of a study.
    """

    folder: Path
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    regimes: tuple[Regime, ...]
    rows: tuple[str, ...]
    over_preset: Mapping[str, Any] = field(default_factory=dict)
    parameters_of: Callable[..., SimulationParameters] = study_parameters


def run(work: Work, *, n_jobs: int) -> None:
    """Compute what is missing; every seed is a process of its own, with one thread."""
    for name in _THREADS:
        os.environ[name] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = [pool.submit(run_seed, work, seed) for seed in work.seeds]
        try:
            for each in waiting:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_seed(work: Work, seed: int) -> None:
    """Compute what is missing of one seed."""
    import torch

    torch.set_num_threads(1)
    logging.getLogger("clipmused_bids").setLevel(logging.ERROR)
    journal = Journal(work.folder, seed)
    for setting in work.settings:
        study = _LazyStudy(work.parameters_of, setting=setting, seed=seed)
        for regime in work.regimes:
            for case, compute in _cases(work, study, regime=regime):
                made_with = _made_with(work, study.parameters(regime), case)
                if journal.holds(case, made_with=made_with):
                    continue
                result = compute()
                journal.add(case, result, made_with=made_with)
                _say(case, result)


class _LazyStudy:
    """Studies of one seed; the newcomer's is the one with many trials, and each is made when it is needed."""

    def __init__(
        self, parameters_of: Callable[..., SimulationParameters], *, setting: Setting, seed: int
    ) -> None:
        self._parameters_of, self.setting, self.seed = parameters_of, setting, seed

    def parameters(self, regime: Regime) -> SimulationParameters:
        return self._parameters_of(regime, seed=self.seed, setting=self.setting)

    def prepared(self, regime: Regime) -> PreparedStudy:
        return self._few if regime == "few" else self._many

    @cached_property
    def _many(self) -> PreparedStudy:
        return prepare_study(self.parameters("many"))

    @cached_property
    def _few(self) -> PreparedStudy:
        return prepare_study(self.parameters("few"))


def _cases(work: Work, study: _LazyStudy, *, regime: Regime) -> Iterator[tuple[Case, Callable[[], Result]]]:
    """Each result of one study, and how it is computed."""

    def case(row: str, trials: str = "") -> Case:
        return Case(study.seed, regime, row, study.setting, trials)

    if regime != "newcomer":
        yield case(STUDY), lambda: dict(study.prepared(regime).facts)
    for variant in map(find_variant, work.rows):
        if regime == "newcomer":
            of_variant = _LazyNewcomer(variant, study, work.over_preset)
            for trials in NEWCOMER_TRIALS:
                yield case(variant.name, trials), of_variant.of(trials)
        else:
            yield case(variant.name), _fit(variant, study, regime, work.over_preset)


def _fit(
    variant: Variant, study: _LazyStudy, regime: Regime, over_preset: Mapping[str, Any]
) -> Callable[[], Result]:
    return lambda: fit_and_score(variant, study.prepared(regime), seed=study.seed, over_preset=over_preset)


class _LazyNewcomer:
    """One variant's decoder of the others, fitted when it is first needed."""

    def __init__(self, variant: Variant, study: _LazyStudy, over_preset: Mapping[str, Any]) -> None:
        self._variant, self._study, self._over_preset = variant, study, over_preset

    def of(self, trials: str) -> Callable[[], Result]:
        return lambda: self._newcomer.fit_and_score(trials)

    @cached_property
    def _newcomer(self) -> Newcomer:
        return Newcomer(
            self._variant,
            self._study.prepared("newcomer"),
            seed=self._study.seed,
            over_preset=self._over_preset,
        )


def _made_with(work: Work, parameters: SimulationParameters, case: Case) -> str:
    if case.row == STUDY:
        return fingerprint(__version__, asdict(parameters))
    hyperparameters = variant_hyperparameters(find_variant(case.row), over_preset=work.over_preset)
    return fingerprint(__version__, asdict(parameters), as_tables(hyperparameters))


def _say(case: Case, result: Result) -> None:
    where = " ".join(
        filter(None, [f"seed {case.seed}", case.regime, case.trials and f"{case.trials} trials"])
    )
    if case.setting.sweep is not None:
        where += f" {case.setting.sweep} {case.setting.value}"
    text = result.get("refused", "")
    if "metrics" in result:
        values = [one["mAP"] for one in result["metrics"].values()]
        text = f"mAP {sum(values) / len(values):.3f}, {result['cpu_seconds']:.1f} s"
    click.echo(f"{where}: {case.row} {text}".rstrip(), file=sys.stderr)


def names_of(rows: Sequence[str]) -> tuple[str, ...]:
    """Check names of rows, each once, in the order given."""
    return tuple(dict.fromkeys(find_variant(name).name for name in rows))
