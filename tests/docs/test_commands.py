"""Every command of README.md and the pages is run, or read by what would run it, or is the subject of another test."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest

from clipmused_bids.cli import command as product
from clipmused_bids.cli import config_from_arguments, expand_several, main
from clipmused_bids.errors import MissingInputError
from clipmused_bids.targets.weights import find_weights
from tests.docs import skeletons
from tests.docs.commands import DOCS, ROOT, Command, code_lines, commands_of, every_command, pages
from tests.docs.test_dataset_pages import QUICK, SCRIPTED

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="needs the source tree")

# What stands for words that a reader fills in.
ELLIPSIS = "..."
# Options of other programs that the text names.
FOREIGN = set(
    """--account --build-arg --cleanenv --containall --cpus-per-task --dependency --desc --env --gpus --gpus-per-task
    --kills --local-dir --network --nproc-per-node --ntasks --nv --partition --processing-level --read-only --rm
    --secret --signal --suffix --tmpfs --userns""".split()  # noqa: SIM905
)


def words_of_the_product(words: Sequence[str]) -> None:
    """Options and values are ones that the command accepts; files need not exist."""
    given = [word for word in words if word not in {ELLIPSIS, "--help"}]
    if not given:
        return
    if ">" in given:
        given = given[: given.index(">")]
    if ELLIPSIS in words:
        given = ["/bids", "/out", "group", *given]
    context = product.make_context("clipmused-bids", expand_several(given, product.params))
    config_from_arguments(context.params)


def _product(command: Command) -> None:
    words_of_the_product(command.words[1:])


def _make(command: Command) -> None:
    recipe = (ROOT / "Makefile").read_text()
    targets = {
        name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", recipe, re.MULTILINE) for name in line.split()
    }
    for word in command.words[1:]:
        name, is_value, _ = word.partition("=")
        assert f"$({name})" in recipe if is_value else name in targets, f"{command}: {word}"


def _bash(command: Command) -> None:
    # tests/hpc/test_scripts.py runs docs/hpc/submit.sh; .ci/run is what runs this test.
    script = ROOT / command.words[1]
    subprocess.run(["bash", "-n", script], check=True)


def _python(command: Command) -> None:
    first, *words = command.words[1:]
    if first != "-m":
        page, recipe = (ROOT / command.page), ROOT / first
        if page.parent.name == "datasets":
            # Run by test_dataset_pages.py.
            assert page.stem in SCRIPTED
            recipe = page.parent / first
        assert recipe.exists(), command
        return
    name = f"{words[0]}.__main__" if words[0].endswith("benchmark") else words[0]
    assert importlib.util.find_spec(name) is not None, command
    entry = getattr(importlib.import_module(name), "main", None) or importlib.import_module(name).command
    if isinstance(entry, click.Command):
        entry.make_context(name, list(words[1:]))
        return
    source = Path(str(importlib.util.find_spec(name).origin)).read_text()  # type: ignore[union-attr]
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in source, f"{command}: {word}"


def _container(command: Command) -> None:
    """What follows the image are words of the product; tests/container runs the product in both."""
    action, *words = command.words[1:]
    if action != "run":
        assert (action, words[-1]) in {
            ("push", "oci-archive:clipmused-bids.oci.tar:clipmused-bids:0.1.0"),
            ("build", "singularity.def"),
        }
        recipe = (ROOT / "Makefile").read_text()
        assert "$(ENGINE) push $(IMAGE) oci-archive:clipmused-bids.oci.tar:$(IMAGE)" in recipe
        assert "apptainer build --force clipmused-bids.sif singularity.def" in recipe
        return
    images = [k for k, word in enumerate(words) if word in {"clipmused-bids.sif", "clipmused-bids:0.1.0"}]
    assert len(images) == 1, command
    words_of_the_product(words[images[0] + 1 :])


def _launcher(command: Command) -> None:
    """Launchers are tried by tests/training/test_distributed.py and, with a Slurm, tests/hpc/test_slurm.py."""
    names = [k for k, word in enumerate(command.words) if word in {"clipmused-bids", "clipmused_bids"}]
    words_of_the_product(command.words[names[0] + 1 :])


def _sbatch(command: Command) -> None:
    assert (ROOT / command.words[-1]).read_text().startswith("#!/bin/bash")


def _copy(command: Command) -> None:
    assert (ROOT / command.words[1]).exists(), command


def _export(command: Command) -> None:
    scripts = "".join(path.read_text() for path in (DOCS / "hpc").glob("*.s*"))
    for word in command.words[1:]:
        assert f"${word.partition('=')[0]}" in scripts or f"${{{word.partition('=')[0]}" in scripts, command


def _fetching(command: Command) -> None:
    """The files and the place are those that the product's own hint names (tests/targets/test_clip.py fetches them)."""
    with pytest.raises(MissingInputError) as refused:
        find_weights("ViT-B-16", weights="/nowhere/open_clip_model.safetensors")
    hint = " ".join(str(refused.value).split("hint: ")[1].split())
    assert " ".join(command.words[: command.words.index("--local-dir")]) in hint


def _babs(command: Command) -> None:
    # tests/hpc/test_babs.py has BABS make a job of the configuration; these two lines are BABS's and the shell's own.
    assert command.page == "docs/hpc/index.md"


