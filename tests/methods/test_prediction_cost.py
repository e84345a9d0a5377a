"""What predicting a trial costs, against products counted by hand."""

from __future__ import annotations

import pytest

from clipmused_bids.methods.prediction_cost import operations_of_a_trial
from tests.conftest import planted_trials
from tests.methods.test_networks import QUICK, fitted

N_VOXELS, N_LABELS = 40, 4
# One hidden layer of 12 units: two products of matrices, a multiply-add counting two.
OF_MLP = 2 * (N_VOXELS * QUICK.model.hidden_width + QUICK.model.hidden_width * N_LABELS)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("ridge", 2 * N_VOXELS * N_LABELS), ("ms-smodel-mlp", OF_MLP), ("ss-mlp", OF_MLP)],
)
def test_operations_of_a_trial(method: str, expected: float) -> None:
    data = planted_trials(n_voxels=N_VOXELS, n_labels=N_LABELS)
    assert operations_of_a_trial(fitted(method, data), data) == expected
