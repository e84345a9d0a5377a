from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipmused_bids.dataset.outputs.split_file import read_split, write_split
from clipmused_bids.errors import CannotCreateError, DataError, DatasetError, MissingInputError, UsageError
from clipmused_bids.records import Trials
from clipmused_bids.stages.splitting import (
    choose_split,
    design_of,
    in_blocks,
    keep_split,
    own_split_file,
    sets_of_runs,
    split_hash,
    split_of_decoder,
    stored_split,
)
from tests.stages.conftest import World, make_catalogue, make_run

NAMES = tuple("abcdef")
LABELS = {name: [k % 2, (k + 1) % 2] for k, name in enumerate(NAMES)}


@pytest.fixture
def study(world: World) -> World:
    """Two people, two runs each, six stimuli that both see in both runs."""
    for participant in ("01", "02"):
        for number in (1, 2):
            world.add(make_run(participant, number), NAMES, np.zeros((6, 2)))
    return world


def write_by_hand(path: Path, rows: list[tuple[str, str, str]]) -> str:
    path.write_text("run\tstimulus_id\tset\n" + "".join("\t".join(row) + "\n" for row in rows))
    return str(path)


def rows_of(study: World, set_of: dict[tuple[str, int, str], str]) -> list[tuple[str, str, str]]:
    return [
        (run.key, name, set_of.get((run.participant, run.run or 0, name), "train"))
        for run in study.runs
        for name in NAMES
    ]


ALL = [(p, r, n) for p in ("01", "02") for r in (1, 2) for n in NAMES]
TEST_SETS = {
    "unseen trials of seen stimuli": [each for each in ALL if each[1] == 2],
    "unseen stimuli": [each for each in ALL if each[2] in "ef"],
    "unseen participant": [each for each in ALL if each[0] == "02"],
}


@pytest.mark.parametrize("regime", TEST_SETS)
def test_a_table_without_regime_gets_the_one_its_rows_mean(study: World, tmp_path: Path, regime: str) -> None:
    file = write_by_hand(tmp_path / "by_hand.tsv", rows_of(study, dict.fromkeys(TEST_SETS[regime], "test")))
    split = choose_split(study.plan(split=file), make_catalogue(LABELS), study.tree)
    assert (split.rule, split.regime) == ("file", regime)


def test_unseen_people_and_stimuli(study: World, tmp_path: Path) -> None:
    sets = {each: "test" if each[2] in "ef" else "none" for each in ALL if each[0] == "02"}
    sets |= {each: "none" for each in ALL if each[0] == "01" and each[2] in "ef"}
    file = write_by_hand(tmp_path / "by_hand.tsv", rows_of(study, sets))
    split = choose_split(study.plan(split=file), make_catalogue(LABELS), study.tree)
    assert split.regime == "unseen participant and unseen stimuli"


def test_validation_stimuli_count_as_seen(study: World, tmp_path: Path) -> None:
    sets = {each: "val" if each[1] == 1 else "test" for each in ALL if each[2] in "ef"}
    file = write_by_hand(tmp_path / "by_hand.tsv", rows_of(study, sets))
    split = choose_split(study.plan(split=file), make_catalogue(LABELS), study.tree)
    assert split.regime == "unseen trials of seen stimuli"


def test_a_regime_that_is_stated_is_kept(study: World, tmp_path: Path) -> None:
    split = study.split(dict.fromkeys(NAMES, "train"), regime="unseen participant")
    write_split(tmp_path / "split.tsv", split)
    chosen = choose_split(study.plan(split=str(tmp_path / "split.tsv")), make_catalogue(LABELS), study.tree)
    assert chosen.regime == "unseen participant"


def test_auto_takes_what_is_stored(study: World) -> None:
    by_hand = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    write_split(study.tree.split, by_hand)
    assert split_hash(choose_split(study.plan(), make_catalogue(LABELS), study.tree)) == split_hash(by_hand)


