"""Frozen values that travel between rooms. They know no command line and write nothing."""

from clipmused_bids.records.arrays import BoolArray, FloatArray, IntArray, Series
from clipmused_bids.records.responses import ResponseTable, RunResponses, TrialData, VoxelSpace
from clipmused_bids.records.results import FEWEST_FOLDS, History, Score, SetName, Split
from clipmused_bids.records.runs import RUN_ENTITIES, BetaRows, Grid, Run, Trials
from clipmused_bids.records.stimuli import Picture, Stimuli, Targets

__all__ = [
    "FEWEST_FOLDS",
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
