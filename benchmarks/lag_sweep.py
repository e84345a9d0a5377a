"""Which lag between a frame and its volume decodes best, on a simulated movie study whose lag is known.

    python benchmarks/lag_sweep.py [--planted 4] [--first 0] [--last 10] [--seed 0] [--blur 1] [--keep DIR]

For each lag the command itself is run (`group --train --decode --method ridge --lag L`) on the same dataset; the score
is the ridge's mAP on the validation movie, which is left out of the fit. The test movie is not looked at. Prints a
table and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from clipmused_bids.cli import main as command
from clipmused_bids.simulation.movie_writer import write_movie_dataset
from clipmused_bids.simulation.movies import MovieParameters


def run(study: Path, out: Path, lag: float) -> None:
    options = out.with_suffix(".toml")
    options.write_text('fit_on = "train"\n')
    words = [
        study, out, "group", "--train", "--decode", "--method", "ridge", "--lag", lag,
        "--config-file", options, "--labels", study / "stimuli" / "annotations.tsv",
    ]  # fmt: skip
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        code = command([str(word) for word in words])
    if code != 0:
        raise SystemExit(printed.getvalue())


def validation_scores(out: Path) -> list[float]:
    """Macro mAP of each participant on the validation trials, over labels with both values there."""
    truth = pd.read_csv(out / "stimuli" / "stimuli.tsv", sep="\t").set_index("stimulus_id")
    scores = []
    for folder in sorted(out.glob("sub-*")):
        tables = [
            pd.read_csv(path, sep="\t") for path in sorted(folder.glob("func/*_desc-ridge_predictions.tsv"))
        ]
        rows = pd.concat(tables, ignore_index=True)
        rows = rows[rows["set"] == "val"]
        names = [name.removeprefix("prob_") for name in rows.columns if name.startswith("prob_")]
        values = truth.loc[rows["stimulus_id"], [f"label_{name}" for name in names]].to_numpy()
        scores.append(
            float(
                np.mean(
                    [
                        average_precision_score(values[:, c], rows[f"prob_{name}"])
                        for c, name in enumerate(names)
                        if 0 < values[:, c].sum() < len(values)
                    ]
                )
            )
        )
    return scores


def sweep(args: argparse.Namespace, folder: Path) -> list[dict[str, float]]:
    study = folder / "bids"
    write_movie_dataset(study, MovieParameters(lag=args.planted, blur=args.blur, seed=args.seed))
    rows = []
    for lag in range(args.first, args.last + 1):
        start = time.perf_counter()
        out = folder / f"lag-{lag}"
        run(study, out, lag)
        scores = validation_scores(out)
        rows.append({"lag": lag, "map": round(float(np.mean(scores)), 4),
                     "per_participant": [round(score, 4) for score in scores],
                     "seconds": round(time.perf_counter() - start, 1)})  # fmt: skip
        print(f"{lag:>5}{rows[-1]['map']:>9.4f}   {'  '.join(f'{s:.4f}' for s in scores)}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planted", type=float, default=4.0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=10)
    parser.add_argument("--blur", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the dataset and the outputs; must be new.")
    args = parser.parse_args()
    print(f"planted lag {args.planted:g} s; mAP of the ridge on the validation movie")
    print("lag/s      mAP   of each participant")
    with tempfile.TemporaryDirectory() as scratch:
        rows = sweep(args, args.keep or Path(scratch))
    best = max(rows, key=lambda row: row["map"])["lag"]
    print(f"best: {best} s")
    setting = {name: value for name, value in vars(args).items() if name != "keep"}
    print(json.dumps({"setting": setting, "rows": rows, "best_lag": best}))


if __name__ == "__main__":
    main()
