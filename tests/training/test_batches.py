from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.decoder.parts import Part
from clipmused_bids.errors import DataError
from clipmused_bids.records import ResponseTable, TrialData
from clipmused_bids.training.batches import (
    Batch,
    TrialReader,
    epoch_order,
    guidance_similarity,
)
from clipmused_bids.training.guidance import TargetSimilarity
from clipmused_bids.training.mixing import Mixing, draw_mixing

CPU = torch.device("cpu")


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_draws_every_trial_once(n_trials: int, batch_size: int, seed: int) -> None:
    batches = epoch_order(n_trials, batch_size=batch_size, generator=np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(n_trials))
    assert all(len(batch) <= batch_size + 1 for batch in batches)
    if batch_size > 1 and n_trials > 1:
        assert min(len(batch) for batch in batches) > 1


def test_the_seed_decides_the_order_and_epochs_differ() -> None:
    first, again = (np.random.default_rng(3) for _ in range(2))
    orders = [np.concatenate(epoch_order(50, batch_size=8, generator=g)) for g in (first, first, again)]
    np.testing.assert_array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])


def test_a_batch_mixes_participants() -> None:
    participant = np.repeat([0, 1, 2], 100)
    batches = epoch_order(300, batch_size=30, generator=np.random.default_rng(0))
    assert all(len(set(participant[batch])) == 3 for batch in batches)


@pytest.mark.parametrize("in_memory_bytes", [10**9, 0])
def test_a_batch_holds_the_right_trials_in_groups(
    make_trials: Callable[..., TrialData], in_memory_bytes: int
) -> None:
    data = make_trials(n_participants=3, n_trials=20, common_space=False)
    # Some trials only, in any order, as after a split.
    data = data.subset(np.random.default_rng(0).permutation(60)[:40])
    reader = TrialReader(data, device=CPU, token=[5, 2, 7], in_memory_bytes=in_memory_bytes)
    index = np.array([30, 2, 17, 5, 39, 21, 8])
    batch = reader.batch(index)
    order = index[np.argsort(data.participant[index], kind="stable")]
    expected = [data.responses[data.participant[i]].read(data.row[i : i + 1])[0] for i in order]
    np.testing.assert_allclose(torch.cat(batch.responses), np.stack(expected))
    np.testing.assert_array_equal(batch.labels, data.labels[order])
    np.testing.assert_array_equal(batch.stimulus, data.stimulus[order])
    tokens = [n for n, group in zip(batch.participants, batch.responses, strict=True) for _ in group]
    np.testing.assert_array_equal(tokens, np.array([5, 2, 7])[data.participant[order]])


