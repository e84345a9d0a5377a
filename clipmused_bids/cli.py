"""Command line of the BIDS App: arguments -> Config -> stages; errors -> exit codes.

Nothing heavy is imported here: ``--help`` and usage errors must answer at once.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from clipmused_bids import __version__
from clipmused_bids.config import (
    PRESETS,
    Action,
    Config,
    InputOptions,
    Level,
    Selection,
    build_hyperparameters,
    merge,
    read_config_file,
)
from clipmused_bids.errors import ClipMusedError, ExitCode, MissingInputError, UnknownLevelError, UsageError

LEVELS: dict[str, Level] = {
    "participant": "participant",
    "subject": "participant",
    "group": "group",
    "dataset": "group",
}
# Options that take several values, as `--x a b c` and repeated.
SEVERAL = {
    "--participant-label": "participant_label",
    "--exclude-participant-label": "exclude_participant_label",
    "--session-id": "session_id",
    "--session-label": "session_id",
    "--task-id": "task_id",
    "-t": "task_id",
    "--run-id": "run_id",
    "--derivatives": "derivatives",
    "-d": "derivatives",
    "--stimuli-dir": "stimuli_dir",
    "--labels": "labels",
    "--captions": "captions",
    "--trial-type": "trial_type",
}


def several(*names: str, **settings: Any) -> Any:
    """Declare an option that may be given more than once."""
    return click.option(*names, multiple=True, **settings)


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 110,
    },
    epilog="Exit codes: 0 ok, 16 dataset unfit, 17 unknown level, 18 nothing selected, 64 usage, "
    "65 bad data, 66 input missing, 73 output refused, 74 write error, 75 interrupted.",
)
@click.argument("bids_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.argument("analysis_level", metavar="{participant|group}")
@click.option("--prepare", is_flag=True, help="Estimate responses and CLIP targets.")
@click.option("--train", is_flag=True, help="Train a decoder (participant: one each; group: one for all).")
@click.option("--decode", is_flag=True, help="Write predictions with a trained decoder.")
@click.option("--evaluate", is_flag=True, help="Score predictions; at group level with baselines.")
@several("--participant-label", help="Participants, with or without sub-, or a text file with one a line.")
@several("--exclude-participant-label", help="Participants to leave out.")
@several("--session-id", "--session-label", help="Sessions.")
@several("-t", "--task-id", help="Tasks.")
@several("--run-id", type=int, help="Runs, as numbers.")
@click.option("--space", help="Space of the preprocessed images, as in their names.")
@several(
    "-d",
    "--derivatives",
    metavar="PATH|NAME=PATH",
    help="Derivatives to read; default: those in <bids>/derivatives.",
)
@several("--stimuli-dir", metavar="DIR", help="Further folders with stimulus images.")
@click.option("--stimulus-column", help="Column of the events files that names the stimuli.")
@several("--labels", metavar="FILE", help="Label tables (TSV) or COCO instances_*.json.")
@several("--captions", metavar="FILE", help="COCO captions_*.json or a TSV (stimulus_id, caption).")
@several("--trial-type", help="Values of trial_type (or event_type) that are trials.")
@click.option(
    "--merge-blocks",
    metavar="{auto|off|SECONDS}",
    default="auto",
    show_default=True,
    help="Join rows of one condition into one trial.",
)
@click.option("--mask", metavar="FILE", help="Brain mask; may hold {participant} and {session}.")
@click.option(
    "--atlas",
    metavar="FILE|clusters:M|grid:M",
    help="Regions: a label image (may hold {participant}, {session}), clusters, or a grid.",
)
@click.option(
    "--common-space/--native-space",
    default=None,
    help="Whether voxel k is one place in all participants; default: by the name of the space.",
)
@click.option(
    "--confounds",
    type=click.Choice(["default", "simple", "motion", "compcor", "scrubbing", "none"]),
    default="default",
    show_default=True,
    help="Confounds that enter the model of the responses.",
)
@click.option(
    "--response", type=click.Choice(["auto", "lss", "window", "betas"]), help="Response of a trial."
)
@click.option(
    "--lag", type=float, help="Seconds from a stimulus to the volumes averaged by --response window."
)
@click.option("--window", type=float, help="Seconds averaged by --response window; 0: the trial's duration.")
@click.option("--hrf", help="nilearn name of the haemodynamic response.")
@click.option(
    "--standardize",
    type=click.Choice(["auto", "run", "session", "participant", "none"]),
    help="Unit within which voxels are z-scored.",
)
@click.option(
    "--method",
    type=click.Choice(["clip-mused", "ridge", "ridge-pooled", "prevalence"]),
    default="clip-mused",
    show_default=True,
    help="The decoder.",
)
@click.option(
    "--preset", type=click.Choice(PRESETS), help="Hyper-parameters; default: by the number of trials."
)
@click.option(
    "--config-file",
    type=click.Path(path_type=Path),
    metavar="TOML",
    help="Hyper-parameters over the preset's.",
)
@click.option(
    "--model-label", help="Name of the model in the output; default: clipmused, or the method's name."
)
@click.option("--clip-model", help="open_clip model name, or demo (for simulated data only).")
@click.option("--clip-weights", help="Weight file (safetensors) or folder in open_clip's local-dir form.")
@click.option(
    "--split",
    default="auto",
    show_default=True,
    metavar="{auto|runs:N|column:NAME|FILE}",
    help="What is held out.",
)
@click.option(
    "--min-label-frequency", type=float, help="Leave out labels rarer than this in the training data."
)
@click.option(
    "--random-seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all that is random."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "-w",
    "--work-dir",
    type=click.Path(path_type=Path),
    help="Fast local disk: responses are gathered there for training, and removed afterwards.",
)
@click.option("--overwrite", is_flag=True, help="Replace what was made with another configuration.")
@click.option("-v", "--verbose", count=True, help="Say more; repeat for still more.")
@click.option("-q", "--quiet", is_flag=True, help="Say warnings and errors only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="clipmused-bids", message="%(prog)s %(version)s")
def command(**arguments: Any) -> None:
    """Decode what people saw from their fMRI: CLIP-MUSED on a BIDS dataset.

    BIDS_DIR holds the raw dataset (never written to), OUTPUT_DIR is a derivatives folder for all results.
    Without an action, `participant` prepares (and decodes if a decoder exists); `group` trains, decodes and
    evaluates.
    """
    config = config_from_arguments(arguments)
    if not config.bids_dir.is_dir():
        raise MissingInputError(
            f"{config.bids_dir}: no such folder.", hint="the first argument is the BIDS dataset"
        )
    _start_logging(verbose=arguments["verbose"], quiet=arguments["quiet"], debug=arguments["debug"])
    from clipmused_bids.stages.invocation import run

    # Schedulers announce a time limit by SIGTERM: stop as on Ctrl-C, with nothing half-written.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        exit_code = run(config, command_line=tuple(sys.argv[1:]))
    finally:
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(int(exit_code))


def config_from_arguments(arguments: dict[str, Any]) -> Config:
    """Build the checked configuration from click's values.

    Raises
    ------
    UnknownLevelError, UsageError, MissingInputError
        For values that mean nothing; with a hint.
    """
    level = LEVELS.get(arguments["analysis_level"])
    if level is None:
        raise UnknownLevelError(
            f"analysis level {arguments['analysis_level']}: unknown.",
            hint="participant or group (subject, dataset)",
        )
    actions: tuple[Action, ...] = tuple(
        action for action in ("prepare", "train", "decode", "evaluate") if arguments[action]
    )
    return Config(
        bids_dir=arguments["bids_dir"],
        output_dir=arguments["output_dir"],
        level=level,
        actions=actions,
        selection=_selection(arguments),
        inputs=_inputs(arguments),
        method=arguments["method"],
        preset=arguments["preset"],
        overrides=_overrides(arguments),
        model_label=arguments["model_label"] or arguments["method"].replace("-", ""),
        split=arguments["split"],
        device=arguments["device"],
        random_seed=arguments["random_seed"],
        work_dir=arguments["work_dir"],
        overwrite=arguments["overwrite"],
    )


def _selection(arguments: dict[str, Any]) -> Selection:
    return Selection(
        participants=arguments["participant_label"],
        exclude_participants=arguments["exclude_participant_label"],
        sessions=tuple(label.removeprefix("ses-") for label in arguments["session_id"]),
        tasks=tuple(label.removeprefix("task-") for label in arguments["task_id"]),
        runs=arguments["run_id"],
        space=arguments["space"].removeprefix("space-") if arguments["space"] else None,
    )


def _inputs(arguments: dict[str, Any]) -> InputOptions:
    return InputOptions(
        derivatives=arguments["derivatives"],
        stimuli_dirs=arguments["stimuli_dir"],
        stimulus_column=arguments["stimulus_column"],
        labels=arguments["labels"],
        captions=arguments["captions"],
        mask=arguments["mask"],
        atlas=arguments["atlas"],
        confounds=arguments["confounds"],
        trial_types=arguments["trial_type"],
        merge_blocks=arguments["merge_blocks"],
        common_space=arguments["common_space"],
    )


def _overrides(arguments: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters set explicitly: the configuration file, and the options over it."""
    options: dict[str, dict[str, Any]] = {
        "responses": {
            "kind": arguments["response"],
            "lag": arguments["lag"],
            "window": arguments["window"],
            "hrf": arguments["hrf"],
            "standardize": arguments["standardize"],
        },
        "model": {"n_regions": _clusters(arguments["atlas"])},
        "targets": {"clip_model": arguments["clip_model"], "clip_weights": arguments["clip_weights"]},
    }
    given: dict[str, Any] = {
        table: {name: value for name, value in values.items() if value is not None}
        for table, values in options.items()
        if any(value is not None for value in values.values())
    }
    if arguments["min_label_frequency"] is not None:
        given["min_label_frequency"] = arguments["min_label_frequency"]
    from_file = read_config_file(arguments["config_file"]) if arguments["config_file"] else {}
    overrides = merge(from_file, given)
    build_hyperparameters(overrides)
    return overrides


