"""CIFAR-10. TFDS prepares the data once, without TensorFlow; the images are then held in memory."""

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
    """Reads CIFAR-10: 50,000 images to train and 10,000 to test, uint8 [N, 32, 32, 3], ten labels. Krizhevsky 2009.

    The first call prepares the data below `data_dir`, from `cifar-10-binary.tar.gz`; later calls need no archive.

    Args:
        split: "train" or "test".
        path: the archive, or the folder that holds it. If `path` is empty, the archive is looked for in `data_dir`, in
            its `downloads` and in its `downloads/manual`, and else downloaded (170 MB).
        data_dir: the folder in which TFDS keeps prepared data.
        cache: whether to keep the decoded images in the user's cache folder, and to read them from there.

    Raises:
        UserError: there is no archive at `path`, the archive is damaged, or the download failed.
    """
    check_split(split)
    builder = prepared(path, Path(data_dir).expanduser())
    return hold(stream(builder, split, "image", "label", None), builder, cache)


def prepared(path, data_dir):
    """Returns the TFDS builder of CIFAR-10, and prepares its data first where they are not prepared."""
    from unified_diffusion.data.cifar10_builder import Cifar10Png  # imported here: TFDS takes a second

    builder = Cifar10Png(data_dir=data_dir)
    if is_prepared(builder):
        return builder
    builder.archive = find_archive(path, data_dir) or download(data_dir / "downloads")
    try:
        builder.download_and_prepare()
    except OSError:
        if not is_prepared(builder):  # else another process was faster, and its data do as well
            raise
    return Cifar10Png(data_dir=data_dir)


def is_prepared(builder):
    """Returns whether the data are complete. TFDS moves them into place when all are written, so existence tells it."""
    return (builder.data_path / "dataset_info.json").exists()


def find_archive(path, data_dir):
    """Returns the path of the archive on this machine, or None if the archive has to be downloaded."""
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
    """Downloads the archive into the folder and returns its path; a file whose MD5 is wrong is not kept."""

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
    """Downloads a URL into an open file and returns the MD5 of the bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=timeout) as response:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm.tqdm(total=total, unit="B", unit_scale=True, desc=ARCHIVE, disable=None) as bar:
            while block := response.read(2**20):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
    return digest.hexdigest()
