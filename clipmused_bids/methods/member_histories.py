"""Training curves of decoders that are averaged."""

from __future__ import annotations

from clipmused_bids.records import History


def joined_histories(histories: list[History]) -> History:
    """One history of all members."""
    columns: dict[str, tuple[float, ...]] = {
        "member": tuple(
            float(m + 1) for m, one in enumerate(histories) for _ in next(iter(one.columns.values()))
        )
    }
    for name in histories[0].columns:
        columns[name] = tuple(value for one in histories for value in one.columns[name])
    stopped = histories[0].stopped
    if len(histories) > 1:
        stopped = "; ".join(
            f"member {m + 1}: epoch {one.best_epoch}, {one.stopped}" for m, one in enumerate(histories)
        )
    return History(columns=columns, best_epoch=histories[0].best_epoch, stopped=stopped)
