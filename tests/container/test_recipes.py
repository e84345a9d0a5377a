"""Containerfile and singularity.def say what the code, the package and each other need; nothing is built here."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

import clipmused_bids
from clipmused_bids.dataset.atlases import template_flow
from clipmused_bids.dataset.atlases.template_flow import template_home
from clipmused_bids.dataset.outputs.description import container_of
from clipmused_bids.errors import MissingInputError
from clipmused_bids.stages.atlas import DEFAULT_COMMON

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "Containerfile"
pytestmark = pytest.mark.skipif(not CONTAINERFILE.exists(), reason="needs the source tree")


class Instruction(NamedTuple):
    """One instruction of a Containerfile, with the stage it stands in (0: before the first)."""

    stage: int
    word: str
    text: str


def instructions() -> list[Instruction]:
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found, stage = [], 0
    for line in filter(None, joined.splitlines()):
        word, _, text = line.partition(" ")
        assert word.isupper(), f"not an instruction: {line}"
        stage += word == "FROM"
        found.append(Instruction(stage, word, text.strip()))
    return found


ALL = instructions() if CONTAINERFILE.exists() else []
LAST = max((one.stage for one in ALL), default=0)


def texts(word: str, *, stage: int | None = None) -> list[str]:
    return [one.text for one in ALL if one.word == word and stage in {None, one.stage}]


def pairs(texts_of: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for text in texts_of for word in shlex.split(text))


def environment() -> dict[str, str]:
    """Variables of the image, with the version put in."""
    version = pairs(texts("ARG", stage=0))["VERSION"]
    return {
        name: text.replace("${VERSION}", version) for name, text in pairs(texts("ENV", stage=LAST)).items()
    }


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def section(name: str) -> str:
    text = (ROOT / "singularity.def").read_text()
    (body,) = re.findall(rf"^%{name}\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL)
    return str(body)


def test_what_is_copied_is_in_the_repository_and_passes_the_ignore_file() -> None:
    ignored, *passing = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    copied = [word for text in texts("COPY") if "--from" not in text for word in text.split()[:-1]]
    assert {f"!{name}" for name in copied} == {name for name in passing if name.startswith("!")}
    if (ROOT / ".git").exists():
        tracked = subprocess.run(
            ["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert {line.split("/")[0] for line in tracked.stdout.split()} == set(copied)


def test_what_the_build_backend_reads_is_copied_before_the_package_is_built() -> None:
    metadata = project()["project"]
    needed = {
        metadata["readme"],
        *metadata["license-files"],
        *project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    copied = {word for text in texts("COPY") if "--from" not in text for word in text.split()[:-1]}
    assert needed | {"pyproject.toml", "uv.lock"} == copied


def test_stages_exist_and_only_named_ones_are_copied_from() -> None:
    names = {text.split()[2] for text in texts("FROM") if " AS " in text}
    sources = [text.split()[0] for text in texts("FROM")]
    assert sources[0] == "${BASE_IMAGE}"
    assert set(sources[1:]) <= names
    assert {
        word.removeprefix("--from=") for text in texts("COPY") for word in text.split() if "--from" in word
    } <= names


def test_the_default_base_is_a_debian_whose_python_is_the_one_of_the_paths() -> None:
    base = pairs(texts("ARG", stage=0))["BASE_IMAGE"]
    assert base == "docker.io/library/debian:bookworm-slim"
    named = set(re.findall(r"python3\.\d+", CONTAINERFILE.read_text()))
    # Debian 12 has Python 3.11.
    assert named == {"python3.11"}
    assert project()["project"]["requires-python"].startswith(">=3.11")


def test_the_entry_point_is_the_command_of_the_package_in_both() -> None:
    (entry,) = texts("ENTRYPOINT", stage=LAST)
    (path,) = json.loads(entry)
    (command,) = project()["project"]["scripts"]
    assert path == f"/opt/clipmused/bin/{command}"
    assert section("runscript").split() == ["exec", path, '"$@"']
    assert path in section("test")
    assert environment()["PATH"].split(":")[0] == str(Path(path).parent)
    (where,) = [
        pairs([text])["UV_PROJECT_ENVIRONMENT"] for text in texts("ENV") if "UV_PROJECT_ENVIRONMENT" in text
    ]
    assert where == str(Path(path).parents[1])


def test_the_environment_is_that_of_the_lock_file_without_groups() -> None:
    synced = [line for text in texts("RUN") for line in text.split(";") if "uv sync" in line]
    assert len(synced) == 2
    for line in synced:
        assert {"--frozen", "--no-dev"} <= set(line.split()), line
    assert "--no-install-project" in synced[0]
    assert "--no-editable" in synced[1]


def test_the_package_is_not_taken_from_a_cache_that_does_not_look_at_its_files() -> None:
    (step,) = [text for text in texts("RUN") if "--no-editable" in text]
    assert "--no-cache" in step.split()
    assert "type=cache" not in step


def test_the_version_is_that_of_the_package() -> None:
    assert pairs(texts("ARG", stage=0))["VERSION"] == clipmused_bids.__version__


def test_outputs_name_the_image() -> None:
    image = f"clipmused-bids:{clipmused_bids.__version__}"
    assert container_of(environment()) == {"Type": "docker", "Tag": image}
    in_singularity = {**environment(), "APPTAINER_CONTAINER": "/home/me/x.sif"}
    assert container_of(in_singularity) == {"Type": "singularity", "Tag": image}
    # The file that the Singularity environment reads is written, with the same text.
    (file,) = re.findall(r'CLIPMUSED_IMAGE="\$\(cat (\S+)\)"', section("environment"))
    written = [text for text in texts("RUN") if f">/package{file}" in text]
    assert len(written) == 1
    assert 'echo "clipmused-bids:${VERSION}" >/package' in written[0]


def test_templates_and_weights_lie_where_the_code_looks() -> None:
    variables = environment()
    copied = {tuple(text.split()[1:]) for text in texts("COPY", stage=LAST)}
    assert str(template_home(variables)) == "/opt/templateflow"
    for place in (variables["TEMPLATEFLOW_HOME"], variables["HF_HUB_CACHE"]):
        assert (place, place) in copied
    code = "import huggingface_hub.constants as c; print(c.HF_HUB_CACHE, c.HF_HUB_OFFLINE)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [variables["HF_HUB_CACHE"], "True"]


def test_whatever_libraries_write_by_themselves_goes_to_tmp() -> None:
    """Asked of the libraries, in an environment that is the image's alone: no HOME, no user's name."""
    code = (
        "import os, pathlib, matplotlib, torch.hub\n"
        "import huggingface_hub.constants as hub, platformdirs\n"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir\n"
        "print(matplotlib.get_cachedir(), matplotlib.get_configdir(), torch.hub.get_dir(), hub.HF_HOME)\n"
        "print(platformdirs.user_cache_dir('x'), cache_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    places = done.stdout.split()
    assert len(places) == 6
    assert {Path(place).parts[:3] for place in places} == {("/", "tmp", "clipmused")}


def test_singularity_moves_every_cache_out_of_a_shared_tmp() -> None:
    shared = {name for name, text in environment().items() if text.startswith("/tmp/")}
    script = f"{section('environment')}\nenv"
    done = subprocess.run(
        ["sh", "-c", script.replace("/opt/clipmused/image", os.devnull)],
        env={**environment(), "PATH": os.environ["PATH"], "TMPDIR": "/scratch", "PYTHONPATH": "/host"},
        capture_output=True,
        text=True,
        check=True,
    )
    after = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert shared
    assert {
        name: after[name]
        for name in shared
        if not after[name].startswith(f"/scratch/clipmused-{os.getuid()}/")
    } == {}
    assert after["PYTHONPATH"] == ""


def test_threads_are_limited_and_the_users_packages_left_out() -> None:
    variables = environment()
    assert variables["PYTHONNOUSERSITE"] == "1"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    code = "import torch; print(torch.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == int(variables["OMP_NUM_THREADS"]) == 1


def test_the_archive_that_both_recipes_and_the_makefile_name_is_one() -> None:
    head = dict(re.findall(r"^(Bootstrap|From): (.*)$", (ROOT / "singularity.def").read_text(), re.MULTILINE))
    assert head["Bootstrap"] == "oci-archive"
    for place in ("Makefile", "tests/container/build.sh", "docs/container.md"):
        assert head["From"] in (ROOT / place).read_text(), place


@pytest.mark.parametrize("name", ["Containerfile", "singularity.def", ".dockerignore"])
def test_nothing_of_one_place_alone_is_in_a_recipe(name: str) -> None:
    text = (ROOT / name).read_text()
    hosts = set(re.findall(r"(?:https?://|FROM |BASE_IMAGE=)([\w-]+(?:\.[\w-]+)+)", text))
    assert hosts <= {"github.com", "huggingface.co", "docker.io"}
    assert not re.search(r"password|token|secret=|index-url|trusted-host|proxy=", text, re.IGNORECASE)
    for secret in re.findall(r"/run/secrets/(\w+)", text):
        assert f"--mount=type=secret,id={secret}" in text


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that holds one file, under every name."""

    content = b"weights"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()
        self.wfile.write(self.content)

    def _answer(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "fedcba9876543210fedcba9876543210fedcba98")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def hub() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def build_step(marker: str) -> str:
    """Shell script of the one RUN instruction that runs Python and has this text in it."""
    (text,) = [
        one.text for one in ALL if one.word == "RUN" and marker in one.text and "python -c" in one.text
    ]
    return re.sub(r"--mount=\S+\s*", "", text)


