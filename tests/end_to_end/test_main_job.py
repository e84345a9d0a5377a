"""Train, decode and evaluate through the command, then look at what it left."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score

from tests.end_to_end.conftest import Command


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def predictions(out: Path, label: str = "clipmused") -> pd.DataFrame:
    tables = [
        pd.read_csv(path, sep="\t", na_values="n/a").assign(participant=path.name.split("_")[0])
        for path in sorted(out.glob(f"sub-*/func/*_desc-{label}_predictions.tsv"))
    ]
    return pd.concat(tables, ignore_index=True)


def test_every_output_of_the_tree_is_there(trained: Path) -> None:
    expected = [
        "dataset_description.json", "README.md", ".bidsignore", "descriptions.tsv", "participants.tsv", "split.tsv",
        "logs/CITATION.md", "stimuli/stimuli.tsv", "models/clipmused/model.safetensors", "models/clipmused/config.json",
        "models/clipmused/history.tsv", "models/clipmused/README.md", "models/clipmused/history.svg",
        "models/clipmused+ridge/sub-01_model.safetensors", "group_desc-clipmused_metrics.tsv",
        "group_desc-clipmused_metrics.json", "sub-01/figures/sub-01_desc-clipmused_labels.svg",
    ]  # fmt: skip
    assert [name for name in expected if not (trained / name).is_file()] == []
    assert len(list(trained.glob("sub-*/func/*_desc-lss_responses.safetensors"))) == 6
    assert list(trained.glob("stimuli/desc-demo_embeddings/*.safetensors"))
    assert not list(trained.rglob("*.tmp")), "a temporary file was left"


def test_the_validator_finds_no_error(trained: Path, study: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    for dataset in (study, trained):
        done = subprocess.run([validator, dataset, "--json"], capture_output=True, text=True, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_the_input_is_untouched(study: Path, trained: Path) -> None:
    assert not [
        path for path in study.rglob("*") if path.stat().st_mtime > (trained / "split.tsv").stat().st_mtime
    ]


def test_reported_scores_are_those_of_the_written_predictions(study: Path, trained: Path) -> None:
    table = predictions(trained)
    stimuli = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t").set_index("filename")
    columns = [name for name in table if name.startswith("prob_")]
    test = table[table["set"] == "test"]
    metrics = pd.read_csv(trained / "group_desc-clipmused_metrics.tsv", sep="\t")
    for participant, rows in test.groupby("participant"):
        truth = stimuli.loc[rows["stimulus_id"], [name.removeprefix("prob_") for name in columns]].to_numpy()
        scorable = (truth.sum(axis=0) > 0) & (truth.sum(axis=0) < len(truth))
        expected = np.mean(
            [average_precision_score(truth[:, c], rows[columns[c]]) for c in np.flatnonzero(scorable)]
        )
        chosen = metrics[
            (metrics["participant_id"] == participant)
            & (metrics["metric"] == "mAP")
            & (metrics["averaging"] == "single trials")
        ]
        assert chosen["value"].item() == pytest.approx(expected, abs=1e-6)


def test_repeats_are_averaged_before_they_are_decoded(study: Path, trained: Path) -> None:
    """The ridge by hand: stored responses, stored means and weights, mean over presentations, then the product."""
    model = load_file(trained / "models" / "clipmused+ridge" / "sub-01_model.safetensors")
    config = json.loads((trained / "models" / "clipmused+ridge" / "sub-01_config.json").read_text())
    split = pd.read_csv(trained / "split.tsv", sep="\t").set_index(["run", "stimulus_id"])["set"]
    parts, names = [], []
    files = sorted((trained / "sub-01" / "func").glob("*_desc-lss_responses.safetensors"))
    for unit, path in enumerate(files):
        stored = load_file(path)
        columns = np.searchsorted(stored["voxels"], model["voxels.common"])
        values = (stored["responses"][:, columns] - model["mean.01"][unit]) / model["sd.01"][unit]
        table = pd.read_csv(path.with_suffix(".tsv"), sep="\t")
        run = f"sub-01_task-scenes_run-{unit + 1}"
        test = np.array([split.get((run, name)) == "test" for name in table["stimulus_id"]])
        parts.append(values[test])
        names += list(table["stimulus_id"][test])
    averaged = pd.DataFrame(np.vstack(parts)).groupby(np.array(names)).mean()
    scores = averaged.to_numpy() @ model["decoder.coef.01"] + model["decoder.intercept.01"]
    stimuli = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t").set_index("filename")
    truth = stimuli.loc[averaged.index, config["label_names"]].to_numpy()
    scorable = np.flatnonzero((truth.sum(axis=0) > 0) & (truth.sum(axis=0) < len(truth)))
    expected = np.mean([average_precision_score(truth[:, c], np.clip(scores[:, c], 0, 1)) for c in scorable])
    metrics = pd.read_csv(trained / "group_desc-clipmused+ridge_metrics.tsv", sep="\t")
    chosen = metrics[
        (metrics["participant_id"] == "sub-01")
        & (metrics["metric"] == "mAP")
        & (metrics["averaging"] == "repeats averaged")
    ]
    assert chosen["value"].item() == pytest.approx(expected, abs=1e-4)
    assert chosen["n_trials"].item() == 20


def test_test_stimuli_are_unseen(trained: Path) -> None:
    split = pd.read_csv(trained / "split.tsv", sep="\t")
    held = set(split[split["set"] == "test"]["stimulus_id"])
    seen = set(split[split["set"].isin(["train", "val"])]["stimulus_id"])
    assert held
    assert not held & seen


def test_the_same_command_again_reuses_everything(
    study: Path, trained: Path, quick: Path, command: Command
) -> None:
    before = contents(trained / "models") | contents(trained / "sub-01")
    done = command(study, trained, "group", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    assert "0 run(s) estimated, 6 reused" in done.stderr
    assert "decoder clipmused reused" in done.stderr
    assert "0 of 124 images" in done.stderr
    assert contents(trained / "models") | contents(trained / "sub-01") == before


def test_another_configuration_is_refused_by_name(
    study: Path, trained: Path, quick: Path, command: Command
) -> None:
    done = command(
        study, trained, "group", "--train", "--clip-model", "demo", "--config-file", quick, "--random-seed", 5
    )
    assert done.returncode == 73
    assert "random_seed" in done.stderr
    assert "--overwrite" in done.stderr


def test_a_moved_output_folder_decodes_the_same(
    study: Path, trained: Path, command: Command, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "elsewhere" / "results"))
    before = contents(moved / "sub-02" / "func")
    for path in moved.glob("sub-*/func/*_desc-clipmused_predictions.*"):
        path.unlink()
    done = command(study, moved, "participant", "--decode", "--participant-label", "02")
    assert done.returncode == 0, done.stderr
    after = contents(moved / "sub-02" / "func")
    assert {n: h for n, h in after.items() if "desc-clipmused_predictions.tsv" in n} == {
        n: h for n, h in before.items() if "desc-clipmused_predictions.tsv" in n
    }
    assert not list(moved.glob("sub-01/func/*_desc-clipmused_predictions.tsv")), "only sub-02 was asked for"


def test_labels_do_not_reach_predictions(
    own_study: Path, trained: Path, command: Command, tmp_path: Path
) -> None:
    """Other labels and other pictures of the test stimuli: the same predictions."""
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    table = pd.read_csv(own_study / "stimuli" / "stimuli.tsv", sep="\t", dtype=str)
    table.iloc[:, 5:] = table.iloc[::-1, 5:].to_numpy()
    table.to_csv(own_study / "stimuli" / "stimuli.tsv", sep="\t", index=False)
    before = predictions(trained)
    for path in moved.glob("sub-*/func/*_predictions.tsv"):
        path.unlink()
    done = command(own_study, moved, "participant", "--decode")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(predictions(moved), before)


def test_equal_seeds_give_equal_weights(
    study: Path, trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    done = command(
        study, tmp_path / "again", "group", "--train", "--clip-model", "demo", "--config-file", quick,
        "-w", tmp_path / "scratch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = load_file(trained / "models" / "clipmused" / "model.safetensors")
    second = load_file(tmp_path / "again" / "models" / "clipmused" / "model.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert list((tmp_path / "scratch").iterdir()) == [], "the scratch folder was not emptied"


def test_own_decoders_of_participants(study: Path, quick: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(
        study, out, "participant", "--train", "--decode", "--evaluate", "--participant-label", "01",
        "--clip-model", "demo", "--config-file", quick,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (out / "models" / "clipmused" / "sub-01_model.safetensors").is_file()
    assert not (out / "models" / "clipmused" / "model.safetensors").exists()
    table = predictions(out)
    assert set(table["participant"]) == {"sub-01"}
    # The split is made from everyone's events, so this job divides the trials as a group job would.
    split = pd.read_csv(out / "split.tsv", sep="\t")
    assert set(split["participant_id"]) == {"sub-01", "sub-02"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--clip-model", "ViT-B-32"), "clip_model"),
        (("--response", "window"), "kind"),
        (("--confounds", "none"), "confounds"),
    ],
)
def test_another_setting_than_the_decoders_is_refused_by_name(
    study: Path, trained: Path, command: Command, words: tuple[str, ...], named: str
) -> None:
    done = command(study, trained, "participant", "--decode", *words)
    assert done.returncode == 65, done.stderr
    assert named in done.stderr
    assert "demo" in done.stderr or named != "clip_model"


def test_another_mask_is_refused(study: Path, trained: Path, command: Command) -> None:
    mask = next((study / "derivatives").rglob("sub-01*_desc-brain_mask.nii.gz"))
    done = command(study, trained, "participant", "--decode", "--participant-label", "01", "--mask", mask)
    assert done.returncode == 65, done.stderr
    assert "mask" in done.stderr


def test_other_labels_are_refused(study: Path, trained: Path, command: Command, tmp_path: Path) -> None:
    table = pd.read_csv(study / "stimuli" / "stimuli.tsv", sep="\t")
    other = tmp_path / "labels.tsv"
    names = [column for column in table if set(table[column].astype(str)) <= {"0", "1"}]
    table["stimulus_id"] = table["filename"]
    table[["stimulus_id", *names[:3]]].to_csv(other, sep="\t", index=False)
    done = command(study, trained, "participant", "--decode", "--labels", other)
    assert done.returncode == 65, done.stderr
    assert "label_names" in done.stderr


def test_a_stranger_is_refused(own_study: Path, trained: Path, command: Command, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "results"))
    for folder in (own_study, own_study / "derivatives" / "fmriprep"):
        shutil.copytree(folder / "sub-02", folder / "sub-03")
        for path in sorted((folder / "sub-03").rglob("sub-02*")):
            path.rename(path.with_name(path.name.replace("sub-02", "sub-03")))
    done = command(own_study, out, "participant", "--decode", "--participant-label", "03")
    assert done.returncode == 66, done.stderr
    assert "sub-01, sub-02" in done.stderr


def test_a_new_run_without_any_names_is_decoded(
    own_study: Path, trained: Path, command: Command, tmp_path: Path
) -> None:
    """Events of onset and duration only: nothing is known, every row is decoded, and the set is ``new``."""
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    for folder in (own_study, own_study / "derivatives" / "fmriprep"):
        for path in sorted(folder.glob("sub-01/func/*run-03_*")):
            shutil.copy(path, path.with_name(path.name.replace("run-03", "run-04")))
    (events,) = own_study.glob("sub-01/func/*run-04_events.tsv")
    pd.read_csv(events, sep="\t")[["onset", "duration"]].to_csv(events, sep="\t", index=False)
    done = command(own_study, moved, "participant", "--decode", "--participant-label", "01")
    assert done.returncode == 0, done.stderr
    assert "run-4 was not in the training data" in done.stderr
    table = predictions(moved)
    runs = sorted(moved.glob("sub-01/func/*_desc-clipmused_predictions.tsv"))
    new = pd.read_csv(runs[3], sep="\t", na_values="n/a")
    assert set(new["set"]) == {"new"}
    assert new["stimulus_id"].isna().all()
    assert len(table) == len(predictions(trained)) + len(new)
    old = pd.read_csv(runs[2], sep="\t", na_values="n/a")
    chances = [name for name in old if name.startswith("prob_")]
    # The same responses, standardised by all of the run's trials instead of its training trials: close, not equal.
    assert np.corrcoef(old[chances].to_numpy().ravel(), new[chances].to_numpy().ravel())[0, 1] > 0.9


def test_evaluate_alone_after_a_default_run(
    study: Path, trained: Path, command: Command, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    before = contents(moved)
    done = command(study, moved, "group", "--evaluate")
    assert done.returncode == 0, done.stderr
    assert "decoder clipmused+ridge reused" in done.stderr
    after = contents(moved)
    # Where the raw dataset lies, seen from here, is another place.
    changed = {name for name in before if after[name] != before[name]}
    changed -= {"dataset_description.json", "logs/sources/raw.json", "logs/sources/fmriprep.json"}
    assert changed == set(), "scoring again must change nothing"


def test_another_method_under_the_same_label_is_refused(
    study: Path, trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    ridge = ("--method", "ridge", "--model-label", "clipmused", "--config-file", quick)
    done = command(study, moved, "group", *ridge)
    assert done.returncode == 73, done.stderr
    assert "model.safetensors (method clip-mused)" in done.stderr
    done = command(study, moved, "group", *ridge, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not (moved / "models" / "clipmused" / "model.safetensors").exists()
    pd.testing.assert_frame_equal(predictions(moved), predictions(trained, "clipmused+ridge"))


def test_one_participants_job_leaves_the_groups_results_alone(
    study: Path, trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    names = [path.name for path in moved.glob("group_*")] + ["models/clipmused/README.md"]
    before = {name: (moved / name).read_bytes() for name in names}
    one = ("participant", "--participant-label", "01", "--clip-model", "demo", "--config-file", quick)
    assert command(study, moved, *one, "--evaluate").returncode == 0
    refused = command(study, moved, *one, "--train", "--decode", "--evaluate")
    assert refused.returncode == 73, "the group decoder knows this participant"
    assert {name: (moved / name).read_bytes() for name in names} == before


def test_runs_that_came_later_are_not_left_out_in_silence(
    own_study: Path, trained: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "results"))
    for folder in (own_study, own_study / "derivatives" / "fmriprep"):
        for path in sorted(folder.glob("sub-0?/func/*run-03_*")):
            shutil.copy(path, path.with_name(path.name.replace("run-03", "run-04")))
    train = ("group", "--train", "--method", "prevalence", "--config-file", quick)
    done = command(own_study, moved, *train)
    assert done.returncode == 73, done.stderr
    assert "sub-01_task-scenes_run-4" in done.stderr
    done = command(own_study, moved, *train, "--overwrite")
    assert done.returncode == 0, done.stderr
    split = pd.read_csv(moved / "split.tsv", sep="\t")
    assert "sub-01_task-scenes_run-4" in set(split["run"])


def test_labels_may_be_keyed_by_the_catalogues_own_ids(
    study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    """Events name ``stim-0001_image.png``; the dataset's table calls the same stimulus ``stim-0001``."""
    labels = study / "stimuli" / "stimuli.tsv"
    given = ("--labels", labels, "--captions", study / "stimuli" / "captions.tsv")
    done = command(
        study, tmp_path, "group", "--train", "--method", "prevalence", "--config-file", quick, *given
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "models" / "prevalence" / "sub-01_config.json").read_text())
    assert len(config["label_names"]) == 12


