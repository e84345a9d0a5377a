"""Skeletons of public datasets: a few runs with their names, columns and layout, and images of noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from PIL import Image

# A bright ball in the dark: enough of a head for a mask to be computed.
SHAPE = (18, 20, 16)
_PLACE = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE), indexing="ij"))
HEAD = np.where((_PLACE**2).sum(axis=0) < 7**2, 1000.0, 5.0)


class Skeleton:
    """A dataset below ``root/bids``, and whatever else a command names below ``root``."""

    def __init__(self, root: Path, *, repetition_time: float = 2.0, seed: int = 0) -> None:
        self.root = root
        self.bids = root / "bids"
        self.repetition_time = repetition_time
        self.generator = np.random.default_rng(seed)
        self.text("bids/dataset_description.json", json.dumps({"Name": "skeleton", "BIDSVersion": "1.8.0"}))

    def text(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def json(self, name: str, content: Mapping[str, object]) -> Path:
        return self.text(name, json.dumps(content))

    def table(self, name: str, columns: Mapping[str, Sequence[object]]) -> Path:
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        return self.text(name, "".join("\t".join(map(str, row)) + "\n" for row in rows))

    def picture(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = self.generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        # Whatever the name ends in: a reader looks at the content.
        Image.fromarray(pixels).save(path, format="PNG")
        return path

    def series(self, name: str, *, seconds: float) -> Path:
        """A 4-D image of a head with 1 % of noise, and its sidecar."""
        n_scans = int(np.ceil(seconds / self.repetition_time)) + 8
        noise = self.generator.standard_normal((*SHAPE, n_scans), dtype=np.float32)
        values = HEAD[..., None] * (1 + 0.01 * noise)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(values.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
        image.header.set_zooms((3.0, 3.0, 3.0, self.repetition_time))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
        sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
        sidecar.write_text(json.dumps({"RepetitionTime": self.repetition_time}))
        return path

    def run(self, stem: str, events: Mapping[str, Sequence[object]], *, image: str) -> None:
        """One run: events in the raw dataset, the preprocessed image at ``image``; both relative to ``bids``."""
        self.table(f"bids/{stem}_events.tsv", events)
        last = float(
            np.asarray(events["onset"], dtype=float)[-1] + np.asarray(events["duration"], dtype=float)[-1]
        )
        self.series(f"bids/{image}", seconds=last)

    def instances(self, name: str, categories_of: Mapping[int, Sequence[str]], *, prefix: str = "") -> Path:
        """A COCO annotation file; captions go beside it."""
        names = sorted({name for several in categories_of.values() for name in several})
        images = [{"id": number, "file_name": f"{prefix}{number:012d}.jpg"} for number in categories_of]
        self.json(
            name.replace("instances", "captions"),
            {
                "images": images,
                "annotations": [
                    {"image_id": number, "caption": f"A {several[0]} outside."}
                    for number, several in categories_of.items()
                ],
            },
        )
        return self.json(
            name,
            {
                "images": images,
                "categories": [{"id": k + 1, "name": category} for k, category in enumerate(names)],
                "annotations": [
                    {"image_id": number, "category_id": names.index(category) + 1}
                    for number, several in categories_of.items()
                    for category in several
                ],
            },
        )


def bold5000(root: Path) -> None:
    data = Skeleton(root)
    coco = {420713 + k: (["dog"], ["cat", "car"], ["dog", "car"])[k % 3] for k in range(110)}
    data.instances("annotations/instances_train2014.json", coco, prefix="COCO_train2014_")
    coco_names = [f"COCO_train2014_{number:012d}.jpg" for number in coco]
    for name in coco_names:
        data.picture(f"stimuli/COCO/{name}")
    others = [f"n0193011{k}_1956{k}.JPEG" for k in range(8)]
    for name in others:
        data.picture(f"stimuli/ImageNet/{name}")
    for p, person in enumerate(("CSI1", "CSI2")):
        own = coco_names[20 + 45 * p : 65 + 45 * p]
        for run in range(1, 4):
            # The first twenty pictures recur, as the 113 do.
            shown = [*coco_names[:20], *own[15 * (run - 1) : 15 * run], *others[2 * (run - 1) : 2 * run]]
            n = len(shown)
            stem = f"sub-{person}/ses-01/func/sub-{person}_ses-01_task-5000scenes_run-{run:02d}"
            data.run(
                stem,
                {
                    "onset": 6.0 + 10 * np.arange(n),
                    "duration": [1.0] * n,
                    "ImgName": shown,
                    "ImgType": ["coco" if "COCO" in name else "imagenet" for name in shown],
                    "stim_file": shown,
                },
                image=f"derivatives/fmriprep/{stem}_space-T1w_desc-preproc_bold.nii.gz",
            )
        data.table(
            f"bids/sub-{person}/ses-01/func/sub-{person}_ses-01_task-localizer_events.tsv",
            {"onset": [1.0], "duration": [1.0], "cond": ["Scrambled"], "image": ["scambled_farm.jpg"]},
        )


def things(root: Path) -> None:
    data = Skeleton(root)
    objects = ["dog", "mango", "chicken_wire", "panda", "shirt", "pear"]
    data.table(
        "labels.tsv",
        {
            "stimulus_id": [f"{name}/*" for name in objects],
            "labels": ["animal;mammal", "food;fruit", "tool", "animal;mammal", "clothing", "food;fruit"],
        },
    )
    once = [f"{name}/{name}_{k:02d}s.jpg" for k in range(15) for name in objects]
    repeated = [f"{objects[k % 6]}/{objects[k % 6]}_t{k:02d}s.jpg" for k in range(20)]
    for name in (*once, *repeated):
        data.picture(f"stimuli/{name}")
    for run in range(1, 4):
        shown = [*once[30 * (run - 1) : 30 * run], *repeated, "catch001.jpg"]
        kinds = ["exp"] * 30 + ["test"] * 20 + ["catch"]
        order = data.generator.permutation(len(shown))
        stem = f"sub-01/ses-things01/func/sub-01_ses-things01_task-things_run-{run:02d}"
        data.run(
            stem,
            {
                "onset": 3.0 + 4.5 * np.arange(len(shown)),
                "duration": [0.5] * len(shown),
                "trial_type": [kinds[k] for k in order],
                "file_path": [shown[k] for k in order],
            },
            image=f"derivatives/fmriprep/{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
        )


def nod(root: Path) -> None:
    data = Skeleton(root)
    synsets = ["n03131574", "n02117135", "n04147183", "n02111500"]
    data.table(
        "labels.tsv",
        {
            "stimulus_id": [f"*/{s}/*" for s in synsets],
            "labels": ["artifact", "animal", "artifact", "animal"],
        },
    )
    coco = {124419 + k: (["dog"], ["cat", "car"], ["dog", "car"])[k % 3] for k in range(24)}
    data.instances("annotations/instances_train2017.json", dict(list(coco.items())[:12]))
    data.instances("annotations/instances_val2017.json", dict(list(coco.items())[12:]))
    for p, person in enumerate(("01", "02")):
        for run in range(1, 3):
            # In no order of kinds: neighbours that are alike are a leak where sets interleave.
            names = [f"imagenet/{s}/{s}_{p}{run}{k}.JPEG" for k in range(15) for s in synsets]
            names = np.random.default_rng([p, run]).permutation(names).tolist()
            for name in names:
                data.picture(f"bids/stimuli/{name}")
            folder = f"sub-{person}/ses-imagenet01/func/sub-{person}_ses-imagenet01_task-imagenet"
            data.run(
                f"{folder}_run-{run:02d}",
                {
                    "onset": 4.0 * np.arange(len(names)),
                    "duration": [1.0] * len(names),
                    "trial_type": ["521.0"] * len(names),
                    "stim_file": names,
                },
                image=f"derivatives/fmriprep/{folder}_run-{run}_space-T1w_desc-preproc_bold.nii.gz",
            )
        for run in range(1, 4):
            names = [f"coco/{number:012d}.jpg" for number in coco]
            conditions = [
                name for k, name in enumerate(names) for name in ([name, "n/a"] if k % 4 == 0 else [name])
            ]
            folder = f"sub-{person}/ses-coco/func/sub-{person}_ses-coco_task-coco"
            data.run(
                f"{folder}_run-{run:02d}",
                {
                    "onset": 3.0 * np.arange(len(conditions)),
                    "duration": [0.5] * len(conditions),
                    "trial_type": ["1000.0" if name == "n/a" else "29.0" for name in conditions],
                    "condition": conditions,
                },
                image=f"derivatives/fmriprep/{folder}_run-{run}_space-T1w_desc-preproc_bold.nii.gz",
            )


def god(root: Path) -> None:
    data = Skeleton(root, repetition_time=3.0)
    synsets = ["n03626115", "n03345837", "n02416519"]
    data.table(
        "labels.tsv", {"stimulus_id": [f"{s}*" for s in synsets], "labels": ["bone", "tool", "bone;sheep"]}
    )
    once = [f"{s}_{k}" for k in range(30) for s in synsets]
    repeated = [f"{s}_9{k}0" for k in range(7) for s in synsets]
    for name in (*once, *repeated):
        data.picture(f"stimuli/{name}.JPEG")
    (root / "stimuli").mkdir(exist_ok=True)
    for run, shown in enumerate([once[:45], once[45:]], start=1):
        _god_run(data, "perceptionTraining01", run, shown)
    for run in range(1, 6):
        _god_run(data, "perceptionTest01", run, repeated)
    rows = ["rest", *["cue", "imagery", "evaluation", "inter_rest"] * 3]
    lengths = [33, *[3, 15, 3, 3] * 3]
    stem = "sub-01/ses-imageryTest01/func/sub-01_ses-imageryTest01_task-imagery_run-01"
    data.run(
        stem,
        {
            "onset": np.cumsum([0, *lengths[:-1]]),
            "duration": lengths,
            "event_type": rows,
            "category_name": ["n/a", *(s for s in synsets for _ in range(4))],
        },
        image=f"derivatives/preproc-spm/{stem}_bold_preproc.nii.gz",
    )


def _god_run(data: Skeleton, session: str, run: int, shown: Sequence[str]) -> None:
    stem = f"sub-01/ses-{session}/func/sub-01_ses-{session}_task-perception_run-{run:02d}"
    data.run(
        stem,
        {
            "onset": [0, *(33 + 9 * np.arange(len(shown)))],
            "duration": [33, *[9] * len(shown)],
            "event_type": ["rest", *["stimulus"] * len(shown)],
            "stimulus_id": ["n/a", *(name[1:].replace("_", ".0") for name in shown)],
            "stimulus_name": ["n/a", *shown],
        },
        image=f"derivatives/preproc-spm/{stem}_bold_preproc.nii.gz",
    )


def haxby(root: Path) -> None:
    data = Skeleton(root, repetition_time=2.5)
    categories = ["scissors", "face", "cat", "shoe"]
    for person in ("1", "2"):
        for run in range(1, 5):
            order = [categories[k] for k in data.generator.permutation(4)]
            onset = np.concatenate([12 + 36 * k + 2.0 * np.arange(12) for k in range(4)])
            stem = f"sub-{person}/func/sub-{person}_task-objectviewing_run-{run:02d}"
            data.run(
                stem,
                {"onset": onset, "duration": [0.5] * 48, "trial_type": [c for c in order for _ in range(12)]},
                image=f"derivatives/fmriprep/{stem}_desc-preproc_bold.nii.gz",
            )


def studyforrest(root: Path) -> None:
    data = Skeleton(root)
    kinds = ["face", "scene", "body"]
    for run in range(1, 4):
        shown = [
            (kind, f"stimuli/visualarea_localizer/lcm/{kind}{k:02d}_lcm.png")
            for kind in kinds
            for k in range(16)
        ]
        onset = np.concatenate([12 + 24 * k + 1.0 * np.arange(16) for k in range(3)])
        stem = f"sub-02/func/sub-02_task-oneback_run-{run:02d}"
        data.run(
            stem,
            {
                "onset": onset,
                "duration": [0.9] * 48,
                "trial_type": [kind for kind, _ in shown],
                "stim_file": [name for _, name in shown],
            },
            image=f"derivatives/fmriprep/{stem}_desc-preproc_bold.nii.gz",
        )

    _studyforrest_film(data)


def _studyforrest_film(data: Skeleton) -> None:
    """Four segments of a minute whose frames are logged twice a second; the files of the film are absent."""
    films = [f"seg{run}.mkv" for run in range(1, 5)]
    data.table(
        "annotations.tsv",
        {
            "movie": [film for film in films for _ in range(6)],
            "onset": [10 * k for _ in films for k in range(6)],
            "duration": [10] * 24,
            "labels": ["indoor;face", "outdoor", "outdoor;face"] * 8,
        },
    )
    time = 0.5 * np.arange(120)
    for run in range(1, 5):
        stem = f"sub-02/ses-movie/func/sub-02_ses-movie_task-movie_run-{run}"
        data.run(
            stem,
            {
                "onset": 0.12 + time,
                "duration": [0.5] * 120,
                "frameidx": [round(25 * seconds) + 1 for seconds in time],
                "videotime": time,
                "audiotime": time,
                "lasttrigger": 2 * (time // 2),
            },
            image=f"derivatives/fmriprep/{stem}_desc-preproc_bold.nii.gz",
        )


def nsd(root: Path) -> None:
    """Two people on grids of their own, two sessions of 60 trials each, as the dataset's authors publish them."""
    data = Skeleton(root)
    coco = {9 + k: (["dog"], ["cat", "car"], ["dog", "car"])[k % 3] for k in range(100)}
    data.instances("annotations/instances_train2017.json", dict(list(coco.items())[:50]))
    data.instances("annotations/instances_val2017.json", dict(list(coco.items())[50:]))
    rows = ["," + "cocoId,cocoSplit,nsdId,shared1000"]
    rows += [f"{k},{number},train2017,{k},{k < 20}" for k, number in enumerate(coco)]
    data.text("nsd/nsddata/experiments/nsd/nsd_stim_info_merged.csv", "\n".join(rows) + "\n")
    bank = root / "nsd/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    bank.parent.mkdir(parents=True)
    with h5py.File(bank, "w") as stream:
        stream["imgBrick"] = data.generator.integers(0, 255, (len(coco), 16, 16, 3), dtype=np.uint8)
    for p, shape in enumerate([(7, 8, 6), (8, 9, 7)]):
        person = f"subj{p + 1:02d}"
        shown = [*range(1, 21), *range(21 + 40 * p, 61 + 40 * p)]
        folder = root / f"nsd/nsddata/ppdata/{person}/func1pt8mm/roi"
        folder.mkdir(parents=True)
        mask = np.full(shape, -1, dtype=np.int16)
        mask[1:-1, 1:-1, 1:-1] = 1
        regions = np.where(mask > 0, 1 + np.arange(mask.size).reshape(shape) % 4, 0)
        for name, values in (("nsdgeneral", mask), ("HCP_MMP1", regions.astype(np.int16))):
            nib.save(nib.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1.0])), folder / f"{name}.nii.gz")
        columns = {"SUBJECT": [], "SESSION": [], "73KID": []}
        for session in (1, 2, 3):
            order = data.generator.permutation(shown).tolist()
            columns["SUBJECT"] += [p + 1] * 60
            columns["SESSION"] += [session] * 60
            columns["73KID"] += order
            if session == 3:
                continue  # Held back: it has behaviour, but no betas.
            betas = root / f"nsd/nsddata_betas/ppdata/{person}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
            betas.mkdir(parents=True, exist_ok=True)
            with h5py.File(betas / f"betas_session{session:02d}.hdf5", "w") as stream:
                noise = 300 * data.generator.standard_normal((60, *shape[::-1]))
                stream["betas"] = noise.astype(np.int16)
        data.table(f"nsd/nsddata/ppdata/{person}/behav/responses.tsv", columns)