def _clusters(atlas: str | None) -> int | None:
    """Number of regions in ``--atlas clusters:M`` or ``grid:M``; None where it names none."""
    kind, _, number = (atlas or "").partition(":")
    if kind not in {"clusters", "grid"} or not number:
        return None
    if not number.isdigit() or int(number) < 2:
        raise UsageError(f"--atlas {atlas}: expected at least two regions.", hint=f"--atlas {kind}:32")
    return int(number)


def expand_several(argv: Sequence[str]) -> list[str]:
    """Write ``--x a b c`` as ``--x a --x b --x c``.

    More than one value belongs to a flag only once the three positional arguments have been given, so that
    ``--participant-label 01 /bids /out group`` means what it says.
    """
    expanded: list[str] = []
    positionals = 0
    flag, values_of_flag = "", 0
    for index, word in enumerate(argv):
        if word == "--":
            return expanded + list(argv[index:])
        if word.startswith("-") and not _is_number(word):
            flag, values_of_flag = word, 1 if "=" in word else 0
            if _takes_no_value(word):
                flag = ""
            expanded.append(word)
        elif flag and values_of_flag == 0:
            values_of_flag = 1
            expanded.append(word)
        elif _normal(flag) in SEVERAL and positionals >= 3:
            expanded += [_normal(flag), word]
        else:
            flag = ""
            positionals += 1
            expanded.append(word)
    return expanded