def test_the_log_holds_what_was_said_before_the_folder_existed(trained: Path) -> None:
    texts = [log.read_text() for log in trained.glob("logs/*/log.txt")]
    (text,) = [text for text in texts if "6 run(s) estimated" in text]
    assert text.index("192, made of 192 rows") < text.index("Responses: 6 run(s) estimated")
    assert "split: rule 4" in text


def test_onsets_in_milliseconds_are_recognised(
    own_study: Path, quick: Path, command: Command, tmp_path: Path
) -> None:
    ridge = ("participant", "--prepare", "--method", "ridge", "--config-file", quick)
    assert command(own_study, tmp_path / "seconds", *ridge).returncode == 0
    for path in own_study.glob("sub-*/func/*_events.tsv"):
        table = pd.read_csv(path, sep="\t")
        table[["onset", "duration"]] = (1000 * table[["onset", "duration"]]).round(3)
        table.to_csv(path, sep="\t", index=False)
    done = command(own_study, tmp_path / "milliseconds", *ridge)
    assert done.returncode == 0, done.stderr
    assert "were read as milliseconds" in done.stderr
    for path in (tmp_path / "seconds").glob("sub-*/func/*_responses.safetensors"):
        other = tmp_path / "milliseconds" / path.relative_to(tmp_path / "seconds")
        np.testing.assert_allclose(load_file(other)["responses"], load_file(path)["responses"], atol=1e-4)
