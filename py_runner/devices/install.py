"""Put `lite_run` and its libraries on a device far away: what has changed, all of it or nothing.

Environment, by the build that fits the device; each names the folder of `cmake --install`:
    PADDLE_EDGE_LITE_RUN_AARCH64   64-bit ARM
    PADDLE_EDGE_LITE_RUN_ARM       32-bit ARM
    PADDLE_EDGE_LITE_RUN           x86-64: the build for this machine
    PADDLE_EDGE_LITE_RUN_ANDROID_ARM64, PADDLE_EDGE_LITE_RUN_ANDROID_ARM   Android, by ABI
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from py_runner.devices.connection import archive
from py_runner.devices.facts import Facts, ask, built_for
from py_runner.devices.url import address
from py_runner.engines.native import LIBRARY_VARIABLE
from py_runner.errors import EngineError
from py_runner.files.checksum import sha256
from py_runner.files.regular import open_regular
from py_runner.watch import QUIET, Watch

__all__ = ["Installed", "check", "check_each", "install"]

_VARIABLES = {
    "aarch64": "PADDLE_EDGE_LITE_RUN_AARCH64",
    "armv7hf": "PADDLE_EDGE_LITE_RUN_ARM",
    "x86-64": LIBRARY_VARIABLE,
    "android-arm64-v8a": "PADDLE_EDGE_LITE_RUN_ANDROID_ARM64",
    "android-armeabi-v7a": "PADDLE_EDGE_LITE_RUN_ANDROID_ARM",
}
_COMMAND = "bin/lite_run"
_AT_ONCE = 16
_PAGE = 4096
# The checksums of the build that is used there now.
_LIST = r"""
current=; [ ! -r current ] || read -r current <current
[ -n "$current" ] && [ -d "runners/$current" ] || exit 0
cd "runners/$current" && find . -type f -exec sha256sum -- {} +
"""
_VERSION = r"""
read -r current <current && "runners/$current/bin/lite_run" --version || exit 75
"""
# $1 the build's checksum, $2 bytes of the archive, which also holds a list of what to take from the
# build that is used now: each line is a checksum and a name.
_PUT = r"""
new=$PWD/partial/$$
fleeting "$new"
rm -rf "$new"; mkdir -p runners "$new" || exit 74
head -c "$2" | tar -xof - -C "$new" || exit 74
current=; [ ! -r current ] || read -r current <current
while read -r name; do
  mkdir -p "$new/${name%/*}"
  cp -p -- "runners/$current/$name" "$new/$name" || exit 74
done <"$new/same"
rm -f "$new/same"
"$new/bin/lite_run" --version >/dev/null || exit 75
rm -rf "runners/$1"; mv "$new" "runners/$1" || exit 74
rm -rf "runners/$1/$$"
echo "$1" >"current.$$" && mv "current.$$" current || exit 74
for old in runners/*; do [ "$old" = "runners/$1" ] || rm -rf "$old"; done
"""


@dataclass(frozen=True)
class Installed:
    """What was done: which build, the version that runs there, and how many files were copied, and
    bytes, of how many."""

    url: str
    build: str
    version: str
    copied: int
    files: int
    sent_bytes: int


def check(url: str) -> Facts:
    """What the device is. Raises UsageError for what is no URL, and EngineError where it cannot be
    reached."""
    with address(url).connection() as there:
        return ask(there)


def check_each(urls: Sequence[str]) -> list[Facts | EngineError]:
    """`check` of each, side by side; its error where one cannot be reached. Raises UsageError for
    what is no URL."""

    def one(url: str) -> Facts | EngineError:
        try:
            return check(url)
        except EngineError as error:
            return error

    for url in urls:
        address(url)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, urls))


def install(url: str, *, watch: Watch = QUIET) -> Installed:
    """Install the build that fits the device, and see it run there.

    What runs there meanwhile goes on with what it has. Raises UsageError for what is no URL, and
    EngineError, in one line, where there is no build that fits, or it does not run there.
    """
    with address(url).connection() as there:
        build = ask(there).build
        if not build:
            raise EngineError(f"{url}: {ask(there).advice()[0]}")
        root = _root(build)
        paths = {path.relative_to(root).as_posix(): path for path in _paths(root)}
        files = {name: path for name, path in paths.items() if not path.is_symlink()}
        links = [(n, os.fspath(p.readlink())) for n, p in paths.items() if p.is_symlink()]
        sums = {name: sha256(path) for name, path in files.items()}
        listed = there.call(_LIST).decode("utf-8", "replace").splitlines()
        here = {(line[:64], line[66:].removeprefix("./")) for line in listed}
        same = [name for name, digest in sums.items() if (digest, name) in here]
        changed = {name: path for name, path in files.items() if name not in same}
        called = hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()
        data = archive(
            {"same": "".join(f"{name}\n" for name in same).encode(), **changed}, links=links
        )

        def sent(count: int) -> None:
            watch.step("sending lite_run, KB", count // 1000, len(data) // 1000)

        try:
            if changed or len(here) != len(sums):
                there.call(_PUT, called, len(data), data=data, sent=sent)
            said = there.call(_VERSION).decode("utf-8", "replace")
        except EngineError as error:
            raise type(error)(_explained(str(error), there.address.elsewhere)) from None
    version = said.strip().rpartition("\n")[2].removeprefix("lite_run ")
    size = sum(path.stat().st_size for path in changed.values())
    return Installed(url, build, version, len(changed), len(files), size)


def _root(build: str) -> Path:
    """The folder of the local build. Raises EngineError where there is none."""
    variable = _VARIABLES[build]
    named = os.environ.get(variable)
    advice = (
        f"build it for {build} as docs/cross-compiling.md says, and set {variable} to the folder "
        "of `cmake --install`"
    )
    if not named:
        raise EngineError(f"lite_run for {build} is not here: {advice}")
    place = Path(named).absolute()
    root = place.parents[1] if place.is_file() and len(place.parents) > 1 else place
    command = root / _COMMAND
    if not command.is_file():
        raise EngineError(f"{variable}={named}: holds no {_COMMAND}: {advice}")
    with open_regular(command) as file:
        kind = built_for(file.read(_PAGE))
    if kind != build:
        raise EngineError(
            f"{command}: is built for {kind or 'another system'}, and the device takes {build}: "
            f"{advice}"
        )
    return root


def _paths(root: Path) -> Iterator[Path]:
    """What is installed: the command, and the libraries, and links to them, beside ours."""
    yield root / _COMMAND
    places = (*root.glob("lib*/liblite_run.so"), *root.glob("lib*/*-linux-*/liblite_run.so"))
    for library in places[:1]:
        for pattern in ("liblite_run.so*", "libpaddle_*.so*", "libc++_shared.so"):
            yield from sorted(library.parent.glob(pattern))


def _explained(text: str, elsewhere: str) -> str:
    """What to do where lite_run does not run there."""
    for telling, advice in (
        ("Permission denied", f"choose a folder from which programs may be run: {elsewhere}"),
        ("error while loading shared libraries", "install that library there"),
        ("GLIBC", "build it for an older system"),
    ):
        if telling in text:
            return f"{text}: {advice}"
    return text
