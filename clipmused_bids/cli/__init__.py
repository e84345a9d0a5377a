"""Command line of the BIDS App: arguments -> Config -> stages; errors -> exit codes.

Nothing heavy is imported here: ``--help`` and usage errors must answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipmused_bids import __version__
from clipmused_bids.cli.configuration import config_from_arguments
from clipmused_bids.cli.options import all_options
from clipmused_bids.cli.repeats import SaidOnce
from clipmused_bids.cli.stopping import stopping_signals
from clipmused_bids.cli.threads import limit_threads
from clipmused_bids.cli.words import expand_several
from clipmused_bids.config import Config
from clipmused_bids.config.launch import find_launch
from clipmused_bids.errors import ClipMusedError, ExitCode, MissingInputError

if TYPE_CHECKING:
    from clipmused_bids.training.processes import Processes

__all__ = ["command", "config_from_arguments", "expand_several", "main"]

logger = logging.getLogger(__name__)


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 110,
    },
    epilog="Exit codes: 0 ok, 16 dataset unfit, 17 unknown level, 18 nothing selected, 64 usage, "
    "65 bad data, 66 input missing, 73 output refused, 74 write error, 75 interrupted.",
)
@all_options
@click.version_option(__version__, prog_name="clipmused-bids", message="%(prog)s %(version)s")
def command(**arguments: Any) -> None:
    """Decode what people saw from their fMRI: CLIP-MUSED on a BIDS dataset.

    BIDS_DIR holds the raw dataset (never written to), OUTPUT_DIR is a derivatives folder for all results.
    Without an action, `participant` prepares (and decodes if a decoder exists); `group` trains, decodes and
    evaluates.
    """
    config = config_from_arguments(arguments)
    # A report is the product of these two; it holds their warnings.
    reports = (config.check or config.dry_run) and not arguments["verbose"]
    _start_logging(
        verbose=arguments["verbose"], quiet=arguments["quiet"], debug=arguments["debug"], silent=reports
    )
    if arguments["skip_bids_validation"]:
        logger.info("--skip-bids-validation: nothing to skip; this command runs no validator.")
    limit_threads(config.omp_threads, os.environ)
    if config.check:
        from clipmused_bids.preflight.check import check

        raise SystemExit(int(check(config)))
    if config.dry_run:
        from clipmused_bids.preflight.dry_run import dry_run

        _require_folder(config.bids_dir)
        raise SystemExit(int(dry_run(config)))
    raise SystemExit(int(_run(config)))


def _run(config: Config) -> ExitCode:
    """Run the command: alone, or as one of several processes."""
    command_line = tuple(sys.argv[1:])

    def work(processes: Processes | None) -> ExitCode:
        from clipmused_bids.stages.invocation import run
        from clipmused_bids.stages.progress import progress_shown

        _require_folder(config.bids_dir)
        with progress_shown():
            return run(config, command_line=command_line, processes=processes)

    launch = find_launch(os.environ)
    if launch is None:
        return work(None)
    # Else torch says in every process that some batches may do without a part of what they might do without.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from clipmused_bids.stages.together import run_together

    return run_together(config, launch, work, command_line=command_line)


def _require_folder(bids_dir: Path) -> None:
    if not bids_dir.is_dir():
        what = "a file, not a folder" if bids_dir.exists() else "no such folder"
        raise MissingInputError(
            f"{bids_dir}: {what}.",
            hint="the first argument is the BIDS dataset; in a container bind it, e.g. -B /path/to/bids:/bids:ro",
        )


def _start_logging(*, verbose: int, quiet: bool, debug: bool, silent: bool) -> None:
    """Send the package's own log to the terminal; the root logger is left alone."""
    level = logging.WARNING if quiet else logging.DEBUG if debug or verbose else logging.INFO
    if silent:
        level = logging.CRITICAL
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(levelname)-7s %(message)s" if verbose else "%(message)s"))
    if not verbose and not debug:
        # Folds and methods say the same of the same data.
        handler.addFilter(SaidOnce())
    logger = logging.getLogger("clipmused_bids")
    logger.setLevel(logging.DEBUG)
    logger.handlers[:] = [handler]
    # A library that sets up the root logger must not make every line appear twice.
    logger.propagate = False
    if verbose < 2 and not debug:
        import warnings

        # Third-party notices help only whoever develops; -vv shows them.
        warnings.simplefilter("ignore")


def _not_permitted(error: PermissionError) -> MissingInputError:
    return MissingInputError(
        f"{error.filename}: permission denied.", hint="chmod +r (folders: +rx), or ask its owner"
    )


def _settle_home() -> None:
    # In a container the user may be one that the system does not know. Libraries fail when imported without a home.
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are printed in one screen."""
    _settle_home()
    try:
        with stopping_signals(afterwards="ignore" if argv is None else "restore"):
            return _exit_code(argv)
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted.\nhint: the same command goes on where it stopped", err=True)
        return int(ExitCode.INTERRUPTED)


def _exit_code(argv: Sequence[str] | None) -> int:
    arguments = expand_several(sys.argv[1:] if argv is None else argv, command.params)
    try:
        command.main(args=arguments, prog_name="clipmused-bids", standalone_mode=False)
    except click.UsageError as error:
        click.echo(
            f"error: {error.format_message()}\nhint: clipmused-bids --help lists the options", err=True
        )
        return int(ExitCode.USAGE)
    except (ClipMusedError, PermissionError) as error:
        if "--debug" in arguments:
            raise
        expected = error if isinstance(error, ClipMusedError) else _not_permitted(error)
        click.echo(f"error: {expected}", err=True)
        return int(expected.exit_code)
    except SystemExit as stop:
        return int(stop.code or 0)
    except click.Abort:
        # What click makes of KeyboardInterrupt.
        raise
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
