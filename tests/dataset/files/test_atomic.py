from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from clipmused_bids.dataset.files.atomic import create_bytes, make_folder, remove, write_bytes
from clipmused_bids.dataset.files.documents import write_json
from clipmused_bids.errors import CannotCreateError, ExitCode, OutputWriteError


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_content_is_written_with_its_folders_and_nothing_else(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a" / "b" / "c.bin", b"\x00\x01") == "written"
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"\x00\x01"
    assert listing(tmp_path) == ["c.bin"]


@pytest.mark.parametrize("size", [0, 3, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
def test_unchanged_content_is_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    content = bytes(i % 251 for i in range(size))
    write_bytes(path, content)
    os.utime(path, ns=(5, 5))
    inode = path.stat().st_ino
    assert write_bytes(path, content) == "unchanged"
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (5, inode)


@pytest.mark.parametrize("other", [b"abcX", b"abc", b"abcde", b""])
def test_changed_content_replaces(tmp_path: Path, other: bytes) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"abcd")
    assert write_bytes(path, other) == "written"
    assert path.read_bytes() == other


def test_change_after_the_first_megabyte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    first = bytes(2 << 20)
    write_bytes(path, first)
    changed = first[:-1] + b"\x01"
    assert write_bytes(path, changed) == "written"
    assert path.read_bytes() == changed


def test_files_have_the_users_usual_permissions(tmp_path: Path) -> None:
    usual = os.umask(0o027)
    try:
        write_bytes(tmp_path / "x", b"1")
    finally:
        os.umask(usual)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    annexed = tmp_path / "annexed"
    annexed.write_bytes(b"same")
    link = tmp_path / "link"
    link.symlink_to(annexed)
    assert write_bytes(link, b"same") == "written"
    assert not link.is_symlink()
    write_bytes(link, b"new")
    assert annexed.read_bytes() == b"same"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_disk_leaves_the_old_content_and_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(OutputWriteError, match=r"x: .*not written") as caught:
        write_bytes(path, b"new content")
    assert caught.value.exit_code == ExitCode.IO_ERROR
    assert caught.value.hint
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["x"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_forbidden_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(CannotCreateError, match=os.strerror(code)) as caught:
        write_bytes(tmp_path / "x", b"1")
    assert caught.value.exit_code == ExitCode.CANNOT_CREATE
    assert "without :ro" in (caught.value.hint or "")


def test_interruption_leaves_no_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "x", b"1")
    assert listing(tmp_path) == []


def test_things_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotCreateError, match="folder"):
        write_bytes(tmp_path / "folder", b"1")
    with pytest.raises(CannotCreateError, match="file"):
        write_bytes(tmp_path / "file" / "below", b"1")
    with pytest.raises(CannotCreateError, match="file"):
        make_folder(tmp_path / "file")
    with pytest.raises(CannotCreateError, match="folder"):
        remove(tmp_path / "folder")
    assert listing(tmp_path) == ["file"]
    remove(tmp_path / "never there")


def test_very_long_names(tmp_path: Path) -> None:
    name = "sub-01_" + "x" * 240 + ".tsv"
    write_bytes(tmp_path / name, b"1")
    assert listing(tmp_path) == [name]


def _rewrite(path: str, writer: int, until: float) -> None:
    turn = 0
    while time.monotonic() < until:
        write_json(Path(path), {"writer": writer, "turn": turn, "filling": "x" * (1 + 5000 * (turn % 7))})
        turn += 1


def test_six_writers_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "dataset_description.json"
    write_json(path, {"writer": -1, "turn": 0})
    context = multiprocessing.get_context(
        "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    )
    until = time.monotonic() + 2.0
    writers = [context.Process(target=_rewrite, args=(str(path), k, until)) for k in range(6)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(json.loads(path.read_bytes())["writer"])
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 6
    assert len(seen) >= 4
    assert listing(tmp_path) == ["dataset_description.json"]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_move_whose_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Network file systems move a file, lose the answer, ask again, and hear that there is none."""
    really = Path.replace

    def moved_and_denied(self: Path, target: Path) -> None:
        really(self, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", moved_and_denied)
    assert write_bytes(tmp_path / "x", b"content") == "written"
    assert (tmp_path / "x").read_bytes() == b"content"
    assert listing(tmp_path) == ["x"]


def test_a_link_whose_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.link

    def linked_and_denied(source: Path, target: Path) -> None:
        really(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", linked_and_denied)
    assert create_bytes(tmp_path / "x", b"content") == "written"
    assert listing(tmp_path) == ["x"]


@pytest.mark.parametrize("failures", [1, 3, 99])
def test_a_stale_handle_is_tried_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    left = [failures]
    really = os.fsync

    def stale(descriptor: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", stale)
    if failures > 3:
        with pytest.raises(OutputWriteError, match=r"x: .*not written"):
            write_bytes(tmp_path / "x", b"content")
        assert listing(tmp_path) == []
    else:
        assert write_bytes(tmp_path / "x", b"content") == "written"
        assert listing(tmp_path) == ["x"]


def test_a_neighbour_that_is_taken_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    really = os.fsync

    def take_once(descriptor: int) -> None:
        really(descriptor)
        if not taken:
            taken.extend(tmp_path.glob(".*.tmp"))
            taken[0].unlink()

    monkeypatch.setattr(os, "fsync", take_once)
    assert write_bytes(tmp_path / "x", b"content") == "written"
    assert taken
    assert (tmp_path / "x").read_bytes() == b"content"


class TestCreation:
    def test_only_what_is_not_there_is_made(self, tmp_path: Path) -> None:
        assert create_bytes(tmp_path / "a" / "x", b"one") == "written"
        assert create_bytes(tmp_path / "a" / "x", b"one") == "unchanged"
        assert create_bytes(tmp_path / "a" / "x", b"two") == "taken"
        assert (tmp_path / "a" / "x").read_bytes() == b"one"
        assert listing(tmp_path) == ["x"]
        assert (tmp_path / "a" / "x").stat().st_nlink == 1

    @pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
    def test_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        def fail(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", fail)
        self.test_only_what_is_not_there_is_made(tmp_path)

    def test_another_process_was_faster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It comes between the look and the link."""
        really = os.link

        def late(source: Path, target: Path) -> None:
            Path(target).write_bytes(b"theirs")
            really(source, target)

        monkeypatch.setattr(os, "link", late)
        assert create_bytes(tmp_path / "x", b"ours") == "taken"
        assert (tmp_path / "x").read_bytes() == b"theirs"
        assert listing(tmp_path) == ["x"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_a_failing_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        def fail(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(OutputWriteError, match="not written"):
            create_bytes(tmp_path / "x", b"1")
        assert listing(tmp_path) == []
