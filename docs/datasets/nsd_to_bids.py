"""Write a BIDS folder of links over a copy of the Natural Scenes Dataset: nsd_to_bids.py NSD BIDS [func1pt8mm].

Nothing is copied or changed: betas and masks are links, the rest are tables. NSD is the folder that holds nsddata,
nsddata_betas and nsddata_stimuli.
"""

import csv
import json
import os
import sys
from pathlib import Path

nsd, bids = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
grid = sys.argv[3] if len(sys.argv) > 3 else "func1pt8mm"
BETAS = "betas_fithrf_GLMdenoise_RR"


def link(target, name):
    """Make a link below BIDS, relative, so that both folders can be moved together."""
    path = bids / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def write(name, rows):
    """Write a table, tab-separated."""
    with (bids / name).open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)


bids.mkdir(parents=True, exist_ok=True)
(bids / "dataset_description.json").write_text(
    json.dumps({"Name": "Natural Scenes Dataset", "BIDSVersion": "1.8.0"})
)
with (nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").open() as stream:
    # nsdId counts from 0, 73KID from 1.
    stimuli = {int(row["nsdId"]) + 1: row for row in csv.DictReader(stream)}
sets = {number: "test" if row["shared1000"] == "True" else "train" for number, row in stimuli.items()}
write(
    "stimuli.tsv",
    [("stimulus_id", "label_id"), *((number, row["cocoId"]) for number, row in stimuli.items())],
)

people, trials = [], [("participant_id", "session", "file", "index", "stimulus_id", "set", "scale")]
for folder in sorted((nsd / "nsddata_betas/ppdata").glob("subj*")):
    label = folder.name.removeprefix("subj")
    people.append((f"sub-{label}",))
    (bids / f"sub-{label}").mkdir(exist_ok=True)
    link(nsd / f"nsddata/ppdata/{folder.name}/{grid}/roi/nsdgeneral.nii.gz", f"masks/sub-{label}_mask.nii.gz")
    link(
        nsd / f"nsddata/ppdata/{folder.name}/{grid}/roi/HCP_MMP1.nii.gz", f"masks/sub-{label}_regions.nii.gz"
    )
    with (nsd / f"nsddata/ppdata/{folder.name}/behav/responses.tsv").open() as stream:
        shown = [(int(row["SESSION"]), int(row["73KID"])) for row in csv.DictReader(stream, delimiter="\t")]
    for session in sorted({session for session, _ in shown}):
        betas = folder / grid / BETAS / f"betas_session{session:02d}.hdf5"
        if not betas.exists():
            continue  # Not downloaded, or held back by the dataset's authors.
        link(betas, f"betas/sub-{label}_ses-nsd{session:02d}.hdf5")
        file = f"betas/sub-{label}_ses-nsd{session:02d}.hdf5:/betas"
        own = [number for of_session, number in shown if of_session == session]
        trials += [
            (label, f"nsd{session:02d}", file, k, number, sets[number], 300) for k, number in enumerate(own)
        ]
write("participants.tsv", [("participant_id",), *people])
write("betas.tsv", trials)