def _normal(flag: str) -> str:
    return flag.split("=", 1)[0].replace("_", "-")


def _takes_no_value(token: str) -> bool:
    name = _normal(token)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and name in (*parameter.opts, *parameter.secondary_opts):
            return parameter.is_flag or parameter.count
    return token.startswith("-") and not token.startswith("--") and set(token[1:]) <= {"v", "q", "h"}


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _start_logging(*, verbose: int, quiet: bool, debug: bool) -> None:
    """Send the package's own log to the terminal; the root logger is left alone."""
    level = logging.WARNING if quiet else logging.DEBUG if debug or verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(levelname)-7s %(message)s" if verbose else "%(message)s"))
    logger = logging.getLogger("clipmused_bids")
    logger.setLevel(logging.DEBUG)
    logger.handlers[:] = [handler]
    # A library that sets up the root logger must not make every line appear twice.
    logger.propagate = False
    if verbose < 2 and not debug:
        import warnings

        # Third-party notices help only whoever develops; -vv shows them.
        warnings.simplefilter("ignore")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are printed in one screen."""
    arguments = expand_several(sys.argv[1:] if argv is None else argv)
    try:
        command.main(args=arguments, prog_name="clipmused-bids", standalone_mode=False)
    except click.UsageError as error:
        click.echo(
            f"error: {error.format_message()}\nhint: clipmused-bids --help lists the options", err=True
        )
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted.\nhint: the same command goes on where it stopped", err=True)
        return int(ExitCode.INTERRUPTED)
    except ClipMusedError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
        return int(error.exit_code)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if "--debug" in arguments:
            raise
        click.echo(
            f"error: unexpected {type(error).__name__}: {str(error)[:500]}\n"
            "hint: --debug shows where; please report it with the log in OUTPUT_DIR/logs",
            err=True,
        )
        return int(ExitCode.UNEXPECTED)
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
