"""What the command accepts, in groups of the help text's order."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import click

from clipmused_bids.cli.descriptor import print_descriptor
from clipmused_bids.cli.methods import METHOD_HELP
from clipmused_bids.config import PRESETS, Precision

Decorator = Callable[[Any], Any]


def several(*names: str, **settings: Any) -> Decorator:
    """Declare an option that may be given more than once."""
    return click.option(*names, multiple=True, **settings)


ARGUMENTS: tuple[Decorator, ...] = (
    click.argument("bids_dir", type=click.Path(path_type=Path)),
    click.argument("output_dir", type=click.Path(path_type=Path)),
    click.argument("analysis_level", metavar="{participant|group}"),
)
ACTIONS: tuple[Decorator, ...] = (
    click.option("--prepare", is_flag=True, help="Estimate responses and CLIP targets."),
    click.option(
        "--train", is_flag=True, help="Train a decoder (participant: one each; group: one for all)."
    ),
    click.option("--decode", is_flag=True, help="Write predictions with a trained decoder."),
    click.option("--evaluate", is_flag=True, help="Score predictions; at group level with baselines."),
)
SELECTION: tuple[Decorator, ...] = (
    several(
        "--participant-label", help="Participants, with or without sub-, or a text file with one a line."
    ),
    several("--exclude-participant-label", help="Participants to leave out."),
    several("--session-id", "--session-label", help="Sessions."),
    several("-t", "--task-id", help="Tasks."),
    several("--run-id", type=int, help="Runs, as numbers."),
    click.option("--space", help="Space of the preprocessed images, as in their names."),
    click.option(
        "--bids-filter-file",
        metavar="JSON",
        help="Entities that files must have, by kind (bold, betas, events, mask, confounds), as fMRIPrep takes them.",
    ),
)
INPUTS: tuple[Decorator, ...] = (
    several(
        "-d",
        "--derivatives",
        metavar="PATH|NAME=PATH",
        help="Derivatives to read; default: those in <bids>/derivatives.",
    ),
    click.option(
        "--betas",
        metavar="TSV",
        help="Existing responses: participant_id, [session, run,] file, index, stimulus_id [, onset, set, scale].",
    ),
    several(
        "--stimuli-dir", metavar="DIR|FILE.hdf5:/DATASET", help="Further folders of stimuli, or image banks."
    ),
    click.option("--stimulus-column", help="Column of the events files that names the stimuli."),
    click.option(
        "--stimulus-map",
        metavar="TSV",
        help="Files of the stimuli: stimulus_id, filename [, label_id, set, ...].",
    ),
    click.option(
        "--stimulus-index-base",
        type=click.Choice(["0", "1"]),
        help="What the first row of an image bank is called in the events.",
    ),
    several(
        "--labels",
        metavar="FILE",
        help="Label tables (TSV) or COCO instances_*.json; for movies annotations over time (TSV with onset and "
        "duration) or FILE.hdf5:/DATASET, seconds x labels.",
    ),
    several(
        "--captions",
        metavar="FILE",
        help="COCO captions_*.json or a TSV (stimulus_id, caption; for movies onset, duration, caption).",
    ),
    click.option(
        "--targets",
        metavar="SAFETENSORS",
        help="Features of the stimuli made elsewhere (low, high, stimulus_id); no CLIP model is loaded.",
    ),
    click.option(
        "--movie",
        metavar="FILE",
        help="The movie whose frames the events log (videotime, movie_onset); may hold {run}, {session}, {task}.",
    ),
    click.option(
        "--frame-interval",
        type=float,
        metavar="SECONDS",
        help="Distance of the samples of a movie; default: 1 s or the TR, whichever is longer. Given, it samples clips "
        "shorter than 10 s too, which are one trial otherwise.",
    ),
    several("--trial-type", help="Values of trial_type (or event_type) that are trials."),
    click.option(
        "--merge-blocks",
        metavar="{auto|off|SECONDS}",
        default="auto",
        show_default=True,
        help="Join rows of one condition into one trial.",
    ),
    click.option("--mask", metavar="FILE", help="Brain mask; may hold {participant} and {session}."),
    click.option(
        "--atlas",
        metavar="FILE|NAME|aparcaseg|clusters:M|grid:M",
        help="Regions: a label image (may hold {participant}, {session}), a TemplateFlow atlas, a derivative's dseg, "
        "clusters, or a grid.",
    ),
    click.option(
        "--common-space/--native-space",
        default=None,
        help="Whether voxel k is one place in all participants; default: by the name of the space.",
    ),
    click.option(
        "--resample",
        metavar="TEMPLATE:res-R",
        help="Template grid that images of a common space are brought to.",
    ),
    click.option(
        "--confounds",
        type=click.Choice(["default", "simple", "motion", "compcor", "scrubbing", "none"]),
        default="default",
        show_default=True,
        help="Confounds that enter the model of the responses.",
    ),
)
RESPONSES: tuple[Decorator, ...] = (
    click.option(
        "--response",
        type=click.Choice(["auto", "lss", "lsa", "window", "betas"]),
        help="Response of a trial.",
    ),
    click.option(
        "--lag", type=float, help="Seconds from a stimulus to the volumes averaged by --response window."
    ),
    click.option(
        "--window", type=float, help="Seconds averaged by --response window; 0: the trial's duration."
    ),
    click.option("--hrf", help="nilearn name of the haemodynamic response."),
    click.option(
        "--smoothing-fwhm",
        type=float,
        metavar="MM",
        help="Width of the Gaussian kernel images are smoothed with.",
    ),
    click.option(
        "--standardize",
        type=click.Choice(["auto", "run", "session", "participant", "none"]),
        help="Unit within which voxels are z-scored.",
    ),
    click.option("--write-betas", is_flag=True, help="Export the responses as NIfTI images too."),
)
MODEL: tuple[Decorator, ...] = (
    several("--method", metavar="NAME|all|ablations", help=METHOD_HELP),
    click.option(
        "--preset", type=click.Choice(PRESETS), help="Hyper-parameters; default: by the number of trials."
    ),
    click.option(
        "--config-file",
        type=click.Path(path_type=Path),
        metavar="TOML",
        help="Hyper-parameters over the preset's.",
    ),
    click.option(
        "--model-label", help="Name of the model in the output; default: clipmused, or the method's name."
    ),
    click.option(
        "--base-model",
        metavar="LABEL",
        help="Fit new participants to this stored decoder of a group, which stays as it is (participant --train); "
        "stored as LABEL+new.",
    ),
    click.option(
        "--calibration-trials",
        type=click.IntRange(0),
        metavar="N",
        help="With --base-model: use the first N training trials of each only; 0 in a common space; default: all.",
    ),
    click.option("--clip-model", help="open_clip model name, or demo (for simulated data only)."),
    click.option("--clip-weights", help="Weight file (safetensors) or folder in open_clip's local-dir form."),
    click.option(
        "--split",
        default="auto",
        show_default=True,
        metavar="{auto|runs:N|column:NAME|participants:LABEL|FILE}",
        help="What is held out.",
    ),
    click.option(
        "--cv",
        metavar="{runs|runs:K|stimuli:K}",
        help="Cross-validation instead of one split: leave one run out in turn, K folds of runs, or K of stimuli.",
    ),
    click.option(
        "--min-label-frequency", type=float, help="Leave out labels rarer than this in the training data."
    ),
    click.option(
        "--random-seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Seed of all that is random.",
    ),
)
RESOURCES: tuple[Decorator, ...] = (
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where networks are trained and CLIP features computed; auto: on a GPU where there is one.",
    ),
    click.option(
        "--precision",
        type=click.Choice(get_args(Precision)),
        help="Arithmetic of training: float32, or mixed with bfloat16 or float16; default: the preset's.",
    ),
    click.option(
        "--nprocs",
        "--nthreads",
        "--n-cpus",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Runs that are prepared at the same time, each by a process with one thread.",
    ),
    click.option(
        "--omp-nthreads",
        type=click.IntRange(1),
        metavar="N",
        help="Threads of all other computations; default: OMP_NUM_THREADS, else what Slurm or the container allow, "
        "else all cores.",
    ),
    click.option(
        "-w",
        "--work-dir",
        type=click.Path(path_type=Path),
        help="Fast local disk: runs that do not fit in memory and responses for training are kept there, and removed "
        "afterwards.",
    ),
    click.option(
        "--mem",
        metavar="AMOUNT",
        help="Memory that may be held, by all processes together, while responses are estimated, for example 16G; "
        "default: half of what is available.",
    ),
)
CONTROL: tuple[Decorator, ...] = (
    click.option("--dry-run", is_flag=True, help="Say what would be done, and what it needs; open no image."),
    click.option("--check", is_flag=True, help="Look whether everything that a run needs is there."),
    click.option(
        "--reports-only",
        is_flag=True,
        help="Write the HTML reports from what is in the output folder, and do nothing else.",
    ),
    click.option(
        "--boilerplate-only",
        is_flag=True,
        help="Write the methods text and its citations (logs/CITATION.*), and do nothing else.",
    ),
    click.option(
        "--stop-on-first-crash",
        is_flag=True,
        help="End at the first participant that fails, or the first stimulus that cannot be read.",
    ),
    click.option(
        "--skip-bids-validation",
        is_flag=True,
        help="For launchers that always give it: this command never runs a validator, with or without it.",
    ),
    click.option(
        "--allow-leakage",
        is_flag=True,
        help="Go on where the split or a fit leaks; the leaks are named in every output.",
    ),
    click.option(
        "--offline/--no-offline",
        default=True,
        show_default=True,
        help="Whether missing templates and CLIP weights may be fetched.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace what was made with another configuration."),
    click.option("-v", "--verbose", count=True, help="Say more; repeat for still more."),
    click.option("-q", "--quiet", is_flag=True, help="Say warnings and errors only."),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
    click.option(
        "--bids-exec-spec",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_descriptor,
        help="Print a Boutiques descriptor of this command and exit.",
    ),
)


def all_options(function: Any) -> Any:
    """Decorate a command with every argument and option."""
    groups = (ARGUMENTS, ACTIONS, SELECTION, INPUTS, RESPONSES, MODEL, RESOURCES, CONTROL)
    decorators = [decorator for group in groups for decorator in group]
    # The last decorator is applied first.
    return reduce(lambda decorated, decorator: decorator(decorated), reversed(decorators), function)
