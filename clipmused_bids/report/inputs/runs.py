"""The runs of one participant as a table, and how the head moved in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipmused_bids.records import FloatArray
from clipmused_bids.report.blocks import Block, Details, Figure, Paragraph, Table
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, svg
from clipmused_bids.report.inputs.wording import counted, spread

# mm; the mark that many studies take for a volume with motion (Power et al. 2012).
DISPLACEMENT_MARK = 0.5
MOST_OPEN_RUNS = 12
_MOST_NAMED_RUNS = 16
_COLUMNS = (
    "session",
    "task",
    "run",
    "volumes",
    "TR (s)",
    "trials",
    "left out",
    "responses",
    "confounds used",
)
_DASH = "–"


@dataclass(frozen=True)
class Displacement:
    """Framewise displacement of one run in mm.

    Parameters
    ----------
    median, high : float
        Median and 95th percentile over volumes.
    above : float
        Share of volumes above 0.5 mm, 0 to 1.
    n_volumes : int
        Volumes that have a displacement: not the first one.
    """

    median: float
    high: float
    above: float
    n_volumes: int


@dataclass(frozen=True)
class RunFacts:
    """What is known of one run.

    Parameters
    ----------
    session, run : str
        "" where the dataset has none.
    task : str
    n_volumes : int or None
        None where the image cannot be read, or there is none.
    n_unused : int
        Volumes that are not modelled: non-steady state, scrubbed.
    repetition_time : float or None
        In s; None where it is not known, or does not matter.
    n_trials : int
        Trials in the events.
    n_dropped : int or None
        Trials without a response; None where no responses are stored.
    kind : str
        ``lss``, ``lsa``, ``window`` or ``betas``.
    confounds : str
        In words.
    displacement : Displacement or None
        None where nobody measured it.
    """

    session: str
    task: str
    run: str
    n_volumes: int | None
    n_unused: int
    repetition_time: float | None
    n_trials: int
    n_dropped: int | None
    kind: str
    confounds: str
    displacement: Displacement | None = None

    @property
    def name(self) -> str:
        """Short name among the runs of one participant."""
        return (
            " ".join(part for part in (self.session and f"ses-{self.session}", self.run) if part) or self.task
        )


def displacement_of(values: FloatArray) -> Displacement | None:
    """Summarise the framewise displacement of a run, in mm; volumes with NaN (the first one) do not count."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return None
    return Displacement(
        median=float(np.median(known)),
        high=float(np.quantile(known, 0.95)),
        above=float((known > DISPLACEMENT_MARK).mean()),
        n_volumes=len(known),
    )


def run_blocks(runs: Sequence[RunFacts]) -> list[Block]:
    """Table of the runs; more than twelve are folded away below a line that sums them up."""
    rows = [_row(run) for run in runs]
    kept = [k for k, name in enumerate(_COLUMNS) if k > 0 or any(run.session for run in runs) or not name]
    table = Table(
        caption="Runs that were read. Left out: trials without a response; – where no responses are stored.",
        columns=[_COLUMNS[k] for k in kept],
        rows=[[row[k] for k in kept] for row in rows],
        numeric=[_COLUMNS[k] in {"volumes", "TR (s)", "trials", "left out"} for k in kept],
    )
    if len(runs) <= MOST_OPEN_RUNS:
        return [table]
    return [Details(f"All {len(runs)} runs: {_summed(runs)}", [table])]


def _row(run: RunFacts) -> list[str]:
    volumes = _DASH if run.n_volumes is None else f"{run.n_volumes:,}"
    if run.n_unused:
        volumes += f" ({run.n_unused} not used)"
    return [
        run.session or _DASH,
        run.task,
        run.run or _DASH,
        volumes,
        _DASH if run.repetition_time is None else f"{run.repetition_time:g}",
        f"{run.n_trials:,}",
        _DASH if run.n_dropped is None else f"{run.n_dropped:,}",
        run.kind if run.n_dropped is not None else "none stored",
        run.confounds,
    ]


