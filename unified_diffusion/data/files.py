"""The image files of a folder, a zip or a tar: their names and their bytes. Nothing is ever written to disk."""

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
    """The list of the files that were left out, with the reasons, so that one warning can name them all."""

    reasons: list[str] = dataclasses.field(default_factory=list)

    def add(self, name, reason):
        """Notes that a file was left out, for this reason."""
        self.reasons.append(f"{name!r} ({reason})")

    def warn(self, where):
        """Logs one warning with the number of files left out and the first five of them; none where all were used."""
        if self.reasons:
            first = ", ".join(self.reasons[:5]) + (", …" if len(self.reasons) > 5 else "")
            _log.warning("%s: %d file(s) skipped: %s", where, len(self.reasons), first)


def tidy(name, skipped):
    """Returns the name as a relative POSIX path, or None for a file that is not read.

    Hidden files and files that are no images are passed over silently; an unsafe name, such as one with "..", is noted
    in `skipped`.
    """
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
    """Returns the key of `TAR_OPENERS` with which the path's name ends, or None."""
    return next((end for end in TAR_OPENERS if path.name.lower().endswith(end)), None)


class Folder:
    """The images in a folder of the user's. Links are followed, and a folder that is reached twice is read once."""

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
        """Returns the bytes of one file.

        Raises:
            UnreadableImage: the file has more than `images.MAX_BYTES`, or cannot be read.
        """
        if self._files[name][0] > images.MAX_BYTES:
            raise images.UnreadableImage(f"more than {images.MAX_BYTES} bytes")
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise images.UnreadableImage(str(error)) from error

    def signature(self) -> str:
        """Returns a hash of the files' names, sizes and times of writing, which changes with any file of the folder."""
        return digest(f"{name}\0{size}\0{mtime}" for name, (size, mtime) in sorted(self._files.items()))

    def contents(self) -> str:
        """Returns a hash of the names and sizes alone, so that a copy of the folder has an equal one."""
        return digest(f"{name}\0{size}" for name, (size, _) in sorted(self._files.items()))


class Zip:
    """The images in a zip, which is read in place; threads share the object, and worker processes pickle it."""

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
        """Returns the bytes of one file.

        Raises:
            UnreadableImage: the file is damaged, or has more than `images.MAX_BYTES`, whatever size the archive states.
        """
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
        """Returns the archive's size and time of writing, which change when the archive is written."""
        return file_signature(self.path)

    def contents(self) -> str:
        """Returns a hash of the names, sizes and checksums of the files."""
        return digest(f"{name}\0{info.file_size}\0{info.CRC}" for name, info in sorted(self._files.items()))


def tar_members(path: Path, skipped: Skipped):
    """Yields (name, bytes) of each image in the archive's order, in one sequential pass.

    Raises:
        UserError: the archive is damaged or truncated.
    """
    try:
        # The stream is decompressed here, because tarfile's own stream takes a truncated archive for a complete one.
        with (
            TAR_OPENERS[tar_suffix(path) or ".tar"](path, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|", errorlevel=1) as archive,
        ):
            for member in archive:
                # tarfile remembers every header in `members`, which fills the memory; its stub lacks this attribute.
                archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                name = tidy(member.name, skipped)
                if name is None or member.isdir():
                    continue
                if not member.isreg():
                    skipped.add(member.name, "not a plain file")
                elif member.size > images.MAX_BYTES:
                    skipped.add(member.name, f"more than {images.MAX_BYTES} bytes")
                elif (content := archive.extractfile(member)) is not None:
                    yield name, content.read()
            while stream.read(2**20):  # the stream is read to its end, so that the checksum is compared
                pass
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path} is no readable tar archive, or it is cut short: {error}") from error


def limited(member):
    """Returns all bytes of an open file, or raises UnreadableImage for more than `images.MAX_BYTES`."""
    data = member.read(images.MAX_BYTES + 1)
    if len(data) > images.MAX_BYTES:
        raise images.UnreadableImage(f"more than {images.MAX_BYTES} bytes")
    return data


def file_signature(path):
    """Returns the size and the time of writing of one file, as one string."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def digest(lines):
    """Returns 16 hex digits of the SHA-256 of a sequence of strings."""
    result = hashlib.sha256()
    for line in lines:
        result.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return result.hexdigest()[:16]
