from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from clipmused_bids.config import Selection
from clipmused_bids.dataset.runs.derivatives import find_derivatives
from clipmused_bids.dataset.runs.layout import find_runs
from clipmused_bids.dataset.runs.sidecars import repetition_time
from clipmused_bids.dataset.runs.spaces import choose_space, is_common_space
from clipmused_bids.errors import DataError, DatasetError, MissingInputError, SelectionError, UsageError
from clipmused_bids.records import Run

EVERYTHING = Selection()


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def dataset(root: Path, *, runs=("01",), task="x", sub="01") -> Path:
    for run in runs:
        touch(root / f"sub-{sub}/func/sub-{sub}_task-{task}_run-{run}_events.tsv")
    return root


def derivative(root: Path, names, *, sub="01", described=True) -> Path:
    touch(*(root / f"sub-{sub}/func/sub-{sub}_{name}" for name in names))
    if described:
        (root / "dataset_description.json").write_text("{}")
    return root


def runs_of(bids, *, selection=EVERYTHING, derivatives=(), participants=("01",), kind="auto", **options):
    options = {"need_events": True, "need_images": True} | options
    found = find_derivatives(
        bids, derivatives, participants=participants, image_kind=None if kind == "auto" else kind
    )
    return find_runs(
        bids, derivatives=found, selection=selection, participants=participants, image_kind=kind, **options
    )


def test_run_01_and_run_1_are_one_run_and_everything_belonging_to_it_is_found(tmp_path):
    bids = dataset(tmp_path, runs=("01", "02", "10"))
    (bids / "task-x_bold.json").write_text('{"RepetitionTime": 2, "SliceTiming": [0]}')
    out = derivative(
        bids / "derivatives/fmriprep",
        [f"task-x_run-{k}_space-T1w_desc-preproc_bold.nii.gz" for k in (1, 2, 10)]
        + ["task-x_space-T1w_desc-brain_mask.nii.gz", "task-x_run-2_space-T1w_desc-brain_mask.nii.gz"]
        + ["task-x_run-2_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz"]
        + ["task-x_run-1_desc-confounds_timeseries.tsv", "task-x_run-2_desc-confounds_regressors.tsv"]
        + ["task-x_run-10_bold_confounds.tsv"],
    )
    (out / "sub-01/func/sub-01_task-x_run-2_space-T1w_desc-preproc_bold.json").write_text(
        '{"RepetitionTime": 1.5}'
    )
    first, second, tenth = runs_of(bids)
    assert [run.key for run in (first, second, tenth)] == [f"sub-01_task-x_run-{k}" for k in (1, 2, 10)]
    assert first.events.name == "sub-01_task-x_run-01_events.tsv"
    assert first.image.name == "sub-01_task-x_run-1_space-T1w_desc-preproc_bold.nii.gz"
    assert first.entities == {"sub": "01", "task": "x", "run": "1", "space": "T1w"}
    assert first.mask.name == "sub-01_task-x_space-T1w_desc-brain_mask.nii.gz"
    assert second.mask.name == "sub-01_task-x_run-2_space-T1w_desc-brain_mask.nii.gz"
    assert [r.confounds.name.split("_", 3)[-1] for r in (first, second, tenth)] == [
        "desc-confounds_timeseries.tsv",
        "desc-confounds_regressors.tsv",
        "bold_confounds.tsv",
    ]
    assert first.metadata == {"RepetitionTime": 2, "SliceTiming": [0]}
    assert second.metadata == {"RepetitionTime": 1.5, "SliceTiming": [0]}
    assert first.sources["events"] == "bids:raw:sub-01/func/sub-01_task-x_run-01_events.tsv"
    assert first.sources["mask"] == f"bids:fmriprep:sub-01/func/{first.mask.name}"


def test_another_named_derivative_may_bring_what_the_first_lacks(tmp_path):
    dataset(tmp_path)
    name = "task-x_run-1_space-T1w_desc-{}".format
    derivative(tmp_path / "one", [name("preproc_bold.nii.gz")])
    derivative(tmp_path / "two", [name("brain_mask.nii.gz"), "task-x_run-1_desc-confounds_timeseries.tsv"])
    (run,) = runs_of(tmp_path, derivatives=(f"prep={tmp_path}/one", f"masks={tmp_path}/two"))
    assert run.sources["image"].startswith("bids:prep:")
    assert run.sources["mask"].startswith("bids:masks:")
    assert run.sources["confounds"].startswith("bids:masks:")
    derivative(tmp_path / "one", [name("brain_mask.nii.gz")])
    (run,) = runs_of(tmp_path, derivatives=(f"masks={tmp_path}/two", f"prep={tmp_path}/one"))
    assert run.sources["mask"].startswith("bids:prep:"), "the image's own derivative goes first"


