"""Ridge regression of many outputs at any size: one eigendecomposition for all penalties and all folds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, solve

from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.rows import require_finite

logger = logging.getLogger(__name__)

BLOCK_ROWS = 2048
BLOCK_VALUES = 2**25  # 256 MB in double precision
MAX_FOLDS = 5


@dataclass(frozen=True)
class Rows:
    """A matrix that is read in blocks of rows.

    Parameters
    ----------
    n_rows, n_columns : int
    read : callable
        ``read(index) -> (len(index), n_columns)``.
    """

    n_rows: int
    n_columns: int
    read: Callable[[IntArray], FloatArray]

    def blocks(self, rows: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        """Read rows as float64 blocks, each with its place among ``rows``."""
        at_once = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(1, self.n_columns)))
        for start in range(0, len(rows), at_once):
            place = slice(start, min(start + at_once, len(rows)))
            yield place, np.asarray(self.read(rows[place]), dtype=np.float64)


@dataclass(frozen=True)
class RidgeFit:
    """Coefficients and how they were chosen.

    Parameters
    ----------
    coef : ndarray of shape (n_columns, C)
    intercept : ndarray of shape (C,)
    alpha : float
        Chosen penalty, relative to the mean eigenvalue of the Gram matrix.
    errors : ndarray of shape (n_alphas,)
        Mean squared error on held-out folds for each candidate; NaN where nothing could be held out.
    held_out : ndarray of shape (n_rows, C)
        Prediction of each row by the fit without the row's fold, at the chosen penalty; NaN where the
        output is unknown.
    """

    coef: FloatArray
    intercept: FloatArray
    alpha: float
    errors: FloatArray
    held_out: FloatArray

    def predict(self, x: FloatArray) -> FloatArray:
        """Return ``x @ coef + intercept`` as float64."""
        return np.asarray(x, dtype=np.float64) @ self.coef + self.intercept


def trial_rows(data: TrialData) -> Rows:
    """All trials of data whose participants share their voxels (or of one participant), as rows."""

    def read(index: IntArray) -> FloatArray:
        out = np.empty((len(index), data.responses[0].n_voxels), dtype=np.float32)
        participant = data.participant[index]
        for p in np.unique(participant):
            here = np.flatnonzero(participant == p)
            values = data.responses[p].read(data.row[index[here]])
            require_finite(values, participant=data.participants[p])
            out[here] = values
        return out

    return Rows(data.n_trials, data.responses[0].n_voxels, read)


def array_rows(values: FloatArray) -> Rows:
    """Rows of an array."""
    n_rows, n_columns = values.shape
    return Rows(n_rows, n_columns, lambda index: values[index])


def folds_of(group: IntArray) -> IntArray:
    """Fold of each row: groups stay together, in up to five folds.

    With a single group, rows are cut into contiguous folds, which is said in the log.
    """
    names, index = np.unique(group, return_inverse=True)
    if len(names) > 1:
        return np.asarray(index.reshape(-1) % MAX_FOLDS)
    logger.info("ridge: all training trials are one group; the penalty is chosen on contiguous parts of it.")
    n_folds = max(1, min(MAX_FOLDS, len(group)))
    return np.arange(len(group)) * n_folds // max(1, len(group))


def fit_ridge(x: Rows, y: FloatArray, *, group: IntArray, alphas: tuple[float, ...]) -> RidgeFit:
    """Multi-output ridge with an intercept; one penalty for all outputs, chosen by leaving groups out.

    Minimises ``|| y - 1 b' - X W ||_F^2 + penalty || W ||_F^2`` with ``penalty = alpha * mean eigenvalue`` of the
    centred Gram matrix. With ``Xc = U S Q'`` and ``H = 1 1'/n + U S^2/(S^2 + penalty) U'`` the residuals of fold f
    when it is left out are ``(I - H_ff)^{-1} (y - H y)_f``, exactly, intercept included.

    Parameters
    ----------
    x : Rows
        (n, n_columns).
    y : ndarray of shape (n, C)
        Outputs; NaN where unknown. Each pattern of unknown rows is one regression.
    group : ndarray of int, shape (n,)
        Rows of one group are held out together.
    alphas : tuple of float
        Candidates.

    Returns
    -------
    RidgeFit
        An output that is never known has coefficients 0 and intercept NaN.

    References
    ----------
    Hastie, Tibshirani, Friedman 2009, The Elements of Statistical Learning, sections 3.4 and 7.10.
    """
    parts = [
        _Regression(x, y[np.ix_(rows, columns)], rows=rows, columns=columns, fold=folds_of(group[rows]))
        for rows, columns in _patterns(y)
    ]
    scores = [part.errors(alphas) for part in parts]
    errors = (
        np.sum([score.sum(axis=1) for score in scores], axis=0) if scores else np.full(len(alphas), np.nan)
    )
    n_known = max(1, int((~np.isnan(y)).sum()))
    best = int(np.argmin(errors)) if np.isfinite(errors).any() else len(alphas) // 2
    coef = np.zeros((x.n_columns, y.shape[1]))
    intercept = np.full(y.shape[1], np.nan)
    held_out = np.full(y.shape, np.nan)
    for part in parts:
        coef[:, part.columns], intercept[part.columns] = part.solve(alphas[best])
        held_out[np.ix_(part.rows, part.columns)] = part.held_out(alphas[best])
    return RidgeFit(coef, intercept, alphas[best], errors / n_known, held_out)


def ridge_path(x: Rows, y: FloatArray, *, alphas: tuple[float, ...]) -> list[tuple[FloatArray, FloatArray]]:
    """Fit as ``fit_ridge`` does at each penalty in turn, from one decomposition; nothing is chosen.

    Returns
    -------
    list of (ndarray of shape (n_columns, C), ndarray of shape (C,))
        Coefficients and intercept at each penalty; 0 and NaN for an output that is never known.
    """
    fits: list[tuple[FloatArray, FloatArray]] = [
        (np.zeros((x.n_columns, y.shape[1])), np.full(y.shape[1], np.nan)) for _ in alphas
    ]
    for rows, columns in _patterns(y):
        part = _Regression(
            x, y[np.ix_(rows, columns)], rows=rows, columns=columns, fold=np.zeros(len(rows), dtype=np.int64)
        )
        for (coef, intercept), alpha in zip(fits, alphas, strict=True):
            coef[:, columns], intercept[columns] = part.solve(alpha)
    return fits


def _patterns(y: FloatArray) -> list[tuple[IntArray, IntArray]]:
    """Sets of outputs that are known on the same rows: (rows, columns) of each."""
    known = ~np.isnan(y)
    patterns, index = np.unique(known, axis=1, return_inverse=True)
    found: list[tuple[IntArray, IntArray]] = []
    for k in range(patterns.shape[1]):
        rows = np.flatnonzero(patterns[:, k])
        if len(rows):
            found.append((rows, np.flatnonzero(index.reshape(-1) == k)))
    return found


class _Regression:
    """One eigendecomposition of the smaller Gram matrix, for outputs known on the same rows."""

    def __init__(self, x: Rows, y: FloatArray, *, rows: IntArray, columns: IntArray, fold: IntArray) -> None:
        self.x, self.rows, self.columns, self.fold = x, rows, columns, fold
        self.y_mean = y.mean(axis=0, dtype=np.float64)
        self.y = y - self.y_mean
        self.x_mean = np.zeros(x.n_columns)
        for _, block in x.blocks(rows):
            self.x_mean += block.sum(axis=0) / len(rows)
        self.primal = x.n_columns <= len(rows)
        values, vectors = eigh(
            self._columns_gram() if self.primal else self._rows_gram(), overwrite_a=True, driver="evd"
        )
        kept = values > max(1e-10 * values[-1], np.finfo(float).tiny) if len(values) else values > 0
        self.values, self.vectors = values[kept], vectors[:, kept]
        self.projection = self._projection()

    def _centred(self, rows: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        for place, block in self.x.blocks(rows):
            yield place, block - self.x_mean

    def _columns_gram(self) -> FloatArray:
        gram = np.zeros((self.x.n_columns, self.x.n_columns))
        for _, block in self._centred(self.rows):
            gram += block.T @ block
        return gram

    def _rows_gram(self) -> FloatArray:
        # There are fewer rows than columns here, so that the matrix itself is the smaller problem in memory.
        whole = np.empty((len(self.rows), self.x.n_columns), dtype=np.float32)
        for place, block in self._centred(self.rows):
            whole[place] = block
        gram = np.zeros((len(self.rows), len(self.rows)))
        for start in range(0, self.x.n_columns, BLOCK_ROWS):
            part = whole[:, start : start + BLOCK_ROWS].astype(np.float64)
            gram += part @ part.T
        return gram

    def _projection(self) -> FloatArray:
        """U'Y of shape (rank, C)."""
        if not self.primal:
            return np.asarray(self.vectors.T @ self.y)
        xty = np.zeros((self.x.n_columns, self.y.shape[1]))
        for place, block in self._centred(self.rows):
            xty += block.T @ self.y[place]
        return np.asarray((self.vectors.T @ xty) / np.sqrt(self.values)[:, None])

    def _left(self, positions: IntArray) -> FloatArray:
        """Rows of U at positions among the regression's rows."""
        if not self.primal:
            return self.vectors[positions]
        left = np.empty((len(positions), len(self.values)))
        for place, block in self._centred(self.rows[positions]):
            left[place] = block @ (self.vectors / np.sqrt(self.values))
        return left

    def _penalty(self, alpha: float) -> float:
        return alpha * float(self.values.mean()) if len(self.values) else alpha

    def _fold_residuals(self, alphas: tuple[float, ...]) -> Iterator[tuple[int, IntArray, FloatArray]]:
        for fold in np.unique(self.fold):
            positions = np.flatnonzero(self.fold == fold)
            if len(positions) == len(self.rows):
                continue
            left = self._left(positions)
            for a, alpha in enumerate(alphas):
                shrink = self.values / (self.values + self._penalty(alpha))
                residual = self.y[positions] - left @ (shrink[:, None] * self.projection)
                root = np.column_stack(
                    [left * np.sqrt(shrink), np.full(len(positions), len(self.rows) ** -0.5)]
                )
                yield a, positions, _undo_own_influence(root, residual)

    def errors(self, alphas: tuple[float, ...]) -> FloatArray:
        """Sum of squared held-out residuals, (n_alphas, C); NaN where there is a single fold."""
        errors = np.zeros((len(alphas), self.y.shape[1]))
        for a, _, residual in self._fold_residuals(alphas):
            errors[a] += np.square(residual).sum(axis=0)
        return errors if len(np.unique(self.fold)) > 1 else np.full_like(errors, np.nan)

    def held_out(self, alpha: float) -> FloatArray:
        """Held-out predictions, (n_rows, C)."""
        predicted = np.tile(self.y_mean, (len(self.rows), 1))
        for _, positions, residual in self._fold_residuals((alpha,)):
            predicted[positions] += self.y[positions] - residual
        return predicted

    def solve(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Coefficients (n_columns, C) and intercept (C,)."""
        inner = self.projection * (np.sqrt(self.values) / (self.values + self._penalty(alpha)))[:, None]
        if self.primal:
            coef = self.vectors @ inner
        else:
            coef = np.zeros((self.x.n_columns, self.y.shape[1]))
            outer = self.vectors @ (inner / np.sqrt(self.values)[:, None])
            for place, block in self._centred(self.rows):
                coef += block.T @ outer[place]
        return coef, self.y_mean - self.x_mean @ coef


def _undo_own_influence(root: FloatArray, residual: FloatArray) -> FloatArray:
    """``(I - R R')^{-1} residual``, by the smaller of the two systems (Woodbury)."""
    n_rows, n_columns = root.shape
    if n_rows <= n_columns:
        return np.asarray(solve(np.eye(n_rows) - root @ root.T, residual, assume_a="pos"))
    inner = solve(np.eye(n_columns) - root.T @ root, root.T @ residual, assume_a="pos")
    return np.asarray(residual + root @ inner)