def test_a_split_is_the_datasets_unless_the_dataset_has_another(study: World) -> None:
    first = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    second = study.split({name: "test" if name == "d" else "train" for name in NAMES})
    keep_split(first, study.tree, model_label="one", overwrite=False)
    keep_split(first, study.tree, model_label="two", overwrite=False)
    assert not own_split_file(study.tree, model_label="one").exists()
    assert not own_split_file(study.tree, model_label="two").exists()
    keep_split(second, study.tree, model_label="two", overwrite=False)
    assert split_hash(read_split(study.tree.split)) == split_hash(first)
    stored = {label: stored_split(study.tree, model_label=label) for label in ("one", "two")}
    assert [split_hash(split) for split in stored.values() if split] == [
        split_hash(first),
        split_hash(second),
    ]


def test_an_own_split_goes_with_the_decoder_it_belonged_to(study: World) -> None:
    """Trained by another split, then again by the dataset's: nothing of the other is left to be read."""
    first = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    second = study.split({name: "test" if name == "d" else "train" for name in NAMES})
    for split in (first, second, first):
        keep_split(split, study.tree, model_label="clipmused", overwrite=False)
    stored = stored_split(study.tree, model_label="clipmused")
    assert stored is not None
    assert split_hash(stored) == split_hash(first)
    assert list(study.tree.model_folder("clipmused").iterdir()) == []


def test_with_overwrite_a_split_gives_way_to_one_that_knows_more_runs(study: World) -> None:
    """A split that knows no run more lies beside the decoder even then."""
    first = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    other = study.split({name: "test" if name == "d" else "train" for name in NAMES})
    fewer = replace(
        first, run_key=first.run_key[:12], stimulus_id=first.stimulus_id[:12], set_name=first.set_name[:12],
        reason=first.reason[:12],
    )  # fmt: skip
    keep_split(fewer, study.tree, model_label="m", overwrite=False)
    keep_split(first, study.tree, model_label="m", overwrite=True)
    assert split_hash(read_split(study.tree.split)) == split_hash(first)
    keep_split(other, study.tree, model_label="m", overwrite=True)
    assert split_hash(read_split(study.tree.split)) == split_hash(first)
    assert split_hash(read_split(own_split_file(study.tree, model_label="m"))) == split_hash(other)


def test_a_stored_split_that_lacks_runs_is_refused_until_it_may_be_replaced(study: World) -> None:
    split = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    fewer = replace(
        split, run_key=split.run_key[:18], stimulus_id=split.stimulus_id[:18], set_name=split.set_name[:18],
        reason=split.reason[:18],
    )  # fmt: skip
    write_split(study.tree.split, fewer)
    with pytest.raises(CannotCreateError, match=r"made before 1 run.* \(sub-02_task-x_run-2\)") as caught:
        choose_split(study.plan(), make_catalogue(LABELS), study.tree)
    assert "--overwrite" in str(caught.value.hint)
    anew = choose_split(study.plan(overwrite=True), make_catalogue(LABELS), study.tree)
    assert set(anew.run_key) == {run.key for run in study.runs}


def test_the_hash_follows_the_sets_and_nothing_else(study: World) -> None:
    split = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    order = np.random.default_rng(0).permutation(len(split.run_key))
    shuffled = replace(
        split,
        run_key=tuple(split.run_key[k] for k in order),
        stimulus_id=tuple(split.stimulus_id[k] for k in order),
        set_name=tuple(split.set_name[k] for k in order),
        reason=("another",) * len(order),
        rule="another",
    )
    assert split_hash(shuffled) == split_hash(split)
    changed = replace(split, set_name=("val", *split.set_name[1:]))
    assert split_hash(changed) != split_hash(split)


