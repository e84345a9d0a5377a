"""The built image: as a user runs it in Apptainer, and as docker or podman would start it.

``make test-container`` builds the image first and runs this with the standard library alone (``python3 -m unittest``).
Every call is without network, on a read-only root file system, by a user that owns nothing of the image.
"""

# ruff: noqa: PT009  # The standard library alone: the machine that builds an image need not have the tests' environment.
from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = Path(os.environ.get("CLIPMUSED_CONTAINER_DIR", "/var/tmp/clipmused-container"))
SIF = WORK / "clipmused-bids.sif"
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "clipmused_bids" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)
IMAGE = f"clipmused-bids:{VERSION}"
UID = 12345
STUDY = (
    "--participants=2", "--trials=96", "--runs=3", "--shared=20", "--repeats=2", "--repeated-own=4", "--snr=2",
)  # fmt: skip
QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 3\nn_seeds = 1\n"
ENDLESS = QUICK.replace("max_epochs = 3", "max_epochs = 100000\npatience = 100000")
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def setUpModule() -> None:
    if os.environ.get("CLIPMUSED_TEST_CONTAINER") != "1":
        raise unittest.SkipTest("needs root, a built image and minutes: make test-container")


class Done:
    """How a command ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.text = done.returncode, done.stdout + done.stderr


def run(words: list[object], **environment: str) -> Done:
    return Done(
        subprocess.run(
            [str(word) for word in words],
            env={**CLEAN, "CLIPMUSED_CONTAINER_DIR": str(WORK), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    )


def in_apptainer(
    *words: object, binds: tuple[str, ...] = (), verb: str = "run", options: tuple[str, ...] = ()
) -> list[object]:
    """Words of ``apptainer run`` as a cluster's user gives them."""
    mounts = [word for bind in binds for word in ("-B", bind)]
    contained = options or ("--cleanenv", "--containall")
    # Without network: the namespace has no interface but a loopback that is down.
    return ["unshare", "--net", HERE / "apptainer.sh", verb, "--userns", *contained, *mounts, SIF, *words]


def apptainer(
    *words: object,
    binds: tuple[str, ...] = (),
    verb: str = "run",
    options: tuple[str, ...] = (),
    **environment: str,
) -> Done:
    return run(
        in_apptainer(*words, binds=binds, verb=verb, options=options), CLIPMUSED_UID=str(UID), **environment
    )


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file, link and folder."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        content = str(path.readlink()) if path.is_symlink() else ""
        if not content and path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (content, path.lstat().st_mtime_ns)
    return found


def validator() -> Path:
    places = (ROOT / ".venv" / "bin", WORK / "validator" / "bin")
    return next(path for place in places if (path := place / "bids-validator-deno").exists())


