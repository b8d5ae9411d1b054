"""The image files of a folder, a zip or a tar: their names, and their bytes, with nothing ever written to disk."""

import bz2
import dataclasses
import functools
import gzip
import hashlib
import logging
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from unified_diffusion.data import images
from unified_diffusion.errors import UserError

_log = logging.getLogger(__name__)

TAR_OPENERS = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
}


@dataclasses.dataclass
class Skipped:
    """What was left out and why, so that it is told once and not image by image."""

    reasons: list[str] = dataclasses.field(default_factory=list)

    def add(self, name, reason):
        self.reasons.append(f"{name!r} ({reason})")

    def warn(self, where):
        """One warning: how many, and the first few."""
        if self.reasons:
            first = ", ".join(self.reasons[:5]) + (", …" if len(self.reasons) > 5 else "")
            _log.warning("%s: %d file(s) skipped: %s", where, len(self.reasons), first)


def tidy(name, skipped):
    """The name as a relative POSIX path, or None for what is no image of ours; unsafe names are counted."""
    path = PurePosixPath(name.replace("\\", "/"))
    if any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts):
        return None
    if path.suffix.lower() not in images.extensions():
        return None
    if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
        skipped.add(name, "unsafe name")
        return None
    return str(path)


def tar_suffix(path):
    """The ending of `TAR_OPENERS` that the path has, or None."""
    return next((end for end in TAR_OPENERS if path.name.lower().endswith(end)), None)


class Folder:
    """A folder of the user's own: links are followed, each real folder once."""

    def __init__(self, path: Path, skipped: Skipped):
        self.path = path
        self._files = {}
        self._walk(path, skipped, set())
        self.names = sorted(self._files)

    def _walk(self, folder, skipped, seen):
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            skipped.add(str(folder), error.strerror)
            return
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith("."):
                    self._walk(Path(entry.path), skipped, seen)
            elif entry.is_file():
                relative = os.path.relpath(entry.path, self.path)
                if tidy(relative, skipped) is not None:
                    status = entry.stat()
                    self._files[relative] = (status.st_size, status.st_mtime_ns)

    def read(self, name) -> bytes:
        """The bytes of one file."""
        if self._files[name][0] > images.MAX_BYTES:
            raise images.UnreadableImage(f"more than {images.MAX_BYTES} bytes")
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise images.UnreadableImage(str(error)) from error

    def signature(self) -> str:
        """Changes when a file comes, goes, or is written."""
        return digest(f"{name}\0{size}\0{mtime}" for name, (size, mtime) in sorted(self._files.items()))

    def contents(self) -> str:
        """Names and sizes alone: the same for a copy elsewhere."""
        return digest(f"{name}\0{size}" for name, (size, _) in sorted(self._files.items()))


class Zip:
    """A zip read in place, from several threads or (pickled) processes."""

    def __init__(self, path: Path, skipped: Skipped):
        self.path = path
        self._files = {}
        for info in self._archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            name = tidy(info.filename, skipped)
            if name is None or info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                skipped.add(info.filename, "not a plain file")
            else:
                self._files[name] = info
        self.names = sorted(self._files)

    @functools.cached_property
    def _archive(self):
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"{self.path} is no readable zip archive: {error}") from error

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "_archive"}

    def read(self, name) -> bytes:
        """The bytes of one file; never more than MAX_BYTES, whatever the archive says of itself."""
        try:
            with self._archive.open(self._files[name]) as member:
                return limited(member)
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            OSError,
            EOFError,
            RuntimeError,
            NotImplementedError,
        ) as e:
            raise images.UnreadableImage(f"{type(e).__name__}: {e}") from e

    def signature(self) -> str:
        """Changes when the archive is written."""
        return file_signature(self.path)

    def contents(self) -> str:
        """Names, sizes and checksums of the files."""
        return digest(f"{name}\0{info.file_size}\0{info.CRC}" for name, info in sorted(self._files.items()))


def tar_members(path: Path, skipped: Skipped):
    """(name, bytes) of each image, in the archive's order, in one sequential pass.

    Raises:
        UserError: a damaged or truncated archive.
    """
    try:
        # Decompressed by us: tarfile's own stream takes a truncated archive for a complete one.
        with (
            TAR_OPENERS[tar_suffix(path)](path, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|", errorlevel=1) as archive,
        ):
            for member in archive:
                archive.members = []  # tarfile remembers every header, and nobody asks for them
                name = tidy(member.name, skipped)
                if name is None or member.isdir():
                    continue
                if not member.isreg():
                    skipped.add(member.name, "not a plain file")
                elif member.size > images.MAX_BYTES:
                    skipped.add(member.name, f"more than {images.MAX_BYTES} bytes")
                else:
                    yield name, archive.extractfile(member).read()
            while stream.read(2**20):  # to the end, so that the checksum is compared
                pass
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path} is no readable tar archive, or it is cut short: {error}") from error


def limited(member):
    """All of an open file, or UnreadableImage beyond MAX_BYTES."""
    data = member.read(images.MAX_BYTES + 1)
    if len(data) > images.MAX_BYTES:
        raise images.UnreadableImage(f"more than {images.MAX_BYTES} bytes")
    return data


def file_signature(path):
    """The size and the time of writing of one file."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def digest(lines):
    """16 hex digits for a sequence of strings."""
    result = hashlib.sha256()
    for line in lines:
        result.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return result.hexdigest()[:16]
