from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clipmused_bids.dataset.outputs import embeddings
from clipmused_bids.dataset.outputs.embeddings import EmbeddingCache
from clipmused_bids.errors import DataError, MissingInputError

SETTINGS = {"ClipModel": "demo", "WeightsHash": "abc", "Size": (64, 64)}


def key(k: int) -> str:
    return hashlib.sha256(str(k).encode()).hexdigest()


def features(ks: list[int]) -> dict[str, np.ndarray]:
    low = np.array([[k, k + 0.5, -k] for k in ks], dtype=np.float16).reshape(-1, 3)
    return {"low": low, "high": np.array([[k] for k in ks], dtype=np.float32).reshape(-1, 1)}


def cache(folder: Path, **changes: object) -> EmbeddingCache:
    return EmbeddingCache(
        folder / "desc-demo_embeddings", {**SETTINGS, **changes}, sources=("bids:raw:stimuli",)
    )


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "desc-demo_embeddings").glob("*.safetensors"))


def fill(store: EmbeddingCache, ks: list[int]) -> None:
    store.add([key(k) for k in ks], features(ks))


def check(store: EmbeddingCache, ks: list[int]) -> None:
    found = store.read([key(k) for k in ks])
    for name, values in features(ks).items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_rows_come_back_in_any_order_and_number(tmp_path: Path) -> None:
    store = cache(tmp_path)
    assert store.missing([key(1)]) == (key(1),)
    fill(store, list(range(40)))
    check(store, [39, 0, 7, 7, 12])
    check(cache(tmp_path), list(range(40)))
    assert store.missing([key(50), key(3), key(41), key(50)]) == (key(50), key(41))


def test_shards_hold_one_digit_and_say_what_they_are(tmp_path: Path) -> None:
    fill(cache(tmp_path), list(range(40)))
    digits = set()
    for path in shards(tmp_path):
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert {name[0] for name in sidecar["Keys"]} == {path.name[0]}
        assert sidecar["Settings"] == {"ClipModel": "demo", "WeightsHash": "abc", "Size": [64, 64]}
        assert sidecar["Sources"] == ["bids:raw:stimuli"]
        ks = [int(k) for k in load_file(path)["high"][:, 0]]
        assert [key(k) for k in ks] == sidecar["Keys"]
        digits.add(path.name[0])
    assert digits == {key(k)[0] for k in range(40)}
    assert len(shards(tmp_path)) == len(digits)


def test_missing_rows_are_counted(tmp_path: Path) -> None:
    store = cache(tmp_path)
    fill(store, [1])
    with pytest.raises(MissingInputError, match="no features of 2 of 3 stimuli"):
        store.read([key(1), key(2), key(3), key(3)])


@pytest.mark.parametrize("change", [{"WeightsHash": "other"}, {"Size": (32, 32)}, {"New": 1}])
def test_other_settings_see_nothing_of_it(tmp_path: Path, change: dict[str, object]) -> None:
    fill(cache(tmp_path), [1, 2])
    other = cache(tmp_path, **change)
    assert other.missing([key(1)]) == (key(1),)
    other.add([key(1)], {"low": np.zeros((1, 9)), "high": np.zeros((1, 9))})
    check(cache(tmp_path), [1, 2])
    assert other.read([key(1)])["low"].shape == (1, 9)


def test_stored_rows_stay_as_they_are(tmp_path: Path) -> None:
    store = cache(tmp_path)
    fill(store, [1, 2])
    before = shards(tmp_path)
    store.add([key(2), key(1)], features([5, 5]))
    assert shards(tmp_path) == before
    check(store, [1, 2])


def test_plan_groups_what_is_missing(tmp_path: Path) -> None:
    store = cache(tmp_path)
    fill(store, list(range(20)))
    groups = store.plan([key(k) for k in [*range(100), *range(100)]], rows=3)
    assert sorted(name for group in groups for name in group) == sorted(key(k) for k in range(20, 100))
    assert all(len(group) <= 3 and len({name[0] for name in group}) == 1 for group in groups)
    assert store.plan([key(3)]) == ()


