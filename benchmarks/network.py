"""Time of the networks themselves on a processor: the 3D CNN of preset hcp by stage, and patches of unequal regions.

    python benchmarks/network.py [--threads 1] [--repeats 5] [--json benchmarks/results/network.json]

(a) Forward and backward pass of two volumes through preset hcp at full size (random numbers, see full_size.py), by
stage. The formulations take turns: as in the package; ``plain``, where no layer works in place; and ``channels last``,
weights and volumes in that order of memory. All have the same weights and do the same operations.
(b) Patches of 180 regions, of equal and of unequal (log-normal) sizes, batch 64 and width 512: one padded product, and
one product for each region.

Processor time is of the whole process, waiting for the processor not counted (OMP_WAIT_POLICY=passive keeps idle
threads from counting); medians. Prints tables and one line of JSON.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from full_size import CASES, hyperparameters, trials
from torch import Tensor, nn

from clipmused_bids.decoder.cnn import CnnPatches, ResidualBlock
from clipmused_bids.decoder.losses import total_loss
from clipmused_bids.decoder.roi import RegionMaps
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.network_kinds import CLIP_MUSED
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.terms import batch_terms, guidance_levels, term_weights

STAGES = (
    "scatter", "stem 1", "stem 2", "residual 1", "residual 2", "residual 3", "residual 4", "transformer, head",
    "losses",
)  # fmt: skip


class PlainBlock(nn.Module):
    """A residual block without in-place sums."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.path, self.shortcut = block.path, block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def plain(net: nn.Sequential) -> nn.Sequential:
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = False
        for name, child in list(module.named_children()):
            if isinstance(child, ResidualBlock):
                setattr(module, name, PlainBlock(child))
    return net


def by_stage(steps: list[Callable[[Tensor], Tensor]], x: Tensor) -> np.ndarray:
    """Processor and wall seconds, (stages, forward and backward, 2); each stage has a graph of its own."""
    spent = np.zeros((len(steps), 2, 2))
    ends: list[tuple[Tensor, Tensor]] = []
    for k, step in enumerate(steps):
        x = x.detach().requires_grad_(k > 1)  # nothing is asked of the volume's gradient
        start = np.array([time.process_time(), time.perf_counter()])
        result = step(x)
        spent[k, 0] = np.array([time.process_time(), time.perf_counter()]) - start
        ends.append((x, result))
        x = result
    gradient = torch.ones(())
    for k in range(len(steps) - 1, 0, -1):
        given, result = ends.pop()
        start = np.array([time.process_time(), time.perf_counter()])
        result.backward(gradient)
        spent[k, 1] = np.array([time.process_time(), time.perf_counter()]) - start
        gradient = given.grad
    return spent


def cnn(repeats: int) -> list[dict[str, object]]:
    case, options = CASES["hcp"], hyperparameters("hcp", additions=False)
    data = trials(case)
    batch = TrialReader(data, device=torch.device("cpu")).batch(np.array([0, 2]))
    levels = guidance_levels(data, options=options.training, device=torch.device("cpu"))
    architecture = choose_architecture(data, options.model, network=CLIP_MUSED)
    torch.manual_seed(0)
    model = build_decoder(architecture, options.model, n_participants=case.n_participants).train()
    patches = model.patches
    assert isinstance(patches, CnnPatches)
    weights = term_weights(options.training)
    participant = torch.tensor(batch.participants)

    def scatter(x: Tensor) -> Tensor:
        flat = x.new_zeros(len(x), int(np.prod(patches.box_shape))).index_copy(1, patches.index, x)
        return flat.view(-1, 1, *patches.box_shape)

    kept: dict[str, object] = {}

    def decode(maps: Tensor) -> Tensor:
        patches.embed, own = (lambda _: maps.flatten(2).transpose(1, 2)), patches.embed
        kept["output"] = model.decode(maps.new_zeros(2, 1), participant, with_attention=False)
        patches.embed = own
        output = kept["output"]
        return torch.cat([output.logits, output.low, output.high], dim=1)

    def losses(joined: Tensor) -> Tensor:
        sizes = [case.n_labels, options.model.width, options.model.width]
        logits, low, high = joined.split(sizes, dim=1)
        output = kept["output"]._replace(logits=logits, low=low, high=high)
        return total_loss(batch_terms(output, batch, levels=levels, options=options.training), weights)

    last = copy.deepcopy(patches.net).to(memory_format=torch.channels_last_3d)
    forms = {"plain": plain(patches.net), "package": patches.net, "channels last": last}
    spent: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    for k in range(repeats + 1):
        for name, net in forms.items():
            model.zero_grad(set_to_none=True)
            net.zero_grad(set_to_none=True)
            found = by_stage([scatter, *net, decode, losses], torch.cat(batch.responses))
            if k:  # the first is for the caches
                spent[name].append(found)
    rows = []
    for name, found in spent.items():
        median = np.median(found, axis=0)
        rows.append({
            "form": name,
            "cpu_seconds": float(np.median([one[..., 0].sum() for one in found])),
            "wall_seconds_least": float(min(one[..., 1].sum() for one in found)),
            "stages": {
                stage: {"forward": float(median[k, 0, 0]), "backward": float(median[k, 1, 0])}
                for k, stage in enumerate(STAGES)
            },
        })  # fmt: skip
    return rows


def regions(repeats: int) -> list[dict[str, object]]:
    generator = np.random.default_rng(0)
    rows = []
    for n_voxels, sizes in (
        (15_000, "equal"),
        (15_000, "unequal"),
        (60_000, "unequal"),
        (240_000, "unequal"),
    ):
        share = generator.lognormal(0, 1.0, 180)
        region = np.arange(n_voxels) * 180 // n_voxels
        if sizes == "unequal":
            region = generator.choice(180, n_voxels, p=share / share.sum())
        maps = RegionMaps(region, n_regions=180, width=512)
        x = torch.randn(64, n_voxels)
        spent: dict[str, list[float]] = {"padded": [], "each": []}
        for _ in range(repeats):
            for name, form in (("padded", maps._padded), ("each", maps._each)):  # noqa: SLF001 - both formulations
                maps.weight.grad = None
                start = time.process_time()
                form(x).sum().backward()
                spent[name].append(time.process_time() - start)
        rows.append({
            "voxels": n_voxels, "sizes": sizes, "largest": max(maps.sizes),
            "taken": "each" if maps.unequal else "padded",
            **{f"{name}_cpu_seconds": float(np.median(found)) for name, found in spent.items()},
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(), "torch": torch.__version__, "threads": args.threads,
        "regions": regions(args.repeats), "cnn": cnn(args.repeats), "load_average": os.getloadavg()[0],
    }  # fmt: skip
    for row in result["regions"]:
        parts = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(parts))
    for row in result["cnn"]:
        print(
            f"{row['form']}: {row['cpu_seconds']:.2f} s of processor, {row['wall_seconds_least']:.2f} s wall"
        )
        for stage, found in row["stages"].items():
            print(f"    {stage:18} forward {found['forward']:.3f}  backward {found['backward']:.3f}")
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
