"""Readers against published files; facts come from the data's own README."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from clipmused_bids.config import Selection
from clipmused_bids.dataset.atlases.atlas_files import dseg_of
from clipmused_bids.dataset.atlases.regions import read_atlas
from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.images.confounds import read_confounds
from clipmused_bids.dataset.images.masks import participant_mask
from clipmused_bids.dataset.images.series import read_bold, read_grid
from clipmused_bids.dataset.movies.logs import read_frame_log
from clipmused_bids.dataset.movies.samples import sampled, shows_movies
from clipmused_bids.dataset.runs.derivatives import find_derivatives
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.names import entities_of
from clipmused_bids.dataset.runs.participants import select_participants
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.finding import resolve_stimuli
from clipmused_bids.dataset.stimuli.labels import read_labels
from clipmused_bids.errors import DataError, UsageError
from clipmused_bids.records import Run

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("CLIPMUSED_TEST_DATA" not in os.environ, reason="CLIPMUSED_TEST_DATA is not set"),
]
DATA = Path(os.environ.get("CLIPMUSED_TEST_DATA", "."))
PLAIN = {"trial_types": (), "stimulus_column": None, "merge_blocks": "auto"}


EVERYTHING = Selection()
FACES_EXCLUDED = {"baseline": 47, "scanner pulse": 340}


def runs_of(name, *, derivatives=(), need_events=True, selection=EVERYTHING):
    bids = DATA / name
    people = select_participants(bids, wanted=(), excluded=())
    found = find_derivatives(bids, derivatives, participants=people, image_kind=None)
    return find_runs(
        bids,
        derivatives=found,
        selection=selection,
        participants=people,
        image_kind="auto",
        need_events=need_events,
    )


def wild(pattern: str) -> Run:
    (path,) = [p for p in (DATA / "events_wild").glob(pattern) if not p.name.startswith("._")]
    labels = entities_of(path)
    return Run(labels["sub"], labels.get("ses"), labels["task"], None, labels, path, None, "bold")


@pytest.mark.parametrize(
    ("pattern", "column", "n_rows", "n_trials", "nuisance", "excluded"),
    [
        ("ds000105/**/*events.tsv", None, 96, 8, {}, {}),
        ("ds000107/**/*events.tsv", None, 384, 24, {}, {}),
        ("ds000117/**/*events.tsv", "stim_file", 93, 93, {}, {}),
        ("ds000233/**/*events.tsv", "stim_file", 88, 88, {}, {}),
        ("ds001246/**/*perception*events.tsv", "stimulus_name", 57, 55, {}, {"baseline": 2}),
        ("ds001499/**/*5000scenes*events.tsv", "stim_file", 37, 37, {}, {}),
        ("ds001499/**/*localizer*events.tsv", "image", 204, 192, {}, {"baseline": 12}),
        ("ds003825/**/*events.tsv", "stim", 399, 399, {}, {}),
        ("ds003965/**/*events.tsv", None, 438, 40, {"rating": 5, "response": 6}, FACES_EXCLUDED),
        ("ds004192/**/*events.tsv", "file_path", 92, 82, {"catch": 10}, {}),
        ("ds004488/**/*events.tsv", "stim_file", 60, 60, {}, {}),
        ("ds004496/**/*coco*events.tsv", "condition", 150, 120, {"no stimulus": 30}, {}),
        ("ds004496/**/*imagenet_run*events.tsv", "stim_file", 100, 100, {}, {}),
        ("ds005165/**/*localizer*events.tsv", "stim_file", 125, 120, {}, {"baseline": 5}),
        ("ds005165/**/*test*events.tsv", "stim_file", 113, 85, {"oddball": 28}, {}),
    ],
)  # fmt: skip
def test_events_of_public_datasets(*, pattern, column, n_rows, n_trials, nuisance, excluded):
    trials = read_events(wild(pattern), **PLAIN)
    assert trials.stimulus_column == column
    assert (trials.n_rows, trials.n_trials) == (n_rows, n_trials)
    assert Counter(trials.nuisance_kind) == nuisance
    assert trials.excluded == excluded
    assert n_rows == trials.n_rows_in_trials + sum(nuisance.values()) + sum(excluded.values())


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("ds000113/**/*events.tsv", "no stimulus column and no trial_type"),
        ("ds001246/**/*imagery_run*events.tsv", "names neither stimuli nor categories"),
        ("ds004212/**/*events.tsv", "names neither stimuli nor categories"),
        (
            "ds006642/**/*events.tsv",
            r"task-backtothefuture_run-001_events\.tsv is a converter's unfilled template",
        ),
    ],
)
def test_events_that_are_refused(pattern, message):
    with pytest.raises(DataError, match=message):
        read_events(wild(pattern), **PLAIN)


def test_imagery_by_a_named_column_and_milliseconds():
    trials = read_events(
        wild("ds001246/**/*imagery_run*events.tsv"), **(PLAIN | {"stimulus_column": "category_name"})
    )
    assert (trials.n_trials, len(set(trials.stimulus_id))) == (25, 25)
    trials = read_events(wild("ds003825/**/*events.tsv"), **PLAIN, run_seconds=480.0)
    assert trials.onset[0] == pytest.approx(10.724)
    assert trials.duration.max() == pytest.approx(0.05)


def test_haxby1_runs_meet_their_derivative():
    runs = runs_of("haxby1")
    assert [run.run for run in runs] == list(range(1, 13))
    assert runs[0].events.name == "sub-1_task-objectviewing_run-01_events.tsv"
    grid, mask = participant_mask(runs, mask=None)
    assert (grid.shape, int(mask.sum())) == ((40, 20, 1), 530)
    for run in runs:
        trials = read_events(run, **PLAIN)
        assert (trials.n_trials, len(set(trials.stimulus_id)), trials.duration.max()) == (8, 8, 22.5)
    series = read_bold(runs[0], mask, grid)
    np.testing.assert_array_equal(
        series.values, nibabel.load(runs[0].image).get_fdata(dtype=np.float32)[mask].T
    )
    assert series.repetition_time == 2.5


def test_raider5_betas_have_one_volume_for_each_trial():
    runs = runs_of("raider5")
    assert len(runs) == 40
    own = [run for run in runs if run.participant == "03"]
    grid, mask = participant_mask(own, mask=None)
    for run in own:
        assert run.image_kind == "betas"
        assert (
            read_bold(run, mask, grid).values.shape == (read_events(run, **PLAIN).n_trials, 1000) == (7, 1000)
        )


def test_studyforrest_is_read_whole_and_has_no_images():
    (run,) = runs_of("studyforrest")
    image = nibabel.load(run.image)
    mask = np.zeros(image.shape[:3], dtype=bool)
    mask[30:50, 30:50, 15:20] = True
    series = read_bold(run, mask, read_grid(run.image))
    np.testing.assert_allclose(series.values, image.get_fdata(dtype=np.float32)[mask].T, rtol=1e-6)
    trials = read_events(run, **PLAIN)
    assert (trials.n_trials, len(set(trials.condition)), trials.stimulus_column) == (192, 6, "stim_file")
    resolved = resolve_stimuli(trials.stimulus_id, bids_dir=DATA / "studyforrest", stimuli_dirs=())
    assert (resolved.coverage, len(resolved.missing)) == (0, len(set(trials.stimulus_id)))


def test_fmriprep_placeholders_are_refused_by_name_and_confounds_read():
    (run,) = runs_of("fmriprep_layout", derivatives=(str(DATA / "fmriprep_layout"),), need_events=False)
    assert run.space == "T1w"
    assert run.confounds.name.endswith("desc-confounds_regressors.tsv")
    with pytest.raises(DataError, match=r"space-T1w_desc-brain_mask\.nii\.gz: the mask is empty"):
        participant_mask([run], mask=None)
    grid = read_grid(run.image)
    with pytest.raises(
        DataError,
        match=r"sub-03_task-flocBLOCKED_space-T1w_desc-preproc_bold\.nii\.gz: the image is constant",
    ):
        read_bold(run, np.ones(grid.shape, dtype=bool), grid)
    confounds = read_confounds(run, strategy="default", n_scans=325)
    assert confounds.matrix.shape == (325, 10)
    assert np.isfinite(confounds.matrix).all()
    assert confounds.has_cosines


@pytest.mark.parametrize("desc", ["aparcaseg", "aseg"])
def test_fmripreps_own_segmentations_are_found_in_the_images_space_and_named(tmp_path, desc):
    """Genuine names and tables; the values are those of a copy, since the published ones are all zero."""
    source = DATA / "fmriprep_layout"
    (found,) = runs_of("fmriprep_layout", derivatives=(str(source),), need_events=False)
    (own,) = find_derivatives(source, (str(source),), participants=("03",), image_kind="bold")
    for space in ("T1w", "MNI152NLin2009cAsym"):
        run = replace(found, space=space, entities={**found.entities, "space": space})
        path = dseg_of((own,), run, desc=desc)
        assert path.name == f"sub-03_task-flocBLOCKED_space-{space}_desc-{desc}_dseg.nii.gz"
        grid = read_grid(path)
        assert grid.agrees_with(read_grid(found.image)) == (space == "T1w")
        with pytest.raises(DataError, match=rf"{path.name}: no region"):
            read_atlas(path, grid=grid, voxels=np.arange(10))
        values = np.zeros(grid.shape, dtype=np.int16)
        values.flat[:3] = (17, 53, 17)
        copied = tmp_path / "sub-03/func" / path.name
        copied.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(values, grid.affine).to_filename(copied)
        shutil.copy(source / f"desc-{desc}_dseg.tsv", tmp_path)
        regions, names = read_atlas(copied, grid=grid, voxels=np.arange(4))
        assert names == ("Left-Hippocampus", "Right-Hippocampus")
        assert regions.tolist() == [1, 2, 1, 0]


def test_coco_labels_and_captions_of_one_hundred_images():
    root = DATA / "coco_tiny"
    images = sorted(path for part in ("train2017", "val2017") for path in (root / part).glob("*.jpg"))
    ids = [f"coco/{path.name}" for path in images]
    files = {
        kind: tuple(str(root / f"annotations/{kind}_{part}2017.json") for part in ("train", "val"))
        for kind in ("instances", "captions")
    }
    _, values, single = read_labels(
        files["instances"], stimulus_ids=ids, presentations=Presentations(()), stimuli_table=None
    )
    assert (values.shape, single) == ((100, 80), False)
    for half, part, occurring in ((values[:50], "train", 49), (values[50:], "val", 48)):
        assert int(half.any(axis=0).sum()) == occurring
        content = json.loads((root / f"annotations/instances_{part}2017.json").read_text())
        pairs = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
        assert int(half.sum()) == len(pairs)
    captions = read_captions(files["captions"], stimulus_ids=ids, stimuli_table=None)
    assert Counter(map(len, captions)).most_common(1)[0][0] == 5
    resolved = resolve_stimuli(ids, bids_dir=root, stimuli_dirs=(str(root),))
    assert tuple(found.path for found in resolved.picture) == tuple(images)


def test_frames_that_ds000113_logs_become_seconds_of_the_movie():
    """The film runs at 25 frames a second: frame 25 k + 25 appears at second k + 1 of the movie."""
    run = wild("ds000113/**/*events.tsv")
    with pytest.raises(UsageError, match="logs movie times"):
        read_frame_log(run, movie=None, stimulus_column=None, run_seconds=None)
    log = read_frame_log(run, movie="fg_av_seg0.mkv", stimulus_column=None, run_seconds=None)
    made = sampled(log, interval=1.0, lengths={})
    assert (made.n_rows, made.n_rows_in_trials, made.excluded) == (399, 399, {})
    assert made.stimulus_id == tuple(f"fg_av_seg0.mkv@{k}" for k in range(1, 17))
    table = pd.read_csv(run.events, sep="\t").set_index("frameidx")
    logged = table.loc[[25 * k for k in range(1, 16)], "onset"]
    np.testing.assert_allclose(made.onset[:15], logged)
    # The last second begins 0.04 s after the onset of the last frame in the file, which stays for 0.053 s.
    assert made.onset[15] == pytest.approx(table.loc[399, "onset"] + 0.04)


@pytest.mark.parametrize(
    ("pattern", "seconds"), [("ds004488/**/*events.tsv", 2), ("ds005165/**/*test*events.tsv", 3)]
)
def test_action_clips_are_trials_unless_an_interval_is_asked_for(pattern, seconds):
    trials = read_events(wild(pattern), **PLAIN)
    assert not shows_movies(trials, forced=False, lengths={})
    assert shows_movies(trials, forced=True, lengths={})
    made = sampled(trials, interval=1.0, lengths=dict.fromkeys(trials.stimulus_id, float(seconds)))
    assert made.n_trials == seconds * trials.n_trials
    assert made.n_rows_in_trials == trials.n_rows_in_trials
    assert dict(made.excluded) == dict(trials.excluded)
