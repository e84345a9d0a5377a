"""How networks were trained: curves of each term of the loss, what was watched, and why training ended."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipmused_bids.records import History
from clipmused_bids.report.blocks import Figure
from clipmused_bids.report.canvas import FLOOR_COLOUR, OTHER_COLOURS, OUR_COLOUR, blank, svg
from clipmused_bids.report.standing import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = (OUR_COLOUR, *OTHER_COLOURS)
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_NAMES = {"val map": "validation mAP", "val loss": "validation loss"}
_CHOSEN_BY = {"map": "the highest validation mAP", "loss": "the lowest validation loss"}


@dataclass(frozen=True)
class Course:
    """One training.

    Parameters
    ----------
    name : str
        Whose: ``sub-01``, ``member 2``, ...
    columns : mapping of str to sequence of float
        One value for each epoch; values before training come first (epoch 0).
    kept : int
        Epoch whose weights were kept; below 0 where that is not known.
    """

    name: str
    columns: Mapping[str, Sequence[float]]
    kept: int


@dataclass(frozen=True)
class Panel:
    """Curves that share axes.

    Parameters
    ----------
    title : str
    prefix : str
        Columns whose name starts so are drawn.
    says : str
        What the panel shows, and what it does not.
    logarithmic : bool
    words : str
        Stands for the underscores in the names of curves.
    keeps_prefix : bool
        Whether curves are named by the whole column.
    """

    title: str
    prefix: str
    says: str
    logarithmic: bool = False
    words: str = " "
    keeps_prefix: bool = False

    def curves(self, course: Course) -> dict[str, Sequence[float]]:
        """Columns of this panel that hold any number, by the names they are drawn under."""
        found = {}
        for column, values in course.columns.items():
            if column.startswith(self.prefix) and any(math.isfinite(value) for value in values):
                name = column if self.keeps_prefix else column.removeprefix(self.prefix)
                found[name.replace("_", self.words)] = values
        return found


LEARNED = (
    Panel("loss", "loss", "Loss of training trials and its terms, each before it is weighted; epoch 0 is before "
          "training.", logarithmic=True, keeps_prefix=True),
    Panel("validation loss", "val_loss", "Loss of validation trials after each epoch.", keeps_prefix=True),
    Panel("validation mAP", "val_map", "Score of validation trials after each epoch: they served to choose, so "
          "it is no result.", keeps_prefix=True),
)  # fmt: skip
WATCHED = (
    Panel("norm of gradients", "gradient_", "Norm of each weighted term's gradient, first batch.",
          logarithmic=True),
    Panel("norm of tokens", "norm_", "Mean norm of the tokens in that batch."),
    Panel("effective rank of tokens", "rank_", "Directions that a token uses; near 1 it tells trials apart no longer."),
    Panel("mean cosine of trials", "cosine_", "Near 1: a token is the same for all trials."),
    Panel("agreement with CLIP", "agreement_", "Correlation of the similarities of trials with those of each level of "
          "CLIP.", words=" with CLIP "),
)  # fmt: skip


def courses_of(history: History, *, name: str) -> list[Course]:
    """Take the curves of decoders that are averaged apart; one course where there is one decoder."""
    members = history.columns.get("member")
    if members is None or len(set(members)) < 2:
        return [Course(name, history.columns, history.best_epoch)]
    kept = {int(m): int(epoch) for m, epoch in re.findall(r"member (\d+): epoch (\d+)", history.stopped)}
    found = []
    for member in dict.fromkeys(members):
        rows = [k for k, one in enumerate(members) if one == member]
        columns = {column: [values[k] for k in rows] for column, values in history.columns.items()}
        found.append(Course(f"{name}, member {int(member)}", columns, kept.get(int(member), -1)))
    return found


def training_curves(courses: Sequence[Course], panels: Sequence[Panel] = (*LEARNED, *WATCHED)) -> bytes:
    """Draw curves against the epoch: the first course thick, others thin in the same colours.

    Parameters
    ----------
    courses : sequence of Course
    panels : sequence of Panel
        Those without any curve are left out.

    Returns
    -------
    bytes
        SVG.
    """
    drawn = [panel for panel in panels if any(panel.curves(course) for course in courses)]
    n_columns = 2 if len(drawn) > 1 else 1
    n_rows = max(math.ceil(len(drawn) / 2), 1)
    figure = blank(width=7.5 if n_columns > 1 else 4.6, height=3.0 * n_rows)
    for place, panel in enumerate(drawn, start=1):
        _draw_panel(figure.add_subplot(n_rows, n_columns, place), panel, courses)
    return svg(figure)


def _draw_panel(axes: Axes, panel: Panel, courses: Sequence[Course]) -> None:
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for course in courses for name in panel.curves(course)))
    for number, course in enumerate(courses):
        curves = panel.curves(course)
        for name, values in curves.items():
            look = names.index(name)
            axes.plot(
                range(len(values)), values, color=_COLOURS[look % len(_COLOURS)],
                linestyle=_STYLES[look % len(_STYLES)], linewidth=1.0 if number else 1.8,
                alpha=0.5 if number else 1.0, label=None if number else _NAMES.get(name, name),
            )  # fmt: skip
    kept = courses[0].kept if courses else -1
    if kept >= 0:
        axes.axvline(kept, color=FLOOR_COLOUR, linestyle="--", linewidth=1.2, label="weights kept")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    if panel.logarithmic:
        axes.set_yscale("log")
    # Below the axes, where it hides no curve.
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def why_it_ended(config: Mapping[str, Any], courses: Sequence[Course]) -> str:
    """Say in sentences how long training went, which weights were kept, by what, and why it ended."""
    stopped = str(config.get("stopped", "")) or "it is not on record why"
    if not courses:
        return f"Its training curves are not stored ({stopped})."
    first = courses[0]
    n_epochs = max(len(next(iter(first.columns.values()))) - 1, 0)
    by = str(((config.get("hyperparameters") or {}).get("training") or {}).get("choose_by", ""))
    which = "" if first.kept < 0 else f" The weights {_of_epoch(first.kept)} were kept"
    if which and by == "loss-1se":
        which += ", by the lowest validation loss, if lower than at the start by a standard error"
    elif which and by in _CHOSEN_BY:
        which += f", by {_CHOSEN_BY[by]}"
    end = "." if which else ""
    went = f"Training went on for {count(n_epochs, 'epoch', 'epochs')} and ended for this reason: {stopped}."
    return f"{went}{which}{end}"


def _of_epoch(kept: int) -> str:
    return "that it started from (epoch 0)" if kept == 0 else f"of epoch {kept}"


def closed_form(history: History | None) -> str:
    """Say what was chosen where nothing was trained step by step."""
    text = "It is fitted in closed form: there is no training to show."
    if history is None:
        return text
    chosen = [
        f"{name.replace('_', ' ').replace('val map', 'validation mAP')} {values[0]:g}"
        for name, values in history.columns.items()
        if name not in {"epoch", "member"} and len(values) == 1 and math.isfinite(values[0])
    ]
    shown = ", ".join(chosen[:8]) + (f" and {len(chosen) - 8} more" if len(chosen) > 8 else "")
    return f"{text} Chosen on validation trials: {shown}." if chosen else text


def curve_figures(courses: Sequence[Course], panels: Sequence[Panel]) -> list[Figure]:
    """Figures of half the width, one for each panel that has any curve."""
    drawn = [panel for panel in panels if any(panel.curves(course) for course in courses)]
    return [
        Figure(
            training_curves(courses, [panel]),
            "image/svg+xml",
            _alt(panel, courses[0]),
            _caption(panel, courses),
            "half",
        )
        for panel in drawn
    ]


def _caption(panel: Panel, courses: Sequence[Course]) -> str:
    if len(courses) < 2:
        return panel.says
    others = ", ".join(course.name for course in courses[1:])
    return f"{panel.says} Thick: {courses[0].name}, with its kept epoch; thin: {others}."


def _alt(panel: Panel, first: Course) -> str:
    """First and last value of each curve of the first course."""
    parts = []
    for name, values in panel.curves(first).items():
        finite = [value for value in values if math.isfinite(value)]
        parts.append(f"{_NAMES.get(name, name)} from {finite[0]:.3g} to {finite[-1]:.3g}")
    kept = f"; weights kept {_of_epoch(first.kept)}" if first.kept >= 0 else ""
    return f"{panel.title} of {first.name} against the epoch: {', '.join(parts) or 'no values'}{kept}."