def _summed(runs: Sequence[RunFacts]) -> str:
    parts = [f"{spread(run.n_trials for run in runs)} trials each"]
    volumes = [run.n_volumes for run in runs if run.n_volumes is not None]
    if volumes:
        parts.insert(0, f"{spread(volumes, digits=6)} volumes")
    times = [run.repetition_time for run in runs if run.repetition_time is not None]
    if times:
        parts.append(f"TR {spread(times)} s")
    parts.append(f"{sum(run.n_dropped or 0 for run in runs):,} trials left out in all")
    return ", ".join(parts)


def motion_blocks(runs: Sequence[RunFacts]) -> list[Block]:
    """How far the head moved from volume to volume, in words and as a strip over runs."""
    measured = [run for run in runs if run.displacement is not None]
    if not measured:
        return [
            Paragraph(
                "Motion: not known. No run has a confounds file with framewise displacement, so the page cannot say "
                "how still the head was."
            )
        ]
    every = [run.displacement for run in measured if run.displacement is not None]
    n_volumes = sum(one.n_volumes for one in every)
    above = sum(one.above * one.n_volumes for one in every) / n_volumes
    without = len(runs) - len(measured)
    lacking = f" {counted(without, 'run has', 'runs have')} none." if without else ""
    text = (
        f"Motion: the median framewise displacement is {spread((one.median for one in every), digits=2)} mm over "
        f"{counted(len(every), 'run')}, its 95th percentile {spread((one.high for one in every), digits=2)} mm; "
        f"{100 * above:.1f}\u00a0% of {n_volumes:,} volumes are above {DISPLACEMENT_MARK} mm.{lacking}"
    )
    return [Paragraph(text), motion_figure(measured, alt=text)]


def motion_figure(runs: Sequence[RunFacts], *, alt: str) -> Figure:
    """Strip over runs: median and 95th percentile of the displacement, and below the share of volumes above 0.5 mm."""
    known = [run.displacement for run in runs if run.displacement is not None]
    places = np.arange(1, len(known) + 1)
    figure = blank(width=4.8, height=3.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    medians, highs = np.array([one.median for one in known]), np.array([one.high for one in known])
    upper.vlines(places, medians, highs, color=OUR_COLOUR, linewidth=2)
    upper.plot(places, medians, "o", color=OUR_COLOUR, markersize=5, label="median")
    upper.plot(places, highs, "_", color=OUR_COLOUR, markersize=9, markeredgewidth=2, label="95th percentile")
    upper.axhline(
        DISPLACEMENT_MARK,
        color=OTHER_COLOURS[0],
        linestyle="--",
        linewidth=1,
        label=f"{DISPLACEMENT_MARK} mm",
    )
    upper.set(ylabel="displacement (mm)", ylim=(0, None))
    upper.legend(
        fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2
    )
    shares = 100 * np.array([one.above for one in known])
    lower.bar(places, shares, color=FLOOR_COLOUR, width=0.7)
    lower.set(ylabel=f"> {DISPLACEMENT_MARK} mm\n(% of vol.)", ylim=(0, max(5.0, 1.15 * float(shares.max()))))
    _name_runs(lower, runs)
    return Figure(
        image=svg(figure),
        media_type="image/svg+xml",
        alt=alt,
        caption="Framewise displacement of each run: how far the head moved from one volume to the next. Above, dots "
        "are medians, bars reach to the 95th percentile; below, the share of volumes above the dashed mark. It does "
        "not show motion that belongs to the task, nor what the confounds removed of its effects.",
    )


def _name_runs(axes: object, runs: Sequence[RunFacts]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

    assert isinstance(axes, Axes)
    if len(runs) <= _MOST_NAMED_RUNS:
        long = max(len(run.name) for run in runs) * len(runs) > 70
        axes.set_xticks(np.arange(1, len(runs) + 1), [run.name for run in runs], rotation=60 if long else 0)
        axes.set_xlabel("run")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("run, in the order of the table")
