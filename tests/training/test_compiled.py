"""A compiled training gives the weights of one that is not, under the same names."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.errors import UsageError
from clipmused_bids.records import TrialData
from clipmused_bids.training.compiled import compiled, require_compiler
from clipmused_bids.training.loop import Trainer
from tests.training.test_loop import CPU, OPTIONS, decoder

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.slow
@needs_compiler
# torch's own: libraries it imports while compiling, and a note on precision.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_compiled_training_ends_at_the_same_weights(make_trials: Callable[..., TrialData]) -> None:
    """With dropout and mixing, whose random numbers must be the same, and a last batch that is smaller."""
    data = make_trials()
    halves = [data.subset(np.flatnonzero(data.group < 4)), data.subset(np.flatnonzero(data.group >= 4))]
    given = replace(OPTIONS, batch_size=12, learning_rate=1e-3, max_epochs=2)
    assert halves[0].n_trials % given.batch_size
    weights, losses, calls = [], [], []
    for on in (False, True):
        model = decoder(halves[0])
        ran_uncompiled: list[bool] = []
        model.head.register_forward_hook(
            lambda *_, ran=ran_uncompiled: None if torch.compiler.is_compiling() else ran.append(True)
        )
        history = Trainer(model, *halves, options=replace(given, compile=on), seed=0, device=CPU).run()
        weights.append(dict(model.state_dict()))
        losses.append(history.columns["loss"])
        calls.append(len(ran_uncompiled))
        assert "decode" not in vars(model)
    assert calls[0] > 0
    assert calls[1] == 0, "the head was run without having been compiled"
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert list(weights[1]) == list(weights[0])
    for name, value in weights[0].items():
        # Keys' biases have no gradient but rounding, which Adam blows up.
        if not name.endswith("qkv.bias"):
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_without_a_compiler_it_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    with pytest.raises(UsageError, match=r"cannot compile for cpu.*no-such-compiler") as caught:
        require_compiler(CPU)
    assert "compile = false" in str(caught.value)


def test_switched_off_nothing_is_touched(make_trials: Callable[..., TrialData]) -> None:
    model = decoder(make_trials())
    with compiled(model, on=False, device=CPU):
        assert "decode" not in vars(model)
