"""Reports of the command: of runs that went well, that went wrong, and written alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.conftest import Command, bold_of
from tests.report.html import faults_of, read_page

RIDGE = ("--clip-model", "demo", "--method", "ridge")


def words_of(page: Path) -> str:
    """Everything that a page says, without faults."""
    html = page.read_bytes()
    assert faults_of(html) == []
    return " ".join(" ".join(read_page(html).text).split())


@pytest.fixture
def own_trained(trained: Path, tmp_path: Path) -> Path:
    """Outputs of the small study, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "trained"))


def test_a_run_leaves_a_page_for_everybody_and_one_for_all(trained: Path) -> None:
    pages = {page.name: words_of(page) for page in trained.glob("*.html")}
    assert set(pages) == {"sub-01.html", "sub-02.html", "group.html"}
    metrics = pd.read_csv(trained / "group_desc-clipmused_metrics.tsv", sep="\t")
    main = metrics[(metrics["metric"] == "mAP") & (metrics["averaging"] == "single trials")]
    for who, page in (("sub-01", "sub-01.html"), ("sub-02", "sub-02.html"), ("group", "group.html")):
        (row,) = main[main["participant_id"] == who].to_dict("records")
        assert f"{row['value']:.3f}" in pages[page], who
        assert f"{row['floor']:.3f}" in pages[page], who


def test_reports_alone_are_what_the_run_wrote(study: Path, own_trained: Path, command: Command) -> None:
    before = {page.name: page.read_bytes() for page in own_trained.glob("*.html")}
    for name in before:
        (own_trained / name).unlink()
    others = {
        path.relative_to(own_trained): path.read_bytes()
        for path in own_trained.rglob("*")
        if path.is_file() and "logs" not in path.parts
    }
    done = command(study, own_trained, "group", "--reports-only")
    assert done.returncode == 0, done.stderr
    after = {page.name: page.read_bytes() for page in own_trained.glob("*.html")}
    assert set(after) == set(before)
    assert all(words_of(own_trained / name) for name in after)
    assert all((own_trained / path).read_bytes() == content for path, content in others.items())


def test_reports_alone_do_nothing_else(study: Path, tmp_path: Path, command: Command) -> None:
    refused = command(study, tmp_path / "out", "group", "--reports-only", "--train")
    assert refused.returncode == 64
    assert "--reports-only --train: the first tells about what is there already" in refused.stderr
    nothing = command(study, tmp_path / "out", "group", "--reports-only")
    assert nothing.returncode == 66
    assert "nothing was made there yet" in nothing.stderr
    assert not (tmp_path / "out").exists()


def test_a_participant_that_failed_has_a_page_that_says_so(
    own_study: Path, tmp_path: Path, command: Command
) -> None:
    image = bold_of(own_study, "02", 2)
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    out = tmp_path / "out"
    done = command(own_study, out, "group", *RIDGE)
    assert done.returncode == 65, done.stderr
    failed, group = words_of(out / "sub-02.html"), words_of(out / "group.html")
    assert "This participant failed" in failed
    assert image.name in failed
    assert "sub-02" in group
    assert image.name in group
    assert "failed" not in words_of(out / "sub-01.html").replace("sub-02 failed", "")


def test_half_of_the_stimuli_are_missing(own_study: Path, tmp_path: Path, command: Command) -> None:
    pictures = sorted((own_study / "stimuli").glob("*.png"))
    for picture in pictures[::2]:
        picture.unlink()
    out = tmp_path / "out"
    done = command(own_study, out, "group", *RIDGE)
    assert done.returncode == 0, done.stderr
    page = words_of(out / "sub-01.html")
    assert "missing" in page
    assert "no picture" in page


def test_no_pictures_at_all(own_study: Path, tmp_path: Path, command: Command) -> None:
    for picture in (own_study / "stimuli").glob("*.png"):
        picture.unlink()
    out = tmp_path / "out"
    done = command(own_study, out, "group", *RIDGE)
    assert done.returncode == 0, done.stderr
    html = (out / "sub-01.html").read_bytes()
    assert faults_of(html) == []
    assert "image/jpeg" not in {
        one["src"].partition(";")[0].removeprefix("data:") for one in read_page(html).all("img")
    }


def test_a_single_label(own_study: Path, tmp_path: Path, command: Command) -> None:
    table = pd.read_csv(own_study / "stimuli" / "stimuli.tsv", sep="\t", dtype=str)
    described = json.loads((own_study / "stimuli" / "stimuli.json").read_text())
    labels = [
        name for name in table if name in described and set(table[name]) <= {"0", "1"} and name != "present"
    ]
    one = tmp_path / "labels.tsv"
    kept = table[["filename", labels[0]]].rename(columns={"filename": "stimulus_id"})
    kept.to_csv(one, sep="\t", index=False)
    out = tmp_path / "out"
    done = command(own_study, out, "group", *RIDGE, "--labels", one)
    assert done.returncode == 0, done.stderr
    for name in ("sub-01.html", "group.html"):
        assert labels[0] in words_of(out / name), name


def test_a_participant_that_is_prepared_only(study: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out"
    done = command(study, out, "participant", "--prepare", "--participant-label", "01", "--method", "ridge")
    assert done.returncode == 0, done.stderr
    page = words_of(out / "sub-01.html")
    assert "What went in" in page
    assert "How it decodes" not in page
    assert not (out / "group.html").exists()


def test_training_another_decoder_leaves_the_pages_of_the_first(
    study: Path, own_trained: Path, command: Command
) -> None:
    before = {
        name: (own_trained / name).read_bytes() for name in ("sub-01.html", "sub-02.html", "group.html")
    }
    assert b'<meta name="model-label" content="clipmused">' in before["sub-01.html"]
    done = command(study, own_trained, "group", "--train", "--method", "ridge", "--model-label", "second")
    assert done.returncode == 0, done.stderr
    after = {name: (own_trained / name).read_bytes() for name in before}
    assert after["sub-01.html"] == before["sub-01.html"]
    assert "model label second" in words_of(own_trained / "group.html")
    decoded = command(study, own_trained, "participant", "--decode", "--model-label", "second")
    assert decoded.returncode == 0, decoded.stderr
    assert "model label second" in words_of(own_trained / "sub-01.html")
