"""Closed-form LSS against nilearn's per-trial models: the same responses, how much sooner.

    python benchmarks/single_trial.py [--trials 60] [--scans 300] [--voxels 60000] [--nuisance 30] [--timed 2]

nilearn fits one model per trial and all take the same time, so only a few are timed and the rest is extrapolated.
Prints a table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
import warnings

import nibabel
import nilearn
import numpy as np
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm
from pandas import DataFrame

from clipmused_bids.records import Trials
from clipmused_bids.responses.design import trial_design
from clipmused_bids.responses.single_trial import single_trial_responses

TR = 2.0


def simulated(args):
    generator = np.random.default_rng(0)
    step = (args.scans * TR - 20) / args.trials
    onset = 5 + step * np.arange(args.trials) + generator.uniform(0, step / 2, args.trials)
    names = tuple(f"s{i}" for i in range(args.trials))
    none = np.empty(0)
    trials = Trials(
        onset, np.full(args.trials, 2.0), names, names, {}, none, none, (), args.trials, args.trials, {}
    )
    bold = generator.standard_normal((args.scans, args.voxels), dtype=np.float32) * 20 + 1000
    return bold, trials, generator.normal(size=(args.scans, args.nuisance))


def events_of(trials, i):
    kind = ["this" if k == i else "other" for k in range(trials.n_trials)]
    return DataFrame({"onset": trials.onset, "duration": trials.duration, "trial_type": kind})


def ours(bold, trials, confounds):
    design = trial_design(trials, n_scans=len(bold), repetition_time=TR, confounds=confounds)
    return single_trial_responses(bold, design)


def glm_per_trial(bold, trials, confounds, chosen):
    """Design and OLS fit only, on the array."""
    found = []
    for i in chosen:
        table = make_first_level_design_matrix(
            np.arange(len(bold)) * TR, events_of(trials, i), hrf_model="spm", drift_model="cosine", high_pass=0.01,
            add_regs=confounds,
        )  # fmt: skip
        _, results = run_glm(bold, table.to_numpy(), noise_model="ols")
        (fit,) = results.values()
        found.append(fit.theta[table.columns.get_loc("this")])
    return np.stack(found)


def model_per_trial(image, mask, trials, confounds, chosen):
    """FirstLevelModel as a user would loop over it: masking, fit, contrast."""
    found = []
    names = [f"c{k}" for k in range(confounds.shape[1])]
    for i in chosen:
        model = FirstLevelModel(
            t_r=TR, hrf_model="spm", high_pass=0.01, noise_model="ols", signal_scaling=False, mask_img=mask
        )
        model.fit(image, events=events_of(trials, i), confounds=DataFrame(confounds, columns=names))
        effect = model.compute_contrast("this", output_type="effect_size")
        found.append(np.asarray(effect.dataobj)[np.asarray(mask.dataobj) > 0])
    return np.stack(found)


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("trials", 60), ("scans", 300), ("voxels", 60_000), ("nuisance", 30), ("timed", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    bold, trials, confounds = simulated(args)
    chosen = list(range(min(args.timed, args.trials)))
    values, seconds = timed(ours, bold, trials, confounds)
    glm, glm_seconds = timed(glm_per_trial, bold, trials, confounds, chosen)
    image = nibabel.Nifti1Image(np.ascontiguousarray(bold.T)[:, None, None, :], np.eye(4))
    mask = nibabel.Nifti1Image(np.ones(image.shape[:3], np.uint8), np.eye(4))
    model, model_seconds = timed(model_per_trial, image, mask, trials, confounds, chosen)
    tracemalloc.start()
    ours(bold, trials, confounds)
    peak = tracemalloc.get_traced_memory()[1]
    rest = args.trials / len(chosen)
    rows = [
        ("closed form", args.trials, seconds, seconds, 0.0),
        ("nilearn run_glm per trial", len(chosen), glm_seconds, glm_seconds * rest, difference(values, glm)),
        (
            "nilearn FirstLevelModel",
            len(chosen),
            model_seconds,
            model_seconds * rest,
            difference(values, model),
        ),
    ]
    report(args, rows, peak / bold.nbytes)


def difference(values, reference):
    return float(np.abs(values[: len(reference)] - reference).max() / np.abs(reference).max())


def report(args, rows, peak) -> None:
    print(f"{args.trials} trials, {args.scans} scans, {args.voxels} voxels, {args.nuisance} confounds, "
          f"{os.cpu_count()} cores, nilearn {nilearn.__version__}")  # fmt: skip
    print(f"{'':28}{'timed':>7}{'seconds':>10}{'all trials':>12}{'ratio':>8}{'max rel. difference':>22}")
    for name, n, seconds, total, gap in rows:
        mark = "" if n == args.trials else " *"
        print(f"{name:28}{n:>7}{seconds:>10.2f}{total:>10.2f}{mark:2}{total / rows[0][3]:>8.0f}{gap:>22.1e}")
    print("* extrapolated from the trials timed")
    print(f"memory of the closed form beside its input, result included: {peak:.2f} x the input")
    keys = ("name", "trials_timed", "seconds", "seconds_all_trials", "max_relative_difference")
    figures = [dict(zip(keys, row, strict=True)) for row in rows]
    print(json.dumps({"setting": vars(args), "rows": figures, "memory_over_input": round(peak, 3)}))


if __name__ == "__main__":
    main()
