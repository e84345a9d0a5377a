from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from clipmused_bids.training.guidance import TargetSimilarity


@pytest.mark.parametrize("whole_matrix_bytes", [10**9, 0])
def test_similarities_are_cosines_and_unknown_stimuli_are_said(whole_matrix_bytes: int) -> None:
    features = np.random.default_rng(0).standard_normal((6, 4))
    features[2] = 0
    similarity = TargetSimilarity(features, device=torch.device("cpu"), whole_matrix_bytes=whole_matrix_bytes)
    rows = np.array([5, 0, -1, 2, 5])
    found, known = similarity.of(torch.as_tensor(rows))
    assert known.tolist() == [True, True, False, False, True]
    expected = cosine_similarity(features[rows])
    expected[2] = expected[:, 2] = 0
    np.testing.assert_allclose(found, expected, atol=1e-6)
