import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from unified_diffusion.data import SOURCES, StreamedDataset, batches, epoch, images, memory
from unified_diffusion.data import folder as module
from unified_diffusion.errors import UserError

SUFFIXES = ("", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".txz": "w:xz", ".tar.bz2": "w:bz2"}


def load(split="train", **options):
    return SOURCES["folder"](split, **{"image_size": 8, "test_fraction": 0.0, **options})


def pack(path, contents):
    """Writes {name: bytes} as a folder, a zip or a tar, by the ending of the path."""
    suffix = next((end for end in SUFFIXES[1:] if path.name.endswith(end)), "")
    if suffix == "":
        for name, data in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, MODES[suffix]) as archive:
            for name, data in contents.items():
                add(archive, name, data)
    return path


def add(archive, name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def contents(picture):
    names = ["dog/2.png", "cat/1.png", "cat/0.jpg", "cat/deep/3.bmp"]
    data = {name: picture(20 * i, kind="jpeg" if name.endswith("jpg") else name[-3:]) for i, name in enumerate(names)}
    noise = {".hidden/1.png": b"x", "__MACOSX/cat/._1.png": b"x", "cat/.DS_Store": b"x", "readme.txt": b"x"}
    return data | noise


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_and_archives_hold_the_same(suffix, tmp_path, contents, warnings):
    dataset = load(path=str(pack(tmp_path / f"data{suffix}", contents)))
    assert dataset.class_names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 0, 1])
    np.testing.assert_allclose(dataset.examples[:, 4, 4, 0], [40, 20, 60, 0], atol=1)
    assert dataset.shape == (8, 8, 3)
    assert warnings == []


def test_gray_and_size(tmp_path, contents):
    assert load(path=str(pack(tmp_path / "a.tar", contents)), channels=1, image_size=5).shape == (5, 5, 1)


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.xz"])
def test_splits_share_their_classes(suffix, tmp_path, picture):
    names = {"all/train/a/1.png": 1, "all/train/c/2.png": 2, "all/test/b/3.png": 3, "all/test/c/4.png": 4}
    path = str(pack(tmp_path / f"d{suffix}", {name: picture(value) for name, value in names.items()}))
    train, test = load("train", path=path), load("test", path=path)
    assert train.class_names == test.class_names == ("a", "b", "c")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 2], [1, 2])
    assert train.examples[:, 0, 0, 0].tolist() == [1, 2]
    with pytest.raises(UserError, match="val"):
        load("val", path=path)


def test_held_out_parts_are_disjoint_and_complete(tmp_path, picture):
    path = str(pack(tmp_path / "d", {f"{i}.png": picture(i) for i in range(60)}))
    parts = [load(split, path=path, test_fraction=0.3) for split in ("train", "test")]
    assert sorted(np.concatenate([part.examples[:, 0, 0, 0] for part in parts])) == list(range(60))
    assert 5 < len(parts[1]) < 35
    assert parts[0].labels is None
    with pytest.raises(UserError, match="no image for split 'test'; test_fraction"):
        load("test", path=path, test_fraction=0.0)


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_damaged_images_are_named_and_counted(suffix, tmp_path, contents, warnings):
    contents = contents | {f"cat/bad{i}.png": b"broken" for i in range(7)} | {"dog/cut.png": contents["dog/2.png"][:44]}
    dataset = load(path=str(pack(tmp_path / f"d{suffix}", contents)))
    assert len(dataset) == 4
    assert len(warnings) == 1
    assert "8 file(s) skipped" in warnings[0]
    assert "'cat/bad0.png'" in warnings[0]


def test_hostile_tar_members_are_ignored(tmp_path, contents, picture, warnings):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(99))
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for name, data in contents.items():
            add(archive, name, data)
        for name in ("../up.png", "/abs.png", "cat/../../up.png", "..\\up.png"):
            add(archive, name, picture(99))
        add(archive, "cat/sym.png", type=tarfile.SYMTYPE, linkname=str(secret))
        add(archive, "cat/hard.png", type=tarfile.LNKTYPE, linkname="cat/1.png")
        add(archive, "cat/fifo.png", type=tarfile.FIFOTYPE)
        add(archive, "cat/device.png", type=tarfile.CHRTYPE)
    before = sorted(tmp_path.rglob("*"))
    dataset = load(path=str(tmp_path / "d.tar"))
    assert len(dataset) == 4
    assert dataset.examples.max() < 99
    assert sorted(tmp_path.rglob("*")) == before
    assert "8 file(s) skipped" in warnings[0]


def test_hostile_zip_members_are_ignored(tmp_path, contents, picture, warnings):
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        for name in ("../up.png", "/abs.png", "cat/../../up.png"):
            archive.writestr(name, picture(99))
        link = zipfile.ZipInfo("cat/sym.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert len(load(path=str(tmp_path / "d.zip"))) == 4
    assert "4 file(s) skipped" in warnings[0]


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.gz"])
def test_oversized_files_are_not_read(suffix, tmp_path, contents, warnings, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10_000)
    path = pack(tmp_path / f"d{suffix}", contents | {"cat/bomb.png": bytes(10_001)})
    assert len(load(path=str(path))) == 4
    assert "more than 10000 bytes" in warnings[0]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_archives_cut_short_are_refused(suffix, share, tmp_path, picture):
    rng = np.random.default_rng(0)
    contents = {f"{i}.png": picture(i) + rng.bytes(5000) for i in range(20)}
    path = pack(tmp_path / f"d{suffix}", contents)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="archive"):
        load(path=str(path))