def test_reading_in_order_returns_to_the_datas_order(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials(n_participants=2, n_trials=15).subset(np.random.default_rng(1).permutation(30))
    reader = TrialReader(data, device=CPU)
    seen = np.zeros(data.labels.shape, dtype=np.float32)
    for index, batch in reader.in_order(batch_size=7):
        seen[index] = batch.labels
    np.testing.assert_array_equal(seen, data.labels)


@pytest.mark.parametrize("in_memory_bytes", [10**9, 0])
def test_nan_responses_are_refused_by_participant(
    make_trials: Callable[..., TrialData],
    make_table: Callable[..., ResponseTable],
    in_memory_bytes: int,
) -> None:
    data = make_trials(n_trials=10)
    values = data.responses[1].read(np.arange(10))
    values[3, 4] = np.nan
    data = replace(data, responses=(data.responses[0], make_table([values])))
    with pytest.raises(DataError, match="sub-02: 1 of 400 responses are NaN"):
        TrialReader(data, device=CPU, in_memory_bytes=in_memory_bytes).batch(np.arange(20))


def batch_of(*sizes: int, mixing: Mixing | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    n = sum(sizes)
    participants = tuple(range(len(sizes)))
    return Batch(
        responses=tuple(torch.randn(size, 3 + k, generator=generator) for k, size in enumerate(sizes)),
        participants=participants,
        labels=(torch.rand(n, 2, generator=generator) > 0.5).float(),
        stimulus=torch.arange(n),
        part=Part(0, n, participants, sizes, tuple(3 + k for k in participants)),
        mixing=mixing,
    )


def mixing_of(share: list[float]) -> Mixing:
    return Mixing(share=np.array(share, dtype=np.float32), partner=np.array([1, 0, 3, 4, 2]))


def test_partners_are_of_the_same_participant_and_shares_at_least_half() -> None:
    mixing = draw_mixing((5, 9), concentration=0.4, generator=np.random.default_rng(0))
    assert sorted(mixing.partner[:5].tolist()) == list(range(5))
    assert sorted(mixing.partner[5:].tolist()) == list(range(5, 14))
    assert (mixing.share >= 0.5).all()
    assert (mixing.share <= 1).all()
    assert mixing.share.std() > 0.05


@pytest.fixture
def two_people(make_trials: Callable[..., TrialData]) -> TrialData:
    data = make_trials(n_participants=2, n_trials=20, common_space=False)
    labels = data.labels.copy()
    labels[24, 1] = np.nan
    return replace(data, labels=labels)


MIXED = np.array([3, 7, 22, 23, 24])


@pytest.mark.parametrize("in_memory_bytes", [10**9, 0])
def test_a_mixed_batch_is_the_weighted_mean_of_two_trials(
    two_people: TrialData, in_memory_bytes: int
) -> None:
    scores = np.random.default_rng(0).standard_normal(two_people.labels.shape)
    reader = TrialReader(two_people, device=CPU, scores=scores, in_memory_bytes=in_memory_bytes)
    plain, mixed = reader.batch(MIXED), reader.batch(MIXED, mixing=mixing_of([0.6, 1.0, 0.7, 0.8, 0.9]))
    torch.testing.assert_close(
        mixed.responses[0][0], 0.6 * plain.responses[0][0] + 0.4 * plain.responses[0][1]
    )
    torch.testing.assert_close(mixed.responses[0][1], plain.responses[0][1])
    torch.testing.assert_close(
        mixed.responses[1][2], 0.9 * plain.responses[1][2] + 0.1 * plain.responses[1][0]
    )
    torch.testing.assert_close(mixed.labels[2], 0.7 * plain.labels[2] + 0.3 * plain.labels[3])
    torch.testing.assert_close(mixed.scores[3], 0.8 * plain.scores[3] + 0.2 * plain.scores[4])
    assert mixed.labels[4, 1].isnan()
    assert mixed.labels[3, 1].isnan()
    assert not mixed.labels[:3].isnan().any()


@pytest.mark.parametrize("mixing", [None, mixing_of([0.6, 1.0, 0.7, 0.8, 0.9])])
@pytest.mark.parametrize("rows", [(0, 1), (1, 4), (2, 5), (4, 5), (0, 5)])
def test_a_part_of_a_batch_holds_its_rows_of_the_whole(
    two_people: TrialData, mixing: Mixing | None, rows: tuple[int, int]
) -> None:
    """Partners may lie in another part; labels are those of the whole batch."""
    reader = TrialReader(two_people, device=CPU, token=[4, 9])
    whole = reader.batch(MIXED, mixing=mixing)
    part = reader.batch(MIXED, mixing=mixing, division=lambda n: rows)
    padded = [torch.nn.functional.pad(one, (0, 50 - one.shape[1])) for one in whole.responses]
    expected = torch.cat(padded)[slice(*rows)]
    found = torch.cat([torch.nn.functional.pad(one, (0, 50 - one.shape[1])) for one in part.responses])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    tokens = [n for n, one in zip(part.participants, part.responses, strict=True) for _ in one]
    assert tokens == [4, 4, 9, 9, 9][slice(*rows)]
    torch.testing.assert_close(part.labels, whole.labels, equal_nan=True)
    assert part.part == Part(*rows, (4, 9), (2, 3), whole.part.n_voxels)


@given(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_pieces_of_a_batch_are_its_rows_in_order(most_rows: int, sizes: list[int]) -> None:
    batch = batch_of(*sizes)
    pieces = batch.divided(most_rows)
    assert max(sum(len(values) for values in piece.responses) for piece in pieces) <= most_rows
    rows = [
        (n, row.tolist())
        for piece in pieces
        for n, values in zip(piece.participants, piece.responses, strict=True)
        for row in values
    ]
    assert rows == [
        (n, row.tolist())
        for n, values in zip(batch.participants, batch.responses, strict=True)
        for row in values
    ]
    assert [piece.part.start for piece in pieces[1:]] == [piece.part.stop for piece in pieces[:-1]]
    assert batch.divided(0) == [batch]


def test_mixed_similarities_are_those_of_mixed_targets() -> None:
    features = np.random.default_rng(0).standard_normal((5, 7))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    mixing = mixing_of([0.6, 1.0, 0.7, 0.8, 0.9])
    similarity, known = guidance_similarity(
        TargetSimilarity(features, device=CPU), batch_of(2, 3, mixing=mixing)
    )
    share, partner = mixing.share[:, None], mixing.partner
    expected = cosine_similarity(share * features + (1 - share) * features[partner])
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    assert known.all()


def test_a_mixed_trial_is_known_if_both_its_trials_are() -> None:
    features = np.eye(5)
    features[3] = 0
    batch = batch_of(2, 3, mixing=mixing_of([0.7] * 5))
    _, known = guidance_similarity(TargetSimilarity(features, device=CPU), batch)
    assert known.tolist() == [True, True, False, False, True]