def test_two_derivatives_of_one_name_must_be_named(tmp_path):
    dataset(tmp_path)
    paths = [str(derivative(tmp_path / k / "p", ["task-x_run-1_desc-preproc_bold.nii.gz"])) for k in "ab"]
    with pytest.raises(UsageError, match="Two derivatives are called"):
        runs_of(tmp_path, derivatives=tuple(paths))
    with pytest.raises(DatasetError, match=r"Several images for one run: .*/a/p/.*, .*/b/p/"):
        runs_of(tmp_path, derivatives=(f"a={paths[0]}", f"b={paths[1]}"))


@pytest.mark.parametrize(
    "name",
    [
        "task-x_run-1_space-fsLR_den-91k_bold.dtseries.nii",
        "task-x_run-1_hemi-L_space-fsaverage5_bold.func.gii",
        "task-x_run-1_space-fsLR_den-91k_desc-lss_statmap.dscalar.nii",
        "task-x_run-1_hemi-R_space-fsnative_statmap.shape.gii",
    ],
)
def test_surfaces_are_refused_by_name(tmp_path, name):
    derivative(dataset(tmp_path) / "derivatives/p", [name])
    with pytest.raises(
        DatasetError, match=f"sub-01_{name}: surface and CIFTI series cannot be read"
    ) as caught:
        runs_of(tmp_path)
    assert "volume space" in caught.value.hint
    # Beside volumes they are no obstacle.
    derivative(tmp_path / "derivatives/p", ["task-x_run-1_space-T1w_desc-preproc_bold.nii.gz"])
    assert [run.space for run in runs_of(tmp_path)] == ["T1w"]


