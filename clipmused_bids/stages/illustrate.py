"""Training curves and methods text of a decoder, written into the output tree."""

from __future__ import annotations

from pathlib import Path

from clipmused_bids import __version__
from clipmused_bids.config import as_tables
from clipmused_bids.dataset.files.atomic import remove, write_bytes
from clipmused_bids.dataset.files.documents import write_text
from clipmused_bids.dataset.outputs.model_writing import complete_model, history_of, is_complete
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.outputs.weights import StoredModel, history_path, read_config
from clipmused_bids.methods.registry import METHODS
from clipmused_bids.records import History
from clipmused_bids.report.figures import training_curves
from clipmused_bids.report.methods_text import MethodsFacts, methods_text
from clipmused_bids.stages.plan import Plan


def show_decoder(folder: Path, *, participant: str | None, fresh: bool) -> None:
    """See that what people look at lies beside a stored decoder: configuration, training curves and their drawing.

    Parameters
    ----------
    fresh : bool
        Whether it was stored now. Else only what is missing is made: the run that stored it may have been killed.
    """
    drawing = history_path(folder, participant=participant).with_suffix(".svg")
    deep = METHODS[read_config(folder, participant=participant)["method"]].deep
    if not fresh and drawing.exists() == deep and is_complete(folder, participant=participant):
        return
    history = history_of(complete_model(folder, participant=participant))
    if deep and history is not None:
        write_bytes(drawing, _drawn(history))
    else:
        # Of an earlier decoder under this label.
        remove(drawing)


def _drawn(history: History) -> bytes:
    """Training curves; of the first one where several are averaged."""
    member = history.columns.get("member")
    rows = [k for k in range(len(history.columns["loss"])) if member is None or member[k] == member[0]]
    columns = {name: [values[k] for k in rows] for name, values in history.columns.items()}
    return training_curves(columns, best_epoch=history.best_epoch)


def write_methods(plan: Plan, tree: OutputTree, model: StoredModel) -> None:
    """Write the methods text of the decoder, with its numbers and what to cite."""
    facts = MethodsFacts(
        version=__version__,
        n_participants=len(plan.participants),
        n_runs=len(plan.runs),
        n_trials=sum(plan.trials[run.key].n_trials for run in plan.runs),
        response_kind=plan.kind,
        responses=as_tables(plan.hyperparameters.responses),
        config=model.config,
    )
    write_text(tree.citation, methods_text(facts))
