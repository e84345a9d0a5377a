"""Methods text, citations and model cards of real runs: true to what is stored, and still true later."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Command = Callable[..., object]


@pytest.fixture(scope="module")
def rivals(study: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder with two linear methods and what every evaluation adds."""
    out = tmp_path_factory.mktemp("texts") / "out"
    done = command(study, out, "group", "--method", "ridge", "--model-label", "lin", "--random-seed", "4")
    assert done.returncode == 0, done.stderr
    return out


def card(out: Path, label: str) -> str:
    return (out / "models" / label / "README.md").read_text("utf-8")


def citation(out: Path) -> str:
    return (out / "logs" / "CITATION.md").read_text("utf-8")


def test_the_text_has_the_numbers_of_the_stored_decoder(trained: Path) -> None:
    text = citation(trained)
    config = json.loads((trained / "models/clipmused/config.json").read_text())
    history = pd.read_csv(trained / "models/clipmused/history.tsv", sep="\t")
    split = pd.read_csv(trained / "split.tsv", sep="\t")
    comparison = json.loads((trained / "group_desc-clipmused_comparison.json").read_text())
    n_test = split.loc[split["set"] == "test", "stimulus_id"].str.replace(r"#\d+$", "", regex=True).nunique()
    for words in (
        "2 participants, 6 runs and 192 trials (task scenes)", "nobody was scanned",
        f"fitted to {config['n_training_trials']} training trials",
        f"of {n_test} stimuli for testing", f"{config['parameters']['shared']:,} parameters shared",
        f"weights {config['clip']['weights_sha256'][:12]}", f"{history['epoch'].max()} epochs were trained",
        f"{comparison['Permutations']:,} permutations", "D = 16, 1 block with 2 attention heads",
        f"Decoders read {config['decoder']['signature']['n_voxels']['01']:,} voxels",
    ):  # fmt: skip
        assert words in text, words


def test_bibtex_holds_what_the_text_cites(trained: Path) -> None:
    bib = (trained / "logs" / "CITATION.bib").read_text("utf-8")
    titles = re.findall(r"^  title = \{(.*)\},$", bib, re.MULTILINE)
    listed = citation(trained).partition("# References\n")[2]
    lines = [line for line in listed.splitlines() if line]
    assert len(titles) == len(lines) > 10
    assert all(title in line for title, line in zip(titles, lines, strict=True))


def test_the_group_page_shows_the_text_and_its_bibtex_and_the_others_lead_to_it(trained: Path) -> None:
    page = (trained / "group.html").read_text("utf-8")
    assert 'id="methods"' in page
    assert "@inproceedings{zhou2024," in page
    assert "Functional MRI data of 2 participants" in page
    assert 'href="logs/CITATION.md"' in (trained / "sub-01.html").read_text("utf-8")


def test_the_card_has_scores_hashes_and_a_command_that_runs(
    study: Path, rivals: Path, command: Command, tmp_path: Path
) -> None:
    text = card(rivals, "lin")
    metrics = pd.read_csv(rivals / "group_desc-lin_metrics.tsv", sep="\t")
    own = metrics[(metrics["metric"] == "mAP") & (metrics["averaging"] == "single trials")].set_index(
        "participant_id"
    )
    assert f"| **ridge** | mAP | {own['value']['group']:.3f} |" in text
    assert f"| sub-02 | {own['value']['sub-02']:.3f} ({own['floor']['sub-02']:.3f}) |" in text
    assert "| prevalence | mAP |" in text
    for path in (rivals / "models" / "lin").glob("*.safetensors"):
        assert f"| `{path.name}` | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in text
    out = Path(shutil.copytree(rivals, tmp_path / "out"))
    before = {path: path.read_bytes() for path in out.glob("sub-01/func/*_desc-lin_predictions.tsv")}
    for path in before:
        path.unlink()
    (line,) = re.findall(r"^clipmused-bids .*--decode.*$", text, re.MULTILINE)
    words = line.replace("BIDS_DIR", str(study)).replace("OUTPUT_DIR", str(out)).split()[1:]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert card(out, "lin") == text, "nothing that it tells has changed"
    assert citation(out) == citation(rivals), "one participant's job knows less"


def test_scores_of_other_weights_are_not_told(
    study: Path, rivals: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(rivals, tmp_path / "out"))
    again = (
        "--train",
        "--method",
        "ridge",
        "--model-label",
        "lin",
        "--random-seed",
        "4",
        "--confounds",
        "none",
    )
    done = command(study, out, "group", *again, "--split", "runs:3", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "Not evaluated yet" in card(out, "lin")
    assert "The decoder was not evaluated yet" in citation(out)
    assert "No confounds were removed, as asked for" in citation(out)
    assert "by run, the same runs of all participants" in citation(out)


def test_the_text_alone_is_written_of_data_before_anything_is_trained(
    study: Path, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command(study, out, "participant", "--boilerplate-only")
    assert done.returncode == 66, done.stderr
    assert "without --boilerplate-only" in done.stderr
    out.mkdir()
    done = command(study, out, "participant", "--boilerplate-only", "--hrf", "spm")
    assert done.returncode == 0, done.stderr
    text = citation(out)
    for words in (
        "192 trials",
        "No response was estimated yet",
        "Nothing was trained yet",
        "SPM haemodynamic",
    ):
        assert words in text
    assert not list(out.glob("*.html"))
    assert {path.name for path in out.iterdir()} == {"logs"}


def test_the_text_alone_is_that_of_the_run(
    study: Path, rivals: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(rivals, tmp_path / "out"))
    text = citation(out)
    (out / "logs" / "CITATION.md").unlink()
    done = command(study, out, "group", "--boilerplate-only", "--model-label", "lin")
    assert done.returncode == 0, done.stderr
    assert citation(out) == text
    assert "a ridge regression for each participant" in text
    assert "CLIP-MUSED" not in text