def errors_of(dataset: Path) -> list[dict[str, object]]:
    done = subprocess.run([validator(), dataset, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


class Study(unittest.TestCase):
    """A simulated study that the user of the image may read but not write."""

    folder: Path
    bids: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(dir=WORK / "tmp"))
        cls.folder.chmod(0o755)
        (cls.folder / "config").mkdir()
        (cls.folder / "config" / "quick.toml").write_text(QUICK)
        (cls.folder / "config" / "endless.toml").write_text(ENDLESS)
        made = cls.own("made")
        simulation = ("python", "-m", "clipmused_bids.simulation.demo", "/made/bids", *STUDY)
        done = apptainer(*simulation, binds=(f"{made}:/made",), verb="exec")
        assert done.code == 0, done.text
        cls.bids = cls.folder / "bids"
        (made / "bids").rename(cls.bids)
        # As raw data often are: of somebody else, and readable.
        for path in [cls.bids, *cls.bids.rglob("*")]:
            os.chown(path, 0, 0)
        cls.before = state_of(cls.bids)

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(cls.folder)

    @classmethod
    def own(cls, name: str) -> Path:
        """A folder that belongs to the user of the image."""
        folder = cls.folder / name
        folder.mkdir()
        os.chown(folder, UID, UID)
        return folder

    def binds(self, out: Path) -> tuple[str, ...]:
        return (f"{self.bids}:/bids:ro", f"{out}:/out", f"{self.folder / 'config'}:/config:ro")


class InApptainer(Study):
    """``apptainer run --cleanenv --containall``."""

    def test_a_study_from_preparation_to_scores(self) -> None:
        out = self.own("out")

        def step(*words: str) -> Done:
            done = apptainer("/bids", "/out", *words, binds=self.binds(out))
            self.assertEqual(done.code, 0, f"{words}\n{done.text}")
            return done

        network = ("--clip-model", "demo", "--config-file", "/config/quick.toml")
        for person in ("01", "02"):
            step("participant", "--participant-label", person, "--prepare", *network)
        responses = state_of(out / "sub-01" / "func")
        self.assertTrue(responses)
        step("group", "--train", *network)
        for person in ("01", "02"):
            step("participant", "--participant-label", person, "--decode")
        step("group", "--evaluate", *network)

        after = state_of(out / "sub-01" / "func")
        self.assertEqual({name: after[name] for name in responses if name != "."},
                         {name: state for name, state in responses.items() if name != "."})  # fmt: skip
        self.assertEqual(state_of(self.bids), self.before)
        self.assertTrue((out / "group_desc-clipmused_metrics.tsv").is_file())
        self.assertEqual(len(list(out.glob("sub-*/func/*_desc-clipmused_predictions.tsv"))), 6)
        self.assertEqual(errors_of(out), [])
        (generator,) = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"]
        self.assertEqual(generator["Container"], {"Type": "singularity", "Tag": IMAGE})
        self.assertEqual({path.stat().st_uid for path in out.rglob("*")}, {UID})

    def test_terminated_while_training(self) -> None:
        out = self.own("out-term")
        words = (
            "/bids",
            "/out",
            "group",
            "--train",
            "--clip-model",
            "demo",
            "--config-file",
            "/config/endless.toml",
        )
        with started(in_apptainer(*words, binds=self.binds(out)), CLIPMUSED_UID=str(UID)) as process:
            wait_for(lambda: "epoch" in log_of(out), process)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=120), 75)
        self.assertEqual(list(out.rglob("*.tmp*")), [])
        self.assertEqual(list(out.glob("models/*/model.safetensors")), [])

    def test_a_gpu_that_is_not_there(self) -> None:
        out = self.own("out-gpu")
        done = apptainer(
            "/bids", "/out", "group", "--device", "cuda", "--clip-model", "demo", binds=self.binds(out)
        )
        self.assertEqual(done.code, 64, done.text)
        self.assertIn(
            "error: --device cuda: no GPU can be used here.\nhint: in Singularity add --nv", done.text
        )
        self.assertNotIn("Traceback", done.text)

    def test_a_dataset_that_was_not_bound(self) -> None:
        out = self.own("out-unbound")
        done = apptainer("/bids", "/out", "group", "--clip-model", "demo", binds=(f"{out}:/out",))
        self.assertEqual(done.code, 66, done.text)
        self.assertIn("-B", done.text)

    def test_an_output_folder_that_was_not_bound(self) -> None:
        done = apptainer("/bids", "/out", "group", "--method", "ridge", binds=(f"{self.bids}:/bids:ro",))
        self.assertEqual(done.code, 73, done.text)
        self.assertIn("-B", done.text)

    def test_an_output_folder_that_is_read_only(self) -> None:
        out = self.own("out-ro")
        binds = (f"{self.bids}:/bids:ro", f"{out}:/out:ro")
        done = apptainer("/bids", "/out", "group", "--method", "ridge", binds=binds)
        self.assertEqual(done.code, 73, done.text)
        self.assertIn("bind it without :ro", done.text)

    def test_an_output_folder_of_somebody_else(self) -> None:
        out = self.folder / "out-foreign"
        out.mkdir()
        done = apptainer("/bids", "/out", "group", "--method", "ridge", binds=self.binds(out))
        self.assertEqual(done.code, 73, done.text)
        self.assertNotIn("Traceback", done.text)
        self.assertEqual(list(out.iterdir()), [])

    def test_images_that_datalad_has_not_fetched(self) -> None:
        copy = self.folder / "bids-datalad"
        shutil.copytree(self.bids, copy)
        for path in copy.rglob("*_bold.nii.gz"):
            path.unlink()
            path.symlink_to(f".git/annex/objects/xx/{path.name}")
        out = self.own("out-datalad")
        binds = (f"{copy}:/bids:ro", f"{out}:/out")
        done = apptainer("/bids", "/out", "participant", "--prepare", "--method", "ridge", binds=binds)
        self.assertEqual(done.code, 66, done.text)
        self.assertIn("datalad get", done.text)

    def test_what_the_host_sets_stays_on_the_host(self) -> None:
        """Without --cleanenv and --containall: variables of the host come in, and its /tmp."""
        out = self.own("out-host")
        host = {"CLIPMUSED_IMAGE": "/scratch/secret/x.sif", "PYTHONPATH": "/nowhere", "MPLCONFIGDIR": "/nowhere",
                "PYTHONHOME": "/nowhere", "LC_ALL": "de_DE.UTF-8", "TZ": "Pacific/Auckland"}  # fmt: skip
        words = ("/bids", "/out", "participant", "--prepare", "--method", "ridge")
        done = apptainer(*words, binds=self.binds(out), options=("--no-home",), **host)
        self.assertEqual(done.code, 0, done.text)
        text = (out / "dataset_description.json").read_text()
        self.assertNotIn("secret", text)
        self.assertIn(f'"Tag": "{IMAGE}"', text)

    def test_weights_that_are_not_in_the_image(self) -> None:
        out = self.own("out-weights")
        done = apptainer("/bids", "/out", "group", binds=self.binds(out))
        self.assertEqual(done.code, 66, done.text)
        self.assertIn("hf download", done.text)

    def test_the_check_of_the_installation(self) -> None:
        out = self.own("out-check")
        done = apptainer("/bids", "/out", "group", "--clip-model", "demo", "--check", binds=self.binds(out))
        self.assertEqual(done.code, 0, done.text)
        self.assertIn(f"singularity {IMAGE}", " ".join(done.text.split()))

    def test_help_of_the_file(self) -> None:
        done = run([HERE / "apptainer.sh", "run-help", SIF])
        self.assertIn("--containall", done.text)
        done = run([HERE / "apptainer.sh", "inspect", "--labels", SIF])
        self.assertRegex(done.text, r"image\.revision: [0-9a-f]{40}")


