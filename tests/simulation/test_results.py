"""The demo's table shows the numbers of the files it was made from."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from clipmused_bids.dataset.outputs.metric_files import MetricRow, write_group_metrics
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.records import Score
from clipmused_bids.simulation.results import main


def fill(tmp_path: Path) -> tuple[Path, Path]:
    bids, out = tmp_path / "bids", tmp_path / "out"
    truth = {
        "participants": {
            "01": {"oracle_map_single_trials": 0.9, "median_noise_ceiling": 0.2},
            "02": {"oracle_map_single_trials": None, "median_noise_ceiling": 0.4},
        }
    }
    (bids / "sourcedata" / "simulation").mkdir(parents=True)
    (bids / "sourcedata" / "simulation" / "truth.json").write_text(json.dumps(truth))
    for k, label in enumerate(("one", "one+ridge", "one+ridgepooled", "one+ridgestack", "one+prevalence")):
        rows = [
            MetricRow(who, "test", averaging, Score("mAP", 0.1 * k + shift, 0.05, 3, 10))
            for who, shift in (("01", 0.51), ("02", 0.52), ("group", 0.53))
            for averaging in ("single trials",)
        ]
        write_group_metrics(OutputTree(out), rows, model_label=label, sources=[], details={})
    return bids, out


def test_each_number_stands_in_its_column(tmp_path: Path) -> None:
    bids, out = fill(tmp_path)
    done = CliRunner().invoke(main, [str(bids), str(out), "--model-label", "one"])
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[1][:7] == ["sub-01", "0.510", "0.050", *["n/a"] * 4]
    assert lines[1][7:] == ["0.610", "0.710", "0.810", "0.910", "0.900", "0.200"]
    assert lines[2][-2:] == ["n/a", "0.400"]
    assert lines[3][:7] == ["group", "0.530", "0.050", *["n/a"] * 4]
    assert lines[3][7:] == ["0.630", "0.730", "0.830", "0.930", "0.900", "0.300"]


def test_the_last_lines_say_what_to_open(tmp_path: Path) -> None:
    bids, out = fill(tmp_path)
    for name in ("group.html", "sub-02.html", "sub-01.html"):
        (out / name).touch()
    lines = CliRunner().invoke(main, [str(bids), str(out), "--model-label", "one"]).output.splitlines()
    assert f"Open this in a browser: {out.absolute()}/group.html" in lines
    first = lines[lines.index("Beside it:") + 1]
    assert first.split() == [str(out / "sub-01.html"), "a", "page", "for", "each", "participant"]


def test_a_folder_without_scores_is_an_error(tmp_path: Path) -> None:
    bids, _ = fill(tmp_path)
    done = CliRunner().invoke(main, [str(bids), str(tmp_path / "nothing")])
    assert done.exit_code == 66
    assert "Traceback" not in done.output
