"""The benchmark's seeds, its resumption, its tables; what it simulates is compared in test_benchmark_product."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from clipmused_bids.errors import CannotCreateError, DataError, UsageError
from clipmused_bids.simulation.benchmark import running
from clipmused_bids.simulation.benchmark.__main__ import main, report
from clipmused_bids.simulation.benchmark.journal import Case, Journal, read_results
from clipmused_bids.simulation.benchmark.regimes import (
    SEEDS,
    SWEEPS,
    Setting,
    kind_of_seeds,
    settings_of,
    study_parameters,
)
from clipmused_bids.simulation.benchmark.running import Work, run_seed
from clipmused_bids.simulation.benchmark.summary import summarise
from clipmused_bids.simulation.parameters import SimulationParameters
from tests.simulation.conftest import TINY

ROWS = ("prevalence", "ridge", "ridge-pooled")


def tiny(regime: str, *, seed: int, setting: Setting) -> SimulationParameters:
    return replace(TINY, seed=seed, n_trials=70 if regime == "few" else 80, **setting.changed)


def work(folder: Path, **changed: Any) -> Work:
    usual = Work(folder, (1000, 1001), (Setting(),), ("many", "few", "newcomer"), ROWS, parameters_of=tiny)
    return replace(usual, **changed)


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if "seconds" not in name} for one in records]


def few_of(folder: Path) -> list[dict[str, Any]]:
    return [one for one in read_results(folder) if (one["seed"], one["regime"]) == (1000, "few")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    for seed in (1000, 1001):
        run_seed(work(folder), seed)
    return folder


def test_seeds_for_development_and_for_reports_are_disjoint() -> None:
    assert not set(SEEDS["development"]) & set(SEEDS["report"])
    assert len(SEEDS["report"]) >= 8
    with pytest.raises(UsageError, match="seeds 0, 1000 are neither"):
        kind_of_seeds([1000, 0])


def test_only_sizes_and_what_is_swept_differ_from_the_frozen_defaults() -> None:
    frozen = SimulationParameters()
    sizes = {"n_trials", "n_shared", "n_bank", "seed"}
    for regime in ("many", "few", "newcomer"):
        ours = study_parameters(regime, seed=5, setting=Setting())
        for name in set(vars(frozen)) - sizes:
            assert getattr(ours, name) == getattr(frozen, name), name
    swept = study_parameters("few", seed=5, setting=Setting(sweep="clip_alignment", value=0.25))
    plain = study_parameters("few", seed=5, setting=Setting())
    assert replace(swept, clip_alignment=frozen.clip_alignment) == plain
    assert swept.clip_alignment == 0.25


def test_every_row_of_every_regime_has_a_result(done: Path) -> None:
    found = {(one["seed"], one["regime"], one["trials"], one["row"]) for one in read_results(done)}
    trials = {"many": [""], "few": [""], "newcomer": ["0", "10", "50", "all"]}
    assert found == {
        (seed, regime, n, row)
        for seed in (1000, 1001)
        for regime, several in trials.items()
        for n in several
        for row in (*ROWS, *(["study"] if regime != "newcomer" else []))
    }


def test_ridge_finds_what_the_simulator_put_there(done: Path) -> None:
    by_name = {
        (table.regime, table.trials, row.name): row
        for table in summarise(read_results(done))
        for row in table.rows
    }
    knows_nothing = by_name["many", "", "prevalence"].metrics["mAP"].mean
    assert by_name["many", "", "ridge-pooled"].metrics["mAP"].mean > knows_nothing + 0.1
    assert by_name["newcomer", "0", "ridge-pooled"].metrics["mAP"].mean > knows_nothing + 0.05
    assert by_name["newcomer", "all", "ridge"].by_seed[1000] != by_name["many", "", "ridge"].by_seed[1000]


def test_intervals_and_differences_are_over_seeds(done: Path) -> None:
    records = read_results(done)
    (table,) = (one for one in summarise(records) if one.regime == "many")
    value = {
        (one["row"], one["seed"]): np.mean([person["mAP"] for person in one["metrics"].values()])
        for one in records
        if one["regime"] == "many" and "metrics" in one
    }
    linear = max(("ridge", "ridge-pooled"), key=lambda row: value[row, 1000] + value[row, 1001])
    assert table.best_linear == linear
    (row,) = (one for one in table.rows if one.name == "prevalence")
    gaps = np.array([value["prevalence", seed] - value[linear, seed] for seed in (1000, 1001)])
    low, high = stats.t.interval(0.95, 1, loc=gaps.mean(), scale=gaps.std(ddof=1) / np.sqrt(2))
    difference = row.to_linear["mAP"]
    assert (difference.mean, difference.low, difference.high) == pytest.approx((gaps.mean(), low, high))
    assert difference.n == 2
    assert np.isnan(row.to_ours["mAP"].mean)


def test_the_same_seed_gives_the_same_results(done: Path, tmp_path: Path) -> None:
    run_seed(work(tmp_path, regimes=("few",)), 1000)
    assert without_seconds(read_results(tmp_path)) == without_seconds(few_of(done))


# Stops for ever after three results, so that it is killed in the middle.
SCRIPT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.simulation.test_benchmark import work
    from clipmused_bids.simulation.benchmark.journal import Journal
    from clipmused_bids.simulation.benchmark.running import run_seed
    add = Journal.add
    def and_wait(self, *arguments, **named):
        add(self, *arguments, **named)
        if self.path.read_text().count("\\n") == 3:
            time.sleep(600)
    Journal.add = and_wait
    run_seed(work(Path({folder!r}), regimes=("few",)), 1000)
"""


