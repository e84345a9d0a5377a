"""Frozen values that travel between rooms. They know no command line and write nothing."""

from clipmused_bids.records.arrays import BoolArray, FloatArray, IntArray, Series
from clipmused_bids.records.responses import ResponseTable, RunResponses, TrialData, VoxelSpace
from clipmused_bids.records.results import History, Score, SetName, Split
from clipmused_bids.records.runs import RUN_ENTITIES, BetaRows, Grid, Run, Trials
from clipmused_bids.records.stimuli import Picture, Stimuli, Targets

__all__ = [
    "RUN_ENTITIES",
    "BetaRows",
    "BoolArray",
    "FloatArray",
    "Grid",
    "History",
    "IntArray",
    "Picture",
    "ResponseTable",
    "Run",
    "RunResponses",
    "Score",
    "Series",
    "SetName",
    "Split",
    "Stimuli",
    "Targets",
    "TrialData",
    "Trials",
    "VoxelSpace",
]