def test_weights_that_the_build_fetches_are_found_by_a_run_without_network(
    hub: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    place = {**environment(), "HF_HUB_CACHE": str(tmp_path / "weights"), "PYTHONPATH": str(ROOT)}
    script = build_step("find_weights").replace("/opt/clip_weights", place["HF_HUB_CACHE"])
    arguments = {
        "CLIP_MODEL": "ViT-B-16",
        "CLIP_WEIGHTS": "",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
    }
    subprocess.run(
        ["sh", "-c", script.replace("/opt/clipmused/bin/python", sys.executable)],
        env={**place, "HF_HUB_OFFLINE": "0", **arguments},
        check=True,
        capture_output=True,
    )
    assert any(path.endswith("/open_clip_model.safetensors") for path in hub.asked)  # type: ignore[attr-defined]
    code = "from clipmused_bids.targets.weights import find_weights; print(find_weights('ViT-B-16', weights=None).file)"
    done = subprocess.run([sys.executable, "-c", code], env=place, check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()).read_bytes() == Hub.content


def test_without_a_model_and_templates_nothing_is_fetched(tmp_path: Path) -> None:
    for marker, place in (("find_weights", "/opt/clip_weights"), ("template_grid", "/opt/templateflow")):
        script = build_step(marker).replace(place, str(tmp_path / "place"))
        script = script.replace("/opt/clipmused/bin/python", "false")
        none = {
            "CLIP_MODEL": "",
            "CLIP_WEIGHTS": "",
            "HF_ENDPOINT": "",
            "TEMPLATES": "",
            "PATH": os.environ["PATH"],
        }
        subprocess.run(["sh", "-c", script], env=none, check=True)
        assert list((tmp_path / "place").iterdir()) == []


def programs_for_templates(tmp_path: Path) -> list[tuple[str, str]]:
    """What the build would run for each template: program and template, as the shell hands them on."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\0" "$2" "$3" >>{tmp_path}/given\n')
    python.chmod(0o755)
    script = build_step("template_grid").replace("/opt/clipmused/bin/python", str(python))
    names = pairs([text for text in texts("ARG") if text.startswith("TEMPLATES")])["TEMPLATES"]
    subprocess.run(
        ["sh", "-c", script.replace("/opt/templateflow", str(tmp_path / "templateflow"))],
        env={"TEMPLATES": names, "PATH": os.environ["PATH"]},
        check=True,
    )
    given = (tmp_path / "given").read_text().split("\0")[:-1]
    return list(zip(given[::2], given[1::2], strict=True))


def test_templates_that_the_build_fetches_are_those_that_a_run_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive with these files alone is asked by the build's own program; it is content, and wants nothing more."""
    home = tmp_path / "archive"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    monkeypatch.setattr(
        template_flow, "_fetch", lambda template, entities: pytest.fail(f"{template} {entities}")
    )
    programs = programs_for_templates(tmp_path)
    assert [name for _, name in programs] == ["MNI152NLin2009cAsym", "MNI152NLin6Asym"]
    for program, name in programs:
        made = [f"tpl-{name}_res-{size:02d}_T1w.nii.gz" for size in (1, 2)]
        made.append(f"tpl-{name}_res-01_atlas-{DEFAULT_COMMON}_desc-400Parcels7Networks_dseg.nii.gz")
        for file in made:
            with pytest.raises((pytest.fail.Exception, MissingInputError)):
                run_here(monkeypatch, program, name)
            (home / f"tpl-{name}").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), home / f"tpl-{name}" / file)
        run_here(monkeypatch, program, name)


