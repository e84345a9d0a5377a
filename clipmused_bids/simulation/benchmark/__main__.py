"""The command: ``python -m clipmused_bids.simulation.benchmark OUT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from clipmused_bids import __version__
from clipmused_bids.config import read_config_file
from clipmused_bids.dataset.files.documents import write_json, write_text, write_tsv
from clipmused_bids.errors import ClipMusedError, UsageError
from clipmused_bids.methods.variants import VARIANTS
from clipmused_bids.simulation.benchmark.journal import read_results
from clipmused_bids.simulation.benchmark.regimes import (
    REGIMES,
    SEEDS,
    SWEEPS,
    Regime,
    SeedKind,
    SweepName,
    kind_of_seeds,
    settings_of,
)
from clipmused_bids.simulation.benchmark.running import Work, names_of, run
from clipmused_bids.simulation.benchmark.summary import summarise
from clipmused_bids.simulation.benchmark.tables import as_columns, as_json, as_markdown, as_text

_QUICK_ROWS = ("prevalence", "ridge", "ridge-pooled", "ridge-stack", "clip-mused", "clip-mused:no-guidance")
# Guidance is with, without, and beside what it must beat.
_SWEEP_ROWS = ("ridge", "ridge-pooled", "ridge-stack", "clip-mused", "clip-mused:no-guidance")


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--seeds",
    "seed_kind",
    type=click.Choice(list(SEEDS)),
    default="report",
    show_default=True,
    help="development: to choose anything by; report: to claim anything with. One folder holds one kind.",
)
@click.option("--n-seeds", type=click.IntRange(1, 8), help="The first so many of them; 8, or 2 with --quick.")
@click.option("--regimes", help=f"Separated by commas: {', '.join(REGIMES)}. All of them; few in a sweep.")
@click.option("--methods", help="Rows, separated by commas: methods and ablations. All of them by default.")
@click.option("--sweep", type=click.Choice(list(SWEEPS)), help="Vary one parameter of the simulator.")
@click.option("--native", is_flag=True, help="Every participant in a space of his own.")
@click.option(
    "--config-file",
    type=click.Path(path_type=Path),
    help="Hyper-parameters of all rows, over the preset's, as for clipmused-bids.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds at once; a core each."
)
@click.option(
    "--quick", is_flag=True, help="Two seeds, the main rows, no newcomers: under five minutes with --jobs 2."
)
@click.option("--tables-only", is_flag=True, help="Compute nothing; tables of the results that are there.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Also write the JSON to this file."
)
def main(
    out: Path, *, jobs: int, tables_only: bool, markdown: bool, json_file: Path | None, **asked: Any
) -> None:
    """Compare all methods on simulated studies; results are kept in OUT, and the same command goes on there."""
    try:
        if not tables_only:
            run(_work(out, **asked), n_jobs=jobs)
        click.echo(report(out, markdown=markdown, json_file=json_file))
    except ClipMusedError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(int(error.exit_code))


def report(out: Path, *, markdown: bool = False, json_file: Path | None = None) -> str:
    """Write the tables of the results in a folder, and return them as text or Markdown.

    Raises
    ------
    DataError
        If there are no results.
    UsageError
        If seeds for development and for reports lie in one folder.
    """
    records = read_results(out)
    tables = summarise(records)
    content = as_json(
        tables, seed_kind=kind_of_seeds([record["seed"] for record in records]), version=__version__
    )
    write_text(out / "benchmark.txt", f"{as_text(tables)}\n")
    write_tsv(out / "benchmark.tsv", as_columns(tables))
    for path in (out / "benchmark.json", json_file):
        if path is not None:
            write_json(path, content)
    return as_markdown(tables) if markdown else as_text(tables)


def _work(
    out: Path,
    *,
    seed_kind: SeedKind,
    n_seeds: int | None,
    regimes: str | None,
    methods: str | None,
    sweep: SweepName | None,
    native: bool,
    config_file: Path | None,
    quick: bool,
) -> Work:
    rows = _SWEEP_ROWS if sweep is not None else _QUICK_ROWS if quick else tuple(VARIANTS)
    usual: tuple[Regime, ...] = ("few",) if sweep is not None else REGIMES[:2] if quick else REGIMES
    seeds = SEEDS[seed_kind][: n_seeds or (2 if quick else 8)]
    _refuse_other_kind(out, seed_kind)
    return Work(
        folder=out,
        seeds=seeds,
        settings=settings_of(native=native, sweep=sweep),
        regimes=_regimes(regimes) if regimes else usual,
        rows=names_of(methods.split(",") if methods else rows),
        over_preset=read_config_file(config_file) if config_file is not None else {},
    )


def _regimes(text: str) -> tuple[Regime, ...]:
    asked = text.split(",")
    unknown = sorted(set(asked) - set(REGIMES))
    if unknown:
        raise UsageError(f"--regimes {text}: {', '.join(unknown)} unknown.", hint=f"of {', '.join(REGIMES)}")
    return tuple(regime for regime in REGIMES if regime in asked)


def _refuse_other_kind(out: Path, seed_kind: SeedKind) -> None:
    """Refuse before anything is computed what the tables would refuse."""
    if not any(out.glob("seed-*.jsonl")):
        return
    found = kind_of_seeds([record["seed"] for record in read_results(out)])
    if found != seed_kind:
        raise UsageError(
            f"{out} holds results of {found} seeds; they cannot be mixed with {seed_kind} seeds.",
            hint="name another folder",
        )


if __name__ == "__main__":
    main()
