from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from clipmused_bids.methods import ridge_solver
from clipmused_bids.methods.ridge_solver import Rows, array_rows, fit_ridge, folds_of

ALPHAS = (0.01, 0.1, 1.0, 10.0)


def planted(n_rows: int, n_columns: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n_rows, n_columns)) + 3
    y = x @ generator.standard_normal((n_columns, 3)) / 3 + generator.standard_normal((n_rows, 3)) + 2
    return x, y, np.arange(n_rows) % 4


def penalty(x: np.ndarray, alpha: float) -> float:
    centred = x - x.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    return alpha * values[values > 1e-10 * values.max()].mean()


@pytest.mark.parametrize(("n_rows", "n_columns"), [(40, 7), (24, 60), (24, 24)])
def test_coefficients_held_out_predictions_and_errors_are_scikit_learns(n_rows: int, n_columns: int) -> None:
    x, y, group = planted(n_rows, n_columns)
    fit = fit_ridge(array_rows(x), y, group=group, alphas=ALPHAS)
    errors = []
    for alpha in ALPHAS:
        slow = cross_val_predict(Ridge(penalty(x, alpha)), x, y, groups=group, cv=LeaveOneGroupOut())
        errors.append(np.square(slow - y).mean())
        if alpha == fit.alpha:
            np.testing.assert_allclose(fit.held_out, slow, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit.errors, errors, rtol=1e-5)
    assert fit.alpha == ALPHAS[int(np.argmin(errors))]
    peer = Ridge(penalty(x, fit.alpha)).fit(x, y)
    np.testing.assert_allclose(fit.coef, peer.coef_.T, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(fit.intercept, peer.intercept_, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(x), peer.predict(x), rtol=1e-5)


@pytest.mark.parametrize("n_columns", [7, 60])
def test_blocks_of_rows_change_nothing(n_columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, group = planted(40, n_columns)
    whole = fit_ridge(array_rows(x), y, group=group, alphas=ALPHAS)
    monkeypatch.setattr(ridge_solver, "BLOCK_ROWS", 7)
    sizes = []

    def read(index: np.ndarray) -> np.ndarray:
        sizes.append(len(index))
        return x[index]

    blocks = fit_ridge(Rows(40, n_columns, read), y, group=group, alphas=ALPHAS)
    np.testing.assert_allclose(blocks.coef, whole.coef, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(blocks.held_out, whole.held_out, rtol=1e-5)
    assert max(sizes) == 7


def test_unknown_values_leave_out_their_rows_for_their_label_only() -> None:
    x, y, group = planted(40, 7)
    y[:9, 1] = np.nan
    y[20:31, 2] = np.nan
    fit = fit_ridge(array_rows(x), y, group=group, alphas=(0.3,))
    for c in range(3):
        known = ~np.isnan(y[:, c])
        peer = Ridge(penalty(x[known], 0.3)).fit(x[known], y[known, c])
        np.testing.assert_allclose(fit.coef[:, c], peer.coef_, rtol=1e-6)
        np.testing.assert_allclose(fit.intercept[c], peer.intercept_, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(fit.held_out), np.isnan(y))


def test_a_label_that_is_never_known_has_no_map() -> None:
    x, y, group = planted(40, 7)
    y[:, 0] = np.nan
    fit = fit_ridge(array_rows(x), y, group=group, alphas=ALPHAS)
    assert not fit.coef[:, 0].any()
    assert np.isnan(fit.intercept[0])
    assert np.isfinite(fit.coef).all()


def test_groups_stay_together_in_at_most_five_folds() -> None:
    group = np.repeat(np.arange(12) * 7, 3)
    fold = folds_of(group)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[group == g])) == 1 for g in group)
    np.testing.assert_array_equal(np.bincount(folds_of(np.repeat([3, 8], 4))), [4, 4])


def test_a_single_group_is_cut_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="clipmused_bids"):
        fold = folds_of(np.zeros(20, dtype=int))
    np.testing.assert_array_equal(fold, np.repeat(np.arange(5), 4))
    assert "one group" in caplog.text


def test_a_single_row_is_survived() -> None:
    fit = fit_ridge(
        array_rows(np.ones((1, 3))), np.array([[1.0]]), group=np.zeros(1, dtype=int), alphas=ALPHAS
    )
    assert fit.intercept == 1
    assert not fit.coef.any()


def test_noise_chooses_a_large_penalty_and_a_strong_effect_a_small_one() -> None:
    generator = np.random.default_rng(0)
    x, group = generator.standard_normal((60, 30)), np.arange(60) % 5
    noise = fit_ridge(
        array_rows(x), generator.standard_normal((60, 2)), group=group, alphas=(0.01, 1.0, 100.0)
    )
    effect = fit_ridge(array_rows(x), x[:, :2], group=group, alphas=(0.01, 1.0, 100.0))
    assert (noise.alpha, effect.alpha) == (100.0, 0.01)