def run_here(monkeypatch: pytest.MonkeyPatch, program: str, word: str) -> None:
    monkeypatch.setattr(sys, "argv", ["-c", word])
    exec(compile(program, "Containerfile", "exec"), {})


@pytest.mark.parametrize("engine", ["podman", "docker", "buildah"])
def test_make_builds_with_each_engine(engine: str) -> None:
    done = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "--dry-run",
            "sif",
            f"ENGINE={engine}",
            "IMAGE_ARGS=--build-arg CLIP_MODEL=",
        ],
        cwd=ROOT,
        # Not as a part of the make that runs the tests.
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=True,
    )
    build, _, save, apptainer, _ = done.stdout.replace("\\\n", " ").splitlines()
    image = f"clipmused-bids:{clipmused_bids.__version__}"
    assert build.split()[:6] == [engine, "build", "--file", "Containerfile", "--tag", image]
    assert build.split()[-3:] == ["--build-arg", "CLIP_MODEL=", "."]
    assert f"VERSION={clipmused_bids.__version__}" in build.split()
    assert re.search(r"REVISION=[0-9a-f]{40} ", build) or not (ROOT / ".git").exists()
    assert save.startswith(f"{engine} {'save' if engine == 'docker' else 'push'} ")
    assert "clipmused-bids.oci.tar" in save
    assert apptainer == "apptainer build --force clipmused-bids.sif singularity.def"
