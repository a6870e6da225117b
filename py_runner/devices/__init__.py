"""The devices: this machine, and boards; one file a kind.

A device has one method that runs a job, part by part, and says which of a bundle's models it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from py_runner.devices import boards
from py_runner.devices.here import Here
from py_runner.devices.qemu import Emulated
from py_runner.devices.qemu_python import EmulatedPython
from py_runner.devices.remote import Remote
from py_runner.devices.url import FORMS, address, is_remote, plain_name
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = [
    "BOARDS",
    "COUNTERS",
    "FORMS",
    "HERE",
    "Counter",
    "Device",
    "arm_device",
    "board_words",
    "is_remote",
    "other_family",
    "plain_name",
    "remote_device",
]


class Device(Protocol):
    """Where a job is run."""

    def target(self, engine: str) -> str:
        """Which of a bundle's models an engine runs here: "arm", "x86" or "onnx"."""

    def missing(self) -> str:
        """What to set or install before engine `native` runs here; "" where nothing is missing."""

    def parts(
        self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch
    ) -> Generator[Run, None, None]:
        """Run a job on samples, of which there are `total`, None where that is not known.

        Each Run is of the next samples, in their order and in memory, which no more than one part
        of them takes: see `Job.ends_part`. Samples that `Job.failed` takes are in none.
        """


class Counter(Device, Protocol):
    """A device that counts the instructions of one inference."""

    def count_instructions(self, model: Model, sample: Sample) -> int:
        """See `Emulated.count_instructions`."""


HERE: Device = Here()
_KINDS = {
    # Instructions are counted as those of a Raspberry Pi 4, or of the last core of 32 bits.
    "qemu-aarch64": Emulated("aarch64", "aarch64-linux-gnu", cpu="cortex-a72", openat=56),
    "qemu-arm": Emulated("arm", "arm-linux-gnueabihf", cpu="cortex-a15", openat=322),
}
_NAMED = {"qemu-aarch64": boards.ARM64, "qemu-arm": boards.ARM}
# By their names: "qemu-aarch64", then "qemu-aarch64:pi5" and so on.
BOARDS: dict[str, Emulated] = {
    **_KINDS,
    **{
        f"{kind}:{name}": replace(_KINDS[kind], board=board)
        for kind, named in _NAMED.items()
        for name, board in named.items()
    },
}
# By engines, those of their devices that count instructions: each runs on its own boards only.
COUNTERS: dict[str, Mapping[str, Counter]] = {
    "native": BOARDS,
    "onnx": {n: EmulatedPython(board) for n, board in BOARDS.items() if board.arch == "aarch64"},
}


def remote_device(name: str) -> Device:
    """The device that a URL names. Raises UsageError for what is none of ours."""
    return Remote(address(name))


def board_words() -> list[str]:
    """The emulated boards for a person: "qemu-aarch64", "qemu-aarch64:pi3|pi4|..."."""
    return [text for kind, named in _NAMED.items() for text in (kind, f"{kind}:{'|'.join(named)}")]


def arm_device() -> str | None:
    """The device whose ARM engine can judge here: this machine, else an emulated board."""
    if HERE.target("native") == "arm" and not HERE.missing():
        return "cpu"
    return next((name for name, board in BOARDS.items() if not board.missing()), None)


def other_family(device: str, features: Collection[str]) -> str | None:
    """A board whose int8 kernels are not those that an engine with these features takes: with dot
    product, or without. None where `device` is none of QEMU's that has both."""
    if device.partition(":")[0] != "qemu-aarch64":
        return None
    return "qemu-aarch64:a72" if "dot product" in features else "qemu-aarch64:a76"
