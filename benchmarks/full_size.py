"""Presets hcp and nsd at full size: parameters, operations, memory, and each loss term at step 0.

    python benchmarks/full_size.py [--threads 2] [--only CASE] [--json FILE]

One forward and one backward pass of two samples on the CPU, each case in a process of its own, so that its peak memory
is its own: what the process held at most (``ru_maxrss``) less what it held once everything but the decoder was there.
Beside it stands what is computed without running anything (``training_cost``): weights and gradients, and what autograd
keeps, all at once. The measured peak can be below it, since gradients grow while what autograd kept is let go, or above
it, by what single operations need for a moment. The memory of training is computed, for the preset's batch and both
moments of Adam.

Every case is built twice: as in the paper, and with the additions of preset ``small`` (ridge readout, linear head,
dropout of voxels, L_perp over D^2) at the same width and depth. Responses, labels and targets are random numbers with
the shapes and label frequencies of the datasets, and a common part of CLIP's cosines: sizes are those of the real
thing, and so are the terms' orders of magnitude at step 0; nothing is learned. The ridge readout's scores are 0 here.
Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from clipmused_bids.config import build_hyperparameters, read_preset
from clipmused_bids.config.tables import merge
from clipmused_bids.decoder.cost import training_cost
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.network_kinds import CLIP_MUSED
from clipmused_bids.records import Grid, ResponseTable, Targets, TrialData, VoxelSpace
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.monitor import backpropagated, gradient_norms
from clipmused_bids.training.optimizer import trained_parameters
from clipmused_bids.training.terms import batch_terms, guidance_levels, term_weights

CPU = torch.device("cpu")
ADDITIONS = {"model": ("readout", "head", "input_dropout"), "training": ("perp_scale",)}


@dataclass(frozen=True)
class Case:
    preset: str
    n_participants: int
    n_labels: int
    label_frequency: float
    common_space: bool
    grid: tuple[int, int, int]
    n_voxels: int | None  # None: an ellipsoid that touches all faces of the grid
    n_regions: int
    about: str


CASES = {
    "hcp": Case(
        "hcp", 9, 859, 0.1, True, (112, 128, 112), None, 0, "9 people, brain in 112x128x112, 859 labels"
    ),
    "nsd-common": Case(
        "nsd",
        8,
        80,
        0.036,
        True,
        (81, 104, 83),
        15_000,
        180,
        "8 people, 15,000 voxels in 180 regions, common space",
    ),
    "nsd-native": Case(
        "nsd",
        8,
        80,
        0.036,
        False,
        (81, 104, 83),
        15_000,
        180,
        "8 people, 15,000 voxels in 180 regions, native space",
    ),
}


def ellipsoid(shape: tuple[int, int, int]) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    return np.flatnonzero(sum(axis**2 for axis in axes) <= 1.0 + 2 / min(shape))


def trials(case: Case) -> TrialData:
    """Two trials of each participant."""
    generator = np.random.default_rng(0)
    voxels = ellipsoid(case.grid) if case.n_voxels is None else np.arange(case.n_voxels)
    zero, column = np.zeros(len(voxels), np.float32), np.arange(len(voxels))
    one = generator.standard_normal((2, len(voxels)), dtype=np.float32)
    table = ResponseTable((one,), (column,), (zero,), (zero + 1,))
    region = column * case.n_regions // len(voxels) if case.n_regions else np.full(len(voxels), -1)
    space = VoxelSpace(
        Grid(case.grid, np.eye(4)), voxels, region, tuple(f"r{k}" for k in range(case.n_regions))
    )
    n = 2 * case.n_participants
    # CLIP cosines of natural images have a large common part: about 0.5 for the image embedding.
    features = [generator.standard_normal((n, 512)) + 1.0 for _ in range(2)]
    names = tuple(f"s{k}" for k in range(n))
    return TrialData(
        participants=tuple(f"{p + 1:02d}" for p in range(case.n_participants)),
        responses=(table,) * case.n_participants,
        spaces=(space,) * case.n_participants,
        common_space=case.common_space,
        participant=np.repeat(np.arange(case.n_participants), 2),
        row=np.tile([0, 1], case.n_participants),
        labels=(generator.random((n, case.n_labels)) < case.label_frequency).astype(np.float32),
        label_names=tuple(f"l{k}" for k in range(case.n_labels)),
        single_label=False,
        stimulus=np.arange(n),
        stimulus_id=names,
        targets=Targets(names, *features, "image+text", "random numbers", "0"),
        group=np.arange(n),
    )


def hyperparameters(preset: str, *, additions: bool):
    tables = read_preset(preset)
    if additions:
        small = read_preset("small")
        tables = merge(
            tables,
            {table: {name: small[table][name] for name in names} for table, names in ADDITIONS.items()},
        )
    return build_hyperparameters(tables)


def resident() -> float:
    """Bytes in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(name: str, *, additions: bool) -> dict[str, object]:
    case, options = CASES[name], hyperparameters(CASES[name].preset, additions=additions)
    data = trials(case)
    reader = TrialReader(data.subset(np.array([0, 2])), device=CPU)
    batch = reader.batch(np.array([0, 1]))
    levels = guidance_levels(data, options=options.training, device=CPU)
    architecture = choose_architecture(data, options.model, network=CLIP_MUSED)
    batch = replace(
        batch, scores=torch.zeros_like(batch.labels) if options.model.readout == "ridge" else None
    )
    warm_up = torch.nn.Linear(8, 8)(torch.zeros(2, 8)).sum()
    warm_up.backward()
    before = resident()
    torch.manual_seed(0)
    model = build_decoder(architecture, options.model, n_participants=case.n_participants).train()
    model.start_at(
        torch.full((case.n_labels,), float(np.log(case.label_frequency / (1 - case.label_frequency))))
    )
    weights = term_weights(options.training)

    def terms():
        output = model(batch.responses, batch.participants, scores_BC=batch.scores)
        return batch_terms(output, batch, levels=levels, options=options.training)

    start = time.perf_counter()
    torch.stack([weights[key] * value for key, value in terms().items()]).sum().backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    model.zero_grad(set_to_none=True)
    values = terms()
    norms = gradient_norms(values, weights, backpropagated(trained_parameters(model)))
    two = training_cost(model, n_voxels=architecture.n_voxels, batch_size=2)
    full = training_cost(model, n_voxels=architecture.n_voxels, batch_size=options.training.batch_size)
    return {
        "case": name,
        "additions": additions,
        "about": case.about,
        "voxels": architecture.n_voxels[0],
        "patches": model.patches.n_patches,
        "shared": two.shared,
        "one_more_participant": two.per_participant[0],
        "parameters": two.shared + sum(two.per_participant),
        "forward_gflop_per_sample": two.forward_flops / 2e9,
        "step_gflop_per_sample": two.step_flops / 2e9,
        "seconds_two_samples": seconds,
        "peak_mb_measured": peak / 1e6,
        "peak_mb_computed": (two.state_bytes / 2 + two.activation_bytes) / 1e6,
        "training_gb_computed": (full.state_bytes + full.activation_bytes) / 1e9,
        "batch_size": options.training.batch_size,
        "terms": {key: float(value.detach()) for key, value in values.items()},
        "weighted_terms": {key: weights[key] * float(value.detach()) for key, value in values.items()},
        "gradient_norms": norms,
    }