def test_thousands_of_tiny_additions_stay_few_files(tmp_path: Path) -> None:
    store = cache(tmp_path)
    same_digit = [k for k in range(1500) if key(k)[0] == "a"]
    for k in same_digit:
        fill(store, [k])
    assert len(same_digit) > 70
    assert len(shards(tmp_path)) <= 9
    assert len(list((tmp_path / "desc-demo_embeddings").iterdir())) == 2 * len(shards(tmp_path))
    check(store, same_digit)


def test_large_shards_are_not_merged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_SMALL", 4)
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 8)
    store = cache(tmp_path)
    same_digit = [k for k in range(5000) if key(k)[0] == "b"][:160]
    for start in range(0, 160, 4):
        fill(store, same_digit[start : start + 4])
    assert len(shards(tmp_path)) == 40
    for k in [k for k in range(5000, 9000) if key(k)[0] == "b"][:60]:
        fill(store, [k])
    sizes = [len(load_file(path)["high"]) for path in shards(tmp_path)]
    assert max(sizes) <= 8
    assert sum(size < 4 for size in sizes) <= 8
    check(store, same_digit)


def test_a_shard_that_holds_all_others_outlives_them(tmp_path: Path) -> None:
    # Jobs that computed the same stimuli at once leave shards that overlap.
    store = cache(tmp_path)
    ks = sorted((k for k in range(400) if key(k)[0] == "c"), key=key)[:9]
    for part in [ks, *([k] for k in ks)]:
        store._write([key(k) for k in part], features(part))
    assert len(shards(tmp_path)) == 10
    store._merge_small("c")
    assert len(shards(tmp_path)) == 1
    check(store, ks)


def test_a_broken_shard_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = cache(tmp_path)
    fill(store, [1])
    (path,) = shards(tmp_path)
    path.write_bytes(path.read_bytes()[:-2])
    assert store.missing([key(1)]) == (key(1),)
    assert path.name in caplog.text
    fill(store, [1])
    check(store, [1])


def test_refusals(tmp_path: Path) -> None:
    store = cache(tmp_path)
    with pytest.raises(ValueError, match=r"2 keys \(1 different\)"):
        store.add([key(1), key(1)], features([1, 1]))
    with pytest.raises(ValueError, match="2 keys"):
        store.add([key(1), key(2)], features([1]))
    fill(store, [1])
    store.add([key(2)], {"low": np.zeros((1, 9)), "high": np.zeros((1, 9))})
    with pytest.raises(DataError, match="has rows of"):
        store.read([key(1), key(2)])


def test_nothing_to_add(tmp_path: Path) -> None:
    store = cache(tmp_path)
    store.add([], features([]))
    assert shards(tmp_path) == []
    assert store.read([]) == {}


def _job(folder: str, ks: list[int], size: int) -> None:
    store = cache(Path(folder))
    for start in range(0, len(ks), size):
        fill(store, ks[start : start + size])


def test_parallel_jobs_lose_nothing_and_readers_never_see_rows_vanish(tmp_path: Path) -> None:
    # All keys of few digits, in tiny overlapping pieces: merging happens all the time.
    pool = [k for k in range(1500) if key(k)[0] in "0f"]
    rng = np.random.default_rng(0)
    pieces = [[int(k) for k in rng.permutation(pool)[:70]] for _ in range(4)]
    context = multiprocessing.get_context(
        "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    )
    jobs = [context.Process(target=_job, args=(str(tmp_path), piece, 3)) for piece in pieces]
    for job in jobs:
        job.start()
    store, seen = cache(tmp_path), set()
    while any(job.is_alive() for job in jobs):
        there = set(pool) - {k for k in pool if key(k) in set(store.missing([key(k) for k in pool]))}
        assert seen <= there
        seen = there
        check(store, sorted(there))
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    check(store, sorted({k for piece in pieces for k in piece}))
    assert len(shards(tmp_path)) <= 40
    assert not [path for path in (tmp_path / "desc-demo_embeddings").iterdir() if path.suffix == ".tmp"]
