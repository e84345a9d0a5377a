"""Matrices, agreements and the words about them."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from clipmused_bids.report.blocks import Figure, Paragraph, Table
from clipmused_bids.report.similarity import block_means, draw_similarity, mean_ranks
from clipmused_bids.report.token_findings import ClipAgreement, TokenFindings
from clipmused_bids.report.token_geometry import (
    GeometryFindings,
    PersonRow,
    SubjectTokens,
    chance_cosine,
    geometry_section,
)
from clipmused_bids.report.token_words import cautions, what_is_seen
from clipmused_bids.report.tokens import agreement_rows, token_figures, token_section

RNG = np.random.default_rng(0)


def similarity(n: int) -> np.ndarray:
    return np.corrcoef(RNG.normal(size=(n, 5)))


def findings(n: int = 30) -> TokenFindings:
    group = np.sort(np.arange(n) % 3)
    agreements = [
        ClipAgreement(brain, clip, value, p_value, -0.1, 0.1)
        for brain, clip, value, p_value in (
            ("low", "low", 0.03, 0.4), ("low", "high", 0.12, 0.02), ("high", "low", 0.01, 0.5),
            ("high", "high", 0.31, 0.001), ("voxels", "low", 0.02, 0.4), ("voxels", "high", 0.4, 0.001),
            ("untrained low", "low", 0.0, 0.5), ("untrained high", "high", 0.2, 0.001),
        )
    ]  # fmt: skip
    return TokenFindings(
        participant="01",
        brain={"low": similarity(n), "high": similarity(n)},
        clip={"low": similarity(n), "high": similarity(n)},
        group=group,
        group_names=("cat", "dog", "a very long name of a label"),
        ordered_by="label",
        agreements=agreements,
        n_stimuli=n,
        n_tested=n,
        n_folds=0,
        guided={"low": True, "high": True},
        seen=False,
        no_clip="",
        untrained=False,
    )


def test_words_carry_no_more_than_the_numbers() -> None:
    found = findings()
    assert what_is_seen(found) == (
        "The low-level token agrees with CLIP's low level no better than chance (Spearman 0.03, p = 0.400); the "
        "responses themselves: 0.02. The high-level token finds stimuli alike that CLIP's high level finds alike "
        "(Spearman 0.31, p = 0.001), no more than the responses themselves do (voxels 0.40)."
    )
    assert cautions(found) == []
    warned = " ".join(
        cautions(replace(found, untrained=True, seen=True, guided={"low": False, "high": True}))
    )
    for text in ("before training", "stimuli that training knew", "CLIP's low level did not guide"):
        assert text in warned


def test_rows_have_voxels_and_the_untrained_network_beside_them() -> None:
    rows = agreement_rows(findings())
    assert [row.name for row in rows] == [
        "low-level token, CLIP low level",
        "low-level token, CLIP high level",
        "high-level token, CLIP low level",
        "high-level token, CLIP high level",
    ]
    assert rows[3].beside == (0.4, 0.2)
    assert rows[1].beside[0] == 0.4
    assert np.isnan(rows[1].beside[1])


def test_each_level_stands_beside_its_own_level_of_clip() -> None:
    found = findings()
    assert list(token_figures(found)) == ["cliplow", "tokenlow", "cliphigh", "tokenhigh", "agreement"]
    lacking = replace(found, clip={"high": found.clip["high"]})
    figures = token_figures(lacking)
    assert list(figures) == ["tokenlow", "cliphigh", "tokenhigh", "agreement"]
    assert [one.width for one in figures.values()] == ["full", "half", "half", "full"]
    same = replace(found, clip={"high": np.ones((30, 30))}, agreements=[])
    assert list(token_figures(same)) == ["tokenlow", "tokenhigh"]
    assert "all tested stimuli are the same at the high level" in what_is_seen(same)


def test_stimuli_that_clip_does_not_tell_apart_are_counted() -> None:
    found = findings(8)
    cosines = similarity(8)
    cosines[:4, :4] = 1.0
    said = " ".join(cautions(replace(found, clip={"high": cosines})))
    assert "high level 6 of 28 pairs of different stimuli are one and the same" in said
    assert "8 stimuli make 28 pairs" in said


def test_captions_tell_ranks_within_and_between_labels() -> None:
    block = np.kron(np.eye(2), np.ones((3, 3)))
    within, between = mean_ranks(block, np.repeat([0, 1], 3))
    # Six pairs of 15 are alike: ranks 9 to 14 share 11.5, the others 4, over 14.
    assert (within, between) == (pytest.approx(11.5 / 14), pytest.approx(4 / 14))
    section = token_section(findings(), token_figures(findings()))
    for one in section.blocks:
        if isinstance(one, Figure):
            assert one.alt
            assert one.caption


def test_neighbours_are_averaged_where_there_are_many() -> None:
    matrix = np.arange(36.0).reshape(6, 6)
    matrix[0, 0] = np.nan
    found = block_means(matrix, most=3)
    assert found.shape == (3, 3)
    assert found[0, 0] == pytest.approx((1 + 6 + 7) / 3)
    assert found[2, 1] == pytest.approx(np.mean([26, 27, 32, 33]))
    assert block_means(matrix, most=6) is matrix
    assert np.isnan(block_means(np.full((4, 4), np.nan), most=2)).all()


@pytest.mark.parametrize("n", [2, 40, 500])
def test_pictures_stay_small(n: int) -> None:
    group = np.sort(np.arange(n) % 80)
    matrix, names = similarity(n), [f"label {k}" for k in range(80)]
    png = draw_similarity(matrix, group, names, title="a title")
    assert len(png) < 300_000
    image = matplotlib.image.imread(io.BytesIO(png))
    assert max(image.shape[:2]) < 700
    assert png == draw_similarity(matrix, group, names, title="a title")


@pytest.mark.parametrize("n", [2, 40])
def test_geometry_of_few_and_of_many(n: int) -> None:
    names = [f"{k:02d}" for k in range(n)]
    tokens = RNG.normal(size=(n, 64))
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    cosines = {"low": unit @ unit.T, "high": np.ones((n, n))}
    norms = {"low": np.ones(n), "high": np.ones(n)}
    subject = SubjectTokens(names, cosines, np.full(n, 0.5), norms, 64, 0.16, untrained=False)
    people = [
        PersonRow(name, {"high": (0.2, 0.01)}, {"low": (0.3, 0.001)} if n > 2 else {}) for name in names
    ]
    section = geometry_section(GeometryFindings(subject, people, 30))
    text = " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))
    n_pairs = n * (n - 1) // 2
    assert (
        f"from 1.00 to 1.00 at the high level (mean 1.00; {n_pairs} of {n_pairs} pairs beyond chance)" in text
    )
    assert f"from 0.50 to 0.50 ({n} of {n} beyond chance)" in text
    assert ("low level 0.30 on average, above chance in 40 of 40" in text) == (n > 2)
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    assert len(figures) == 2
    assert all(len(one.image) < 150_000 for one in figures)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert len(table.rows) == n
    assert table.rows[0][4:6] == ("n/a", "0.20 (0.010)")


def test_random_directions_lie_within_what_is_said() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(2, 20000, 48))
    unit = tokens / np.linalg.norm(tokens, axis=2, keepdims=True)
    inside = np.abs((unit[0] * unit[1]).sum(axis=1)) < chance_cosine(48)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