def test_archives_that_are_none_are_refused(tmp_path):
    for name in ("d.zip", "d.tar", "d.tar.gz", "d.tar.xz", "d.rar"):
        (tmp_path / name).write_bytes(b"this is no archive at all" * 100)
        with pytest.raises(UserError, match="archive") as caught:
            load(path=str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a path"),
        ({"path": "/no/such/place"}, "no such file or folder: '/no/such/place'"),
        ({"path": ".", "image_size": 0}, "image_size"),
        ({"path": ".", "channels": 2}, "channels"),
        ({"path": ".", "test_fraction": 1.0}, "test_fraction"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        load(**options)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_without_images_is_refused(in_memory, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="image"):
        load(path=str(tmp_path), in_memory=in_memory)


def test_linked_folders_are_followed_once(tmp_path, contents):
    real = pack(tmp_path / "real", contents)
    linked = tmp_path / "linked"
    linked.mkdir()
    os.symlink(real / "cat", linked / "cat")
    os.symlink(linked, linked / "loop")
    assert len(load(path=str(linked))) == 3


def test_a_name_that_comes_twice_in_a_tar_counts_once(tmp_path, picture):
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for name, value in (("a.png", 1), ("a.png", 2), ("b.png", 3)):
            add(archive, name, picture(value))
    assert load(path=str(tmp_path / "d.tar")).examples[:, 0, 0, 0].tolist() == [2, 3]


# the cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images decoded."""
    calls = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda *arguments: calls.append(1) or real(*arguments))
    return calls


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.gz"])
def test_the_second_time_nothing_is_decoded(suffix, tmp_path, contents, decoded, cache_home):
    path = pack(tmp_path / f"d{suffix}", contents)
    first = load(path=str(path))
    assert len(decoded) == 4
    again = load(path=str(path))
    assert len(decoded) == 4
    assert (again.fingerprint, again.class_names) == (first.fingerprint, first.class_names)
    assert again.labels.dtype == np.int32
    load(path=str(path), image_size=6)
    load(path=str(path), cache=False)
    assert len(decoded) == 12
    files = list(cache_home.iterdir())
    assert len(files) == 4
    assert {file.suffix for file in files} == {".npz"}


def test_changed_files_are_read_again(tmp_path, contents, picture):
    path = pack(tmp_path / "d", contents)
    assert load(path=str(path)).examples.max() <= 61
    (path / "cat" / "1.png").write_bytes(picture(200, size=(9, 9)))
    assert load(path=str(path)).examples.max() == 200


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_written_again(damage, tmp_path, contents, cache_home, warnings):
    path = str(pack(tmp_path / "d", contents))
    first = load(path=path)
    for file in cache_home.iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.write_bytes(data if damage is None else damage)
    assert load(path=path).fingerprint == first.fingerprint
    assert "damaged" in warnings[0]
    warnings.clear()
    assert load(path=path).fingerprint == first.fingerprint
    assert warnings == []


def test_no_place_for_a_cache_is_no_error(tmp_path, contents, monkeypatch, warnings):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load(path=str(pack(tmp_path / "d", contents)))) == 4
    assert "not cached" in warnings[-1]


# memory and streaming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_more_than_memory_is_refused(suffix, tmp_path, contents, monkeypatch):
    path = str(pack(tmp_path / f"d{suffix}", contents))
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(UserError, match="smaller image_size"):
        load(path=path)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_streamed_is_what_is_held(suffix, tmp_path, contents):
    path = str(pack(tmp_path / f"d{suffix}", contents))
    streamed, held = load(path=path, in_memory=False), load(path=path)
    assert isinstance(streamed, StreamedDataset)
    assert (streamed.shape, streamed.num_classes, streamed.class_names) == ((8, 8, 3), 2, ("cat", "dog"))
    assert len(streamed.fingerprint) == 16
    for dataset in (streamed, pickle.loads(pickle.dumps(streamed))):
        (batch,) = epoch(dataset, 4)
        np.testing.assert_array_equal(batch["x0"], held.examples)
        np.testing.assert_array_equal(batch["label"], held.labels)
    ours, theirs = (batches(dataset, 3, seed=0, flip=True) for dataset in (streamed, held))
    for _ in range(5):
        np.testing.assert_array_equal(next(ours)["x0"], next(theirs)["x0"])


def test_streamed_damage_gives_way_to_the_next(tmp_path, contents, warnings):
    path = pack(tmp_path / "d", contents | {"cat/1.png": b"broken"})
    batch = load(path=str(path), in_memory=False).gather(np.array([1]))
    assert batch["x0"][0, 4, 4, 0] == 60
    assert "'cat/1.png'" in warnings[0]


def test_a_tar_is_not_streamed(tmp_path, contents):
    with pytest.raises(UserError, match="unpack it"):
        load(path=str(pack(tmp_path / "d.tar", contents)), in_memory=False)


def test_decoding_keeps_the_order(tmp_path):
    options = module.Options(tmp_path, 8, 3, 0.0)

    def read():
        raise images.UnreadableImage("no")

    names = [name for name, _ in module.decode_each(((i, read) for i in range(1000)), options, chunk=7)]
    assert names == list(range(1000))
