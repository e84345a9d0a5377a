"""Few features that say all that many voxels can say: the space that the rows of a matrix span."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

from clipmused_bids.methods.ridge_solver import Rows
from clipmused_bids.records import FloatArray, IntArray

MOST_FEATURES = 2000
GRAM_ROWS = 512
SMALLEST_EIGENVALUE = 1e-10  # relative to the largest; below it rounding rules


class RowSpace:
    """A matrix in coordinates of the space its centred rows span, by a rotation; read in blocks.

    With ``Xc = X - mean = U S Q'`` the features are ``Xc Q`` of shape (n, r). A model with an intercept and an L2
    penalty on its coefficients, or an orthogonal map fitted to inner products, is the same in either coordinates,
    for these rows or for some of them: coefficients ``w`` of features are ``Q w`` of columns. There are at most
    ``min(n, n_columns)`` features. Beyond ``most_features`` only those of the largest variance are kept, and what is
    fitted is an approximation; ``kept_variance`` says how much they hold.

    Parameters
    ----------
    x : Rows
        (n, n_columns).
    most_features : int

    Attributes
    ----------
    features : ndarray of shape (n, r)
    mean : ndarray of shape (n_columns,)
    kept_variance : float
        Share of the variance of the rows, 1 where the rotation is exact.

    References
    ----------
    Hastie, Tibshirani 2004, Efficient quadratic regularization for expression arrays, Biostatistics 5(3).
    """

    def __init__(self, x: Rows, *, most_features: int = MOST_FEATURES) -> None:
        self._x = x
        self._all = np.arange(x.n_rows)
        self.mean = np.zeros(x.n_columns)
        for _, block in x.blocks(self._all):
            self.mean += block.sum(axis=0) / x.n_rows
        self.kept_variance = 1.0
        self._basis: FloatArray | None = None  # of columns, (n_columns, r)
        self._weights: FloatArray | None = None  # of rows, (n, r): the basis is Xc' weights
        if x.n_columns <= min(x.n_rows, most_features):
            self.features = np.concatenate([block for _, block in self._centred(self._all)])
        elif x.n_columns <= x.n_rows:
            _, self._basis = self._leading(self._columns_gram(), most_features)
            self.features = np.concatenate([block @ self._basis for _, block in self._centred(self._all)])
        else:
            values, vectors = self._leading(self._rows_gram(), most_features)
            self.features = vectors * np.sqrt(values)
            self._weights = vectors / np.sqrt(values)

    def of_columns(self, weights: FloatArray) -> FloatArray:
        """Coefficients of the columns, (n_columns, m), from those of the features, (r, m)."""
        if self._basis is not None:
            return self._basis @ weights
        if self._weights is None:
            return weights
        of_rows = self._weights @ weights
        out = np.zeros((self._x.n_columns, weights.shape[1]))
        for place, block in self._centred(self._all):
            out += block.T @ of_rows[place]
        return out

    def _centred(self, rows: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        for place, block in self._x.blocks(rows):
            yield place, block - self.mean

    def _columns_gram(self) -> FloatArray:
        gram = np.zeros((self._x.n_columns, self._x.n_columns))
        for _, block in self._centred(self._all):
            gram += block.T @ block
        return gram

    def _rows_gram(self) -> FloatArray:
        """Inner products of the rows, two blocks in memory at a time."""
        n = self._x.n_rows
        gram = np.empty((n, n))
        starts = range(0, n, GRAM_ROWS)
        for i in starts:
            first = self._x.read(self._all[i : i + GRAM_ROWS]) - self.mean
            for j in range(0, i + 1, GRAM_ROWS):
                second = first if j == i else self._x.read(self._all[j : j + GRAM_ROWS]) - self.mean
                gram[i : i + len(first), j : j + len(second)] = first @ second.T
                gram[j : j + len(second), i : i + len(first)] = (first @ second.T).T
        return gram

    def _leading(self, gram: FloatArray, most_features: int) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues and eigenvectors that are not rounding, the largest ones first."""
        total = float(np.trace(gram))
        last = len(gram) - 1
        values, vectors = eigh(
            gram, overwrite_a=True, driver="evr", subset_by_index=(max(0, last + 1 - most_features), last)
        )
        kept = np.flatnonzero(values > max(SMALLEST_EIGENVALUE * values[-1], np.finfo(float).tiny))[::-1]
        if len(kept) == 0:
            # All rows are the same: one feature that is 0 everywhere, since a fit needs one.
            return np.ones(1), np.zeros((len(gram), 1))
        if len(kept) == most_features < len(gram):
            self.kept_variance = float(values[kept].sum() / total)
        return values[kept], vectors[:, kept]
