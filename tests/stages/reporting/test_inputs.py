"""What the page says went in, of small made-up studies whose every number is counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.dataset.outputs.response_files import read_responses, write_responses
from clipmused_bids.records import RunResponses, Split
from clipmused_bids.report.blocks import Details, Gallery, Paragraph, Section, Table
from clipmused_bids.stages.reporting.inputs.section import inputs_of_participant
from clipmused_bids.stages.reporting.view import ReportView
from clipmused_bids.stages.signal_maps import write_tsnr_map
from tests.stages.conftest import GRID, World, make_catalogue, make_run

NAMES = [f"s{k}" for k in range(8)]
LABELS = {name: [float(k % 2), float(k < 3)] for k, name in enumerate(NAMES)}


def pictured(folder: Path, names: list[str]) -> dict[str, Path]:
    paths = {name: folder / f"{name}.png" for name in names}
    for path in paths.values():
        Image.new("RGB", (300, 200), (200, 30, 30)).save(path)
    return paths


def scanned(folder: Path, number: int, *, displacement: list[str]) -> Any:
    """A run with an image of 12 volumes, and confounds of six motion parameters and the displacement given."""
    image = folder / f"run-{number}_bold.nii.gz"
    nibabel.Nifti1Image(np.ones((3, 4, 5, 12), np.float32), GRID.affine).to_filename(image)
    confounds = folder / f"run-{number}_confounds.tsv"
    columns = [*(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"), "framewise_displacement"]
    rows = ["\t".join([*["0.1"] * 6, one]) for one in displacement]
    confounds.write_text("\n".join(["\t".join(columns), *rows]) + "\n")
    return make_run("01", number, image=image, confounds=confounds, metadata={"RepetitionTime": 1.5})


def two_runs(folder: Path) -> World:
    """Each stimulus twice; the last trial of run 2 has no response."""
    world, rng = World(folder), np.random.default_rng(0)
    moving = ["n/a", *["0.1"] * 8, "0.6", "0.7", "0.8"]
    for number, rows in ((1, range(8)), (2, range(7))):
        run = scanned(folder, number, displacement=moving if number == 1 else ["0.2"] * 12)
        world.add(run, NAMES, rng.normal(size=(len(rows), 60)), kept=list(rows))
    _restore(world, 2, dropped={"beyond the end of the run": 1}, tsnr=None)
    return world


def _restore(world: World, number: int, *, dropped: dict[str, int], tsnr: np.ndarray | None) -> None:
    """Store a run anew with what was left out, and with what was measured of its voxels."""
    run = world.runs[number - 1]
    old = read_responses(world.tree.responses(run, kind="lss"))
    responses = RunResponses(
        np.array(old.values), np.array(old.valid), old.trial_number - 1, "lss", old.unit, dropped,
        tsnr=None if tsnr is None else tsnr.astype(np.float32),
    )  # fmt: skip
    write_responses(
        world.tree, run, responses, world.trials[run.key], grid=GRID, voxels=np.array(old.voxels), config={}
    )


def section(
    world: World, *, split: Split | None = None, catalogue: Any = None, participant: str = "01"
) -> Section:
    view = ReportView(world.plan(), world.tree, catalogue, split, {})
    return inputs_of_participant(view, participant)


def said(found: Section) -> str:
    return "\n".join(block.text for block in found.blocks if isinstance(block, Paragraph))


def table_of(found: Section, column: str) -> Table:
    return next(block for block in found.blocks if isinstance(block, Table) and column in block.columns)


def test_a_trained_participant(tmp_path: Path) -> None:
    world = two_runs(tmp_path)
    split = world.split({name: "train" if k < 5 else "test" for k, name in enumerate(NAMES)})
    catalogue = make_catalogue(LABELS, paths=pictured(tmp_path, NAMES))

    found = section(world, split=split, catalogue=catalogue)

    assert found.blocks[0].text == (
        "2 runs with 16 trials of 8 stimuli were read. 15 of the trials have a response (lss), 1 has none."
    )
    runs = table_of(found, "confounds used")
    assert [list(row[1:]) for row in runs.rows] == [
        ["1", "12", "1.5", "8", "0", "lss", "6:\u00a06\u00a0motion"],
        ["2", "12", "1.5", "8", "1", "lss", "6:\u00a06\u00a0motion"],
    ]
    sets = table_of(found, "set")
    # The trial without a response is the second s7, of the test set.
    assert [list(row[1:]) for row in sets.rows] == [
        ["10", "67\u00a0%", "5", "2"],
        ["5", "33\u00a0%", "3", "2"],
    ]
    left = table_of(found, "reason")
    assert [list(row[:3]) for row in left.rows] == [["1", "trials", "no response: beyond the end of the run"]]
    assert "8 stimuli were shown in 16 trials; each 2 times. All pictures were found." in said(found)
    labels = table_of(found, "label")
    # cat: odd ones; of s0..s4 s1 and s3, of s5, s6, s7 s5 and s7 (once without a response). dog: s0, s1, s2.
    assert sorted(list(row) for row in labels.rows) == [
        ["cat", "4", "4", "40\u00a0%", "3", "60\u00a0%"],
        ["dog", "3", "6", "60\u00a0%", "0", "0\u00a0%"],
    ]
    gallery = next(block for block in found.blocks if isinstance(block, Gallery))
    assert sorted(card.title for card in gallery.cards) == NAMES
    assert all(card.image is not None and card.image.startswith(b"\xff\xd8") for card in gallery.cards)
    assert "13.0\u00a0% of 23 volumes are above 0.5 mm" in said(found), "3 of 11 + 12 that are known"
    assert (world.tree.figures("01") / "sub-01_desc-motion_runs.svg").is_file()


def test_prepared_only_and_without_confounds(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(make_run(), NAMES, np.ones((8, 60)))

    found = section(world, catalogue=make_catalogue(LABELS))

    text = said(found)
    assert "All of the trials have a response (lss)." in text
    assert "There is no split yet" in text
    assert "Nothing was left out. Each of 8 rows" in text
    assert "There are no pictures of them" in text
    assert "Motion: not known." in text
    assert "stored by a version that did not measure it" in text
    assert table_of(found, "label").rows[0][2] == "–", "no training trials yet"
    assert not any(isinstance(block, Gallery) for block in found.blocks)


def test_half_of_the_stimuli_are_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(make_run(), NAMES + NAMES[:2], np.ones((10, 60)))
    known = {name: values for name, values in LABELS.items() if name not in NAMES[:2]}
    paths = pictured(tmp_path, NAMES[5:])
    paths["s7"].write_bytes(b"broken")
    catalogue = make_catalogue({**known, "s0": [np.nan] * 2, "s1": [np.nan] * 2}, paths=paths)

    found = section(world, catalogue=catalogue.without(["s6"]))

    assert "3 of 8 pictures were found, 5 are missing (62\u00a0%)." in said(found)
    rows = {row[2]: list(row) for row in table_of(found, "reason").rows}
    assert rows["the picture cannot be read (1 trial)"][:2] == ["1", "stimuli"]
    assert rows["no picture was found (7 trials)"][0] == "5"
    assert rows["no label is known (4 trials)"][0] == "2"
    gallery = next(block for block in found.blocks if isinstance(block, Gallery))
    images = {card.title: card.image for card in gallery.cards}
    assert images["s7"] is None
    assert images["s5"] is not None
    assert images["s0"] is None


def test_a_participant_of_whom_nothing_was_read_or_stored(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(make_run(), NAMES, np.ones((8, 60)))
    world.tree.responses(world.runs[0], kind="lss").unlink()

    (only,) = section(world, participant="02").blocks
    found = section(world)

    assert only.text == "Nothing went in: no run of this participant could be read."
    assert "No responses are stored yet." in said(found)
    assert table_of(found, "reason").rows[0][2] == "no responses are stored"
    assert "Maps of the voxels: none" in said(found)
    assert "Stimuli were not looked at" in said(found)


def test_runs_and_rows_that_are_no_trials(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(make_run(), NAMES, np.ones((8, 60)))
    key = world.runs[0].key
    world.trials[key] = replace(
        world.trials[key], nuisance_kind=("cue", "cue", "response"), excluded={"baseline": 4}, n_rows=15
    )
    func = tmp_path / "bids" / "sub-01" / "func"
    func.mkdir(parents=True)
    for name in ("run-1_bold.nii.gz", "run-1_events.tsv", "run-07_events.tsv", "run-8_bold.nii.gz"):
        (func / f"sub-01_task-x_{name}").write_bytes(b"")
    (func / "sub-01_task-rest_bold.nii.gz").write_bytes(b"")

    rows = [list(row) for row in table_of(section(world), "reason").rows]

    assert [row[:3] for row in rows] == [
        ["1", "runs", "events, but no preprocessed image: sub-01_task-x_run-7"],
        ["1", "runs", "a raw image, but no events: sub-01_task-x_run-8"],
        ["2", "rows of the events", "“cue”"],
        ["1", "rows of the events", "“response”"],
        ["4", "rows of the events", "baseline"],
    ]


def test_folds_and_a_split_of_other_trials(tmp_path: Path) -> None:
    world = two_runs(tmp_path)
    split = world.split(dict.fromkeys(NAMES, "train"))
    folds = replace(split, fold=tuple(1 + k % 3 for k in range(8)) * 2, rule="stimuli:3")

    found = table_of(section(world, split=folds), "set")
    wrong = section(world, split=replace(split, stimulus_id=("other",) * 16))

    # s0, s3, s6 | s1, s4, s7, once without a response | s2, s5.
    assert [list(row[:2]) for row in found.rows] == [["fold 1", "6"], ["fold 2", "5"], ["fold 3", "4"]]
    assert "The split does not fit these trials" in said(wrong)


def test_the_map_of_a_participant_is_the_median_over_runs(tmp_path: Path) -> None:
    world, rng = World(tmp_path), np.random.default_rng(1)
    ratios = rng.uniform(20, 90, size=(3, 50))
    for number in (1, 2, 3, 4):
        valid = np.arange(50) != number
        world.add(make_run("01", number), NAMES, np.ones((8, 50)), voxels=range(5, 55), valid=valid)
        # The last one is of a version that did not measure.
        tsnr = np.where(valid, ratios[number - 1], 0) if number < 4 else None
        _restore(world, number, dropped={}, tsnr=tsnr)
    plan = world.plan()

    write_tsnr_map(plan, world.tree, "01", plan.runs)

    path = world.tree.voxel_map(world.runs[0], desc="tsnr")
    assert path == world.tree.root / "sub-01" / "func" / "sub-01_desc-tsnr_statmap.nii.gz"
    expected = np.zeros(60)
    expected[5:55] = np.median(ratios, axis=0)
    expected[[6, 7, 8]] = 0
    drawn = nibabel.load(path)
    np.testing.assert_allclose(np.asarray(drawn.dataobj).ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(drawn.affine, GRID.affine)
    sidecar = json.loads(path.with_name("sub-01_desc-tsnr_statmap.json").read_text())
    assert (sidecar["NumberOfRuns"], sidecar["NumberOfRunsNotMeasured"]) == (3, 1)
    assert len(sidecar["Sources"]) == 3
    found = section(world)
    assert (world.tree.figures("01") / "sub-01_desc-tsnr_slices.png").is_file()
    # The page tells of voxels with signal in all four runs.
    shown = np.delete(np.median(ratios, axis=0), [1, 2, 3, 4])
    captions = " ".join(getattr(block, "caption", "") for block in found.blocks)
    share = 100 * (shown > 40).mean()
    assert (
        f"median {np.median(shown):.3g} over 46 voxels; {share:.0f}\u00a0% of them are above 40" in captions
    )


def test_many_runs_are_folded(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(1, 15):
        world.add(make_run("01", number), NAMES[:2], np.ones((2, 60)))

    folded = section(world).blocks[1]

    assert isinstance(folded, Details)
    assert folded.summary.startswith("All 14 runs: 2 trials each")


def test_a_run_whose_confounds_do_not_fit_leaves_its_cell(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(scanned(tmp_path, 1, displacement=["0.1"] * 5), NAMES, np.ones((8, 60)))

    cell = table_of(section(world), "confounds used").rows[0][-1]

    assert cell == "unreadable: run-1_confounds.tsv: 5 rows of confounds for 12 volumes."


@pytest.mark.parametrize("column", ["framewise_displacement", "FramewiseDisplacement", None])
def test_displacement_by_present_and_older_names(tmp_path: Path, column: str | None) -> None:
    from clipmused_bids.dataset.images.motion import framewise_displacement

    path = tmp_path / "confounds.tsv"
    path.write_text(f"csf\t{column or 'dvars'}\n1\tn/a\n2\t0.25\n")

    found = framewise_displacement(path)

    if column is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, [np.nan, 0.25])
