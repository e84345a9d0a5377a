"""Closed-form LSS against nilearn's per-trial models: the same responses, how much sooner.

    python benchmarks/single_trial.py [--trials 60] [--scans 300] [--voxels 60000] [--nuisance 30]
                                      [--timed 5] [--repeats 15] [--json FILE]

For white noise (OLS) and autocorrelated noise (AR(1)). nilearn fits one model per trial and all take the same time, so
only a few are timed and the median is multiplied. Ours is the median of some repeats. Each was called once before the
clock started. Beside the clock stands the least time of the processor, all threads together, which other work on
the machine disturbs less. Prints a table and, last, one line of JSON.

With AR(1), nilearn's loop takes one coefficient for each voxel and trial, we take one for each voxel. The row "with our
coefficients" fits nilearn's autoregressive model with ours instead: what then remains is rounding, so the
difference to the loop is the coefficients'.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel
import nilearn
import numpy as np
from nilearn.glm import ARModel
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from pandas import DataFrame

from clipmused_bids.records import Trials
from clipmused_bids.responses.autocorrelation import autocorrelation
from clipmused_bids.responses.design import trial_design
from clipmused_bids.responses.projection import orthonormal_basis
from clipmused_bids.responses.single_trial import single_trial_responses

TR = 2.0
STRONGEST = 0.6  # autocorrelation; voxels have from 0 to this


def simulated(args):
    generator = np.random.default_rng(0)
    step = (args.scans * TR - 20) / args.trials
    onset = 5 + step * np.arange(args.trials) + generator.uniform(0, step / 2, args.trials)
    names = tuple(f"s{i}" for i in range(args.trials))
    none = np.empty(0)
    trials = Trials(
        onset, np.full(args.trials, 2.0), names, names, {}, none, none, (), args.trials, args.trials, {}
    )
    bold = generator.standard_normal((args.scans, args.voxels), dtype=np.float32)
    coefficient = generator.uniform(0, STRONGEST, args.voxels).astype(np.float32)
    for scan in range(1, args.scans):
        bold[scan] += coefficient * bold[scan - 1]
    bold *= 20
    bold += 1000
    return bold, trials, generator.normal(size=(args.scans, args.nuisance))


def events_of(trials, i):
    kind = ["this" if k == i else "other" for k in range(trials.n_trials)]
    return DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": kind})


def table_of(trials, confounds, i):
    return make_first_level_design_matrix(
        np.arange(len(confounds)) * TR, events_of(trials, i), hrf_model="spm", drift_model="cosine", high_pass=0.01,
        add_regs=confounds,
    )  # fmt: skip


def ours(bold, trials, confounds, noise):
    design = trial_design(trials, n_scans=len(bold), repetition_time=TR, confounds=confounds)
    return single_trial_responses(bold, design, noise=noise)


def array_model(bold, trials, confounds, noise, i):
    """Design and fit only, on the array."""
    table = table_of(trials, confounds, i)
    labels, results = run_glm(bold, table.to_numpy(), noise_model=noise)
    found = np.empty(bold.shape[1])
    for label, fit in results.items():
        found[labels == label] = fit.theta[table.columns.get_loc("this")]
    return found


def image_model(images, trials, confounds, noise, i):
    """FirstLevelModel as a user would loop over it: masking, fit, contrast."""
    image, mask = images
    names = [f"c{k}" for k in range(confounds.shape[1])]
    model = FirstLevelModel(
        t_r=TR, hrf_model="spm", high_pass=0.01, noise_model=noise, signal_scaling=False, mask_img=mask
    )
    model.fit(image, events=events_of(trials, i), confounds=DataFrame(confounds, columns=names))
    effect = model.compute_contrast("this", output_type="effect_size")
    return np.asarray(effect.dataobj)[np.asarray(mask.dataobj) > 0]


def model_with_our_coefficients(bold, trials, confounds, i):
    design = trial_design(trials, n_scans=len(bold), repetition_time=TR, confounds=confounds)
    shared = np.column_stack([design.trials.sum(axis=1), design.nuisance])
    hundredths = autocorrelation(bold, orthonormal_basis(shared), sample_mask=design.sample_mask)
    table = table_of(trials, confounds, i)
    found = np.empty(bold.shape[1])
    for part in np.unique(hundredths):
        here = hundredths == part
        fit = ARModel(table.to_numpy(), part / 100).fit(bold[:, here])
        found[here] = fit.theta[table.columns.get_loc("this")]
    return found


def timed(function, *arguments, calls):
    """Results of different calls, after one untimed call, with median seconds and least processor seconds.

    Other work on the machine makes both longer; the least time of the processor suffers least.
    """
    function(*arguments, calls[0])
    results, clock, processor = {}, [], []
    for call in calls:
        results.pop(call, None)  # as one run's responses make room for the next one's
        start, start_processor = time.perf_counter(), time.process_time()
        results[call] = function(*arguments, call)
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return list(results.values()), {
        "seconds": statistics.median(clock),
        "cpu_seconds": min(processor),
    }


def compared(values, reference):
    reference = np.stack(reference)
    gap = np.abs(values[: len(reference)] - reference).max() / np.abs(reference).max()
    correlation = np.corrcoef(values[: len(reference)].ravel(), reference.ravel())[0, 1]
    return {"max_relative_difference": float(gap), "correlation": float(correlation)}


def measure(noise, args, bold, trials, confounds):
    chosen = list(range(min(args.timed, args.trials)))
    image = nibabel.Nifti1Image(np.ascontiguousarray(bold.T)[:, None, None, :], np.eye(4))
    mask = nibabel.Nifti1Image(np.ones(image.shape[:3], np.uint8), np.eye(4))
    (values,), own = timed(ours, bold, trials, confounds, calls=[noise] * args.repeats)
    rows = [{"noise": noise, "name": "closed form", "trials_timed": args.trials, **own, "ratio": 1.0}]
    for name, function, data in (
        ("nilearn run_glm per trial", array_model, bold),
        ("nilearn FirstLevelModel", image_model, (image, mask)),
    ):
        found, each = timed(function, data, trials, confounds, noise, calls=chosen)
        total = {unit: value * args.trials for unit, value in each.items()}
        ratios = {
            "ratio": total["seconds"] / own["seconds"],
            "cpu_ratio": total["cpu_seconds"] / own["cpu_seconds"],
        }
        timing = {"noise": noise, "name": name, "trials_timed": len(chosen), **total, **ratios}
        rows.append(timing | compared(values, found))
    if noise == "ar1":
        found = [model_with_our_coefficients(bold, trials, confounds, i) for i in chosen]
        rows.append({"noise": noise, "name": "nilearn, our coefficients"} | compared(values, found))
    return rows


def memory(noise, bold, trials, confounds):
    tracemalloc.start()
    ours(bold, trials, confounds, noise)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / bold.nbytes


def report(args, rows, memories) -> None:
    setting = {name: value for name, value in vars(args).items() if name != "json"}
    setting |= {"cores": os.cpu_count(), "nilearn": nilearn.__version__, "numpy": np.__version__}
    setting |= {"threads": os.environ.get("OMP_NUM_THREADS", "all"), "load": round(os.getloadavg()[0], 1)}
    setting["openblas_variables"] = sorted(name for name in os.environ if name.startswith("OPENBLAS_"))
    print(", ".join(f"{name} {value}" for name, value in setting.items()))
    columns = {
        "trials_timed": "6.0f", "seconds": "10.4f", "ratio": "8.0f", "cpu_seconds": "12.4f", "cpu_ratio": "10.0f",
        "max_relative_difference": "24.1e", "correlation": "12.7f",
    }  # fmt: skip
    widths = {name: int(form.split(".")[0]) for name, form in columns.items()}
    print(" " * 32 + "".join(f"{name.removeprefix('trials_'):>{widths[name]}}" for name in columns))
    for each in rows:
        cells = [
            f"{each[name]:{form}}" if name in each else " " * widths[name] for name, form in columns.items()
        ]
        print(f"{each['noise'] + ', ' + each['name']:32}{''.join(cells)}")
    print(f"seconds are for all {args.trials} trials; nilearn's were multiplied from the trials timed")
    for noise, share in memories.items():
        print(
            f"memory of the closed form ({noise}) beside its input, result included: {share:.2f} x the input"
        )
    text = json.dumps({"setting": setting, "rows": rows, "memory_over_input": memories})
    print(text)
    if args.json:
        args.json.write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("trials", 60), ("scans", 300), ("voxels", 60_000), ("nuisance", 30), ("timed", 5), ("repeats", 15),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    bold, trials, confounds = simulated(args)
    rows, memories = [], {}
    for noise in ("ols", "ar1"):
        rows += measure(noise, args, bold, trials, confounds)
        memories[noise] = round(memory(noise, bold, trials, confounds), 3)
    report(args, rows, memories)


if __name__ == "__main__":
    main()
