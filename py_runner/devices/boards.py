"""Boards by name: the cores, frequencies and caches that an emulated process finds on them.

QEMU's user mode emulates instructions, and hands the files of /proc and /sys through, which are
those of the machine that it runs on. Paddle Lite chooses kernels by them. So a board is a CPU of
QEMU's and a folder with its own files, which QEMU looks into first (option -L).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ARM", "ARM64", "Board", "Cores"]

_CPUS = "sys/devices/system/cpu"
_INDICES = 10  # of caches of one core, that Paddle Lite looks for


@dataclass(frozen=True)
class Cores:
    """Cores of one kind: their number, part number and highest frequency, and the sizes of their
    caches in KB: of level 1 for data and for instructions, then of level 2, and 3 where it is."""

    count: int
    part: str
    mhz: int
    caches_kb: tuple[int, ...]


@dataclass(frozen=True)
class Board:
    """A board: QEMU's CPU, and the cores as the kernel numbers them.

    QEMU emulates one kind of core: of a board with two, that of the fast ones. `model` is what the
    firmware calls the board, "" for a core alone. `features` are the kernel's words.
    """

    cpu: str
    cores: tuple[Cores, ...]
    features: str
    model: str = ""

    def write_root(self, root: Path, system: Path) -> None:
        """Make a folder for QEMU's -L: this board's files, and links to a C library's, `system`."""
        for place in system.iterdir():
            if place.name not in ("proc", "sys"):
                (root / place.name).symlink_to(place)
        count = sum(kind.count for kind in self.cores)
        files = {"proc/cpuinfo": self._cpuinfo(), "proc/device-tree/model": f"{self.model}\0"}
        for name in ("online", "possible", "present"):
            files[f"{_CPUS}/{name}"] = f"0-{count - 1}\n"
        each = [kind for kind in self.cores for _ in range(kind.count)]
        for number, kind in enumerate(each):
            files |= self._core(f"{_CPUS}/cpu{number}", kind)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="ascii")
        for name in self._absent(count):
            if name not in files and Path("/", name).exists():
                _hide(root / name)

    def _core(self, folder: str, kind: Cores) -> dict[str, str]:
        files = {
            f"{folder}/uevent": "DRIVER=cpu\n",
            f"{folder}/online": "1\n",
            f"{folder}/cpufreq/cpuinfo_max_freq": f"{kind.mhz * 1000}\n",
            f"{folder}/cpufreq/scaling_cur_freq": f"{kind.mhz * 1000}\n",
        }
        for index, (level, size) in enumerate(zip((1, 1, 2, 3), kind.caches_kb)):
            files[f"{folder}/cache/index{index}/level"] = f"{level}\n"
            files[f"{folder}/cache/index{index}/size"] = f"{size}K\n"
        return files

    def _absent(self, count: int) -> list[str]:
        """What this machine may have, and the board has not, unless it is among its files."""
        names = []
        for number in range(os.cpu_count() or 1):
            core = f"{_CPUS}/cpu{number}"
            names += [f"{core}/cache/index{index}/level" for index in range(_INDICES)]
            names += [f"{core}/cpufreq/stats/time_in_state"]
            names += [f"{_CPUS}/cpufreq/stats/cpu{number}/time_in_state"]
            names += [f"{core}/uevent"] if number >= count else []
        return names

    def _cpuinfo(self) -> str:
        """As the kernel writes it: no line tells the chip's name since 2016 on 64 bits."""
        parts = [kind.part for kind in self.cores for _ in range(kind.count)]
        blocks = [
            f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {part}\nCPU revision\t: 1\n\n"
            for number, part in enumerate(parts)
        ]
        return "".join(blocks) + (f"Model\t\t: {self.model}\n" if self.model else "")


def _hide(place: Path) -> None:
    """Make something that is there and cannot be opened, whoever asks: a socket of nobody's."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(place, stat.S_IFSOCK | 0o600)


_V8 = "fp asimd evtstrm crc32 cpuid"
_V82 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
_A53 = Cores(4, "0xd03", 1400, (32, 32, 512))
_A55 = Cores(4, "0xd05", 1800, (32, 32, 128, 3072))
_A72 = Cores(4, "0xd08", 1800, (32, 48, 1024))
_A76 = Cores(4, "0xd0b", 2400, (64, 64, 512, 2048))

ARM64: dict[str, Board] = {
    "pi3": Board("cortex-a53", (_A53,), _V8, "Raspberry Pi 3 Model B Plus Rev 1.3"),
    "pi4": Board("cortex-a72", (_A72,), _V8, "Raspberry Pi 4 Model B Rev 1.4"),
    "pi5": Board("cortex-a76", (_A76,), _V82, "Raspberry Pi 5 Model B Rev 1.0"),
    "rk3588": Board(
        "cortex-a76",
        (_A55, Cores(4, "0xd0b", 2400, (64, 64, 512, 3072))),
        _V82,
        "Radxa ROCK 5 Model B",
    ),
    "a53": Board("cortex-a53", (_A53,), _V8),
    # QEMU 7.2 has no Cortex-A55. Its instructions are those of the A76.
    "a55": Board("cortex-a76", (_A55,), _V82),
    "a72": Board("cortex-a72", (_A72,), _V8),
    "a76": Board("cortex-a76", (_A76,), _V82),
    # All that QEMU can, and a part number of its own.
    "max": Board("max", (Cores(4, "0x051", 2400, (64, 64, 512, 2048)),), _V82),
}
_A7 = Cores(4, "0xc07", 900, (32, 32, 512))
_A15 = Cores(4, "0xc0f", 1500, (32, 32, 1024))
ARM: dict[str, Board] = {
    "pi2": Board("cortex-a7", (_A7,), _V7, "Raspberry Pi 2 Model B Rev 1.1"),
    "a7": Board("cortex-a7", (_A7,), _V7),
    "a15": Board("cortex-a15", (_A15,), _V7),
    "max": Board("max", (_A15,), _V7),
}
