"""The folder of compiled programs is one for each kind of processor, and does not grow without end."""

import os
from pathlib import Path

import compilation_cache


def test_the_folder_is_the_same_every_time_and_below_the_users_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.folder()
    assert folder == compilation_cache.folder()
    assert folder.parent == tmp_path / "unified_diffusion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compilation_cache.folder() == Path.home() / ".cache" / "unified_diffusion" / folder.name


def test_the_oldest_programs_go_first(tmp_path):
    compilation_cache.bound(tmp_path / "none", 10)
    for age, name in enumerate("abcd"):
        file = tmp_path / f"{name}-cache"
        file.write_bytes(bytes(10))
        os.utime(file, (1000 + age, 1000 + age))
    compilation_cache.bound(tmp_path, 40)
    assert len(list(tmp_path.iterdir())) == 4
    compilation_cache.bound(tmp_path, 39)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d-cache"]
