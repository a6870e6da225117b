"""The archives of Paddle Lite's releases: for what, of which version, and how they are named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from py_runner.errors import UsageError

__all__ = [
    "DEFAULT_VERSION",
    "RELEASES",
    "TARGETS",
    "Archive",
    "archives",
    "check_target",
    "check_version",
    "choices",
    "is_version",
    "parse",
    "server",
]

TARGETS = ("armlinux-armv8", "armlinux-armv7hf", "android-armv8", "android-armv7")
# The release whose optimizer writes our .nb files: a library of another one may answer wrongly.
DEFAULT_VERSION = "v2.13-rc"

RELEASES = "https://github.com/PaddlePaddle/Paddle-Lite/releases"
_STLS = ("c++_shared", "c++_static")


@dataclass(frozen=True)
class Archive:
    """One archive of a Paddle Lite release: which of them, and how it is named there.

    `extra`: built with all operators (detection and OCR need it). `cv`: with Paddle Lite's own
    image functions, which the runner does not use. `fp16`: with half-precision kernels, for cores
    of ARMv8.2 and later only. `stl`: the C++ library of an Android archive, None for armlinux.
    """

    version: str
    target: str
    extra: bool = True
    cv: bool = False
    fp16: bool = False
    stl: str | None = None

    @property
    def name(self) -> str:
        """The file name, such as `inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz`."""
        system, arch = self.target.split("-")
        parts = ["inference_lite_lib", system, arch, "clang" if self.stl else "gcc", self.stl]
        flags = ((self.extra, "with_extra"), (self.cv, "with_cv"), (self.fp16, "arm82_fp16"))
        parts += [name for flag, name in flags if flag]
        return ".".join(part for part in parts if part) + ".tar.gz"


# v2.12: docs/quick_start/release_lib.md at the tag v2.13-rc of Paddle-Lite, without the archives
# built by gcc for Android, which NDK r18 and later no longer has. The later releases have no such
# page: these names stand in public build scripts that download them.
_LISTED = (
    *(
        Archive("v2.12", target, extra, cv, stl=stl)
        for target in TARGETS
        for stl in (_STLS if target.startswith("android") else (None,))
        for extra in (True, False)
        for cv in (False, True)
    ),
    Archive("v2.13-rc", "armlinux-armv8", cv=True),
    Archive("v2.13-rc", "android-armv8", cv=True, fp16=True, stl="c++_shared"),
    Archive("v2.14-rc", "android-armv8", cv=True, stl="c++_shared"),
    Archive("v2.14-rc", "android-armv8", stl="c++_static"),
    Archive("v2.14-rc", "android-armv7", stl="c++_static"),
)


def archives(*, version: str | None = None, target: str | None = None) -> list[Archive]:
    """The official archives that are known to exist, of one release or of all.

    `get` also tries what is not listed here, by the same scheme of names.
    Raises UsageError for an unknown target.
    """
    if target is not None:
        check_target(target)
    return [a for a in _LISTED if version in (None, a.version) and target in (None, a.target)]


def server(url: str | None = None) -> str:
    """The address before `/<version>/<archive>`: `url`, or PADDLE_EDGE_SDK_URL, or GitHub."""
    chosen = url or os.environ.get("PADDLE_EDGE_SDK_URL") or f"{RELEASES}/download"
    if not re.fullmatch(r"https?://[!-~]+", chosen):
        raise UsageError(f"{chosen!a}: is no address of a server: it begins with https://")
    return chosen.rstrip("/")


def check_target(target: str) -> None:
    """Raise UsageError for an unknown target."""
    if target not in TARGETS:
        raise UsageError(f"{target!a}: there is no such target; choose from {', '.join(TARGETS)}")


def is_version(text: str) -> bool:
    """Whether that is the tag of a release, such as v2.13-rc."""
    return re.fullmatch(r"v\d+\.\d+(\.\d+)?(-(rc|beta)\d*)?", text, re.ASCII) is not None


def check_version(version: str) -> None:
    """Raise UsageError for what cannot be a release."""
    if not is_version(version):
        raise UsageError(f"{version!a}: is no release of Paddle Lite such as {DEFAULT_VERSION}")


def choices(target: str, version: str, *, extra: bool, fp16: bool, stl: str) -> list[Archive]:
    """The archives that would do, best first: the runner needs no cv, and does not mind it.

    Raises UsageError for what does not exist or cannot be combined.
    """
    check_target(target)
    check_version(version)
    android = target.startswith("android")
    if stl not in _STLS:
        raise UsageError(f"{stl!a}: there is no such STL; choose from {', '.join(_STLS)}")
    if fp16 and not android:
        raise UsageError(
            f"{target}: Paddle Lite publishes no fp16 archive for it; build one with "
            "lite/tools/build_linux.sh --with_arm82_fp16=ON and pass it to 'paddle-edge sdk add'"
        )
    both = [
        Archive(version, target, extra, cv, fp16, stl if android else None) for cv in (False, True)
    ]
    return sorted(both, key=lambda archive: archive not in _LISTED)


def parse(name: str, version: str) -> Archive | None:
    """The Archive of that file name, or None for a name of another scheme."""
    for target in TARGETS if is_version(version) else ():
        for stl in _STLS if target.startswith("android") else (None,):
            for bits in range(8):
                archive = Archive(version, target, bool(bits & 1), bool(bits & 2), bits > 3, stl)
                if archive.name == name:
                    return archive
    return None
