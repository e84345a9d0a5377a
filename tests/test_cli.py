"""The command's door: what is refused, with which code, and how fast."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipmused_bids.cli import command, config_from_arguments, expand_several, main
from clipmused_bids.cli.repeats import SaidOnce
from clipmused_bids.config import Config


def parse(*words: str) -> Config:
    context = command.make_context("clipmused-bids", expand_several(words, command.params))
    return config_from_arguments(context.params)


def test_one_flag_takes_several_values_after_the_positionals() -> None:
    together = parse("/b", "/o", "group", "--participant-label", "01", "sub-02", "--train")
    repeated = parse(
        "/b", "/o", "group", "--participant-label=01", "--train", "--participant-label", "sub-02"
    )
    assert together == repeated
    assert together.selection.participants == ("01", "sub-02")
    assert together.actions == ("train",)


def test_one_value_before_the_positionals_leaves_them_alone() -> None:
    config = parse("--participant-label", "01", "/b", "/o", "participant")
    assert config.selection.participants == ("01",)
    assert (config.bids_dir, config.output_dir) == (Path("/b"), Path("/o"))


def test_flags_that_take_no_value_do_not_swallow_positionals() -> None:
    config = parse("-v", "--train", "/b", "/o", "group", "-d", "x=/d1", "/d2")
    assert config.inputs.derivatives == ("x=/d1", "/d2")


def test_underscores_and_aliases() -> None:
    config = parse(
        "/b", "/o", "dataset", "--participant_label", "01", "--model_label", "one", "--session-label", "ses-1"
    )
    assert config.level == "group"
    assert (config.model_label, config.selection.sessions) == ("one", ("1",))


def test_a_negative_number_is_a_value() -> None:
    words = ["/b", "/o", "group", "--lag", "-1.5", "--labels", "a.tsv"]
    assert expand_several(words, command.params) == words


def test_options_win_over_the_file_which_wins_over_the_preset(tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.toml"
    tuned.write_text("[responses]\nlag = 3.0\nhrf = 'glover'\n[training]\nbatch_size = 7\n")
    config = parse("/b", "/o", "group", "--preset", "hcp", "--config-file", str(tuned), "--lag", "6")
    chosen = config.hyperparameters()
    assert (chosen.responses.lag, chosen.responses.hrf) == (6.0, "glover")
    assert (chosen.training.batch_size, chosen.training.decay_every) == (7, 25)


def test_a_misspelt_value_of_the_configuration_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tmp_path / "tuned.toml"
    tuned.write_text("[training]\nbatchsize = 7\n")
    assert main(["/b", "/o", "group", "--config-file", str(tuned)]) == 64
    assert "did you mean batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["/b", "/o", "group", "--nonsense"]])
def test_answers_without_heavy_imports(words: list[str]) -> None:
    code = (
        "import sys; from clipmused_bids.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'pandas', 'nilearn', 'bids', 'nibabel', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The aim is 0.3 s; the bound only catches an import that slipped in, on a busy machine.
    assert time.perf_counter() - started < 5


def test_the_terminal_hears_a_line_once_and_every_warning() -> None:
    said = SaidOnce()

    def passes(level: int, text: str, *values: object) -> bool:
        return said.filter(logging.LogRecord("clipmused_bids", level, "", 0, text, values, None))

    assert passes(logging.INFO, "Regions: %s.", "none")
    assert not passes(logging.INFO, "Regions: none.")
    assert passes(logging.INFO, "Regions: %s.", "some")
    assert passes(logging.WARNING, "Regions: none.")
    assert passes(logging.WARNING, "Regions: none.")


def test_a_user_whom_the_system_does_not_know_has_a_home(tmp_path: Path) -> None:
    """As in a container that is run as any user without HOME; pybids asks for one when it is imported."""
    code = (
        "import os, sys; os.getuid = lambda: 2_000_000_001; os.environ.pop('HOME')\n"
        "from clipmused_bids.cli import main; code = main(sys.argv[1:]); import bids; sys.exit(code)"
    )
    words = (tmp_path, tmp_path / "out", "participant", "--prepare")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert "home directory" not in done.stderr
    assert done.returncode == 16, done.stderr
