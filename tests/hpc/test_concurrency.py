"""Jobs at once on one output folder; ``python -m tests.hpc.concurrency --repeats 20`` is the long form."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from pathlib import Path

import pytest

from tests.hpc.concurrency import one_after_another, repeat
from tests.hpc.small_study import make_decoder, make_study
from tests.hpc.validity import broken_files, contents

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason=f"no fork server on {sys.platform}"
)


@pytest.mark.slow
def test_seven_jobs_at_once_leave_what_they_leave_in_turn(tmp_path: Path) -> None:
    bids, base = make_study(tmp_path), tmp_path / "base"
    make_decoder(bids, base)
    expected = one_after_another(bids, base, tmp_path)
    assert sum("_predictions.tsv" in name for name in expected) == 12
    assert sum("_embeddings/" in name for name in expected) > 60
    for number, delay in enumerate((0.0, 0.05)):
        done = repeat(bids, base, tmp_path / str(number), expected, write_delay=delay)
        assert done.codes == [0] * 7
        assert done.differences == []
        assert done.problems == []
        assert done.looks > 10


class TestTheJudge:
    """What looks at the outputs sees what it is there to see."""

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        for name, content in {
            "a.tsv": b"x\ty\n1\t2\n",
            "b.json": b'{"a": 1}\n',
            "c.md": b"# c\n",
            "d.svg": b"<svg></svg>",
            "sub-01/.e.json.0.tmp": b"{",
        }.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        import numpy as np
        from safetensors.numpy import save_file

        save_file({"x": np.arange(5.0)}, tmp_path / "f.safetensors")
        return tmp_path

    def test_whole_files_pass(self, out: Path) -> None:
        assert broken_files(out) == []

    @pytest.mark.parametrize("name", ["a.tsv", "b.json", "c.md", "d.svg", "f.safetensors"])
    def test_any_that_is_cut_is_named(self, out: Path, name: str) -> None:
        whole = (out / name).read_bytes()
        for size in range(len(whole) - 2, 0, -max(1, len(whole) // 7)):
            (out / name).write_bytes(whole[:size])
            found = broken_files(out)
            # A table that is cut after a whole row is a table.
            assert len(found) == (0 if name == "a.tsv" and whole[:size].endswith(b"\n") else 1), size

    def test_contents_tell_a_changed_byte_and_no_logs(self, out: Path) -> None:
        before = contents(out)
        assert set(before) == {"a.tsv", "b.json", "c.md", "d.svg", "f.safetensors"}
        copy = Path(shutil.copytree(out, out.with_name("copy")))
        (copy / "logs").mkdir()
        (copy / "logs" / "x.txt").write_text("x")
        assert contents(copy) == before
        (copy / "a.tsv").write_text("x\ty\n1\t3\n")
        assert contents(copy) != before