def _checkout(command: Command) -> None:
    """Where the code comes from is what the package says; the environment is where the Makefile puts it."""
    last = command.words[-1]
    if command.program == "git":
        assert f'Source = "{last}"' in (ROOT / "pyproject.toml").read_text()
    elif command.program == "cd":
        assert f'name = "{last}"' in (ROOT / "pyproject.toml").read_text()
    else:
        assert last == ".venv/bin/activate"
        assert "RUN := .venv/bin\n" in (ROOT / "Makefile").read_text()


CLASSES: dict[str, Callable[[Command], None]] = {
    "clipmused-bids": _product,
    "make": _make,
    "bash": _bash,
    "python": _python,
    "apptainer": _container,
    "podman": _container,
    "docker": _container,
    "srun": _launcher,
    "torchrun": _launcher,
    "sbatch": _sbatch,
    "cp": _copy,
    "export": _export,
    "hf": _fetching,
    "babs": _babs,
    "git": _checkout,
    "cd": _checkout,
    "source": _checkout,
    "for": _babs,
}


@pytest.mark.parametrize("command", every_command(), ids=lambda command: f"{command.page}:{command.line}")
def test_every_command_is_one_that_works(command: Command) -> None:
    assert command.program in CLASSES, f"{command}: say in CLASSES how this is checked"
    CLASSES[command.program](command)


def test_the_commands_of_a_page_are_found() -> None:
    """The collector sees fenced and indented blocks, also in lists, and joins lines; text is no command."""
    text = (
        "A `make nothing` in text.\n\n    clipmused-bids a b \\\n        group  # why\n    not this\n\n"
        "1. A list\n   make no block, text of the list\n\n       cp one two\n\n```bash\nmake demo\n```\n\n"
        "```{toctree}\nmake\n```\n\nText\n    make no block either\n"
    )
    lines = [line for _, line in code_lines(text)]
    assert lines == ["clipmused-bids a b \\", "group  # why", "not this", "cp one two", "make demo"]
    assert len(every_command()) > 80


def test_a_line_of_a_block_with_options_is_a_command() -> None:
    """A program that the collector does not know would go unchecked."""
    known = {f"{command.page}:{command.line}" for command in every_command()}
    for page in pages():
        begun = ""
        for number, line in code_lines(page.read_text()):
            begun = begun or f"{page.relative_to(ROOT)}:{number}"
            if not line.endswith("\\"):
                if " --" in line and not re.search(r"\s{3,}| = |^error|^hint|: ", line):
                    assert begun in known, f"{begun}: {line}"
                begun = ""


def test_options_and_targets_named_in_the_text_exist() -> None:
    options = {name for parameter in product.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help"}
    recipe = (ROOT / "Makefile").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "clipmused_bids/simulation").rglob("*.py"))
    sources += "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    for page in pages():
        text = re.sub(r"```\{.*?```", "", page.read_text(), flags=re.DOTALL)
        for name in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - options - FOREIGN:
            assert f'"{name}"' in sources, f"{page.name}: {name}"
        for name in re.findall(r"`make ([a-z-]+)`", text):
            assert re.search(rf"^{name}:", recipe, re.MULTILINE), f"{page.name}: make {name}"


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", text)
    local = [(path, anchor) for path, anchor in links if "://" not in path]
    assert local
    for path, anchor in local:
        assert (ROOT / path).exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", head.lower().replace(" ", "-")) for head in headings}, (
                anchor
            )


def test_the_quickstart_tells_what_the_demo_runs() -> None:
    """`make -n` prints the recipe; the numbers that come of it are the subject of tests/simulation/test_results.py."""
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    recipe = [shlex.split(line.removeprefix(".venv/bin/")) for line in done.stdout.splitlines()]
    told = [c for c in commands_of(DOCS / "quickstart.md") if c.words[:2] != ("make", "demo")][:4]
    for command in told:
        words = [re.sub(r"^(bids|out)(?=/|$)", r"demo/\1", word) for word in command.words]
        assert words in recipe, command
    assert len([line for line in recipe if line and line[0] in {"python", "clipmused-bids"}]) == len(told)


def moved(words: Sequence[str], root: Path) -> list[str]:
    """Words of a command with its places below ``root``, its task, the demo CLIP, and small settings."""
    found = [f"{root}{word}" if word.startswith("/") else word for word in words]
    found = [{"TASK": "look", "labels.tsv": f"{root}/labels.tsv"}.get(word, word) for word in found]
    if "--clip-weights" in found:
        at = found.index("--clip-weights")
        found[at : at + 2] = ["--clip-model", "demo"]
    if "--labels" not in found:
        found += ["--labels", f"{root}/labels.tsv"]
    is_new = "group" in found and "--method" not in found
    return [*found, "--preset", "small", "--config-file", f"{root}/quick.toml"] if is_new else found


def test_the_commands_for_own_data_run_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of README.md, then those of the quickstart that are others; what is stored is reused."""
    skeletons.pictures(tmp_path)
    (tmp_path / "quick.toml").write_text(QUICK + "\n[evaluation]\npermutations = 0\n")
    commands = [*commands_of(ROOT / "README.md"), *commands_of(DOCS / "quickstart.md")]
    own = [command for command in commands if command.words[:2] == ("clipmused-bids", "/bids")]
    runs = dict.fromkeys(tuple(moved(command.words[1:], tmp_path)) for command in own)
    assert len(runs) >= 7
    for words in runs:
        code = main(list(words))
        assert code == 0, f"{words}\n{capsys.readouterr().err}"
    assert (tmp_path / "out" / "group_desc-clipmused_metrics.tsv").exists()
    assert (tmp_path / "out" / "group_desc-ridge_metrics.tsv").exists()
