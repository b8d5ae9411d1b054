import hashlib
import io
import tarfile

import numpy as np
import pytest

from unified_diffusion.data import SOURCES, cifar10
from unified_diffusion.errors import UserError

pytest.importorskip("tensorflow_datasets")

BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def load(split="train", **options):
    return SOURCES["cifar10"](split, **options)


def tables(count=4):
    rng = np.random.default_rng(0)
    made = {name: rng.integers(0, 256, (count, 3073), dtype=np.uint8) for name in BATCHES}
    for table in made.values():
        table[:, 0] %= 10
    return made


def write(path, made):
    """An archive laid out as the real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in {"batches.meta.txt": b"airplane\n", **made}.items():
            data = data if isinstance(data, bytes) else data.tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("reached for the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("no_network")
def test_pixels_and_labels_in_the_archives_own_order(tmp_path):
    made = tables()
    write(tmp_path / "here" / cifar10.ARCHIVE, made)
    for split, names in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        dataset = load(split, path=str(tmp_path / "here"), data_dir=str(tmp_path / "data"))
        expected = np.concatenate([made[name] for name in names])
        np.testing.assert_array_equal(dataset.labels, expected[:, 0])
        for channel in range(3):
            plane = expected[:, 1 + 1024 * channel : 1025 + 1024 * channel].reshape(-1, 32, 32)
            np.testing.assert_array_equal(dataset.examples[..., channel], plane)
        assert dataset.class_names[0] == "airplane"
        assert dataset.num_classes == 10


@pytest.mark.usefixtures("no_network")
def test_prepared_once_the_archive_is_not_needed(tmp_path):
    archive = write(tmp_path / cifar10.ARCHIVE, tables())
    first = load(path=str(archive), data_dir=str(tmp_path / "data"))
    archive.unlink()
    assert load(data_dir=str(tmp_path / "data")).fingerprint == first.fingerprint
    same = SOURCES["tfds"](dataset="cifar10_png", data_dir=str(tmp_path / "data"))
    assert same.fingerprint == first.fingerprint


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("place", [".", "downloads", "downloads/manual"])
def test_the_archive_is_found_in_the_data_folder(place, tmp_path):
    write(tmp_path / place / cifar10.ARCHIVE, tables(1))
    assert len(load(data_dir=str(tmp_path))) == 5


@pytest.mark.usefixtures("no_network")
def test_a_path_without_an_archive_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no cifar-10-binary.tar.gz at .*data path"):
        load(path=str(tmp_path), data_dir=str(tmp_path / "data"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("damage", ["cut", "none", "missing", "short", "label"])
def test_a_damaged_archive_leaves_nothing_prepared(damage, tmp_path):
    made = tables(100)
    if damage == "missing":
        del made["test_batch.bin"]
    if damage == "short":
        made["data_batch_3.bin"] = made["data_batch_3.bin"].tobytes()[:-1]
    if damage == "label":
        made["test_batch.bin"][1, 0] = 10
    archive = write(tmp_path / cifar10.ARCHIVE, made)
    if damage in ("cut", "none"):
        archive.write_bytes(archive.read_bytes()[: 200_000 if damage == "cut" else 0])
    with pytest.raises(UserError, match="damaged"):
        load(path=str(archive), data_dir=str(tmp_path / "data"))
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    write(archive, tables(1))
    assert len(load(path=str(archive), data_dir=str(tmp_path / "data"))) == 5


def test_an_interrupted_preparation_is_begun_anew(tmp_path, monkeypatch):
    archive = write(tmp_path / cifar10.ARCHIVE, tables(1))
    from unified_diffusion.data import cifar10_builder

    def interrupt(archive, name):
        if name == "data_batch_4.bin":
            raise KeyboardInterrupt
        return real(archive, name)

    real = cifar10_builder.records
    monkeypatch.setattr(cifar10_builder, "records", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(path=str(archive), data_dir=str(tmp_path / "data"))
    monkeypatch.setattr(cifar10_builder, "records", real)
    assert len(load(path=str(archive), data_dir=str(tmp_path / "data"))) == 5


@pytest.mark.usefixtures("no_network")
def test_two_processes_may_prepare_at_once(tmp_path, monkeypatch):
    archive = write(tmp_path / cifar10.ARCHIVE, tables(1))
    from unified_diffusion.data import cifar10_builder

    def slower(archive, name):
        monkeypatch.setattr(cifar10_builder, "records", real)
        load(path=str(archive), data_dir=str(tmp_path / "data"))
        return real(archive, name)

    real = cifar10_builder.records
    monkeypatch.setattr(cifar10_builder, "records", slower)
    assert len(load(path=str(archive), data_dir=str(tmp_path / "data"))) == 5


def test_a_download_is_checked_and_whole(tmp_path):
    source = write(tmp_path / "source.tar.gz", tables(1))
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    target = cifar10.download(tmp_path / "downloads", source.as_uri(), md5)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(UserError, match="MD5"):
        cifar10.download(tmp_path / "other", source.as_uri(), "0" * 32)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_failed_download_says_where_to_put_the_file(tmp_path):
    with pytest.raises(UserError, match=r"put cifar-10-binary.tar.gz into .*downloads") as caught:
        cifar10.download(tmp_path / "downloads", (tmp_path / "nothing").as_uri(), "0" * 32)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "downloads").iterdir()) == []