def hcp7t(root: Path) -> None:
    """One person and the four films at their full length, on a small grid; the films' files are absent."""
    data = Skeleton(root, repetition_time=1.0)
    names = ["dog.n.01", "person.n.01", "car.n.01", "rare.n.01"]
    (root / "movies").mkdir()
    films = {"MOVIE1_CC1": 921, "MOVIE2_HO1": 918, "MOVIE3_CC2": 915, "MOVIE4_HO2": 901}
    with h5py.File(root / "WordNetFeatures.hdf5", "w") as stream:
        stream["synsets"] = np.array(names, dtype="S12")[:, None]
        for film, seconds in films.items():
            # Labels last some seconds, as they do in films; the last one occurs in 3 % of them.
            drawn = data.generator.random((seconds // 5 + 1, 4)) < [0.4, 0.6, 0.3, 0.03]
            stream[film] = np.repeat(drawn, 5, axis=0)[:seconds].astype(float)
    runs = ["MOVIE1_7T_AP", "MOVIE2_7T_PA", "MOVIE3_7T_PA", "MOVIE4_7T_AP"]
    for name, seconds in zip(runs, films.values(), strict=True):
        folder = root / f"hcp/100610/MNINonLinear/Results/tfMRI_{name}"
        folder.mkdir(parents=True)
        values = 1000 + 10 * data.generator.standard_normal((6, 7, 8, seconds), dtype=np.float32)
        image = nib.Nifti1Image(values, np.diag([1.6, 1.6, 1.6, 1.0]))
        image.header.set_zooms((1.6, 1.6, 1.6, 1.0))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / f"tfMRI_{name}.nii.gz")
        mask = nib.Nifti1Image(np.ones((6, 7, 8), np.uint8), image.affine)
        nib.save(mask, folder / "brainmask_fs.1.60.nii.gz")


def pictures(root: Path) -> None:
    """No public dataset: two people, three runs of the same 24 pictures, and a table of their labels."""
    data = Skeleton(root)
    names = [f"{kind}/{kind}{k}.png" for k in range(8) for kind in ("dog", "cup", "car")]
    for name in names:
        data.picture(f"bids/stimuli/{name}")
    for person in ("01", "02"):
        for run in range(1, 4):
            stem = f"sub-{person}/func/sub-{person}_task-look_run-{run}"
            data.run(
                stem,
                {
                    "onset": 4.0 * np.arange(24),
                    "duration": [1.0] * 24,
                    "stim_file": [names[k] for k in data.generator.permutation(24)],
                },
                image=f"derivatives/fmriprep/{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
            )
    data.table(
        "labels.tsv",
        {"stimulus_id": ["dog/*", "cup/*", "car/*"], "labels": ["animal;dog", "thing", "thing;car"]},
    )
