"""CIFAR-10, prepared once by TFDS without TensorFlow, then held in memory."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

import tqdm

from unified_diffusion.data.dataset import Dataset
from unified_diffusion.data.splits import check_split
from unified_diffusion.data.tfds import hold, stream
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_atomically

ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


def load(
    split: str = "train", *, path: str = "", data_dir: str = "~/tensorflow_datasets", cache: bool = True
) -> Dataset:
    """50,000 images to train and 10,000 to test, uint8 [N, 32, 32, 3], ten labels. Krizhevsky 2009.

    The first call prepares the data below `data_dir`, from `cifar-10-binary.tar.gz`; later calls need no archive.

    Args:
        split: "train" or "test".
        path: the archive, or the folder it lies in; empty: `data_dir`, its `downloads` and `downloads/manual`, and then
            a download of 170 MB.
        data_dir: where TFDS keeps prepared data.
        cache: keep the decoded images in the user's cache folder, and take them from there.

    Raises:
        UserError: no archive where `path` says, a damaged one, or a download that failed.
    """
    check_split(split)
    builder = prepared(path, Path(data_dir).expanduser())
    return hold(stream(builder, split, "image", "label", None), builder, cache)


def prepared(path, data_dir):
    """The TFDS builder, its data prepared now if they are not."""
    from unified_diffusion.data.cifar10_builder import Cifar10Png  # imported here: TFDS takes a second

    builder = Cifar10Png(data_dir=data_dir)
    if is_prepared(builder):
        return builder
    builder.archive = find_archive(path, data_dir) or download(data_dir / "downloads")
    try:
        builder.download_and_prepare()
    except OSError:
        if not is_prepared(builder):  # of several processes the fastest wins, and the others take its data
            raise
    return Cifar10Png(data_dir=data_dir)


def is_prepared(builder):
    """Whether the data are there, whole: TFDS moves them into place at the end."""
    return (builder.data_path / "dataset_info.json").exists()


def find_archive(path, data_dir):
    """The archive on this machine, or None when it has to be downloaded."""
    if path:
        given = Path(path).expanduser()
        places = [given, given / ARCHIVE]
    else:
        places = [folder / ARCHIVE for folder in (data_dir, data_dir / "downloads", data_dir / "downloads" / "manual")]
    for place in places:
        if place.is_file():
            return place
    if path:
        raise UserError(f"no {ARCHIVE} at {path!r} (data path); leave the path empty to download it")
    return None


def download(folder, url=URL, md5=MD5, timeout=30):
    """Downloads the archive into the folder, whole and checked or not at all."""

    def write(file):
        found = fetch(url, file, timeout)
        if found != md5:
            raise UserError(f"{url} came with MD5 {found}, not {md5}: try again, or put {ARCHIVE} into {folder}")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ARCHIVE, write)
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        raise UserError(f"cannot download {url} ({error}): put {ARCHIVE} into {folder}, or set data path") from error
    return folder / ARCHIVE


def fetch(url, file, timeout):
    """Writes what the URL gives to an open file; returns its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=timeout) as response:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm.tqdm(total=total, unit="B", unit_scale=True, desc=ARCHIVE, disable=None) as bar:
            while block := response.read(2**20):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
    return digest.hexdigest()