def test_a_rerun_after_a_kill_gives_the_same_table(done: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(SCRIPT.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path)))
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    journal = tmp_path / "seed-1000.jsonl"
    while child.poll() is None and (not journal.exists() or journal.read_text().count("\n") < 3):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = read_results(tmp_path)
    assert [one["row"] for one in before] == ["study", "prevalence", "ridge"]
    run_seed(work(tmp_path, regimes=("few",)), 1000)
    after = read_results(tmp_path)
    assert after[:3] == before
    assert without_seconds(after) == without_seconds(few_of(done))
    tables = [summarise(records) for records in (after, few_of(done))]
    scores = [[(row.name, row.by_seed) for row in of_few[0].rows] for of_few in tables]
    assert scores[0] == scores[1]


def test_what_is_there_is_not_computed_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: SimulationParameters) -> None:
        raise AssertionError

    monkeypatch.setattr(running, "prepare_study", never)
    before = read_results(done)
    run_seed(work(done), 1000)
    assert read_results(done) == before


def test_results_of_other_hyperparameters_are_not_mixed(done: Path) -> None:
    other = work(done, over_preset={"linear": {"alphas": [1.0]}})
    with pytest.raises(CannotCreateError, match=r"prevalence \(many\) was made with other parameters"):
        run_seed(other, 1000)


def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(1000, "many", "ridge", Setting())
    Journal(tmp_path, 1000).add(case, {"floors": {}}, made_with="a")
    before = (tmp_path / "seed-1000.jsonl").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path, 1000)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="No space left"):
        journal.add(replace(case, row="ridge-pooled"), {"floors": {}}, made_with="a")
    assert (tmp_path / "seed-1000.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["seed-1000.jsonl"]


def test_a_broken_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        report(tmp_path)
    (tmp_path / "seed-0000.jsonl").write_text('{"seed": 0}\n')
    with pytest.raises(DataError, match="not the results of a benchmark"):
        read_results(tmp_path)


def test_seeds_of_two_kinds_are_never_in_one_table(done: Path, tmp_path: Path) -> None:
    for path in done.glob("seed-*.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    asked = CliRunner().invoke(main, [str(tmp_path), "--seeds", "report", "--methods", "prevalence"])
    assert asked.exit_code == 64
    assert "results of development seeds; they cannot be mixed" in asked.output
    Journal(tmp_path, 0).add(Case(0, "many", "ridge", Setting()), {"refused": "no"}, made_with="a")
    with pytest.raises(UsageError, match="neither all for development nor all for reports"):
        report(tmp_path)


def test_tables_say_the_same_in_every_form(done: Path, tmp_path: Path) -> None:
    file = tmp_path / "here" / "simulator.json"
    said = CliRunner().invoke(main, [str(done), "--tables-only", "--markdown", "--json", str(file)])
    assert said.exit_code == 0, said.output
    content = json.loads(file.read_text())
    assert content["seeds"] == "development"
    (table,) = (one for one in content["tables"] if one["regime"] == "few")
    (row,) = (one for one in table["rows"] if one["name"] == "ridge-pooled")
    shown = row["metrics"]["mAP"]
    cell = f"| ridge-pooled | {shown['mean']:.3f} [{shown['low']:.3f}, {shown['high']:.3f}] |"
    assert cell in said.output
    assert cell.strip("| ").split(" | ")[1] in (done / "benchmark.txt").read_text()
    lines = [line.split("\t") for line in (done / "benchmark.tsv").read_text().splitlines()]
    (line,) = (
        dict(zip(lines[0], one, strict=True))
        for one in lines[1:]
        if one[0] == "few" and "ridge-pooled" in one[:6] and "mAP" in one[:7]
    )
    assert float(line["score"]) == pytest.approx(shown["mean"])
    refusal = "ridge: no result (ridge learns from the newcomer alone: no trials, no decoder.)"
    assert refusal in said.output


def test_every_value_of_a_sweep_has_a_table(tmp_path: Path) -> None:
    ends = settings_of(native=False, sweep="clip_alignment")[:: len(SWEEPS["clip_alignment"]) - 1]
    run_seed(work(tmp_path, settings=ends, regimes=("few",), rows=("ridge-pooled",)), 1000)
    said = report(tmp_path)
    assert [line for line in said.splitlines() if line.startswith("few")] == [
        "few, clip_alignment 0",
        "few, clip_alignment 1",
    ]
    worst, best = (table.rows[0].metrics["mAP"].mean for table in summarise(read_results(tmp_path)))
    assert best > worst + 0.05


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regimes", "many,none"], "none unknown"),
        (["--methods", "ridge-poled"], "did you mean ridge-pooled"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    refused = CliRunner().invoke(main, [str(tmp_path / "out"), *words])
    assert refused.exit_code == 64
    assert message in refused.output
    assert not (tmp_path / "out").exists()
