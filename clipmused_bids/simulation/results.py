"""Scores of the demo beside what only the simulator knows: ``python -m clipmused_bids.simulation.results BIDS OUT``."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.outputs.metric_files import read_metrics
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.report.numbers import shown

BASELINES = ("ridge", "ridgepooled", "ridgestack", "prevalence")


@click.command()
@click.argument("bids_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--model-label", default="clipmused", show_default=True)
def main(bids_dir: Path, output_dir: Path, *, model_label: str) -> None:
    """Print participants by scores, floors, baselines and the oracle's score, and where the outputs are."""
    try:
        click.echo(results_table(bids_dir, OutputTree(output_dir), model_label=model_label))
    except ClipMusedError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(int(error.exit_code))
    click.echo("\n" + places(OutputTree(output_dir), model_label=model_label))


def places(tree: OutputTree, *, model_label: str) -> str:
    """Where to look first, and what lies beside it."""
    people = sorted(tree.root.glob("sub-*.html"))
    model = tree.model_folder(model_label)
    written = {
        "a page for each participant": people[0] if people else tree.report("01"),
        "scores with their floors": tree.group_metrics(model_label=model_label),
        "the decoder, and a card that describes it": model / "README.md",
        "how the analysis was done, in words, with references": tree.citation,
    }
    width = max(len(str(path)) for path in written.values())
    lines = [f"  {path!s:<{width}}  {what}" for what, path in written.items()]
    return "\n".join([f"Open this in a browser: {tree.report(None).absolute()}", "Beside it:", *lines])


def results_table(bids_dir: Path, tree: OutputTree, *, model_label: str) -> str:
    """Text table of held-out single trials.

    The oracle decodes with the true weights and noise over the simulator's scene bank, which no decoder has; its mAP
    bounds the others from above and is no target.

    Parameters
    ----------
    bids_dir : Path
        Simulated dataset; the truth is in ``sourcedata/simulation``.
    tree : OutputTree
        Outputs of ``group`` with its default actions.
    model_label : str
    """
    truth = read_json(bids_dir / "sourcedata" / "simulation" / "truth.json")["participants"]
    ours = _scores(tree, model_label)
    others = {name: _scores(tree, f"{model_label}+{name}") for name in BASELINES}
    header = ["participant", "mAP", "floor", "AUC", "floor", "Hamming", "floor"]
    header += [f"{name} mAP" for name in others] + ["oracle mAP", "true voxel ceiling"]
    lines = [header]
    for who in [*sorted(truth), "group"]:
        cells = [who if who == "group" else f"sub-{who}"]
        for metric in ("mAP", "AUC", "Hamming"):
            cells += [shown(number) for number in ours.get((who, metric), (math.nan, math.nan))]
        cells += [shown(scores.get((who, "mAP"), (math.nan,))[0]) for scores in others.values()]
        known = [truth[who]] if who in truth else list(truth.values())
        for name in ("oracle_map_single_trials", "median_noise_ceiling"):
            cells.append(shown(_mean([one[name] for one in known if one[name] is not None])))
        lines.append(cells)
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _scores(tree: OutputTree, label: str) -> Mapping[tuple[str, str], tuple[float, float]]:
    """Value and floor by participant and metric."""
    rows = read_metrics(tree.group_metrics(model_label=label))
    return {
        (row.participant, row.score.metric): (row.score.value, row.score.floor)
        for row in rows
        if row.averaging == "single trials"
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


if __name__ == "__main__":
    main()
