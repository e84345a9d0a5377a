from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from clipmused_bids.errors import UsageError
from clipmused_bids.simulation.parameters import SimulationParameters
from clipmused_bids.simulation.schedule import draw_schedule, draw_stimuli

DEMO = SimulationParameters()


def test_presentations_mark_the_shared_stimuli_as_test_set() -> None:
    """Split rule 4: more than twice the modal number, at least 20 stimuli, at most 30 % of the unique ones."""
    stimuli = draw_stimuli(DEMO)
    shown: Counter[int] = Counter()
    for participant in range(DEMO.n_participants):
        runs = draw_schedule(stimuli, DEMO, participant=participant)
        assert [len(run.stimulus) for run in runs] == [40] * 6
        mine = Counter(int(k) for run in runs for k in run.stimulus)
        assert {mine[int(k)] for k in stimuli.shared} == {2}
        assert {mine[int(k)] for k in stimuli.own[participant][:20]} == {2}
        assert {mine[int(k)] for k in stimuli.own[participant][20:]} == {1}
        assert all(Counter(run.stimulus.tolist()).most_common(1)[0][1] == 1 for run in runs)
        shown += mine
    mode = Counter(shown.values()).most_common(1)[0][0]
    often = {stimulus for stimulus, count in shown.items() if count > 2 * mode}
    assert often == set(stimuli.shared.tolist())
    assert 20 <= len(often) <= 0.3 * len(shown)


def test_every_stimulus_is_another_scene_unless_copies_are_planted() -> None:
    assert len(set(draw_stimuli(DEMO).scene.tolist())) == DEMO.n_stimuli
    leaky = draw_stimuli(replace(DEMO, leak="copies"))
    of_shared = set(leaky.scene[leaky.shared].tolist())
    for own in leaky.own:
        assert len(of_shared & set(leaky.scene[own].tolist())) == 10
        assert not of_shared & set(leaky.scene[own[: DEMO.n_repeated_own]].tolist())


def test_a_participant_does_not_depend_on_the_others() -> None:
    more = replace(DEMO, n_participants=5)
    few, many = (draw_schedule(draw_stimuli(p), p, participant=1) for p in (DEMO, more))
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a.stimulus, b.stimulus)
        np.testing.assert_array_equal(a.onset, b.onset)
    first, second = draw_stimuli(DEMO), draw_stimuli(more)
    np.testing.assert_array_equal(first.scene, second.scene[: DEMO.n_stimuli])


def test_runs_end_after_the_last_response() -> None:
    for run in draw_schedule(draw_stimuli(DEMO), DEMO, participant=0):
        assert np.all(np.diff(run.onset) >= 4)
        assert run.n_scans * DEMO.repetition_time >= run.onset[-1] + 16


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"n_trials": 241}, "do not divide"),
        ({"n_trials": 60}, "fewer than"),
        ({"clip_alignment": 1.5}, "clip_alignment"),
        ({"n_bank": 100}, "larger bank"),
        ({"snr": 0.0}, "snr"),
    ],
)
def test_parameters_that_cannot_be_are_refused(values: dict[str, float], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        replace(DEMO, **values)
