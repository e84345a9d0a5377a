"""Write a BIDS folder of links over the HCP 7T movie data: hcp7t_to_bids.py HCP MOVIES WORDNET.hdf5 BIDS.

HCP holds one folder for each participant; MOVIES holds the four films (Post_20140821_version); WORDNET.hdf5 is
WordNetFeatures.hdf5. Events are made from the times of the clips, since the dataset has none.
"""

import csv
import json
import os
import sys
from pathlib import Path

import h5py

hcp, movies, wordnet, bids = (Path(word).absolute() for word in sys.argv[1:5])
# Film, run, and start and end of each clip in s; the last clip is the same in all four films.
FILMS = {
    "MOVIE1_CC1": ("MOVIE1_7T_AP", [(20, 264), (284, 506), (526, 714), (734, 798), (818, 901)]),
    "MOVIE2_HO1": ("MOVIE2_7T_PA", [(20, 247), (267, 525), (545, 795), (815, 898)]),
    "MOVIE3_CC2": ("MOVIE3_7T_PA", [(20, 201), (221, 405), (425, 629), (649, 792), (812, 895)]),
    "MOVIE4_HO2": ("MOVIE4_7T_AP", [(20, 252), (272, 502), (522, 777), (797, 881)]),
}


def link(target, name):
    """Make a link below BIDS, relative, so that both folders can be moved together."""
    path = bids / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def write(name, rows):
    """Write a table, tab-separated."""
    path = bids / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)


for name, title in ((".", "HCP 7T movies"), ("derivatives/hcp", "HCP minimal preprocessing")):
    (bids / name).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"Name": title, "BIDSVersion": "1.8.0"})
    (bids / name / "dataset_description.json").write_text(text)
(bids / "task-movie_bold.json").write_text(json.dumps({"TaskName": "movie", "RepetitionTime": 1.0}))
people = sorted(path.name for path in hcp.iterdir() if (path / "MNINonLinear/Results").is_dir())
write("participants.tsv", [("participant_id",), *((f"sub-{label}",) for label in people)])
with h5py.File(wordnet) as stream:
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in stream["synsets"][:].ravel()]
    for film in FILMS:
        seconds = stream[film][:]
        rows = [(k, 1, *(int(value > 0) for value in row)) for k, row in enumerate(seconds)]
        write(f"labels/7T_{film}_v2.tsv", [("onset", "duration", *names), *rows])
for k, (film, (run, clips)) in enumerate(FILMS.items(), start=1):
    link(movies / f"7T_{film}_v2.mp4", f"stimuli/7T_{film}_v2.mp4")
    rows = [
        (
            start,
            end - start,
            f"7T_{film}_v2.mp4",
            start,
            "repeated" if n == len(clips) - 1 else f"{film}_{n + 1}",
        )
        for n, (start, end) in enumerate(clips)
    ]
    for label in people:
        write(f"sub-{label}/func/sub-{label}_task-movie_run-{k}_events.tsv",
              [("onset", "duration", "stim_file", "movie_onset", "clip_id"), *rows])  # fmt: skip
        source = hcp / label / "MNINonLinear/Results" / f"tfMRI_{run}"
        stem = f"derivatives/hcp/sub-{label}/func/sub-{label}_task-movie_run-{k}_space-MNI152NLin6Asym"
        link(source / f"tfMRI_{run}.nii.gz", f"{stem}_desc-preproc_bold.nii.gz")
        link(source / "brainmask_fs.1.60.nii.gz", f"{stem}_desc-brain_mask.nii.gz")
