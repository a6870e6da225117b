"""What a device far away is: asked by a shell there, before anything of ours is installed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from py_runner.devices import sensors
from py_runner.devices.connection import Connection

__all__ = ["Facts", "ask", "built_for", "unlike"]

# Sections "=== NAME", each with what a command says; what a system lacks stays empty.
_ASK = (
    sensors.READ
    + r"""
say() { name=$1; shift; printf '\n=== %s\n' "$name"; "$@" 2>/dev/null; }
say machine uname -m
say system uname -sr
say elf sh -c 'od -An -tx1 -N5 /proc/$$/exe'
say libc sh -c 'getconf GNU_LIBC_VERSION || ldd --version 2>&1 | head -n 2'
say page_bytes getconf PAGESIZE
say android getprop ro.build.version.sdk
say abis getprop ro.product.cpu.abilist
say product sh -c 'getprop ro.product.manufacturer; getprop ro.product.model'
say model sh -c 'tr -d "\000" </proc/device-tree/model'
say cpuinfo cat /proc/cpuinfo
cpus=${PADDLE_EDGE_SYSFS:-/sys}/devices/system/cpu
say max_khz cat "$cpus"/cpu[0-9]*/cpufreq/cpuinfo_max_freq
say memory cat /proc/meminfo
say disk df -Pk .
say sensors sensors
# The checksum of a model is in its manifest.
unsound() {
  for model in bundles/*/*.nb; do
    [ -f "$model" ] || continue
    sum=$(sha256sum <"$model")
    grep -qF -- "${sum%% *}" "${model%/*}/bundle.json" || printf '%s\n' "${model%/*}"
  done
}
say damaged unsound
current=; [ ! -r current ] || read -r current <current
[ -z "$current" ] || say version "runners/$current/bin/lite_run" --version
# Of an x86 it says nothing.
case $(uname -m) in arm*|aarch64) ;; *) current= ;; esac
[ -z "$current" ] || say cpu "runners/$current/bin/lite_run" --cpu --json
:
"""
)
_BITS = {"01": 32, "02": 64}  # EI_CLASS of an ELF file
# Builds by ABIs of Android, and the program that starts programs there.
_ANDROID = {"arm64-v8a": "android-arm64-v8a", "armeabi-v7a": "android-armeabi-v7a"}
_ANDROID_LINKER = b"/system/bin/linker"
_DOT_PRODUCT, _FP16 = "asimddp", "asimdhp"  # the kernel's words


@dataclass(frozen=True)
class Facts:
    """What a device says of itself; None or empty is what it does not say.

    `machine` is the kernel's ("aarch64"), `bits` are those of its programs, which on a board may be
    32 under a kernel of 64. `parts` are the cores' part numbers, and `mhz` the highest frequency of
    each core, so that cores of two kinds show. `features` are "dot product" and "fp16". `lite_run`
    is the version that runs there, and `engine_features` what Paddle Lite makes of the features.
    `android_api` is the level of an Android, and `abis` what it takes, the best first.
    `damaged` are the bundles there whose model is not what its manifest says.
    """

    url: str
    machine: str
    system: str
    model: str
    bits: int | None
    libc: str
    page_bytes: int | None
    cores: int
    parts: tuple[str, ...]
    mhz: tuple[float, ...]
    governors: tuple[str, ...]
    features: tuple[str, ...]
    memory_bytes: int | None
    free_memory_bytes: int | None
    free_disk_bytes: int | None
    sensors: dict[str, Any]
    lite_run: str
    engine_features: tuple[str, ...] | None
    android_api: int | None = None
    abis: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def build(self) -> str:
        """Which build of lite_run fits: "aarch64", "armv7hf", "x86-64", "android-arm64-v8a",
        "android-armeabi-v7a"; "" where none does."""
        if self.android_api is not None:
            return next((_ANDROID[abi] for abi in self.abis if abi in _ANDROID), "")
        if self.machine in ("x86_64", "amd64"):
            return "x86-64" if self.bits == 64 else ""
        if self.machine == "aarch64" and self.bits == 64:
            return "aarch64"
        if self.machine in ("aarch64", "armv8l", "armv7l"):
            return "armv7hf"
        return ""

    def advice(self) -> list[str]:
        """Which build and recipes fit, and why, in sentences."""
        if not self.build:
            kind = f"{self.machine}, programs of {self.bits or '?'} bits"
            abis = f", Android with ABI {', '.join(self.abis)}" if self.abis else ""
            return [f"no build of lite_run fits {kind}{abis}"]
        said = [f"build {self.build}: {self.machine}, programs of {self.bits} bits"]
        if "musl" in self.libc:
            said.append(f"{self.libc} is not the GNU C library, which Paddle Lite's SDKs are for")
        if self.page_bytes not in (None, 4096):
            said.append(f"pages have {self.page_bytes} bytes: libraries have to be aligned to them")
        if self.build == "x86-64":
            return [*said, "recipes fp32, int16-weights and int8-weights: int8 is wrong on x86"]
        if "dot product" in self.features:
            said.append(
                "recipe int8: the cores have the dot product (see docs/quantising.md for the gain)"
            )
        else:
            said.append("recipes fp32 or int8-weights: int8 saves little without the dot product")
        if "fp16" in self.features:
            said.append(
                "recipe fp16 can run: the cores have fp16, if the library was built with it"
            )
        else:
            said.append("not recipe fp16: the cores have no arithmetic of half precision")
        return said

    def to_json(self) -> dict[str, Any]:
        """All of it, for --json."""
        return {**asdict(self), "build": self.build, "advice": self.advice()}


def ask(there: Connection) -> Facts:
    """What the device says. Errors are those of `Connection.call`."""
    said = there.call(_ASK).decode("utf-8", "replace")
    sections = re.findall(r"^=== (\w+)\n(.*?)(?=^=== |\Z)", said, re.MULTILINE | re.DOTALL)
    found = {name: body.strip() for name, body in sections}
    return _facts(there.address.url, found)


def unlike(found: Sequence[Facts]) -> dict[str, list[str]]:
    """By URLs, in sentences, what sets devices apart from the others: a version of lite_run that is
    not the most frequent, and damaged bundles."""
    said: dict[str, list[str]] = {}
    counts = Counter(one.lite_run for one in found).most_common()
    most = counts[0][0] if counts else ""
    tied = len(counts) > 1 and counts[0][1] == counts[1][1]
    for one in found:
        if len(counts) > 1 and (tied or one.lite_run != most):
            others = [version or "none" for version, _ in counts if version != one.lite_run]
            have = f"others have {', '.join(others)}" if tied else f"most have {most or 'none'}"
            words = f"lite_run {one.lite_run or 'not installed'}: {have}"
            said.setdefault(one.url, []).append(words)
        if one.damaged:
            words = f"{len(one.damaged)} bundle(s) damaged there: a run copies its own again"
            said.setdefault(one.url, []).append(words)
    return said


def _facts(url: str, found: Mapping[str, str]) -> Facts:
    sensed = sensors.parse(found.get("sensors", ""))
    cpuinfo = _fields(found.get("cpuinfo", ""))
    memory = {name: _number(values[0]) for name, values in _fields(found.get("memory", "")).items()}
    kilobytes = found.get("disk", "").splitlines()[-1:] or [""]
    free = re.search(r"([0-9]+)\s+[0-9]+%", kilobytes[0])
    libc = next((line for line in found.get("libc", "").splitlines() if line.strip()), "")
    cpu: dict[str, Any] = {}
    with suppress(ValueError):
        cpu = json.loads(found.get("cpu", ""))
    api = _number(found.get("android", ""))
    features = _features(cpuinfo) or tuple(cpu.get("features", ()))
    return Facts(
        url=url,
        machine=found.get("machine", ""),
        system=found.get("system", ""),
        model=found.get("model", "") or " ".join(found.get("product", "").split()),
        bits=_BITS.get(found.get("elf", "").rpartition(" ")[2]),
        libc=libc.strip() if api is None else f"bionic, Android API {api}",
        page_bytes=_number(found.get("page_bytes", "")),
        cores=len(cpuinfo.get("processor", ())),
        parts=tuple(dict.fromkeys(cpuinfo.get("CPU part", cpuinfo.get("model name", ())))),
        mhz=tuple(int(word) / 1e3 for word in found.get("max_khz", "").split() if word.isdecimal()),
        governors=tuple(dict.fromkeys(sensed["governor"].values())),
        features=features,
        memory_bytes=_bytes(memory.get("MemTotal")),
        free_memory_bytes=_bytes(memory.get("MemAvailable")),
        free_disk_bytes=_bytes(int(free[1])) if free else None,
        sensors=sensed,
        lite_run=found.get("version", "").removeprefix("lite_run "),
        engine_features=tuple(cpu["engine_features"]) if "engine_features" in cpu else None,
        android_api=api,
        abis=tuple(filter(None, found.get("abis", "").split(","))),
        damaged=tuple(found.get("damaged", "").split()),
    )


def _features(cpuinfo: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Those that every core has."""
    cores = [set(words.split()) for words in cpuinfo.get("Features", ())]
    common = set.intersection(*cores) if cores else set()
    named = {"dot product": _DOT_PRODUCT, "fp16": _FP16}
    return tuple(name for name, word in named.items() if word in common)


def _fields(text: str) -> dict[str, list[str]]:
    """The lines `NAME: VALUE` of a file of /proc, by names."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), []).append(value.strip())
    return fields


def _number(text: str) -> int | None:
    found = re.match("[0-9]+", text)
    return int(found[0]) if found else None


def _bytes(kilobytes: int | None) -> int | None:
    return None if kilobytes is None else kilobytes * 1024


def built_for(head: bytes) -> str:
    """Which `Facts.build` a program is, by the first page of its file; "" where it is none."""
    android = _ANDROID_LINKER in head
    kinds = {
        (2, 183): _ANDROID["arm64-v8a"] if android else "aarch64",
        (1, 40): _ANDROID["armeabi-v7a"] if android else "armv7hf",
        (2, 62): "" if android else "x86-64",
    }
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return ""
    return kinds.get((head[4], int.from_bytes(head[18:20], "little")), "")
