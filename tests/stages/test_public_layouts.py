"""Skeletons of public datasets: which column names the stimuli, and which pictures are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.config import Config, InputOptions
from clipmused_bids.dataset.stimuli.pictures import open_picture
from clipmused_bids.errors import DataError
from clipmused_bids.stages.catalogue import Catalogue, make_catalogue
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import Plan, make_plan


def write_skeleton(
    root: Path,
    events: str,
    *,
    pictures: Sequence[str] = (),
    name: str = "sub-01_task-x_run-1",
    n_scans: int = 40,
) -> Path:
    """Raw events beside one preprocessed run; pictures below ``stimuli``, each of another colour."""
    func, derived = root / "sub-01/func", root / "derivatives/fmriprep/sub-01/func"
    for folder in (func, derived):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "skeleton", "BIDSVersion": "1.10.0"}')
    (root / "derivatives/fmriprep/dataset_description.json").write_text(
        '{"Name": "fMRIPrep", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}'
    )
    (func / f"{name}_events.tsv").write_text(events)
    (root / "task-x_bold.json").write_text('{"RepetitionTime": 2.0, "TaskName": "x"}')
    image = nibabel.Nifti1Image(np.ones((2, 2, 2, n_scans), dtype=np.float32), np.eye(4))
    nibabel.save(image, derived / f"{name}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
    for k, picture in enumerate(pictures):
        path = root / "stimuli" / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (k, 9, 9)).save(path)
    return root


def plan_of(root: Path, **inputs: Any) -> Plan:
    config = Config(
        bids_dir=root,
        output_dir=root / "out",
        level="group",
        actions=("prepare",),
        inputs=InputOptions(**inputs),
    )
    return make_plan(config, failures=Failures())


def rows(header: str, *lines: str) -> str:
    """Table with columns parted by ``|``, since names may hold blanks."""
    return "".join("\t".join(line.split("|")) + "\n" for line in (header, *lines))


@dataclass(frozen=True)
class Layout:
    """One row of the table of dialects, and what the tool must make of it."""

    events: str
    column: str | None
    found: Mapping[str, str | None]
    pictures: Sequence[str] = ()
    nuisance: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)


LAYOUTS = {
    "ds000117": Layout(
        rows("onset|duration|trial_type|stim_file", "0|0.9|IniFF|func/f013.bmp", "3|0.9|IniUF|func/u014.bmp"),
        "stim_file",
        {"func/f013.bmp": "func/f013.bmp", "func/u014.bmp": "func/u014.bmp"},
        ("func/f013.bmp", "func/u014.bmp", "func/f014.bmp"),
    ),
    "ds004496 imagenet": Layout(
        rows("onset|duration|trial_type|stim_file", "0|1|521.0|imagenet/n03131574/n03131574_8247.JPEG",
             "4|1|277.0|imagenet/n02117135/n02117135_7352.JPEG"),
        "stim_file",
        {"imagenet/n03131574/n03131574_8247.JPEG": "imagenet/n03131574/n03131574_8247.JPEG",
         "imagenet/n02117135/n02117135_7352.JPEG": "imagenet/n02117135/n02117135_7352.JPEG"},
        ("imagenet/n03131574/n03131574_8247.JPEG", "imagenet/n02117135/n02117135_7352.JPEG"),
    ),
    "ds004496 coco": Layout(
        rows("onset|duration|trial_type|response|condition", "0|0.5|29.0|0.0|coco/000000124419.jpg",
             "3|0.5|12.0|0.0|coco/000000036598.jpg", "6|0.5|88.0|1.0|n/a"),
        "condition",
        {"coco/000000124419.jpg": None, "coco/000000036598.jpg": None},
        nuisance=1,
    ),
    "ds001499": Layout(
        rows("onset|duration|ImgName|ImgType|stim_file", "6|1|n01930112_19568.JPEG|imagenet|n01930112_19568.JPEG",
             "16|1|n03733281_29214.JPEG|imagenet|n03733281_29214.JPEG"),
        "stim_file",
        {"n01930112_19568.JPEG": None, "n03733281_29214.JPEG": None},
        inputs={"labels": "ImgType"},
    ),
    "ds004192": Layout(
        rows("onset|duration|trial_type|category_nr|test_image_nr|file_path", "3|0.5|exp|205|n/a|dog/dog_12s.jpg",
             "7|0.5|exp|384|n/a|mango/mango_12s.jpg", "12|0.5|catch|721|n/a|catch008.jpg"),
        "file_path",
        {"dog/dog_12s.jpg": None, "mango/mango_12s.jpg": None},
        nuisance=1,
        inputs={"labels": "category_nr"},
    ),
    "ds001246": Layout(
        rows("onset|duration|event_type|stimulus_id|stimulus_name", "0|33|rest|n/a|n/a",
             "33|9|stimulus|3626115.019498|n03626115_19498", "42|9|stimulus|3345837.012501|n03345837_12501"),
        "stimulus_name",
        {"n03626115_19498": None, "n03345837_12501": None},
        inputs={"labels": "stimulus_id"},
    ),
    "ds003825": Layout(
        rows("onset|duration|object|stim|istarget|stimname",
             r"10|1|carousel|stimuli\carousel\carousel_11s.jpg|0|carousel_11s.jpg",
             r"12|1|piano|stimuli\piano\piano_05n.jpg|0|piano_05n.jpg"),
        "stim",
        {r"stimuli\carousel\carousel_11s.jpg": None, r"stimuli\piano\piano_05n.jpg": None},
        inputs={"labels": "object"},
    ),
    "CNeuroMod THINGS": Layout(
        rows("TrialID|ImageID|image_path|onset|duration|condition", "1|5|images_fmri/girl/girl_02s.jpg|4|2.98|seen",
             "2|6|images_fmri/ant/ant_01b.jpg|8|2.98|seen"),
        "image_path",
        {"images_fmri/girl/girl_02s.jpg": "images_fmri/girl/girl_02s.jpg",
         "images_fmri/ant/ant_01b.jpg": "images_fmri/ant/ant_01b.jpg"},
        ("images_fmri/girl/girl_02s.jpg", "images_fmri/ant/ant_01b.jpg"),
    ),
    "ds004488": Layout(
        rows("onset|duration|trial_type|stim_file", "0|2|46.0|Drum corps/v_Drum corps_id_0Qo_start_28.0_label_1.png",
             "4|2|58.0|Hand car wash/v_Hand car wash_id_HZW_start_65.5_label_1.png"),
        "stim_file",
        {"Drum corps/v_Drum corps_id_0Qo_start_28.0_label_1.png":
             "Drum corps/v_Drum corps_id_0Qo_start_28.0_label_1.png",
         "Hand car wash/v_Hand car wash_id_HZW_start_65.5_label_1.png": None},
        ("Drum corps/v_Drum corps_id_0Qo_start_28.0_label_1.png",),
    ),
    "ds000105": Layout(
        rows("onset|duration|trial_type", *(f"{12 + 2 * k}|0.5|{'scissors' if k < 4 else 'face'}" for k in range(8))),
        None,
        {"scissors": None, "face": None},
    ),
}  # fmt: skip


def label_table(folder: Path, layout: Layout) -> tuple[str, ...]:
    """Labels keyed by a column of the events, where these datasets have no trial_type."""
    column = layout.inputs.get("labels")
    if column is None:
        return ()
    header, *lines = [line.split("\t") for line in layout.events.splitlines()]
    keys = sorted({line[header.index(column)] for line in lines} - {"n/a"})
    table = folder / "labels.tsv"
    table.write_text(f"{column}\tlabels\n" + "".join(f"{key}\tlabel {key}\n" for key in keys))
    return (str(table),)


@pytest.mark.parametrize("name", LAYOUTS)
def test_column_ids_and_pictures(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = LAYOUTS[name]
    root = write_skeleton(tmp_path / "bids", layout.events, pictures=layout.pictures)
    caplog.set_level("INFO")
    plan = plan_of(root, labels=label_table(tmp_path, layout))
    catalogue = make_catalogue(plan)
    (trials,) = plan.trials.values()
    assert trials.stimulus_column == layout.column
    assert trials.stimulus_id == tuple(layout.found)
    assert len(trials.nuisance_onset) == layout.nuisance
    assert found_in(catalogue, root / "stimuli") == layout.found
    assert not np.isnan(catalogue.stimuli.labels).all(axis=1).any()
    n_found = sum(path is not None for path in layout.found.values())
    if layout.column is not None:
        assert f"pictures found    {n_found}\n" in caplog.text
        assert f"pictures missing  {len(layout.found) - n_found}" in caplog.text
    assert f"named in column {layout.column}" in caplog.text or "told apart by condition" in caplog.text


def found_in(catalogue: Catalogue, folder: Path) -> dict[str, str | None]:
    pairs = zip(catalogue.stimuli.stimulus_id, catalogue.stimuli.picture, strict=True)
    return {
        name: None if found is None else found.path.relative_to(folder).as_posix() for name, found in pairs
    }


def test_nsd_rows_of_a_bank_with_labels_of_coco(tmp_path: Path) -> None:
    """``73k_id`` counts from 1 and is read as a float where one is missing; the map gives the COCO ids."""
    events = rows("onset|duration|73k_id", "0|3|3.0", "4|3|1.0", "8|3|n/a", "12|3|9.0")
    root = write_skeleton(tmp_path / "bids", events)
    bank = tmp_path / "nsd_stimuli.hdf5"
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 5, 3), dtype=np.uint8)
    with h5py.File(bank, "w") as file:
        file["imgBrick"] = pixels
    listed = tmp_path / "map.tsv"
    listed.write_text("stimulus_id\tlabel_id\tset\n1\t25.0\ttest\n3\t9\ttrain\n9\t25\ttrain\n")
    coco = tmp_path / "instances.json"
    coco.write_text(
        '{"images": [{"id": 9, "file_name": "9.jpg"}, {"id": 25, "file_name": "25.jpg"}], "categories": '
        '[{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}], "annotations": [{"image_id": 9, "category_id": 2}, '
        '{"image_id": 25, "category_id": 1}]}'
    )
    catalogue = make_catalogue(
        plan_of(
            root,
            stimuli_dirs=(f"{bank}:/imgBrick",),
            stimulus_index_base=1,
            stimulus_map=str(listed),
            labels=(str(coco),),
        )
    )
    assert catalogue.stimuli.stimulus_id == ("1", "3", "9")
    np.testing.assert_array_equal(catalogue.stimuli.labels, [[1, 0], [0, 1], [1, 0]])
    first, third, beyond = catalogue.stimuli.picture
    assert beyond is None
    for picture, row in ((first, 0), (third, 2)):
        np.testing.assert_array_equal(np.asarray(open_picture(picture)), pixels[row])
    assert len({*catalogue.content}) == 3
    assert catalogue.content[2] == ""
    assert catalogue.table["set"] == ("test", "train", "train")


@pytest.mark.parametrize("written", ["0042", "stim-0042"])
def test_bep044_ids_with_and_without_prefix(tmp_path: Path, written: str) -> None:
    events = rows("onset|duration|stim_id", f"0|1|{written}", f"4|1|{written.replace('42', '43')}")
    names = ("stim-0042_image.png", "stim-0043_part-face_image.jpg")
    root = write_skeleton(tmp_path / "bids", events, pictures=names)
    (root / "stimuli/stimuli.tsv").write_text(
        rows("stimulus_id|type|filename|present|description|dog|boat", "stim-0042|image|n/a|true|a dog|1|0",
             "0043|image|n/a|true|a boat|0|1")
    )  # fmt: skip
    catalogue = make_catalogue(plan_of(root))
    assert tuple(found_in(catalogue, root / "stimuli").values()) == names
    assert catalogue.stimuli.captions == (("a dog",), ("a boat",))
    np.testing.assert_array_equal(catalogue.stimuli.labels, np.eye(2))


@pytest.mark.parametrize("damage", ["link", "pointer", "submodule"])
def test_pictures_that_were_not_fetched(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout = LAYOUTS["CNeuroMod THINGS"]
    root = write_skeleton(tmp_path / "bids", layout.events, pictures=layout.pictures)
    path = root / "stimuli" / layout.pictures[0]
    path.unlink()
    if damage == "link":
        path.symlink_to("../../../.git/annex/objects/x/MD5E-s9--gone.jpg")
    elif damage == "pointer":
        path.write_text("/annex/objects/MD5E-s9--gone.jpg\n")
    else:
        (root / "stimuli/images_fmri/ant/ant_01b.jpg").unlink()
        for folder in ("girl", "ant"):
            (root / "stimuli/images_fmri" / folder).rmdir()
        (root / "stimuli/images_fmri").rmdir()
    caplog.set_level("INFO")
    catalogue = make_catalogue(plan_of(root))
    n_missing = 2 if damage == "submodule" else 1
    assert f"pictures missing  {n_missing}: images_fmri/" in caplog.text
    assert ("not fetched: datalad get" in caplog.text) == (damage != "submodule")
    assert sum(picture is None for picture in catalogue.stimuli.picture) == n_missing


def test_a_dry_look_opens_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = LAYOUTS["ds000117"]
    root = write_skeleton(tmp_path / "bids", layout.events, pictures=layout.pictures)
    opened: list[Any] = []
    monkeypatch.setattr(
        "clipmused_bids.stages.catalogue.content_keys", lambda pictures: opened.append(pictures)
    )
    catalogue = make_catalogue(plan_of(root), read_contents=False)
    assert not opened
    assert catalogue.content == ("", "")
    assert all(catalogue.stimuli.picture)


Change = Callable[[Path], None]


def unchanged(_: Path) -> None:
    """Leave everything as it is."""


def no_folder(root: Path) -> None:
    for path in (root / "stimuli").iterdir():
        path.unlink()
    (root / "stimuli").rmdir()


def one_of_ten(root: Path) -> None:
    for path in sorted((root / "stimuli").iterdir())[1:]:
        path.unlink()


def one_is_missing(root: Path) -> None:
    (root / "stimuli/5.png").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unchanged, None),
        (no_folder, "There is no folder of stimuli: captions and labels stand in"),
        (one_is_missing, "1 of 10 stimuli have no picture; captions and labels stand in"),
        (one_of_ten, "WARNING: 9 of 10 stimuli have no picture; the folders of stimuli may be wrong"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_what_goes_on_without_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, change: Change, said: str | None, labelled: bool
) -> None:
    kind = "trial_type" if labelled else "block"
    events = rows(f"onset|duration|{kind}|stim_file", *(f"{4 * k}|1|face|{k}.png" for k in range(10)))
    root = write_skeleton(tmp_path / "bids", events, pictures=[f"{k}.png" for k in range(10)])
    change(root)
    caplog.set_level("INFO")
    if not labelled:
        with pytest.raises(DataError, match="have no labels") as refused:
            make_catalogue(plan_of(root))
        assert refused.value.exit_code == 65
        assert "pictures missing" in caplog.text
        return
    catalogue = make_catalogue(plan_of(root))
    assert not np.isnan(catalogue.stimuli.labels).any()
    if said is None:
        assert "stand in" not in caplog.text
        assert "pictures missing  0" in caplog.text
    else:
        assert said in caplog.text


def test_pictures_are_needed_where_text_may_not_stand_in(tmp_path: Path) -> None:
    events = rows("onset|duration|trial_type|stim_file", *(f"{4 * k}|1|face|{k}.png" for k in range(10)))
    root = write_skeleton(tmp_path / "bids", events, pictures=["0.png"])
    plan = plan_of(root)
    only = replace(
        plan,
        hyperparameters=replace(
            plan.hyperparameters, targets=replace(plan.hyperparameters.targets, high="image")
        ),
    )
    with pytest.raises(
        DataError, match=r"9 of 10 stimuli have no picture: 1\.png, 2\.png, .*\.\.\."
    ) as refused:
        make_catalogue(only)
    assert refused.value.exit_code == 65
    ridge = replace(only, config=replace(only.config, method="ridge"))
    assert len(make_catalogue(ridge).content) == 10
