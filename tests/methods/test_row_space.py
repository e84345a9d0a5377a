from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from clipmused_bids.methods import ridge_solver, row_space
from clipmused_bids.methods.ridge_solver import array_rows
from clipmused_bids.methods.row_space import RowSpace


def matrix(n_rows: int, n_columns: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return (3 + generator.standard_normal((n_rows, n_columns)) * np.linspace(0.1, 2, n_columns)).astype(
        np.float32
    )


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_space, "GRAM_ROWS", 7)
    monkeypatch.setattr(ridge_solver, "BLOCK_ROWS", 9)


@pytest.mark.parametrize("shape", [(40, 15), (40, 40), (25, 90)])
def test_features_are_a_rotation(shape: tuple[int, int]) -> None:
    x = matrix(*shape)
    space = RowSpace(array_rows(x))
    centred = x - x.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(space.features @ space.features.T, centred @ centred.T, atol=1e-4)
    assert space.features.shape[1] <= min(shape)
    assert space.kept_variance == 1


@pytest.mark.parametrize(("shape", "most"), [((40, 15), 50), ((40, 15), 6), ((25, 90), 50), ((25, 90), 6)])
def test_coefficients_of_columns_predict_what_those_of_features_do(shape: tuple[int, int], most: int) -> None:
    x = matrix(*shape)
    space = RowSpace(array_rows(x), most_features=most)
    weights = np.random.default_rng(1).standard_normal((space.features.shape[1], 2))
    np.testing.assert_allclose(
        (x - space.mean) @ space.of_columns(weights), space.features @ weights, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(40, 15), (25, 90)])
def test_the_leading_features_are_principal_components(shape: tuple[int, int]) -> None:
    x = matrix(*shape)
    space = RowSpace(array_rows(x), most_features=6)
    peer = PCA(6, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(space.features.var(axis=0, ddof=1), peer.explained_variance_, rtol=1e-5)
    assert space.kept_variance == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-5)
    expected = np.abs(peer.transform(x.astype(np.float64)))
    np.testing.assert_allclose(np.abs(space.features), expected, atol=1e-4)


def test_rows_that_do_not_differ_have_one_empty_feature() -> None:
    space = RowSpace(array_rows(np.ones((4, 9), dtype=np.float32)))
    np.testing.assert_array_equal(space.features, np.zeros((4, 1)))
    np.testing.assert_array_equal(space.of_columns(np.ones((1, 3))), np.zeros((9, 3)))
