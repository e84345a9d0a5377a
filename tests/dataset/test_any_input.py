"""Readers against anything: they answer or refuse, never fail otherwise, and look at nothing outside their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.events.reading import read_events
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.catalogue import label_keys, read_stimuli_table
from clipmused_bids.dataset.stimuli.coco import read_coco_captions, read_instances
from clipmused_bids.dataset.stimuli.finding import resolve_stimuli
from clipmused_bids.dataset.stimuli.labels import read_labels
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.records import Run, Trials
from tests.stages.conftest import make_trials

MANY = settings(deadline=None, max_examples=100)
# What programs, spreadsheets and people leave in tables.
_ODD = r"""n/a NaN 0 1 1.0 -1 46003.0 4.6e4 1e400 inf true a a.png b/c.JPEG b\c.jpg stim-7 * [ [b-a] ?
dog/* a;b a,b ../x.png /etc/passwd C:\x é rest face stimulus_id onset label_id filename labels caption trial_type"""
_HEADERS = """stimulus_id filename label_id labels caption description dog onset duration trial_type stim_file
73k_id image event_type condition"""
CELL = st.one_of(st.sampled_from(["", "\ufeff", "\x00", *_ODD.split()]), st.text(max_size=8))
HEADER = st.lists(st.one_of(st.sampled_from(_HEADERS.split()), CELL), min_size=1, max_size=6)
TABLE = HEADER.flatmap(
    lambda header: st.lists(st.lists(CELL, max_size=len(header)), max_size=8).map(
        lambda rows: [header, *rows]
    )
)
SEPARATORS = st.tuples(st.sampled_from(["\t", "\t", ",", " "]), st.sampled_from(["\n", "\r\n", "\r"]))
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.tuples(TABLE, SEPARATORS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])).map(
        lambda drawn: drawn[1][1].join(drawn[1][0].join(row) for row in drawn[0]).encode(drawn[2], "replace")
    ),
)
NAMES = st.lists(CELL.filter(bool), min_size=1, max_size=6, unique=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def events(path: Path, **options) -> Trials:
    defaults = {"trial_types": (), "stimulus_column": None, "merge_blocks": "auto"}
    return read_events(Run("01", None, "x", 1, {}, path, None, "bold"), **(defaults | options))


@given(
    content=CONTENT,
    chosen=st.sampled_from([(), ("face",), ("*",), ("[",)]),
    column=st.sampled_from([None, "stim_file", "dog"]),
    merge=st.sampled_from(["auto", "off", "4"]),
    decode=st.booleans(),
    seconds=st.sampled_from([None, 0.0, 300.0]),
)
@MANY
def test_events(*, folder, content, chosen, column, merge, decode, seconds):
    path = folder / "events.tsv"
    path.write_bytes(content)
    try:
        trials = events(
            path, trial_types=chosen, stimulus_column=column, merge_blocks=merge, decode=decode, run_seconds=seconds
        )  # fmt: skip
    except ClipMusedError:
        return
    accounted = trials.n_rows_in_trials + len(trials.nuisance_onset) + sum(trials.excluded.values())
    assert trials.n_rows == accounted
    assert len(trials.stimulus_id) == trials.n_trials > 0
    assert np.isfinite(trials.onset).all()
    assert np.isfinite(trials.duration).all()


@given(content=CONTENT, names=NAMES, condition=CELL)
@MANY
def test_label_tables(*, folder, content, names, condition):
    path = folder / "labels.tsv"
    path.write_bytes(content)
    shown = Presentations((make_trials(names, columns={"dog": [condition] * len(names)}),))
    try:
        labels, values, _ = read_labels(
            (str(path),), stimulus_ids=names, presentations=shown, stimuli_table=None
        )
    except ClipMusedError:
        return
    assert values.shape == (len(names), len(labels))
    assert np.isin(values[~np.isnan(values)], [0, 1]).all()


@given(content=CONTENT, names=NAMES)
@MANY
def test_captions(*, folder, content, names):
    path = folder / "captions.tsv"
    path.write_bytes(content)
    try:
        found = read_captions((str(path),), stimulus_ids=names, stimuli_table=None)
    except ClipMusedError:
        return
    assert len(found) == len(names)
    assert any(found)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("000000000009.jpg")
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
_FIELDS = ("id", "image_id", "category_id", "name", "file_name", "caption")
ENTRY = st.one_of(
    JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(_FIELDS, st.one_of(JSON, st.just(9))))
)
ANNOTATIONS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("images", "annotations", "categories"), st.one_of(JSON, st.lists(ENTRY, max_size=4)))
)  # fmt: skip


@given(
    content=st.one_of(
        st.binary(max_size=100), st.one_of(JSON, ANNOTATIONS).map(lambda value: json.dumps(value).encode())
    ),
    names=NAMES,
)
@MANY
def test_coco_files(*, folder, content, names):
    path = folder / "annotations.json"
    path.write_bytes(content)
    for read in (read_instances, read_coco_captions):
        try:
            read([path])
        except ClipMusedError:
            continue
    try:
        labels, values, _ = read_labels(
            (str(path),), stimulus_ids=names, presentations=Presentations(()), stimuli_table=None
        )
    except ClipMusedError:
        return
    assert values.shape == (len(names), len(labels))


def test_json_that_is_nested_too_deeply(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ClipMusedError, match=r"deep\.json"):
        read_instances([path])


@pytest.fixture(scope="module")
def tree(folder: Path) -> Path:
    """Pictures, and links out of the folder of stimuli; nothing with ``secret`` in its path may be opened."""
    bids = folder / "bids"
    stimuli = bids / "stimuli"
    (stimuli / "b").mkdir(parents=True)
    (folder / "secret").mkdir()
    for path in (
        stimuli / "a.png",
        stimuli / "b/c.JPEG",
        stimuli / "stim-7_image.png",
        folder / "secret/x.png",
    ):
        Image.new("RGB", (2, 2)).save(path)
    (stimuli / "link.png").symlink_to(folder / "secret" / "x.png")
    (stimuli / "out").symlink_to(folder / "secret")
    (stimuli / "up.png").symlink_to("../../secret/x.png")
    return bids


LEADING_OUT = st.sampled_from(
    [
        r"../secret/x.png",
        r"b/../../../secret/x.png",
        r"out/x.png",
        r"link.png",
        r"link",
        r"LINK.PNG",
        r"up.png",
        r"..\secret\x.png",
        r"out\x.png",
        r"./../secret/x.png",
        r"stimuli/../../secret/x.png",
        r"//secret/x.png",
        r"x.png",
        r"x",
        r"secret/x.png",
    ]
)
_PARTS = [*["..", ".", "b", "out", "secret", "x.png", "a.png", "c", "stimuli", "link.png", "~", "*"], ""]
PARTS = st.lists(st.sampled_from(_PARTS), max_size=6).map("/".join)


def resolve(bids: Path, names: Sequence[str], *, dirs: Sequence[str] = ()):
    return resolve_stimuli(
        names, bids_dir=bids, stimuli_dirs=dirs, table=read_stimuli_table(bids)
    )  # fmt: skip


@given(names=st.lists(st.one_of(LEADING_OUT, PARTS, CELL), max_size=8), content=CONTENT, mapped=st.booleans())
@MANY
def test_the_resolver_stays_in_its_folders(*, tree, names, content, mapped):
    listed = tree / "stimuli" / "stimuli.tsv"
    listed.unlink(missing_ok=True)
    if mapped:
        rows = [
            f"{name}\t{other}"
            for name, other in zip(names, reversed(names), strict=True)
            if _plain(name + other)
        ]
        listed.write_text("\n".join(["stimulus_id\tfilename", *rows]))
    elif content:
        listed.write_bytes(content)
    try:
        resolved = resolve(tree, names)
    except ClipMusedError:
        return
    assert resolved.names == tuple(dict.fromkeys(names))
    assert len(resolved.missing) + sum(p is not None for p in resolved.picture) == len(resolved.names)
    real = (tree / "stimuli").resolve()
    for found in resolved.picture:
        assert found is None or found.path.resolve().is_relative_to(real)
    table = read_stimuli_table(tree)
    for name in names:
        assert all(isinstance(key, str) for key in label_keys(name, table))


def _plain(text: str) -> bool:
    return not set("\t\r\n\x00") & set(text)


@pytest.mark.parametrize(
    "name",
    [
        "../secret/x.png",
        "out/x.png",
        "link.png",
        "up.png",
        "link",
        "..\\secret\\x.png",
        "secret/x.png",
        "x.png",
    ],
)
def test_ways_out_that_lead_to_a_real_picture(tree, name):
    (tree / "stimuli" / "stimuli.tsv").unlink(missing_ok=True)
    assert resolve(tree, [name]).picture == (None,)
    (tree / "stimuli" / "stimuli.tsv").write_text(f"stimulus_id\tfilename\none\t{name}\n")
    assert resolve(tree, ["one"]).picture == (None,)
