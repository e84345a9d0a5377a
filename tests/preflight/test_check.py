from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmused_bids.config import Config, InputOptions
from clipmused_bids.dataset.files.cores import usable_cores
from clipmused_bids.errors import DataError, ExitCode
from clipmused_bids.preflight import place_checks
from clipmused_bids.preflight.check import Check, all_checks, check, failed, report
from clipmused_bids.preflight.machine_checks import (
    core_check,
    home_check,
    library_check,
    memory_limit,
)
from clipmused_bids.preflight.model_checks import model_checks, template_check
from clipmused_bids.preflight.place_checks import dataset_check, input_checks, output_checks


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    folder = tmp_path / "bids"
    for name in ("sub-01", "sub-02"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "Faces", "BIDSVersion": "1.10.0"}')
    return folder


def config_of(bids: Path, out: Path, **options: object) -> Config:
    return Config(bids, out, "group", (), device="cpu", method="ridge", **options)  # type: ignore[arg-type]


class TestDataset:
    def test_a_good_one(self, bids: Path) -> None:
        found = dataset_check(bids)
        assert (found.state, found.code) == ("ok", ExitCode.OK)
        assert "(Faces): 2 participant(s)" in found.text

    @pytest.mark.parametrize(
        ("damage", "state", "code", "text"),
        [
            (
                lambda bids: (bids / "dataset_description.json").unlink(),
                "warning",
                0,
                "no dataset_description",
            ),
            (lambda bids: (bids / "dataset_description.json").write_text("{"), "FAIL", 65, "not a JSON file"),
            (lambda bids: [(bids / f"sub-0{k}").rmdir() for k in (1, 2)], "FAIL", 16, "no sub-* folder"),
            (lambda bids: bids.rename(bids.with_name("elsewhere")), "FAIL", 66, "no such folder"),
        ],
    )
    def test_bad_ones(
        self, bids: Path, damage: Callable[[Path], object], state: str, code: int, text: str
    ) -> None:
        damage(bids)
        found = dataset_check(bids)
        assert (found.state, int(found.code)) == (state, code)
        assert text in found.text
        assert found.hint

    def test_a_manifest_names_the_participants_itself(self, bids: Path, tmp_path: Path) -> None:
        for k in (1, 2):
            (bids / f"sub-0{k}").rmdir()
        manifest = InputOptions(betas=f"{tmp_path}/betas.tsv")
        states = {
            inputs: next(iter(all_checks(config_of(bids, tmp_path / "out", inputs=inputs)))).state
            for inputs in (InputOptions(), manifest)
        }
        assert list(states.values()) == ["FAIL", "ok"]

    def test_a_file(self, bids: Path) -> None:
        assert "a file, not a folder" in dataset_check(bids / "dataset_description.json").text


