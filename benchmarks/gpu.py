"""Training steps of presets hcp and nsd on a GPU: samples per second, memory, share of the device's peak.

    python benchmarks/gpu.py [--json benchmarks/results/gpu.json] [--steps 20] [--processes N]
    python benchmarks/gpu.py --device cpu --tiny

Each preset at full size (random responses, see full_size.py) with its batch of 64, in float32, in bf16-mixed, and in
bf16-mixed compiled; with more than one GPU also bf16-mixed in one process for each (DDP; each has its part of the
batch). One step is forward, all four losses, backward and Adam. In float32 torch lets convolutions use TF32, and matrix
products not. Peak memory is what torch allocated at most. Operations are those that ``training_cost`` counts, and
their peak is the vendor's for dense products of that precision; of a device that is not in the table it is left out.

Without a GPU it says so and ends. ``--device cpu --tiny`` runs the same code on small networks: its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from full_size import CASES, Case, hyperparameters, trials
from lightning_fabric import Fabric

from clipmused_bids.config import Hyperparameters
from clipmused_bids.decoder.cost import training_cost
from clipmused_bids.decoder.losses import total_loss
from clipmused_bids.methods.architecture import build_decoder, choose_architecture
from clipmused_bids.methods.network_kinds import CLIP_MUSED
from clipmused_bids.training.batches import TrialReader
from clipmused_bids.training.compiled import compiled
from clipmused_bids.training.optimizer import make_optimizer
from clipmused_bids.training.terms import batch_terms, guidance_levels, term_weights

# TFLOP/s of dense products in float32 and bfloat16, from the vendors' data sheets.
PEAKS = {
    "H200": (67.0, 989.0),
    "H100 PCIe": (51.0, 756.0),
    "H100": (67.0, 989.0),
    "A100": (19.5, 312.0),
    "L40S": (91.6, 362.0),
    "A40": (37.4, 149.7),
}
FORMS = {"float32": ("32-true", False), "bf16": ("bf16-mixed", False), "bf16+compile": ("bf16-mixed", True)}


def sized(name: str, *, tiny: bool) -> tuple[Case, Hyperparameters]:
    case, options = CASES[name], hyperparameters(CASES[name].preset, additions=False)
    if not tiny:
        return case, options
    voxels = None if case.n_voxels is None else 200
    case = replace(case, grid=(16, 16, 16), n_voxels=voxels, n_labels=5, n_regions=min(case.n_regions, 9))
    model = replace(options.model, width=32, depth=1, heads=2)
    return case, replace(options, model=model, training=replace(options.training, batch_size=4))


def measure(fabric: Fabric, name: str, form: str, *, tiny: bool, steps: int) -> dict[str, object]:
    """Seconds of a step and peak memory of this process; its rows are its part of the batch."""
    case, options = sized(name, tiny=tiny)
    training = replace(options.training, compile=FORMS[form][1])
    device, data = fabric.device, trials(case)
    batch_size = training.batch_size // fabric.world_size
    rows = np.arange(batch_size) + fabric.global_rank * batch_size
    batch = TrialReader(data, device=device).batch(rows % data.n_trials)
    levels = guidance_levels(data, options=training, device=device)
    architecture = choose_architecture(data, options.model, network=CLIP_MUSED)
    torch.manual_seed(0)
    network = build_decoder(architecture, options.model, n_participants=case.n_participants).train()
    cost = training_cost(network, n_voxels=architecture.n_voxels, batch_size=training.batch_size)
    model, optimizer = fabric.setup(network, make_optimizer(network, training))
    weights = term_weights(training)
    durations = []
    with compiled(network, on=training.compile, device=device):
        for _ in range(3 + steps):
            start = time.perf_counter()
            optimizer.zero_grad()
            output = model(batch.responses, batch.participants)
            loss = total_loss(batch_terms(output, batch, levels=levels, options=training), weights)
            fabric.backward(loss)
            optimizer.step()
            # A number of the loss waits for the device.
            assert np.isfinite(float(loss.detach()))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            durations.append(time.perf_counter() - start)
    seconds = float(np.median(durations[3:]))
    return {
        "case": name, "form": form, "processes": fabric.world_size, "batch_size": training.batch_size,
        "seconds_first_step": durations[0], "seconds": seconds,
        "samples_per_second": training.batch_size / seconds, "peak_gb": peak_bytes(device) / 1e9,
        "step_tflop": cost.step_flops / 1e12, "tflop_per_second": cost.step_flops / seconds / 1e12,
        "share_of_peak": share_of_peak(device, cost.step_flops / seconds / fabric.world_size, FORMS[form][0]),
        "computed_gb": (cost.state_bytes + cost.activation_bytes) / 1e9,
    }  # fmt: skip


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def share_of_peak(device: torch.device, flops: float, precision: str) -> float | None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = next((peak for key, peak in PEAKS.items() if all(part in name for part in key.split())), None)
    return None if known is None else flops / known[precision != "32-true"] / 1e12


def worker(
    fabric: Fabric, name: str, form: str, found: Path | None, sizes: dict[str, int]
) -> dict[str, object]:
    try:
        row = measure(fabric, name, form, tiny=bool(sizes["tiny"]), steps=sizes["steps"])
    except torch.OutOfMemoryError as error:
        row = {"case": name, "form": form, "error": str(error).partition(". GPU")[0]}
    if found is not None and fabric.global_rank == 0:
        found.write_text(json.dumps(row))
    return row


def run(
    device: str, name: str, form: str, *, processes: int, tiny: bool, steps: int, folder: Path
) -> dict[str, object]:
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    several = {"strategy": "ddp_spawn"} if processes > 1 else {}
    fabric = Fabric(accelerator=device, devices=processes, precision=FORMS[form][0], **several)
    found = folder / f".{name}_{form}.json" if processes > 1 else None
    row = fabric.launch(worker, name, form, found, {"tiny": tiny, "steps": steps})
    if found is not None:
        row = json.loads(found.read_text())
        found.unlink()
    return row


def table(rows: list[dict]) -> str:
    title = f"{'case':12} {'form':13} {'processes':>9} {'samples/s':>10} {'s/step':>8} {'peak GB':>8}"
    lines = [f"{title} {'TFLOP/s':>8} of peak"]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['case']:12} {row['form']:13} {row['error']}")
            continue
        share = "unknown" if row["share_of_peak"] is None else f"{row['share_of_peak']:.1%}"
        lines.append(
            f"{row['case']:12} {row['form']:13} {row['processes']:9} {row['samples_per_second']:10.1f} "
            f"{row['seconds']:8.4f} {row['peak_gb']:8.2f} {row['tflop_per_second']:8.3f} {share}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--processes", type=int, help="of the row with DDP; as many as there are GPUs")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch sees no CUDA device here (--device cpu --tiny tries the code only).")
    processes = args.processes or max(1, torch.cuda.device_count() if args.device == "cuda" else 1)
    runs = [(name, form, 1) for name in ("hcp", "nsd-common") for form in args.forms]
    if processes > 1:
        runs += [(name, "bf16", processes) for name in ("hcp", "nsd-common")]
    folder = args.json.parent if args.json else Path.cwd()
    rows = [
        run(args.device, name, form, processes=n, tiny=args.tiny, steps=args.steps, folder=folder)
        for name, form, n in runs
    ]
    result = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "torch": torch.__version__, "cuda": torch.version.cuda, "tiny": args.tiny, "rows": rows,
    }  # fmt: skip
    print(table(rows))
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
