import errno
import subprocess
import sys
from pathlib import Path

import pytest

from medical_gans.errors import InputError, OutputError
from medical_gans.io import check_writable, whole_file, whole_folder, writing
from medical_gans.io.ownership import Origin

RUN = Origin("a run")


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "result.nii.gz"
    with whole_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz")
    assert target.read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.nii.gz"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_what_was_there_survives_any_exception(tmp_path, exception):
    target = tmp_path / "weights.pt"
    target.write_text("last good")
    with pytest.raises(exception), whole_file(target) as temporary:
        temporary.write_text("half")
        raise exception
    assert target.read_text() == "last good"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "series"
    with whole_folder(target) as temporary:
        (temporary / "1.dcm").write_text("first")
        assert not target.exists()
    assert [entry.name for entry in target.iterdir()] == ["1.dcm"]
    assert list(tmp_path.iterdir()) == [target]


def older(tmp_path):
    """A folder that an earlier run put down."""
    target = tmp_path / "series"
    with whole_folder(target, RUN) as temporary:
        (temporary / "old.dcm").write_text("old")
    return target


def visible(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "made_from.json")


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    target = older(tmp_path)
    with whole_folder(target, RUN) as temporary:
        (temporary / "new.dcm").write_text("new")
    assert visible(target) == ["new.dcm"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_older_folder_survives_an_interruption(tmp_path):
    target = older(tmp_path)
    with pytest.raises(KeyboardInterrupt), whole_folder(target, RUN) as temporary:
        (temporary / "new.dcm").write_text("new")
        raise KeyboardInterrupt
    assert visible(target) == ["old.dcm"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_older_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = older(tmp_path)
    rename = Path.rename

    def refuse(self, other):
        if Path(other) == target and (self / "new.dcm").exists():
            raise PermissionError(errno.EACCES, "denied", str(other))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="no permission"), whole_folder(target, RUN) as temporary:
        (temporary / "new.dcm").write_text("new")
    assert visible(target) == ["old.dcm"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_said_plainly(tmp_path, number, whole):
    target = tmp_path / "ct"
    with pytest.raises(OutputError, match=r"ct could not be written.*full.*output_dir"), whole(target):
        raise OSError(number, "full")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_reported_by_torch_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_free_bytes", lambda path: 100)
    with pytest.raises(OutputError, match="full"), whole_file(tmp_path / "weights.pt"):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")


def test_other_errors_are_not_put_down_to_the_disk(tmp_path):
    for error in (
        RuntimeError("bug"),
        FileNotFoundError(errno.ENOENT, "gone", "/elsewhere"),
        InputError("bad"),
    ):
        with pytest.raises(type(error)) as raised, whole_file(tmp_path / "ct.nii"):
            raise error
        assert raised.value is error


def test_a_file_size_limit_leaves_nothing_half_written(tmp_path):
    """A write that the system itself stops, through nibabel and save_volume."""
    code = f"""
import resource, numpy as np
from medical_gans.errors import OutputError
from medical_gans.io import save_volume
array = np.random.default_rng(0).integers(-1000, 1000, (40, 40, 40)).astype(np.int16)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    save_volume({str(tmp_path / "ct.nii.gz")!r}, array, np.eye(4))
except OutputError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ct.nii.gz could not be written: the disk or quota is full" in result.stdout, result.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_or_impossible_folder_is_said_plainly(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="No such file"),
        whole_file(tmp_path / "none" / "ct.nii") as temporary,
    ):
        temporary.write_text("")
    with pytest.raises(OutputError, match="Not a directory"), whole_folder(tmp_path / "file" / "ct"):
        pass


def test_output_dir_is_made_and_left_empty(tmp_path):
    assert check_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list((tmp_path / "a" / "b").iterdir())


def test_output_dir_that_is_or_lies_in_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_writable(tmp_path / "file")
    with pytest.raises(OutputError, match="could not be written: Not a directory"):
        check_writable(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "no permission"), (errno.EROFS, "no permission"), (errno.ENOSPC, "full")],
)
def test_output_dir_that_takes_no_file_is_refused_before_any_work(tmp_path, monkeypatch, number, words):
    def refuse(self, data):
        raise OSError(number, "refused", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=words):
        check_writable(tmp_path)
