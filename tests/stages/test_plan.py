from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipmused_bids.errors import DataError
from clipmused_bids.stages.failures import Failures
from tests.stages.conftest import World, make_run


def test_a_plan_goes_on_without_those_who_failed(world: World) -> None:
    """But their events still count in splits and labels, which must not depend on who failed."""
    for participant in ("01", "02", "03"):
        for number in (1, 2):
            world.add(make_run(participant, number), "ab", np.eye(2))
    plan = world.plan()
    failures = Failures()
    with failures.of_participant("02"):
        raise DataError("broken")
    left = plan.without(failures)
    assert left.participants == ("01", "03")
    assert {run.participant for run in left.runs} == {"01", "03"}
    assert left.event_runs == plan.event_runs
    assert [run.run for run in left.runs_of("03")] == [1, 2]
    assert left.runs_of("02") == ()


def test_participants_of_the_table_without_a_folder(world: World) -> None:
    world.add(make_run("01"), "ab", np.eye(2))
    plan = world.plan()
    assert plan.listed_but_absent() == ()
    table = world.folder / "bids" / "participants.tsv"
    table.write_text("participant_id\nsub-01\nsub-02\nsub-10\n")
    assert plan.listed_but_absent() == ("02", "10")
    assert replace(plan, participants=()).listed_but_absent() == ("02", "10")