def test_old_confounds_and_masks_go_with_old_images_and_none_is_allowed(tmp_path):
    old = derivative(
        dataset(tmp_path) / "derivatives/p", ["task-x_run-1_bold_preproc.nii.gz"], described=False
    )
    (run,) = runs_of(tmp_path)
    assert (run.mask, run.confounds, run.space) == (None, None, None)
    derivative(old, ["task-x_run-1_bold_confounds.tsv", "task-x_run-1_bold_brainmask.nii.gz"])
    # Masks of anatomical images are none of BOLD.
    touch(old / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    (run,) = runs_of(tmp_path)
    assert run.confounds.name == "sub-01_task-x_run-1_bold_confounds.tsv"
    assert run.mask.name == "sub-01_task-x_run-1_bold_brainmask.nii.gz"


def test_events_at_the_root_serve_everyone(tmp_path):
    touch(tmp_path / "task-x_events.tsv", tmp_path / "sub-01/func/sub-01_task-x_run-2_events.tsv")
    touch(tmp_path / "sub-01/func/sub-01_task-x_run-1_bold.nii.gz")
    derivative(tmp_path / "derivatives/p", [f"task-x_run-{k}_desc-preproc_bold.nii.gz" for k in (1, 2)])
    first, second = runs_of(tmp_path)
    assert first.events == tmp_path / "task-x_events.tsv"
    assert second.events == tmp_path / "sub-01/func/sub-01_task-x_run-2_events.tsv"
    only_events = runs_of(tmp_path, need_images=False)
    assert [(run.run, run.image) for run in only_events] == [(1, None), (2, None)]


def test_sessions_acq_and_junk(tmp_path):
    for acq in ("a", "b"):
        touch(tmp_path / f"sub-01/ses-1/func/sub-01_ses-1_task-x_acq-{acq}_events.tsv")
    touch(tmp_path / "sub-01/ses-1/func/._sub-01_ses-1_task-x_acq-a_events.tsv")
    touch(tmp_path / "sourcedata/sub-01/func/sub-01_task-junk_events.tsv")
    out = tmp_path / "derivatives/p"
    touch(*(out / f"sub-01/ses-1/func/sub-01_ses-1_task-x_acq-{acq}_desc-preproc_bold.nii" for acq in "ab"))
    touch(out / "sub-01/ses-1/func/sub-01_ses-1_task-x_acq-a_echo-1_desc-preproc_bold.nii.gz")
    found = runs_of(tmp_path)
    assert [run.key for run in found] == ["sub-01_ses-1_task-x_acq-a", "sub-01_ses-1_task-x_acq-b"]
    with pytest.raises(SelectionError, match=r"No ses-3 in this request; there are 1"):
        runs_of(tmp_path, selection=Selection(sessions=("3",)))


@pytest.mark.parametrize(
    ("names", "space"),
    [
        (["task-x_run-1_bold_space-MNI152NLin2009cAsym_preproc.nii.gz"], "MNI152NLin2009cAsym"),
        (["task-x_run-1_bold_preproc.nii.gz"], None),
        (["task-x_run-1_space-T1w_desc-preproc_bold.nii", "task-x_run-1_bold.dtseries.nii"], "T1w"),
    ],
)
def test_names_of_preprocessed_bold(tmp_path, names, space):
    derivative(dataset(tmp_path) / "derivatives/p", names)
    (run,) = runs_of(tmp_path)
    assert (run.space, run.image.name) == (space, f"sub-01_{names[0]}")


def test_old_masks_belong_to_their_space(tmp_path):
    names = [
        f"task-x_run-1_bold_space-{s}_{what}.nii.gz"
        for s in ("T1w", "MNI152NLin2009cAsym")
        for what in ("preproc", "brainmask")
    ]
    derivative(dataset(tmp_path) / "derivatives/p", names)
    (run,) = runs_of(tmp_path, selection=Selection(space="T1w"))
    assert run.mask.name == "sub-01_task-x_run-1_bold_space-T1w_brainmask.nii.gz"


def test_betas_serve_where_there_is_no_bold(tmp_path):
    derivative(dataset(tmp_path) / "derivatives/b", ["task-x_run-1_desc-block_statmap.nii.gz"])
    assert [run.image_kind for run in runs_of(tmp_path)] == ["betas"]
    derivative(tmp_path / "derivatives/b", ["task-x_run-1_desc-preproc_bold.nii.gz"])
    assert [run.image_kind for run in runs_of(tmp_path)] == ["bold"]
    assert [run.image_kind for run in runs_of(tmp_path, kind="betas")] == ["betas"]


def test_several_derivatives_must_be_named(tmp_path):
    for name in ("one", "two"):
        derivative(dataset(tmp_path) / "derivatives" / name, ["task-x_run-1_desc-preproc_bold.nii.gz"])
    touch(tmp_path / "derivatives/freesurfer/sub-01/mri/T1.mgz")
    with pytest.raises(
        DatasetError, match=r"derivatives/one, .*derivatives/two\.\nhint: .*-d .*one"
    ) as error:
        runs_of(tmp_path)
    assert error.value.exit_code == 16
    (run,) = runs_of(tmp_path, derivatives=(f"prep={tmp_path}/derivatives/two",))
    assert run.sources["image"].startswith("bids:prep:sub-01/func/")
    with pytest.raises(DatasetError, match="Several derivatives"):
        runs_of(tmp_path, derivatives=(f"{tmp_path}/derivatives",))


def test_one_level_too_high_and_no_description_are_said(tmp_path, caplog):
    derivative(
        dataset(tmp_path / "raw") and tmp_path / "d/prep",
        ["task-x_run-1_desc-preproc_bold.nii.gz"],
        described=False,
    )
    with caplog.at_level(logging.WARNING):
        (found,) = find_derivatives(
            tmp_path / "raw", (str(tmp_path / "d"),), participants=("01",), image_kind="bold"
        )
    assert (found.name, found.path, found.described) == ("prep", tmp_path / "d/prep", False)
    assert "one level too high" in caplog.text
    assert "no dataset_description.json" in caplog.text


def test_derivatives_that_are_refused(tmp_path):
    dataset(tmp_path)
    with pytest.raises(
        DatasetError, match=r"No preprocessed BOLD or betas .* of sub-01 in .*derivatives\.\nhint: -d PATH"
    ):
        runs_of(tmp_path)
    with pytest.raises(MissingInputError, match="no such folder"):
        runs_of(tmp_path, derivatives=(f"{tmp_path}/absent",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="not installed"):
        runs_of(tmp_path, derivatives=(f"{tmp_path}/empty",))
    derivative(tmp_path / "derivatives/p", ["task-x_run-1_space-fsLR_den-91k_bold.dtseries.nii"])
    with pytest.raises(DatasetError, match=r"dtseries\.nii: surface and CIFTI series cannot be read"):
        runs_of(tmp_path)


def test_several_tasks_must_be_chosen_but_one_without_events_does_not_count(tmp_path):
    names = [f"task-{task}_run-1_desc-preproc_bold.nii.gz" for task in ("x", "rest")]
    derivative(dataset(tmp_path) / "derivatives/p", names)
    assert [run.task for run in runs_of(tmp_path)] == ["x"]
    dataset(tmp_path, task="rest")
    with pytest.raises(UsageError, match=r"Several tasks: rest, x\.\nhint: choose with -t"):
        runs_of(tmp_path)
    assert [run.task for run in runs_of(tmp_path, selection=Selection(tasks=("rest",)))] == ["rest"]
    with pytest.raises(
        SelectionError, match=r"No task-rset in this request; there are rest, x\.\nhint: --task-id rest"
    ):
        runs_of(tmp_path, selection=Selection(tasks=("rset",)))
    with pytest.raises(SelectionError, match=r"No run-7 .* there are 1"):
        runs_of(tmp_path, selection=Selection(tasks=("rest",), runs=(7,)))


def test_events_and_images_that_do_not_meet(tmp_path, caplog):
    derivative(
        dataset(tmp_path, runs=("1", "2")) / "derivatives/p",
        ["task-x_run-1_desc-preproc_bold.nii.gz", "task-x_run-3_desc-preproc_bold.nii.gz"],
    )
    assert [run.run for run in runs_of(tmp_path)] == [1]
    assert "1 runs have events but no image; they are left out: sub-01_task-x_run-2." in caplog.text
    assert "1 runs have an image but no events; they are left out: sub-01_task-x_run-3." in caplog.text
    with pytest.raises(DatasetError, match="do not belong together"):
        runs_of(tmp_path, selection=Selection(runs=(2, 3)))
    with pytest.raises(DatasetError, match="No events for sub-01_task-x_run-3"):
        runs_of(tmp_path, selection=Selection(runs=(3,)))
    with pytest.raises(DatasetError, match="No image for sub-01_task-x_run-2"):
        runs_of(tmp_path, selection=Selection(runs=(2,)))
    assert [run.run for run in runs_of(tmp_path, need_events=False)] == [1, 3]


def test_two_images_of_one_run_are_refused(tmp_path):
    names = [f"task-x_run-1_desc-{desc}_statmap.nii.gz" for desc in ("lss", "block")]
    derivative(dataset(tmp_path) / "derivatives/p", names)
    with pytest.raises(DatasetError, match=r"Several images for one run: .*block.*lss"):
        runs_of(tmp_path)


def test_an_image_that_was_not_fetched(tmp_path):
    image = dataset(tmp_path) / "derivatives/p/sub-01/func/sub-01_task-x_run-1_desc-preproc_bold.nii.gz"
    image.parent.mkdir(parents=True)
    image.symlink_to("../../../.git/annex/objects/aa/bb")
    with pytest.raises(MissingInputError, match=f"not fetched.\nhint: datalad get {image}"):
        runs_of(tmp_path)


def test_links_keep_their_names(tmp_path):
    store = tmp_path / "store"
    touch(store / "objectfile")
    image = dataset(tmp_path / "b") / "derivatives/p/sub-01/func/sub-01_task-x_run-1_desc-preproc_bold.nii.gz"
    image.parent.mkdir(parents=True)
    image.symlink_to(store / "objectfile")
    assert [run.image for run in runs_of(tmp_path / "b")] == [image]


@pytest.mark.parametrize(
    ("spaces", "wanted", "chosen"),
    [
        ([{"T1w"}], None, "T1w"),
        ([{"T1w", "MNI152NLin6Asym", "MNI152NLin2009cAsym"}], None, "MNI152NLin2009cAsym"),
        ([{"T1w", "MNI152NLin6Asym"}], None, "MNI152NLin6Asym"),
        ([{"T1w", "MNI152NLin6Asym"}, {"T1w"}], None, "T1w"),
        ([{"T1w", ""}], None, "T1w"),
        ([{"T1w", ""}], "func", ""),
        ([{"MNI152NLin6Asym:res-2", "T1w"}], "MNI152NLin6Asym", "MNI152NLin6Asym:res-2"),
        ([{"MNI152NLin6Asym:res-2", "MNI152NLin6Asym"}], None, "MNI152NLin6Asym"),
        ([{"Ped:cohort-1:res-2", "Ped:cohort-2:res-2"}], "Ped:cohort-2", "Ped:cohort-2:res-2"),
        ([{"MNI152NLin6Asym:res-2", "MNI152NLin6Asym:res-1"}], "MNI152NLin6Asym:res-02", "MNI152NLin6Asym:res-2"),
        ([{"MNI152NLin6Asym:res-02"}], "MNI152NLin6Asym:res-2", "MNI152NLin6Asym:res-02"),
        ([{"fsLR:den-91k", "fsLR:den-170k", "T1w"}], "fsLR:den-91k", "fsLR:den-91k"),
        ([{"T1w", ""}, {"T1w", ""}], "boldref", ""),
        ([{""}], None, ""),
    ],
)  # fmt: skip
def test_choice_of_space(spaces, wanted, chosen):
    assert choose_space(spaces, wanted=wanted) == chosen


def test_spaces_that_must_be_chosen():
    with pytest.raises(
        UsageError, match=r"Images exist in several spaces: OASIS30ANTs, fsaverage\.\nhint: .*--space OASIS"
    ):
        choose_space([{"OASIS30ANTs", "fsaverage"}], wanted=None)
    with pytest.raises(UsageError, match="--space MNI152NLin6Asym:res-1"):
        choose_space([{"MNI152NLin6Asym:res-1", "MNI152NLin6Asym:res-2"}], wanted="MNI152NLin6Asym")
    with pytest.raises(
        SelectionError, match=r"No image in space T2w; there are images in T1w, native|native .*T1w"
    ):
        choose_space([{"T1w", ""}], wanted="T3w")


def test_which_spaces_are_common():
    assert all(
        is_common_space(s)
        for s in ("MNI152NLin2009cAsym", "MNI152NLin6Asym:res-2", "fsLR", "fsaverage5", "OASIS30ANTs")
    )
    assert not any(is_common_space(s) for s in (None, "", "T1w", "func", "boldref", "individual"))


def _run(**metadata) -> Run:
    return Run("01", None, "x", 1, {}, None, Path("x_bold.nii.gz"), "bold", metadata=metadata)


def test_repetition_time_of_the_sidecar_wins_and_difference_is_said(caplog):
    assert repetition_time(_run(RepetitionTime=0.7), 0.7009) == 0.7
    assert caplog.text == ""
    assert repetition_time(_run(RepetitionTime=0.7), 1.0) == 0.7
    assert "0.7 s in the sidecar and 1 s in the image header" in caplog.text
    assert repetition_time(_run(), 2.5) == 2.5
    with pytest.raises(DataError, match="no RepetitionTime"):
        repetition_time(_run(), None)
    with pytest.raises(DataError, match="RepetitionTime '2' in the sidecar"):
        repetition_time(_run(RepetitionTime="2"), None)


def test_a_broken_sidecar_is_named(tmp_path):
    derivative(dataset(tmp_path) / "derivatives/p", ["task-x_run-1_desc-preproc_bold.nii.gz"])
    (tmp_path / "task-x_bold.json").write_text(json.dumps({"RepetitionTime": 2})[:-1])
    with pytest.raises(DataError, match=r"task-x_bold\.json: not a JSON file"):
        runs_of(tmp_path)


def test_deeper_sidecars_win_and_raw_run_01_serves_run_1(tmp_path):
    derivative(dataset(tmp_path) / "derivatives/p", ["task-x_run-1_desc-preproc_bold.nii.gz"])
    fields = {"task-x_bold.json": "abc", "sub-01/sub-01_task-x_bold.json": "bc"}
    fields["sub-01/func/sub-01_task-x_run-01_bold.json"] = "c"
    fields["sub-01/func/sub-01_task-x_run-02_bold.json"] = "abc"
    for depth, (name, keys) in enumerate(fields.items()):
        (tmp_path / name).write_text(json.dumps(dict.fromkeys(keys, depth)))
    (run,) = runs_of(tmp_path)
    assert run.metadata == {"a": 0, "b": 1, "c": 2}