class AsDockerStartsIt(Study):
    """Root file system, variables and entry point of the image: read-only, unknown user, no HOME, a small /tmp."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.buildah = ["buildah", "--root", WORK / "storage", "--runroot", WORK / "storage-run"]
        cls.container = run(
            [*cls.buildah, "from", "--pull-never", IMAGE], STORAGE_DRIVER="overlay"
        ).text.split()[-1]
        cls.mount = run([*cls.buildah, "mount", cls.container], STORAGE_DRIVER="overlay").text.strip()
        inspected = run([*cls.buildah, "inspect", "--type", "image", IMAGE], STORAGE_DRIVER="overlay").text
        cls.config = json.loads(inspected)["OCIv1"]["config"]
        for name in ("bids", "out", "config"):
            (Path(cls.mount) / name).mkdir()

    @classmethod
    def tearDownClass(cls) -> None:
        run([*cls.buildah, "umount", cls.container], STORAGE_DRIVER="overlay")
        run([*cls.buildah, "rm", cls.container], STORAGE_DRIVER="overlay")
        super().tearDownClass()

    def start(self, *words: object, out: Path, tmp: int = 4 << 20) -> Done:
        variables = [word for pair in self.config["Env"] for word in ("--setenv", *pair.split("=", 1))]
        mounts = [
            "--ro-bind",
            self.bids,
            "/bids",
            "--bind",
            out,
            "/out",
            "--ro-bind",
            self.folder / "config",
            "/config",
        ]
        system = [
            "--ro-bind",
            "/mnt",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--size",
            tmp,
            "--tmpfs",
            "/tmp",
        ]
        bwrap = ["bwrap", "--unshare-all", "--clearenv", *variables, *system, *mounts, "--chdir", "/"]
        user = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"]
        inner = 'mount --bind "$1" /mnt; shift; exec "$@"'
        return run(["unshare", "--mount", "sh", "-ec", inner, "sh", self.mount, *user, *bwrap,
                    *self.config["Entrypoint"], *words])  # fmt: skip

    def test_a_study_from_preparation_to_scores(self) -> None:
        out = self.own("out")
        done = self.start(
            "/bids", "/out", "group", "--clip-model", "demo", "--config-file", "/config/quick.toml", out=out
        )
        self.assertEqual(done.code, 0, done.text)
        self.assertNotIn("Warning", done.text)
        self.assertEqual(errors_of(out), [])
        self.assertEqual(state_of(self.bids), self.before)
        (generator,) = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"]
        self.assertEqual(generator["Container"]["Tag"], IMAGE)

    def test_labels(self) -> None:
        labels = {
            name.removeprefix("org.opencontainers.image."): text
            for name, text in self.config["Labels"].items()
        }
        self.assertEqual(labels["version"], VERSION)
        self.assertRegex(labels["revision"], r"^[0-9a-f]{40}$")
        self.assertEqual(labels["licenses"], "Apache-2.0")

    def test_every_file_is_readable_by_everybody(self) -> None:
        closed = [
            str(path)
            for folder, names, files in os.walk(Path(self.mount) / "opt")
            for path in (Path(folder) / name for name in (*names, *files))
            if not path.is_symlink() and not path.stat().st_mode & (0o005 if path.is_dir() else 0o004)
        ]
        self.assertEqual(closed, [])

    def test_the_package_is_that_of_this_checkout(self) -> None:
        packages = Path(self.mount) / "opt" / "clipmused" / "lib" / "python3.11" / "site-packages"

        def files(root: Path) -> dict[str, str]:
            found = {
                path.relative_to(root): path
                for path in (root / "clipmused_bids").rglob("*")
                if path.is_file()
            }
            return {
                str(name): hashlib.sha256(path.read_bytes()).hexdigest()
                for name, path in found.items()
                if "__pycache__" not in name.parts
            }

        self.assertEqual(files(packages), files(ROOT))

    def test_packages_are_those_of_the_lock_file(self) -> None:
        locked = {}
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
            locked.setdefault(package["name"], set()).add(package.get("version", VERSION))
        packages = Path(self.mount) / "opt" / "clipmused" / "lib" / "python3.11" / "site-packages"
        found = [
            path.name.removesuffix(".dist-info").rpartition("-") for path in packages.glob("*.dist-info")
        ]
        installed = {name.lower().replace("_", "-").replace(".", "-"): version for name, _, version in found}
        self.assertIn("torch", installed)
        differing = {name: text for name, text in installed.items() if text not in locked.get(name, ())}
        self.assertEqual(differing, {})

    def test_nothing_of_the_build_is_left(self) -> None:
        root = Path(self.mount)
        packages = root / "opt" / "clipmused" / "lib" / "python3.11" / "site-packages"
        present = [
            name for name in ("pytest", "ruff", "mypy", "sphinx", "triton") if (packages / name).exists()
        ]
        self.assertEqual(present, [])
        left = (
            "src",
            "root/.cache",
            "opt/uv",
            "package",
            "usr/bin/gcc",
            "run/secrets/certificates",
            "usr/bin/pip3",
        )
        self.assertEqual([name for name in left if (root / name).exists()], [])
        self.assertEqual(list((root / "var" / "lib" / "apt" / "lists").iterdir()), [])
        self.assertTrue(list(packages.glob("clipmused_bids/cli/__pycache__/*.pyc")))


@contextmanager
def started(words: list[object], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [str(word) for word in words],
        env={**CLEAN, "CLIPMUSED_CONTAINER_DIR": str(WORK), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def log_of(out: Path) -> str:
    return "".join(path.read_text() for path in out.glob("logs/*/log.txt"))


def wait_for(condition: object, process: subprocess.Popen[bytes], seconds: int = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if process.poll() is not None:
            raise AssertionError(f"ended before its time, with {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds} s")
        time.sleep(0.5)


if __name__ == "__main__":
    unittest.main()
