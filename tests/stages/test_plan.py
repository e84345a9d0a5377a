from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from clipmused_bids.config import Config, Selection, build_hyperparameters, read_preset
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.image_count import count_images
from clipmused_bids.errors import DataError
from clipmused_bids.stages.catalogue import make_catalogue
from clipmused_bids.stages.clip_targets import load_target_maker
from clipmused_bids.stages.failures import Failures
from clipmused_bids.stages.plan import make_plan
from clipmused_bids.targets import features
from tests.stages.conftest import World, make_run


def test_a_plan_goes_on_without_those_who_failed(world: World) -> None:
    """But their events still count in splits and labels, which must not depend on who failed."""
    for participant in ("01", "02", "03"):
        for number in (1, 2):
            world.add(make_run(participant, number), "ab", np.eye(2))
    plan = world.plan()
    failures = Failures()
    with failures.of_participant("02"):
        raise DataError("broken")
    left = plan.without(failures)
    assert left.participants == ("01", "03")
    assert {run.participant for run in left.runs} == {"01", "03"}
    assert left.event_runs == plan.event_runs
    assert [run.run for run in left.runs_of("03")] == [1, 2]
    assert left.runs_of("02") == ()


def test_participants_of_the_table_without_a_folder(world: World) -> None:
    world.add(make_run("01"), "ab", np.eye(2))
    plan = world.plan()
    assert plan.listed_but_absent() == ()
    table = world.folder / "bids" / "participants.tsv"
    table.write_text("participant_id\nsub-01\nsub-02\nsub-10\n")
    assert plan.listed_but_absent() == ("02", "10")
    assert replace(plan, participants=()).listed_but_absent() == ("02", "10")


def own_images(root: Path) -> Path:
    """Three people who saw four images each, all different; BOLD that nobody opens."""
    (root / "stimuli" / ".hidden").mkdir(parents=True)
    for person in range(3):
        label = f"{person + 1:02d}"
        shown = [f"{label}_{k}.PNG" for k in range(4)]
        for name in shown:
            Image.new("RGB", (8, 8), (person, 0, 0)).save(root / "stimuli" / name)
        rows = "".join(f"{4 * k}\t1\timage\t{name}\tc{k}\n" for k, name in enumerate(shown))
        files = {
            f"sub-{label}_task-x_events.tsv": f"onset\tduration\ttrial_type\tstim_file\tcondition\n{rows}"
        }
        for folder, content in (
            (root, files),
            (root / "derivatives/p", {f"sub-{label}_task-x_desc-preproc_bold.nii.gz": ""}),
        ):
            for name, text in content.items():
                (folder / f"sub-{label}" / "func").mkdir(parents=True, exist_ok=True)
                (folder / f"sub-{label}" / "func" / name).write_text(text)
    (root / "stimuli" / "stimuli.tsv").write_text("stimulus_id\n")
    (root / "stimuli" / ".hidden" / "a.png").write_bytes(b"")
    labels = "".join(f"{p + 1:02d}_{k}.PNG\t1\n" for p in range(3) for k in range(4))
    (root / "labels.tsv").write_text(f"stimulus_id\tcat\n{labels}")
    return root


def config_of(root: Path, actions, *participants: str) -> Config:
    selection = Selection(participants=participants)
    config = Config(root, root.parent / "out", "participant", actions, selection=selection)
    inputs = replace(config.inputs, labels=(str(root / "labels.tsv"),))
    return replace(config, inputs=inputs, overrides={"targets": {"clip_model": "demo"}})


@pytest.mark.parametrize(
    ("actions", "everyone"),
    [
        (("prepare",), False),
        (("decode",), False),
        (("prepare", "decode"), False),
        (("train",), True),
        (("evaluate",), True),
        (("prepare", "train"), True),
    ],
)
def test_only_what_needs_the_split_reads_everyones_events(tmp_path: Path, actions, everyone: bool) -> None:
    root = own_images(tmp_path / "bids")
    if not everyone:
        # Not even looked at: what others have may not be fetched on this machine.
        (root / "sub-03/func/sub-03_task-x_events.tsv").write_bytes(b"\xff\xfe\x00")
    plan = make_plan(config_of(root, actions, "02"), failures=Failures())
    assert plan.participants == ("02",)
    assert {run.participant for run in plan.runs} == {"02"}
    assert {run.participant for run in plan.event_runs} == ({"01", "02", "03"} if everyone else {"02"})
    assert set(plan.trials) == {run.key for run in plan.event_runs}


@pytest.mark.parametrize(("limit", "expected"), [(11, "projection"), (12, "flat")])
def test_jobs_of_one_participant_and_the_group_store_features_of_one_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, expected: str
) -> None:
    """A participant's job knows 4 stimuli, the group's 12; the limit lies between."""
    root = own_images(tmp_path / "bids")
    kinds, stimuli = [], []
    for actions, asked in ((("prepare",), ("01",)), (("prepare",), ("03",)), (("prepare", "train"), ())):
        plan = make_plan(config_of(root, actions, *asked), failures=Failures())
        catalogue = make_catalogue(plan)
        maker = load_target_maker(plan, catalogue, OutputTree(tmp_path / "out"), device="cpu")
        width = maker.clip.n_patches * maker.clip.patch_width
        monkeypatch.setattr(features, "_MEMORY_OF_FLAT", 4 * limit * width)
        maker = load_target_maker(plan, catalogue, OutputTree(tmp_path / "out"), device="cpu")
        kinds.append(maker.low_kind)
        stimuli.append(len(catalogue.stimuli.stimulus_id))
    assert stimuli == [4, 4, 12]
    assert kinds == [expected] * 3


def test_images_are_counted_in_folders_and_banks(tmp_path: Path) -> None:
    root = own_images(tmp_path / "bids")
    assert count_images(root, ()) == 12
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.tiff", "deep/notes.txt", ".c.jpg"):
        (tmp_path / "more" / name).write_bytes(b"")
    with h5py.File(tmp_path / "bank.hdf5", "w") as bank:
        bank["imgBrick"] = np.zeros((7, 2, 2, 3), np.uint8)
    assert count_images(root, (str(tmp_path / "more"), f"{tmp_path}/bank.hdf5:/imgBrick")) == 12 + 2 + 7
    assert count_images(tmp_path / "nowhere", (str(tmp_path / "absent"),)) == 0


def test_the_preset_that_is_chosen_by_the_number_of_trials_changes_nothing_that_prepare_makes() -> None:
    """A job that reads one participant's events counts fewer trials than the group's."""
    small, large = (build_hyperparameters(read_preset(name)) for name in ("small", "nsd"))
    assert asdict(small.responses) == asdict(large.responses)
    assert asdict(small.targets) == asdict(large.targets)
