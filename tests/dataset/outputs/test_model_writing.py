"""Two runs that store a decoder under one label: one stands, whole, and the other one is told."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clipmused_bids.dataset.outputs import model_writing
from clipmused_bids.dataset.outputs.model_writing import (
    complete_model,
    history_of,
    is_complete,
    save_model,
)
from clipmused_bids.dataset.outputs.weights import load_model, read_config
from clipmused_bids.errors import CannotCreateError, DataError
from clipmused_bids.records import History

# Large enough that writing takes a while.
N = 200_000


def decoder(seed: int, *, bits: float = 0.0) -> dict[str, Any]:
    """A decoder whose every file tells which one it is of."""
    return {
        "participant": None,
        "tensors": {"token": np.full(N, seed + bits)},
        "config": {"method": "ridge", "seed": seed, "best_epoch": seed, "bits": bits},
        "history": History({"loss": (float(seed), bits)}, best_epoch=1, stopped="patience"),
        "settings": ("method", "seed"),
    }


def owner(folder: Path) -> int:
    """Whose decoder lies in a folder; all files must say the same."""
    model = load_model(folder, participant=None)
    seed = int(model.config["seed"])
    bits = model.config["bits"]
    assert np.all(model.tensors["token"] == seed + bits)
    shown = json.loads((folder / "config.json").read_text())
    assert (shown["seed"], shown["weights_sha256"]) == (seed, model.weights_hash)
    table = pd.read_csv(folder / "history.tsv", sep="\t")
    assert table["loss"].tolist() == [seed, bits]
    assert not list(folder.glob(".*"))
    return seed


def test_the_second_of_two_configurations_is_told_and_changes_nothing(tmp_path: Path) -> None:
    save_model(tmp_path, **decoder(1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        CannotCreateError, match="another configuration meanwhile: seed: stored 1, ours 2"
    ) as e:
        save_model(tmp_path, **decoder(2))
    assert "--model-label" in (e.value.hint or "")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_decoder_of_the_same_settings_serves(tmp_path: Path) -> None:
    """Its bits may differ where another machine made it; then the first one stands, with its own files."""
    first = save_model(tmp_path, **decoder(1))
    assert save_model(tmp_path, **decoder(1, bits=0.5)) == first
    assert owner(tmp_path) == 1
    assert load_model(tmp_path, participant=None).config["bits"] == 0.0


def test_overwriting_replaces_everything(tmp_path: Path) -> None:
    save_model(tmp_path, **decoder(1))
    save_model(tmp_path, overwrite=True, **decoder(2))
    assert owner(tmp_path) == 2


def _store(folder: str, seed: int, bits: float, overwrite: bool, barrier: Any, told: Any) -> None:
    barrier.wait()
    try:
        save_model(Path(folder), overwrite=overwrite, **decoder(seed, bits=bits))
        told.put((seed, "stored"))
    except CannotCreateError:
        told.put((seed, "refused"))


def race(folder: Path, jobs: list[tuple[int, float]], *, overwrite: bool) -> list[tuple[int, str]]:
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(len(jobs)), context.Queue()
    processes = [
        context.Process(target=_store, args=(str(folder), seed, bits, overwrite, barrier, told))
        for seed, bits in jobs
    ]
    for process in processes:
        process.start()
    ends = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(jobs)
    return ends


@pytest.mark.parametrize("links", [True, False])
def test_of_two_configurations_at_once_one_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuses_links)
    winners = set()
    for turn in range(25):
        folder = tmp_path / str(turn)
        ends = dict(race(folder, [(1, 0.0), (2, 0.0)], overwrite=False))
        winner = owner(folder)
        winners.add(winner)
        assert ends[winner] == "stored"
        if links:
            assert ends[3 - winner] == "refused"


def test_overwriting_at_once_mixes_nothing(tmp_path: Path) -> None:
    for _ in range(25):
        ends = race(tmp_path, [(1, 0.0), (2, 0.0), (3, 0.0)], overwrite=True)
        assert (owner(tmp_path), "stored") in ends


def test_equal_settings_at_once_both_end_well(tmp_path: Path) -> None:
    for turn in range(15):
        folder = tmp_path / str(turn)
        assert race(folder, [(1, 0.0), (1, 0.5)], overwrite=False) == [(1, "stored")] * 2
        assert owner(folder) == 1


def refuses_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuses_links)
    save_model(tmp_path, **decoder(1))
    with pytest.raises(CannotCreateError, match="meanwhile"):
        save_model(tmp_path, **decoder(2))
    assert owner(tmp_path) == 1


def test_what_a_killed_run_did_not_write_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "whole", **decoder(1))
    monkeypatch.setattr(model_writing, "_write_beside", lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path / "m", **decoder(1))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.safetensors"]
    assert read_config(tmp_path / "m", participant=None)["seed"] == 1
    assert not is_complete(tmp_path / "m", participant=None)
    complete_model(tmp_path / "m", participant=None)
    assert is_complete(tmp_path / "m", participant=None)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "m" / path.name).read_bytes() == path.read_bytes()
    history = history_of(load_model(tmp_path / "m", participant=None))
    assert history == History({"epoch": (0, 1), "loss": (1.0, 0.0)}, best_epoch=1, stopped="")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_reader_waits_for_the_instant_between_two_files(tmp_path: Path) -> None:
    save_model(tmp_path / "m", **decoder(1))
    save_model(tmp_path / "other", **decoder(2))
    (tmp_path / "m" / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(DataError, match="not of one decoder"):
        load_model(tmp_path / "m", participant=None)

    def follow() -> None:
        time.sleep(0.3)
        complete_model(tmp_path / "m", participant=None)

    late = threading.Thread(target=follow)
    late.start()
    assert load_model(tmp_path / "m", participant=None).config["seed"] == 1
    late.join()