def table(rows: list[dict]) -> str:
    lines = [
        (
            f"{'':12} {'':9} {'parameters':>12} {'one more':>10} {'GFLOP/sample':>13} {'peak MB, 2 samples':>19} "
            f"{'training':>9}  weighted term / gradient norm at step 0"
        ),
        f"{'case':12} {'form':9} {'':>12} {'person':>10} {'fwd / step':>13} {'measured / computed':>19} {'GB':>9}",
    ]
    for row in rows:
        terms = "  ".join(
            f"{key} {row['weighted_terms'][key]:.2g}/{row['gradient_norms'][key]:.2g}" for key in row["terms"]
        )
        flops = f"{row['forward_gflop_per_sample']:.1f} / {row['step_gflop_per_sample']:.1f}"
        peak = f"{row['peak_mb_measured']:.0f} / {row['peak_mb_computed']:.0f}"
        lines.append(
            f"{row['case']:12} {'additions' if row['additions'] else 'paper':9} {row['parameters']:12,} "
            f"{row['one_more_participant']:10,} {flops:>13} {peak:>19} {row['training_gb_computed']:9.1f}  {terms}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=[f"{name}{end}" for name in CASES for end in ("", "+additions")])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        print(
            json.dumps(
                measure(args.only.removesuffix("+additions"), additions=args.only.endswith("+additions"))
            )
        )
        return
    rows = []
    for name in CASES:
        for end in ("", "+additions"):
            done = subprocess.run(
                [sys.executable, __file__, "--only", name + end, "--threads", str(args.threads)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    result = {"torch": torch.__version__, "threads": args.threads, "cases": rows}
    print(table(rows))
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
