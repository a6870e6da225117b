"""Files at URLs: s3://, gs://, http://, and whatever else fsspec knows.

A Url is used as a Path is: `/`, `name`, `parent`, `exists()`. What is read from it is read through
`files/regular.py` and `files/placed.py`, as files are; folders are written by `files/folder.py`.
Errors are those of files, OSError: FileNotFoundError, PermissionError, and UnreachedError where the
other end is not reached, or says something else. No text of ours holds what a URL has of
credentials.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union
from urllib.parse import unquote, urlsplit

from py_runner.errors import UsageError

__all__ = ["Place", "UnreachedError", "Url", "is_url", "place", "shown"]

_T = TypeVar("_T")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_USER = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]*:[^/\s]*@")
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s'\"]*")  # which may be signed
_PAUSES_S = (0.5, 2.0)  # between attempts; s3fs and gcsfs have their own besides
_LONGEST = 300  # characters of what the other end says
_READ_ONLY = ("http", "https")
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss")


def is_url(text: object) -> bool:
    """Whether a text is a URL and not a path."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def shown(text: str) -> str:
    """A text as people may see it: URLs in it without user and password, and what is signed."""
    return _QUERY.sub(r"\1?...", _USER.sub(r"\1", text))


class UnreachedError(OSError):
    """What is at a URL could not be asked for: `strerror` says why, `filename` is the URL."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class Url:
    """What is at a URL: a file, or a folder of files. `str()` is without credentials.

    Raises UsageError for a text that is none, or a URL of URLs. What asks the other end raises
    OSError, and UsageError where what is needed for that is not installed.
    """

    def __init__(self, text: str) -> None:
        found = _SCHEME.match(text)
        rest = text[found.end() :].rstrip("/") if found else ""
        if found is None or "::" in text or not rest:
            raise UsageError(f"{shown(text)}: is no URL such as s3://bucket/folder")
        self._text = found[0].lower() + rest

    def __str__(self) -> str:
        return shown(self._text)

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __lt__(self, other: Url) -> bool:
        return self._text < other._text

    def __truediv__(self, name: str | Path) -> Url:
        """A file below, also by a name with ".."; none is outside of the bucket or host."""
        root, inside = self._parted()
        parts: list[str] = []
        for part in (*inside.split("/"), *str(name).split("/")):
            if part == "..":
                if not parts:
                    raise UsageError(f"{self}/{name}: leads out of {shown(root)}")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return Url("/".join([root, *parts]))

    def _parted(self) -> tuple[str, str]:
        """Scheme and host, or bucket; and what comes after them."""
        text = self._text.partition("?")[0] if self._text.startswith("http") else self._text
        scheme, _, rest = text.partition("://")
        host, _, inside = rest.partition("/")
        return f"{scheme}://{host}", inside

    @property
    def name(self) -> str:
        return self._parted()[1].rpartition("/")[2] or self._parted()[0].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> Url:
        root, inside = self._parted()
        above = inside.rpartition("/")[0]
        return Url(f"{root}/{above}" if above else root)

    @property
    def bucket(self) -> Url | None:
        """The bucket that it is in, where it is on an object store that is known."""
        return Url(self._parted()[0]) if self._scheme in _OBJECT_STORES else None

    @property
    def parents(self) -> Iterator[Url]:
        """The folders that it is in, the nearest first."""
        here, above = self, self.parent
        while above != here:
            yield above
            here, above = above, above.parent

    @property
    def read_only(self) -> bool:
        """Whether nobody can write there, whoever it is."""
        return self._scheme in _READ_ONLY

    @property
    def _scheme(self) -> str:
        return self._text.partition("://")[0]

    def _asked(self, ask: Callable[[Any, str], _T]) -> _T:
        """What comes of asking the other end, again where it is not reached."""
        for pause_s in (*_PAUSES_S, None):
            fs, path = self._system()
            try:
                return ask(fs, path)
            except FileNotFoundError as error:
                told = _line(error)
                told = told if "bucket" in told else os.strerror(errno.ENOENT)
                raise FileNotFoundError(errno.ENOENT, told, str(self)) from None
            except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
                raise type(error)(error.errno or errno.EACCES, _line(error), str(self)) from None
            except NotImplementedError:
                told = os.strerror(errno.EROFS)
                raise OSError(errno.EROFS, told, str(self)) from None
            except Exception as error:  # each file system has its own
                if pause_s is None or "credentials" in str(error).lower():
                    told = _line(error)
                    raise UnreachedError(errno.EIO, told, str(self)) from None
            time.sleep(pause_s)
        raise AssertionError("the last attempt has no pause")

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system, one for all of the kind, and the path on it."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise UsageError(
                f"{self}: URLs need fsspec: pip install 'paddle-edge[cloud]'"
            ) from None
        try:
            fs, path = url_to_fs(self._text)
        except (ImportError, ValueError) as error:  # which names the package that is missing
            raise UsageError(f"{self}: {_line(error)}") from None
        fs.invalidate_cache()  # of listings: others write there, too
        return fs, str(path).rstrip("/")

    def _about(self) -> dict[str, Any] | None:
        try:
            return dict(self._asked(lambda fs, path: fs.info(path)))
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        return self._about() is not None

    def is_dir(self) -> bool:
        about = self._about()
        return about is not None and about["type"] == "directory"

    def is_file(self) -> bool:
        about = self._about()
        return about is not None and about["type"] == "file"

    def is_symlink(self) -> bool:
        return False

    def size(self) -> int:
        """Bytes of a file."""
        about = self._asked(lambda fs, path: fs.info(path))
        if about["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        if about["size"] is None:  # a web server need not say
            return len(self.read())
        return int(about["size"])

    def iterdir(self) -> Iterator[Url]:
        """What is in a folder, in no order."""
        return (self / name for name, _ in self._listed())

    def folders(self) -> set[str]:
        """The names of the folders in a folder."""
        return {name for name, is_folder in self._listed() if is_folder}

    def _listed(self) -> list[tuple[str, bool]]:
        found = self._asked(lambda fs, path: [(path, e) for e in fs.ls(path, detail=True)])
        return [
            (entry["name"].rstrip("/").rpartition("/")[2], entry["type"] == "directory")
            for path, entry in found
            if entry["name"].rstrip("/").strip("/") != path.strip("/")  # itself
        ]

    def names(self) -> list[str]:
        """The files at any depth below a folder, by their names from there, sorted."""
        root, found = self._asked(lambda fs, path: (path.strip("/"), fs.find(path)))
        below = (name.strip("/")[len(root) + 1 :] for name in found if not name.endswith("/"))
        return sorted(filter(None, below))

    def walked(self) -> Iterator[str]:
        """The same, one folder asked for after another, in no order: of many files, which each take
        a kilobyte as fsspec has them, those of a folder are in memory at a time."""
        waiting = [""]
        while waiting:
            above = waiting.pop()
            for name, is_folder in (self / above)._listed():
                if is_folder:
                    waiting.append(f"{above}{name}/")
                else:
                    yield f"{above}{name}"

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a file between two places."""
        return bytes(self._asked(lambda fs, path: fs.cat_file(path, start=start, end=end)))

    def put(self, file: Path) -> None:
        """Have a file of this machine there: it is whole there, or what was before."""

        def ask(fs: Any, path: str) -> None:
            if not fs.async_impl:  # object stores have no folders
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.put_file(str(file), path)

        self._asked(ask)

    def get(self, file: Path) -> None:
        """Have a file of there on this machine."""
        self._asked(lambda fs, path: fs.get_file(path, str(file)))

    def remove(self, names: Sequence[str] | None = None) -> None:
        """Remove a file, or a folder with all that is in it; with `names` these files below."""
        below = [self._text] if names is None else [f"{self._text}/{name}" for name in names]
        if below:
            self._asked(
                lambda fs, _: fs.rm([fs._strip_protocol(one) for one in below], recursive=True)
            )


Place = Union[Path, Url]


def place(value: str | os.PathLike[str] | Url) -> Place:
    """The path or URL that a text is; file:// is the path that it names."""
    if isinstance(value, Url):
        return value
    if not isinstance(value, str) or not is_url(value):
        return Path(value)
    if value.lower().startswith("file://"):
        named = urlsplit(value)
        if named.netloc not in ("", "localhost"):
            raise UsageError(f"{shown(value)}: names a host: file:///folder is a path here")
        return Path(unquote(named.path))
    return Url(value)


def _line(error: BaseException) -> str:
    """What an error says, in a line without credentials."""
    told = " ".join(shown(str(error)).split()) or type(error).__name__
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 3]}..."
