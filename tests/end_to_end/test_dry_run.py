"""``--dry-run`` through the command: what it says is what a run does, and it touches nothing."""

from __future__ import annotations

import builtins
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids.stages import catalogue as catalogue_stage
from tests.end_to_end.conftest import Command, bold_of
from tests.nsd_shaped import write_study

DATA = os.environ.get("CLIPMUSED_TEST_DATA")
RIDGE = ("--method", "ridge", "--device", "cpu")


def seen(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def in_bytes(text: str, line: str) -> float:
    """An amount of the table of needs."""
    found = re.search(rf"^ +{line} +([\d.]+) (B|kB|MB|GB)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1]) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[found[2]]


def of_tree(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def report(study: Path, quick: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("dry") / "out"
    before = seen(study)
    done = command(study, out, "group", "--dry-run", "--clip-model", "demo", "--config-file", quick)
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    assert seen(study) == before
    return done.stderr


@pytest.mark.parametrize(
    "line",
    [
        r"^Request     group: train \+ decode \+ evaluate$",
        r"task scenes,\s+common\s+space\s+MNI152NLin2009cAsym",  # the path before it may break the line
        r"^sub-01 +3 +96 +\d+ +\d+x\d+x\d+ +1660 +derivative +3 of 3 +0 of 3$",
        r"^sub-02 +3 +96 +\d+ +\d+x\d+x\d+ +1520 +derivative",
        r"^Events      columns \(6 file\(s\)\): onset, duration, trial_type, stim_file, stim_id",
        r"responses: lss \(trials are events \(median duration 2 s, below 10 s\)\); standardised by run",
        r"^Coverage    Events of 6 run\(s\), 2 participant\(s\):$",
        r"^ +trials +192, made of 192 rows$",
        r"^ +stimuli +124, named in column stim_file$",
        r"^ +pictures found +124$",
        r"^Captions    124 of 124 stimuli have some$",
        r"^Labels      12 from stimuli/stimuli.tsv, several for each stimulus; 192 of 192 trials are labelled",
        r"^Guidance    high level: pictures and captions; low level: pictures$",
        r"^Split       rule repeats; regime: unseen stimuli$",
        r"trials: train \d+, val \d+, test 80",
        r"^Decoder     clip-mused, preset small \(192 trials, fewer than 5000\), model label clipmused; is not stored",
        r"^No problem was found",
    ],
)
def test_the_report_says_what_a_run_finds(report: str, line: str) -> None:
    assert re.search(line, report, re.MULTILINE), report
    assert len(report.splitlines()) <= 60
    warnings = report.partition("Warnings:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.strip() for line in warnings] == [
        "- Split: 1 of 12 labels have no positive or no negative test trial and are not scored: moon."
    ]


def test_estimates_come_true(report: str, trained: Path) -> None:
    """Disk to a fifth, stage by stage; parameters exactly."""
    assert in_bytes(report, "disk") == pytest.approx(of_tree(trained), rel=0.2)
    responses = sum(path.stat().st_size for path in trained.glob("sub-*/func/*_responses.*"))
    assert in_bytes(report, "responses") == pytest.approx(responses, rel=0.1)
    features = of_tree(trained / "stimuli" / "desc-demo_embeddings")
    assert in_bytes(report, "CLIP features") == pytest.approx(features, rel=0.1)
    decoders = sum(path.stat().st_size for path in trained.glob("models/*/*.safetensors"))
    assert in_bytes(report, "decoders") == pytest.approx(decoders, rel=0.2)
    counts = re.search(r"parameters: ([\d,]+) shared, ([\d,]+) of people", report)
    assert counts is not None
    card = (trained / "models" / "clipmused" / "config.json").read_text()
    assert f'"shared": {counts[1].replace(",", "")}' in card


def test_what_is_stored_is_said_to_be(study: Path, quick: Path, command: Command, trained: Path) -> None:
    before = seen(trained)
    words = ("--clip-model", "demo", "--config-file", quick, "--dry-run")
    done = command(study, trained, "group", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("3 of 3     3 of 3") + done.stderr.count("3 of 3  3 of 3") == 2
    assert "is stored already and would be reused" in " ".join(done.stderr.split())
    assert re.search(r"^ +responses +0 s +0 runs", done.stderr, re.MULTILINE)
    done = command(study, trained, "group", *words, "--hrf", "spm", "--random-seed", "5")
    assert done.returncode == 73
    assert "hrf: then glover, now spm" in done.stderr
    assert "random_seed" in done.stderr
    done = command(study, trained, "participant", "--decode", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Split       rule repeats" in done.stderr
    assert seen(trained) == before


def test_no_image_no_picture_and_no_weights_are_read(
    own_study: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that end behind their headers and pictures that are none: a run fails on them, a dry run cannot see it."""
    for participant in ("01", "02"):
        for run in (1, 2, 3):
            path = bold_of(own_study, participant, run)
            path.write_bytes(path.read_bytes()[:4000])
    for path in (own_study / "stimuli").rglob("*.png"):
        path.write_bytes(b"no picture")
    with monkeypatch.context() as patched:
        patched.setattr(
            catalogue_stage, "content_keys", lambda pictures: pytest.fail(f"{len(pictures)} were read")
        )
        opened = watched(patched)
        done = command(
            own_study, tmp_path / "out", "group", "--dry-run", "--clip-model", "demo", "--device", "cpu"
        )
    assert done.returncode == 0, done.stderr
    assert [name for name in opened if name.endswith("_events.tsv")], "nothing was watched"
    assert not [name for name in opened if "demo_clip" in name and not name.endswith(".json")]
    assert not (tmp_path / "out").exists()
    done = command(own_study, tmp_path / "out", "participant", "--prepare", *RIDGE)
    assert done.returncode == 65


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that are opened from here on."""
    names: list[str] = []
    real = io.open

    def spy(file: Any, *words: Any, **options: Any) -> Any:
        names.append(str(file))
        return real(file, *words, **options)

    monkeypatch.setattr(builtins, "open", spy)
    monkeypatch.setattr(io, "open", spy)
    return names


def test_all_problems_are_listed_and_the_first_decides(
    own_study: Path, command: Command, tmp_path: Path
) -> None:
    """Two participants with troubles of their own; no mask, no weights, no GPU, no such column."""
    next(own_study.glob("sub-01/func/*run-02_events.tsv")).write_text("onset\tduration\n")
    bold_of(own_study, "02", 1).write_bytes(b"no image")
    done = command(
        own_study, tmp_path / "out", "group", "--dry-run", "--split", "column:nothing", "--device", "cuda",
        "--mask", "/no/such/mask.nii.gz", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 64
    assert "Problems: the run would end with exit code 64." in done.stderr
    problems = done.stderr[done.stderr.index("Problems:") :]
    assert re.findall(r"^  exit (\d+):", problems, re.MULTILINE) == ["64", "66", "64", "65", "66", "65"]
    for part in (
        "--split column:nothing",
        "CLIP ViT-B-16",
        "no GPU",
        "has a header but no rows",
        "/no/such/mask",
    ):
        assert part in problems
    assert problems.count("hint:") == 6
    assert "Split       cannot be made" in done.stderr


def test_one_participants_problem_leaves_the_others(
    own_study: Path, command: Command, tmp_path: Path
) -> None:
    bold_of(own_study, "02", 1).write_bytes(b"no image at all")
    done = command(own_study, tmp_path / "out", "participant", "--prepare", *RIDGE, "--dry-run")
    assert done.returncode == 65
    assert "leave participants out and end with exit code 65" in done.stderr
    assert re.search(r"^sub-01 ", done.stderr, re.MULTILINE)
    assert not re.search(r"^sub-02 ", done.stderr, re.MULTILINE)
    run = command(own_study, tmp_path / "out", "participant", "--prepare", *RIDGE)
    assert run.returncode == 65


def test_nothing_can_be_planned(study: Path, command: Command, tmp_path: Path) -> None:
    done = command(study, tmp_path / "out", "group", "--dry-run", "-t", "rest")
    assert done.returncode == 18
    assert "No task-rest" in done.stderr
    assert "hint: --task-id scenes" in done.stderr


@pytest.mark.parametrize("words", [("--decode",), ("--evaluate",), ("--decode", "--evaluate")])
def test_without_a_decoder(study: Path, command: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = command(study, tmp_path / "out", "participant", *words, "--dry-run")
    assert done.returncode == 66
    assert "group --train" in done.stderr


def test_a_participant_that_the_decoder_does_not_know(
    own_study: Path, trained: Path, command: Command
) -> None:
    for root in (own_study, own_study / "derivatives" / "fmriprep"):
        folder = Path(shutil.copytree(root / "sub-02", root / "sub-03"))
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.rename(path.with_name(path.name.replace("sub-02", "sub-03")))
    done = command(own_study, trained, "participant", "--decode", "--dry-run")
    assert done.returncode == 66
    assert "sub-03: no decoder clipmused for this participant; it knows sub-01, sub-02" in done.stderr


@pytest.mark.real_data
@pytest.mark.skipif(DATA is None, reason="CLIPMUSED_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "haxby1",
            [
                "sub-1 +12 +96 +1452 +40x20x1 +530 +derivative",
                "standardised by run",
                "train 80, val 8, test 8",
            ],
        ),
        ("raider5", ["sub-05 +8 +56 +56 +10x10x10 +<=1000 +computed", "betas", "train 210, val 35, test 35"]),
    ],
)
def test_real_datasets(command: Command, tmp_path: Path, name: str, lines: list[str]) -> None:
    """Disk to a fifth of what the run takes; the split is the run's, since no contents decide."""
    study = Path(str(DATA)) / name
    before = seen(study)
    done = command(study, tmp_path / "out", "group", "--dry-run", *RIDGE)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert re.search(line, done.stderr), done.stderr
    run = command(study, tmp_path / "out", "group", *RIDGE)
    assert run.returncode == 0, run.stderr
    assert lines[-1].split(", ")[0] in run.stderr
    assert in_bytes(done.stderr, "disk") == pytest.approx(of_tree(tmp_path / "out"), rel=0.2)
    assert seen(study) == before


class TestManifest:
    """A manifest of responses in the place of images and events."""

    @pytest.fixture(params=["h5", "nii.gz", "npy"])
    def words(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[object, ...]:
        manifest = write_study(tmp_path / "nsd", request.param)
        (tmp_path / "bids").mkdir()
        (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "N", "BIDSVersion": "1.8.0"}')
        mask = tmp_path / "nsd" / "sub-{participant}_mask.nii.gz"
        labels = tmp_path / "nsd" / "labels.tsv"
        return (tmp_path / "bids", tmp_path / "out", "group", *RIDGE, "--betas", manifest, "--mask", mask,
                "--labels", labels)  # fmt: skip

    def test_what_it_names_is_looked_at_and_the_run_goes_as_said(
        self, words: tuple[object, ...], command: Command
    ) -> None:
        done = command(*words, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^sub-01 +3 +120 +120 +6x8x5 +\d+ +--mask", done.stderr, re.MULTILINE), done.stderr
        assert re.search(r"^sub-02 +3 +120 +120 +7x5x9 +\d+ +--mask", done.stderr, re.MULTILINE), done.stderr
        assert re.search(r"^ +responses +\d+ s +6 runs, [1-9][\d.]* kB unpacked", done.stderr, re.MULTILINE)
        assert command(*words, "--check").returncode == 0
        done = command(*words, "--prepare")
        assert done.returncode == 0, done.stderr
        assert re.search(r"0 stored already; [1-9][\d.]* kB of images", done.stderr), done.stderr

    def test_a_row_that_a_file_lacks_is_found(self, words: tuple[object, ...], command: Command) -> None:
        manifest = words[words.index("--betas") + 1]
        assert isinstance(manifest, Path)
        lines = manifest.read_text().splitlines()
        manifest.write_text("\n".join(line.replace("\t39\t", "\t40\t") for line in lines) + "\n")
        done = command(*words, "--dry-run")
        assert done.returncode == 65
        assert "index 40 of" in done.stderr
        assert "holds 40 responses" in " ".join(done.stderr.split())
