"""What an SDK on this disk is: what its folder holds and what its libraries say of themselves."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lite_opt.sdk.archives import is_version
from py_runner.errors import EngineError
from py_runner.files.regular import open_regular

__all__ = ["Sdk"]

_LIBRARY = "libpaddle_light_api_shared.so"
# Google Play asks for it since Android 15, and Raspberry Pi 5 boots such a kernel.
_WANTED_PAGE_BYTES = 16384


@dataclass(frozen=True)
class Sdk:
    """An SDK on this disk.

    `path`: for PADDLE_LITE_DIR. `target`: read from the library's ELF header, such as
    `armlinux-armv8`. `version`: of the release it was fetched or added as, or else what the library
    says. `library_version`: a tag, or a commit for a library built between releases; None where
    the library does not show it. `page_bytes`: the largest memory page that all its libraries
    can be loaded with. `archive`, `sha256`, `url`: where a cached one came from.
    """

    path: Path
    include: Path
    library: Path
    target: str
    version: str | None
    library_version: str | None
    page_bytes: int
    warnings: tuple[str, ...] = ()
    archive: str | None = None
    sha256: str | None = None
    url: str | None = None

    @classmethod
    def open(cls, path: str | Path, *, version: str | None = None) -> Sdk:
        """Look at a folder that holds `cxx/`, or `include/` and `lib/`, or a folder with these.

        Raises EngineError where there is no SDK or its library is damaged.
        """
        path = Path(path).absolute()
        children = sorted(p for p in path.glob("*") if p.is_dir() and p.name[0] != ".")
        for root in (path, *children):
            for inner in (root / "cxx", root):
                library = inner / "lib" / _LIBRARY
                if (inner / "include" / "paddle_api.h").is_file() and library.is_file():
                    return cls._read(root, inner / "include", library, version)
        raise EngineError(
            f"{path}: is no Paddle Lite SDK: there is no cxx/include/paddle_api.h "
            f"with a cxx/lib/{_LIBRARY}"
        )

    @classmethod
    def _read(cls, root: Path, include: Path, library: Path, version: str | None) -> Sdk:
        elf = _read_elf(library)
        others = sorted({*library.parent.glob("*.so"), *root.glob("java/so/*.so")} - {library})
        pages = {lib.name: _read_elf(lib).page_bytes for lib in others if lib.is_file()}
        pages[library.name] = elf.page_bytes
        said = _version_of(library)
        warnings = []
        small = [name for name, size in pages.items() if size < _WANTED_PAGE_BYTES]
        if small and elf.target.endswith("-armv8"):
            where = (
                "devices with 16 KB pages cannot load them and Google Play refuses them in apps "
                "for Android 15 and later"
                if elf.target.startswith("android")
                else "kernels with 16 KB pages, such as Raspberry Pi 5's, cannot load them"
            )
            warnings.append(
                f"{', '.join(sorted(small))}: aligned to {min(pages.values()) // 1024} KB pages: "
                f"{where}; build Paddle Lite with -Wl,-z,max-page-size=16384"
            )
        if version and said and is_version(said) and said != version:
            warnings.append(f"{library.name} says that it is {said}, not {version}")
        return cls(
            path=root,
            include=include,
            library=library,
            target=elf.target,
            version=version or said,
            library_version=said,
            page_bytes=min(pages.values()),
            warnings=tuple(warnings),
        )

    def to_json(self) -> dict[str, Any]:
        """All fields; paths as text."""
        fields = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items()}


@dataclass(frozen=True)
class _Elf:
    target: str
    page_bytes: int


_ELF_HEADER = {1: "<16sHHIIIIIHHH", 2: "<16sHHIQQQIHHH"}  # to e_phnum, by EI_CLASS
_PROGRAM_HEADER = {1: "<IIIIIIII", 2: "<IIQQQQQQ"}
_PT_LOAD, _PT_NOTE, _EM_386, _EM_ARM, _EM_X86_64, _EM_AARCH64 = 1, 4, 3, 40, 62, 183
_EF_ARM_ABI_FLOAT_HARD = 0x400


def _read_elf(path: Path) -> _Elf:
    """What a shared library is for (ELF gABI; "ELF for the Arm Architecture" for its flags).

    A library built by the NDK carries a note by "Android"; its crtbegin puts it there.
    """
    try:
        with _mapped(path) as data:
            bits = data[4]
            header = struct.unpack_from(_ELF_HEADER[bits], data)
            machine, phoff, flags, phentsize, phnum = (header[i] for i in (2, 5, 7, 9, 10))
            table = data[phoff : phoff + phentsize * phnum]
            segments = [
                struct.unpack_from(_PROGRAM_HEADER[bits], table, i * phentsize)
                for i in range(phnum)
            ]
            page_bytes = min(segment[7] for segment in segments if segment[0] == _PT_LOAD)
            notes = [(s[bits], s[3 + bits]) for s in segments if s[0] == _PT_NOTE]
            android = any(b"Android\0" in data[at : at + min(n, 1 << 16)] for at, n in notes)
            if data[:4] != b"\x7fELF" or data[5] != 1:
                raise ValueError
    except (IndexError, KeyError, ValueError, struct.error):
        raise EngineError(f"{path}: is no shared library, or damaged") from None
    arm = "armv7hf" if flags & _EF_ARM_ABI_FLOAT_HARD and not android else "armv7"
    names = {_EM_386: "x86", _EM_ARM: arm, _EM_X86_64: "x86_64", _EM_AARCH64: "armv8"}
    arch = names.get(machine, f"machine{machine}")
    system = "android" if android else "armlinux" if arch.startswith("arm") else "linux"
    return _Elf(f"{system}-{arch}", page_bytes)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as data:
        yield data


def _version_of(library: Path) -> str | None:
    """The string that GetVersion() returns: a tag or, for builds between tags, a commit.

    Compilers may build such a short string from immediates: then it cannot be seen.
    """
    with _mapped(library) as data:
        for pattern in (
            rb"(?<=\0)v\d+\.\d+(?:\.\d+)?(?:-(?:rc|beta)\d*)?(?=\0)",
            rb"(?<=\0)(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7}(?=\0)",
        ):
            found: set[bytes] = set(re.findall(pattern, data))
            if len(found) == 1:
                return found.pop().decode()
    return None