def test_decoding_goes_by_the_stored_split_or_the_file_that_is_named(
    study: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert split_of_decoder(study.plan(), study.tree) is None
    stored = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    write_split(study.tree.split, stored)
    file = write_by_hand(tmp_path / "by_hand.tsv", rows_of(study, {}))
    for asked, test in (("auto", 4), ("runs:2", 4), (file, 0)):
        with caplog.at_level(logging.INFO):
            split = split_of_decoder(study.plan(split=asked), study.tree)
        assert split is not None
        assert split.set_name.count("test") == test
    assert "--split runs:2 is for training" in caplog.text


def test_runs_that_the_split_does_not_know_are_new(study: World) -> None:
    split = study.split({name: "test" if name == "c" else "train" for name in NAMES})
    known = replace(
        split, run_key=split.run_key[:6], stimulus_id=split.stimulus_id[:6], set_name=split.set_name[:6]
    )
    sets = sets_of_runs(known, study.runs, study.trials)
    first, *others = (sets[run.key] for run in study.runs)
    assert first == ("train", "train", "test", "train", "train", "train")
    assert others == [("new",) * 6] * 3
    assert sets_of_runs(None, study.runs, study.trials)[study.runs[0].key] == ("new",) * 6


def test_a_known_run_with_a_strange_trial_is_refused(study: World) -> None:
    split = study.split(dict.fromkeys(NAMES, "train"))
    known = replace(
        split, run_key=split.run_key[:5], stimulus_id=split.stimulus_id[:5], set_name=split.set_name[:5]
    )
    with pytest.raises(DataError, match=r"no set for 1 of 6 trials: sub-01_task-x_run-1 f") as caught:
        sets_of_runs(known, study.runs, study.trials)
    assert "--overwrite" not in str(caught.value.hint), "it would read the stored split again"


def test_a_column_of_the_events_decides(world: World) -> None:
    for number in (1, 2):
        columns = {"fold": ["train", "train", "test", "train", "val", "test"]}
        world.add(make_run("01", number), NAMES, np.zeros((6, 2)), columns=columns)
    design = design_of(world.plan(), make_catalogue(LABELS), "column:fold")
    assert design.column == ("train", "train", "test", "train", "val", "test") * 2
    assert design_of(world.plan(), make_catalogue(LABELS), "auto").column is None
    with pytest.raises(UsageError, match=r"neither the events nor stimuli\.tsv have a column part") as caught:
        design_of(world.plan(), make_catalogue(LABELS), "column:part")
    assert "fold" in str(caught.value.hint)


@pytest.mark.parametrize("asked", ["auto", "column:split"])
def test_a_column_of_the_stimuli_decides(world: World, asked: str) -> None:
    """The table of the stimuli is read under the names that the events use."""
    world.add(make_run(), "abcdefgh", np.zeros((8, 2)))
    sets = dict(
        zip("abcdefgh", ["test", "val", "train", "train", "test", "val", "train", "train"], strict=True)
    )
    labels = {name: [name in "abcg", name in "defh"] for name in sets}
    table = {"split": tuple(sets.values()), "filename": [f"{name}.png" for name in sets]}
    split = choose_split(world.plan(split=asked), make_catalogue(labels, table=table), world.tree)
    assert dict(zip(split.stimulus_id, split.set_name, strict=True)) == sets
    assert (split.rule, split.regime) == ("column", "unseen stimuli")


def test_a_split_must_see_everyone(study: World) -> None:
    bids = study.folder / "bids"
    (bids / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    with pytest.raises(DatasetError, match=r"1 participant.* \(sub-03\)") as caught:
        choose_split(study.plan(), make_catalogue(LABELS), study.tree)
    assert "--split FILE" in str(caught.value.hint)


def test_a_split_that_is_nowhere(study: World) -> None:
    for ask in (choose_split, lambda plan, _catalogue, tree: split_of_decoder(plan, tree)):
        with pytest.raises(MissingInputError, match="no such file, and no rule of that name"):
            ask(study.plan(split="by_runs"), make_catalogue(LABELS), study.tree)


def test_blocks_of_one_condition_are_told_from_shuffled_conditions() -> None:
    def run(conditions: str) -> Trials:
        n = len(conditions)
        nothing = np.empty(0)
        return Trials(
            np.arange(n, dtype=float), np.ones(n), tuple(f"s{k}" for k in range(n)), tuple(conditions),
            {}, nothing, nothing, (), n, n, {}, "stim_file",
        )  # fmt: skip

    assert in_blocks([run("aaaabbbbaaaa"), run("bbbbaaaabbbb")])
    assert not in_blocks([run("abbabaabbaab")])
    assert not in_blocks([run("aaaaaaaaaaaa")]), "one condition says nothing"
    assert not in_blocks([])
