"""The benchmark measures the product: in memory it makes what the command makes of the written dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmused_bids.cli import main
from clipmused_bids.config import TargetOptions, read_config_file
from clipmused_bids.dataset.outputs.metric_files import read_metrics
from clipmused_bids.dataset.outputs.split_file import read_split
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.methods.variants import find_variant
from clipmused_bids.records import TrialData
from clipmused_bids.simulation.benchmark.fits import fit_and_score
from clipmused_bids.simulation.benchmark.prepared import PreparedStudy, prepare_study
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.writer import write_dataset
from clipmused_bids.stages import train

QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nn_seeds = 1\n"


def parameters(*, native: bool) -> SimulationParameters:
    return SimulationParameters(
        n_participants=2,
        n_trials=96,
        n_runs=3,
        n_shared=20,
        n_repeated_own=4,
        n_bank=130,
        snr=2.0,
        seed=78,
        native=native,
    )


class Both:
    """One small study: what the command read and wrote, and what the benchmark makes of it."""

    def __init__(self, folder: Path, *, native: bool) -> None:
        self.quick = folder / "quick.toml"
        self.quick.write_text(QUICK)
        self.tree = OutputTree(folder / "out")
        self.prepared: PreparedStudy = prepare_study(parameters(native=native))
        write_dataset(folder / "bids", parameters(native=native))
        self.train, self.validation = self._as_the_command_trains(folder)

    def _as_the_command_trains(self, folder: Path) -> tuple[TrialData, TrialData]:
        read: list[Any] = []

        def watched(*arguments: Any, **named: Any) -> Any:
            read.append(genuine(*arguments, **named))
            return read[-1]

        genuine = train.training_set
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "training_set", watched)
            words = [folder / "bids", folder / "out", "group", "--clip-model", "demo", "--atlas", "regions"]
            assert main([str(word) for word in words] + ["--config-file", str(self.quick)]) == 0
        return read[0].train, read[0].validation


@pytest.fixture(scope="module", params=[False, True], ids=["common space", "native space"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("both"), native=request.param)


def test_the_split_is_the_same(both: Both) -> None:
    ours, theirs = both.prepared.split, read_split(both.tree.split)
    assert (ours.rule, ours.regime) == (theirs.rule, theirs.regime) == ("repeats", "unseen stimuli")
    rows = [set(zip(one.run_key, one.stimulus_id, one.set_name, strict=True)) for one in (ours, theirs)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ["train", "val"])
def test_trials_are_the_same(both: Both, name: str) -> None:
    theirs = both.train if name == "train" else both.validation
    ours = both.prepared.together.of(name)
    assert ours.n_trials == theirs.n_trials > 10
    assert ours.common_space == theirs.common_space
    for part in ("participants", "label_names", "stimulus_id", "single_label"):
        assert getattr(ours, part) == getattr(theirs, part)
    for part in ("participant", "row", "labels", "group"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    for mine, stored in zip(ours.read(), theirs.read(), strict=True):
        np.testing.assert_allclose(mine, stored, atol=1e-5)
    for mine, stored in zip(ours.spaces, theirs.spaces, strict=True):
        assert mine.grid.agrees_with(stored.grid)
        assert mine.region_names == stored.region_names
        np.testing.assert_array_equal(mine.voxels, stored.voxels)
        np.testing.assert_array_equal(mine.region, stored.region)


def test_targets_are_the_same(both: Both) -> None:
    ours = both.prepared.together.with_targets(TargetOptions()).of("train")
    mine, stored = ours.targets, both.train.targets
    assert mine is not None
    assert stored is not None
    assert mine.stimulus_id == stored.stimulus_id
    assert (mine.high_source, mine.low_source) == (stored.high_source, stored.low_source)
    assert mine.weights_hash == stored.weights_hash
    np.testing.assert_array_equal(ours.stimulus, both.train.stimulus)
    for level in ("low", "high"):
        np.testing.assert_allclose(getattr(mine, level), getattr(stored, level), atol=2e-4)


def test_no_test_stimulus_has_targets(both: Both) -> None:
    stimuli = set(both.prepared.together.of("test").stimulus_id)
    assert len(stimuli) == 20
    assert not stimuli & set(both.prepared.together.encoded.stimulus_id)


@pytest.mark.parametrize("name", ["ridge", "ridge-pooled", "prevalence"])
def test_scores_are_those_that_the_command_writes(both: Both, name: str) -> None:
    result = fit_and_score(
        find_variant(name), both.prepared, seed=0, over_preset=read_config_file(both.quick)
    )
    label = f"clipmused+{name.replace('-', '')}"
    written = {
        (row.participant, row.score.metric): (row.score.value, row.score.floor)
        for row in read_metrics(both.tree.group_metrics(model_label=label))
        if row.averaging == "single trials"
    }
    for participant in ("01", "02"):
        for metric in ("mAP", "AUC", "Hamming"):
            ours = (result["metrics"][participant][metric], result["floors"][participant][metric])
            assert ours == pytest.approx(written[participant, metric], abs=1e-6)
