"""The messages that the FAQ quotes are those of the program: provoked word for word, or found in the source."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from clipmused_bids import errors
from clipmused_bids.cli import main
from tests.docs.commands import DOCS, ROOT
from tests.docs.skeletons import pictures

FAQ = DOCS / "faq.md"
RIDGE = ("/bids", "/out", "group", "--method", "ridge", "--labels", "/labels.tsv")
PREPARE = ("/bids", "/out", "participant", "--prepare", "--method", "ridge", "--labels", "/labels.tsv")
CLIP = ("/bids", "/out", "group", "--clip-model", "demo", "--labels", "/labels.tsv")
Change = Callable[[Path], object]

pytestmark = pytest.mark.skipif(not FAQ.exists(), reason="needs the source tree")


def quoted() -> list[str]:
    """Every message of the page, with its hint where it is quoted."""
    text = FAQ.read_text().split("\n## ", 1)[1]
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in blocks]


def with_events(change: Callable[[str], str]) -> Change:
    def changed(root: Path) -> None:
        for path in (root / "bids").glob("sub-*/func/*_events.tsv"):
            path.write_text(change(path.read_text()))

    return changed


def bold(root: Path, person: str, run: int) -> Path:
    return next((root / "bids/derivatives").rglob(f"sub-{person}_*run-{run}_*bold.nii.gz"))


def second_derivative(root: Path) -> None:
    shutil.copytree(root / "bids/derivatives/fmriprep", root / "bids/derivatives/fmriprep-sdc")


def second_task(root: Path) -> None:
    for path in list((root / "bids").rglob("*task-look_run-3*")):
        shutil.copy(path, path.with_name(path.name.replace("task-look", "task-rest")))


def not_fetched(root: Path) -> None:
    path = bold(root, "02", 2)
    path.unlink()
    path.symlink_to("../../../../.git/annex/objects/content")


def truncated(root: Path) -> None:
    path = bold(root, "02", 2)
    path.write_bytes(path.read_bytes()[:100_000])


def slower(text: str) -> str:
    """Trials 6 s apart in a run of 110 s."""
    head, *rows = text.splitlines()
    cells = [row.split("\t") for row in rows]
    lines = ["\t".join([f"{1.5 * float(onset):g}", *others]) for onset, *others in cells]
    return "\n".join([head, *lines]) + "\n"


def only_shown(text: str) -> str:
    head, *rows = text.splitlines()
    lines = ["\t".join([*row.split("\t")[:2], "stimulus"]) for row in rows]
    return "\n".join([head.replace("stim_file", "trial_type"), *lines]) + "\n"


def two_of_a_name(root: Path) -> None:
    with_events(lambda text: re.sub(r"(dog|cup|car)/", "", text))(root)
    (root / "bids/stimuli/old").mkdir()
    shutil.copy(root / "bids/stimuli/cup/cup0.png", root / "bids/stimuli/old/dog0.png")


def split_of_others(root: Path) -> None:
    """Runs are only numbered, so that no row is of a trial here."""
    rows = [f"sub-01\t{run}\tdog/dog0.png\t{name}\n" for run, name in ((1, "train"), (2, "val"), (3, "test"))]
    (root / "split.tsv").write_text("participant_id\trun\tstimulus_id\tset\n" + "".join(rows))


def another_dataset(root: Path) -> None:
    (root / "out").mkdir()
    made_by = {"Name": "fMRIPrep", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    (root / "out/dataset_description.json").write_text(json.dumps(made_by))


PROVOKED: list[tuple[Sequence[str], Change]] = [
    (("/bids/sub-01", "/out", "group"), lambda root: None),
    (("/nowhere", "/out", "group"), lambda root: None),
    (CLIP, lambda root: shutil.rmtree(root / "bids/derivatives")),
    (CLIP, second_derivative),
    ((*CLIP, "--participant-label", "1", "3"), lambda root: None),
    (CLIP, second_task),
    ((*CLIP, "--space", "T1w"), lambda root: None),
    ((*PREPARE, "--participant-label", "02"), not_fetched),
    (CLIP, with_events(lambda text: text.replace("\t", ","))),
    (CLIP, with_events(lambda text: text.replace("stim_file", "picture_shown"))),
    (CLIP, with_events(only_shown)),
    ((*CLIP, "--trial-type", "picture"), lambda root: None),
    ((*PREPARE, "--participant-label", "01"), with_events(slower)),
    ((*CLIP[:-1], "/short.tsv"), two_of_a_name),
    ((*PREPARE, "--participant-label", "02"), truncated),
    (CLIP[:-2], lambda root: None),
    ((*CLIP[:-1], "/bad.tsv"), lambda root: None),
    (
        CLIP,
        lambda root: (root / "bids/participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n"),
    ),
    ((*CLIP, "--split", "runs:9"), lambda root: None),
    ((*RIDGE, "--split", "/split.tsv"), split_of_others),
    ((*CLIP[:3], "--clip-weights", "/w.pt", *CLIP[-2:]), lambda root: (root / "w.pt").write_text("weights")),
    ((*CLIP[:3], "--clip-model", "ViT-B16", *CLIP[-2:]), lambda root: None),
    (("/bids", "/bids/out", *CLIP[2:]), lambda root: None),
    (CLIP, another_dataset),
    (CLIP, lambda root: (root / "out").write_text("")),
    (("/bids", "/out", "participant", "--decode"), lambda root: None),
    (
        (*CLIP, "--config-file", "/typo.toml"),
        lambda root: (root / "typo.toml").write_text("[training]\nlearning_rat = 1\n"),
    ),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    pictures(root)
    (root / "bad.tsv").write_text("stimulus_id\tlabels\ndog.png\tdog\ncup/*\tcup\n")
    (root / "short.tsv").write_text("stimulus_id\tlabels\ndog*\tdog\ncup*\tcup\ncar*\tcar\n")
    return root


def printed(root: Path, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command below ``root`` and return its last message, places as the page writes them."""
    capsys.readouterr()
    assert main([f"{root}{word}" if word.startswith("/") else word for word in words]) != 0
    text = capsys.readouterr().err.replace(str(root), "")
    return text[text.rindex("error: ") :].strip()


