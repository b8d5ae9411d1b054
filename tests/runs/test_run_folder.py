"""Whose a folder is, and where its training is."""

import errno
import fcntl

import pytest

from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json
from unified_diffusion.runs.folder import locked, training_folder


def test_the_folder_of_a_training(tmp_path):
    for name, trained_in in {"a": None, "b": "a", "c": "b", "x": "y", "y": "x", "z": "gone"}.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {"trained_in": trained_in})
    found = {name: training_folder(tmp_path / name).name for name in ("a", "b", "c", "z", "single")}
    assert found == {"a": "a", "b": "a", "c": "a", "z": "gone", "single": "single"}
    assert training_folder(tmp_path / "x").name in "xy"  # a circle has an end


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def lockf(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(UserError, match=r"cannot be locked \(No locks available\).*POSIX locks"), locked(tmp_path):
        pass