class TestPlaces:
    def test_every_place_that_is_named(self, bids: Path, tmp_path: Path) -> None:
        for name in ("there", "masks"):
            (tmp_path / name).mkdir()
        (tmp_path / "bank.hdf5").touch()
        inputs = InputOptions(
            derivatives=(f"prep={tmp_path}/there", f"{tmp_path}/gone"),
            stimuli_dirs=(f"{tmp_path}/bank.hdf5:/images", f"{tmp_path}/there"),
            labels=(f"{tmp_path}/labels.tsv", f"{tmp_path}/bank.hdf5:/labels"),
            mask=f"{tmp_path}/masks/sub-{{participant}}.nii.gz",
            atlas="Schaefer2018",
        )
        found = list(input_checks(config_of(bids, tmp_path / "out", inputs=inputs, split="runs:2")))
        assert [(one.name, one.state, Path(one.text.rstrip(":")).name.split(":")[0]) for one in found] == [
            ("--derivatives", "ok", "there"),
            ("--derivatives", "FAIL", "gone"),
            ("--stimuli-dir", "ok", "bank.hdf5"),
            ("--stimuli-dir", "ok", "there"),
            ("--labels", "FAIL", "labels.tsv"),
            ("--labels", "ok", "bank.hdf5"),
            ("--mask", "ok", "masks"),
        ]
        assert {int(one.code) for one in found} == {0, 66}
        assert all("-B /path" in str(one.hint) for one in found if one.state == "FAIL")

    def test_the_probe_leaves_nothing(self, bids: Path, tmp_path: Path) -> None:
        out = tmp_path / "made"
        out.mkdir()
        before = sorted(tmp_path.rglob("*"))
        for place in (out, tmp_path / "not" / "yet"):
            first = next(iter(output_checks(config_of(bids, place))))
            assert first.state == "ok", first
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("place", ["bids/out", "bids", "file/out", "foreign"])
    def test_where_outputs_cannot_go(self, bids: Path, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "dataset_description.json").write_text('{"Name": "theirs"}')
        first = next(iter(output_checks(config_of(bids, tmp_path / place))))
        assert (first.state, first.code) == ("FAIL", ExitCode.CANNOT_CREATE)
        assert first.hint

    def test_space(self, bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        states = []
        for free in (int(2e10), int(1e9), 1000):
            usage = type("Usage", (), {"free": free})
            monkeypatch.setattr(place_checks.shutil, "disk_usage", lambda _, usage=usage: usage)
            found = list(output_checks(config_of(bids, tmp_path / "out", work_dir=tmp_path / "scratch")))
            assert [one.name for one in found][1::2] == ["disk of OUTPUT_DIR", "disk of --work-dir"]
            states.append((found[1].state, int(found[3].code)))
        assert states == [("ok", 0), ("warning", 0), ("FAIL", 74)]


class TestMachine:
    @staticmethod
    def machine(root: Path, **files: str) -> Path:
        for name, text in {"proc/meminfo": "MemTotal:       1000 kB\nMemFree: 1 kB\n", **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    def test_memory_without_and_with_limits(self, tmp_path: Path) -> None:
        root = self.machine(tmp_path)
        assert memory_limit(root) == (1_024_000, False)
        self.machine(root, **{"sys/fs/cgroup/memory.max": "max\n"})
        assert memory_limit(root) == (1_024_000, False)
        own = {"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/step/memory.max": "max"}
        self.machine(root, **own, **{"sys/fs/cgroup/job/memory.max": "500000\n"})
        assert memory_limit(root) == (500_000, True)

    def test_the_older_control_groups(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "5:memory:/slurm/job\n",
            "sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes": "7\n",
        }
        assert memory_limit(self.machine(tmp_path, **files)) == (7, True)

    def test_cores_by_quota(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        root = self.machine(tmp_path)
        assert usable_cores(root) == 8
        self.machine(root, **{"sys/fs/cgroup/cpu.max": "max 100000\n"})
        assert usable_cores(root) == 8
        self.machine(root, **{"sys/fs/cgroup/cpu.max": "250000 100000\n"})
        assert usable_cores(root) == 2.5
        older = {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        }
        self.machine(root, **older)
        assert usable_cores(root) == 1.5

    @pytest.mark.parametrize(("threads", "state"), [("2", "ok"), ("4", "ok"), ("5", "warning"), ("", "ok")])
    def test_more_threads_than_cores(self, threads: str, state: str) -> None:
        found = core_check({"OMP_NUM_THREADS": threads}, cores=4)
        assert found.state == state
        assert (found.hint == "export OMP_NUM_THREADS=4") is (state == "warning")

    def test_home_and_libraries(self, tmp_path: Path) -> None:
        assert home_check({"HOME": str(tmp_path)}).state == "ok"
        assert home_check({}).state == "warning"
        assert home_check({"HOME": "/no/such", "MPLCONFIGDIR": "/tmp"}).state == "ok"
        assert library_check().state == "ok"
        assert "nibabel " in library_check().text


class TestModels:
    def test_templates(self, bids: Path, tmp_path: Path) -> None:
        (tmp_path / "tpl-MNI152NLin6Asym").mkdir()
        environ = {"TEMPLATEFLOW_HOME": str(tmp_path)}
        for resample, offline, state in (
            (None, True, "ok"),
            ("MNI152NLin6Asym:res-2", True, "ok"),
            ("MNI152NLin2009cAsym:res-2", True, "FAIL"),
            ("MNI152NLin2009cAsym:res-2", False, "warning"),
        ):
            config = config_of(
                bids, tmp_path / "out", inputs=InputOptions(resample=resample), offline=offline
            )
            found = template_check(config, environ)
            assert found.state == state
            assert int(found.code) == (66 if state == "FAIL" else 0)

    def test_weights(self, bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HOME", str(tmp_path))

        def clip(**options: object) -> Check:
            config = Config(bids, tmp_path / "out", "group", **{"actions": (), **options})  # type: ignore[arg-type]
            return next(iter(model_checks(config, {})))

        assert clip(method="ridge").text == "not needed"
        assert clip(actions=("decode",)).state == "ok"
        assert clip(overrides={"targets": {"clip_model": "demo"}}).text.endswith("demo_clip")
        assert clip(overrides={"targets": {"clip_model": "RN50"}}).code == ExitCode.USAGE
        lacking = clip(overrides={"targets": {"clip_weights": str(tmp_path / "weights.safetensors")}})
        assert (lacking.state, int(lacking.code)) == ("FAIL", 66)
        assert str(lacking.hint).count("hf download") == 2


def test_the_first_failure_decides_and_hints_are_shown() -> None:
    checks = (
        Check("one", "ok", "fine"),
        Check("two", "warning", "hm", "look"),
        failed("three", DataError("bad", hint="mend it")),
    )
    text = report(checks)
    assert [line.split() for line in text.splitlines() if line.startswith("  ") and "hint" not in line] == [
        ["ok", "one", "fine"],
        ["warning", "two", "hm"],
        ["FAIL", "three", "bad"],
    ]
    assert [line.strip() for line in text.splitlines() if "hint" in line] == ["hint: look", "hint: mend it"]
    assert "1 of 3 checks failed; 1 warning(s)." in text
    assert "nothing is in the way of a run; 1 warning(s)." in report(checks[:2])


@pytest.mark.parametrize(("place", "code"), [("out", 0), ("bids/out", 73)])
def test_the_command_ends_with_the_code(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, code: int
) -> None:
    assert int(check(config_of(bids, tmp_path / place))) == code
    assert "BIDS_DIR" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