@pytest.mark.parametrize("case", range(len(PROVOKED)))
def test_a_quoted_message_is_printed(
    case: int, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, change = PROVOKED[case]
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    assert printed(tmp_path, words, capsys) in quoted()


def test_the_messages_on_a_changed_configuration_are_printed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    later = [(path, path.with_name(f".{path.name}")) for path in (tmp_path / "bids").rglob("*run-3*")]
    for path, hidden in later:
        path.rename(hidden)
    (tmp_path / "quick.toml").write_text("[evaluation]\npermutations = 0\n")
    quick = ("--config-file", "/quick.toml", "--preset", "small")
    assert (
        main([f"{tmp_path}{word}" if word.startswith("/") else word for word in (*RIDGE, "--train", *quick)])
        == 0
    )
    assert printed(tmp_path, (*RIDGE, *quick, "--train", "--smoothing-fwhm", "4"), capsys) in quoted()
    decode = ("/bids", "/out", "participant", "--decode", "--model-label", "ridge")
    assert printed(tmp_path, (*decode, "--response", "lsa", "--confounds", "none"), capsys) in quoted()
    for path, hidden in later:
        hidden.rename(path)
    assert printed(tmp_path, (*RIDGE, *quick, "--train"), capsys) in quoted()


def patterns() -> Iterator[re.Pattern[str]]:
    """A pattern for each message that the source can print, with the hint that goes with it."""
    for path in (ROOT / "clipmused_bids").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, errors.ClipMusedError):
                hint = next((word.value for word in node.keywords if word.arg == "hint"), None)
                usual = re.escape(str(kind.usual_hint)) if hint is None else _pattern(hint)
                texts = [
                    f"error: (.+?: )?{_pattern(argument)}(\nhint: {usual})?" for argument in node.args[:1]
                ]
            elif name in {"warning", "info"}:
                texts = [re.sub(r"%[sdg]", ".+?", _pattern(argument)) for argument in node.args[:1]]
            else:
                continue
            # What is mostly filled in would match anything.
            yield from (
                re.compile(text, re.DOTALL) for text in texts if len(re.sub(r"\.\+\?", "", text)) > 50
            )


def _pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value)).replace("%%", "%")
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    if isinstance(node, ast.IfExp):
        return f"({_pattern(node.body)}|{_pattern(node.orelse)})"
    if isinstance(node, ast.BinOp):
        return _pattern(node.left) + _pattern(node.right)
    return ".+?"


# Those whose wording needs a machine of another kind, or depends on it.
WRITTEN = [
    "WARNING: 16 of 24 stimuli have no picture;",
    "error: 16 of 24 pictures cannot be read;",
    "error: CLIP ViT-B-16, weights openai: not on this machine",
    "WARNING: --clip-model demo",
    "error: atlas Schaefer2018",
    "error: sub-02 task-look run-1: 0 MB of memory",
    "error: --device cuda",
    "error: Decoding 256 trials at once",
    "error: /out/models/clipmused/model.safetensors: No space left",
    "error: Training: stopped as asked",
    "error: a process that prepared a run",
    "error: process 1 of 0-1:",
]


@pytest.fixture(scope="module")
def written() -> list[re.Pattern[str]]:
    return list(patterns())


@pytest.mark.parametrize("beginning", WRITTEN)
def test_a_quoted_message_is_written_in_the_source(beginning: str, written: list[re.Pattern[str]]) -> None:
    found = [message for message in quoted() if message.startswith(beginning)]
    assert len(found) == 1
    assert any(pattern.fullmatch(found[0]) for pattern in written), found[0]


def test_no_quoted_message_is_unchecked() -> None:
    """Three on a changed configuration, the hint of leaks (below), and the two lists above are all."""
    assert len(quoted()) == len(PROVOKED) + 3 + 1 + len(WRITTEN)
    assert len(set(quoted())) == len(quoted())


def test_the_hint_on_leaks_is_quoted() -> None:
    from clipmused_bids.evaluation.leakage import HINT

    assert f"hint: {HINT}" in quoted()
