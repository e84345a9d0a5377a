"""Memory is counted by hand for a small network; a device without memory is played by a network that raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmused_bids.decoder.mlp import Mlp, VoxelVector
from clipmused_bids.errors import ExitCode, UsageError
from clipmused_bids.records import TrialData
from clipmused_bids.training import device_memory
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.device_memory import StepMemory, forward_memory, step_memory, too_many_trials
from clipmused_bids.training.loop import Trainer
from clipmused_bids.training.monitor import decode_logits
from tests.training.test_loop import CPU, OPTIONS, decoder

MEMORY = StepMemory(state_bytes=2_000, kept_bytes=500, trial_bytes=100, pass_bytes=300)


@pytest.mark.parametrize(("available", "fits"), [(10_000, 62), (3_112, 0), (3_223, 1), (1_000, 0), (0, 0)])
def test_the_largest_batch_is_what_nine_tenths_hold(available: int, fits: int) -> None:
    """0.9 available - 2,800 bytes, by 100 bytes each."""
    assert MEMORY.largest_batch(available) == fits
    assert MEMORY.needed(fits + 1) > 0.9 * available
    assert fits == 0 or MEMORY.needed(fits) <= 0.9 * available


def test_memory_of_a_perceptron_by_hand() -> None:
    model = Mlp(
        VoxelVector(50), n_participants=2, n_labels=3, hidden_width=7, hidden_layers=1, dropout=0.0,
        input_dropout=0.0,
    )  # fmt: skip
    memory = step_memory(model, n_voxels=[50, 50], n_trials=10, kept_bytes=123)
    n_parameters = (50 * 7 + 7) + 2 * 7 + (7 * 3 + 3)
    assert memory.state_bytes == 16 * n_parameters
    assert memory.kept_bytes == 123
    # The joined voxels; input, mean and deviation of LayerNorm; input of GELU; input of the head. And the responses.
    assert memory.trial_bytes == 4 * (50 + (7 + 2) + 7 + 7) + 4 * 50
    assert memory.pass_bytes == 0


def test_the_error_names_need_device_and_the_batch_that_fits() -> None:
    memory = StepMemory(state_bytes=1_000_000_000, kept_bytes=500_000_000, trial_bytes=250_000_000)
    error = too_many_trials(memory, n_trials=64, batch_size=64, available=10_000_000_000)
    assert error.exit_code == ExitCode.USAGE
    for part in (
        "64 trials",
        "17.50 GB",
        "1.00 GB for weights",
        "0.50 GB for data",
        "10.00 GB",
        "30 at once",
    ):
        assert part in str(error)
    assert "micro_batch = 30 keeps the batch of 64" in str(error)


def test_where_the_count_says_that_it_fits_half_is_proposed() -> None:
    error = too_many_trials(MEMORY, n_trials=8, batch_size=16, available=10**9)
    assert "micro_batch = 4 keeps the batch of 16" in str(error)


@pytest.mark.parametrize(("n_trials", "available"), [(1, 10**9), (64, 2_000)])
def test_where_no_trial_fits_no_batch_is_proposed(n_trials: int, available: int) -> None:
    error = too_many_trials(MEMORY, n_trials=n_trials, batch_size=64, available=available)
    assert "not even one trial fits" in str(error)
    assert "micro_batch" not in str(error)


@pytest.mark.parametrize("micro_batch", [0, 5])
def test_a_training_without_memory_ends_with_that_error(
    make_trials: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    data = make_trials()
    model = decoder(data)

    def allocate(module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        # What counts memory runs the network on shapes alone.
        if module.training and given[0].device.type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")

    model.head.register_forward_pre_hook(allocate)
    options = replace(OPTIONS, micro_batch=micro_batch)
    trainer = Trainer(model, data, data.subset(np.arange(0)), options=options, seed=0, device=CPU)
    memory = step_memory(
        decoder(data), n_voxels=[40] * len(data.participants), n_trials=micro_batch or 16,
        kept_bytes=data.n_trials * (4 * 40 + 4 * 4 + 8),
    )  # fmt: skip
    # Just as much as three trials need.
    monkeypatch.setattr(device_memory, "available_bytes", lambda _device: int(memory.needed(3) / 0.9) + 2)
    with pytest.raises(UsageError, match="micro_batch = 3 keeps the batch of 16") as caught:
        trainer.run(n_epochs=1)
    assert f"{micro_batch or 16} trials at once" in str(caught.value)


def test_what_is_decoded_does_not_need_the_whole_batch(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    reader = TrialReader(data, device=CPU)
    model = decoder(data).eval()
    expected = decode_logits(model, reader)
    sizes: list[int] = []

    def allocate(_module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        sizes.append(len(given[0]))
        if len(given[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.head.register_forward_pre_hook(allocate)
    np.testing.assert_allclose(decode_logits(model, reader), expected, rtol=1e-5, atol=1e-6)
    assert sizes[0] == data.n_trials
    assert sum(size for size in sizes if size <= 5) == data.n_trials


def test_a_single_trial_that_does_not_fit_is_an_error(make_trials: Callable[..., TrialData]) -> None:
    data = make_trials()
    model = decoder(data)

    def allocate(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.head.register_forward_pre_hook(allocate)
    with pytest.raises(torch.OutOfMemoryError):
        decode_logits(model, TrialReader(data, device=CPU))


def test_other_passes_say_what_helps() -> None:
    with (
        pytest.raises(
            UsageError, match=r"CLIP: 32 pictures: out of memory.*Tried to allocate 2.00 GiB"
        ) as caught,
        forward_memory("CLIP: 32 pictures", device=CPU, hint="[targets] batch_size = 16"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of")
    assert "batch_size = 16" in str(caught.value)
