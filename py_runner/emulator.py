"""An ARM board that is not there: the command `lite_run`, built for ARM, under QEMU's user mode.

Devices `qemu-aarch64` and `qemu-arm` of engine `native`. They compute what a board computes with
the same Paddle Lite library, hours before one is at hand, but their latencies are the emulator's:
what a board would take is modelled by the instructions executed, see `count_instructions`.
Which kernels run may differ from a board's: the library asks the host's /proc/cpuinfo.

Environment, for each of AARCH64 and ARM:
    PADDLE_EDGE_LITE_RUN_AARCH64   the cross-built `lite_run`, or the folder of `cmake --install`
    PADDLE_EDGE_SYSROOT_AARCH64    what armlinux/toolchains/make_sysroot.sh filled: libraries that
                                   `lite_run` needs and its folder lacks
    QEMU_LD_PREFIX, QEMU_CPU       QEMU's own: where the C library for ARM is, by default that of
                                   the cross compiler; and which CPU to be
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from py_runner.bundle import Model, SavedSample, save_samples
from py_runner.child import how_it_ended, last_words
from py_runner.dataset import Sample
from py_runner.errors import EngineError
from py_runner.folder import temporary_folder

__all__ = ["DEVICES", "answer", "count_instructions", "missing"]


@dataclass(frozen=True)
class _Device:
    """One kind of emulated board: names of its architecture, and what its C library calls openat.

    `cpu` is whose instructions are counted: that of a Raspberry Pi 4, or the last of 32 bits.
    """

    arch: str
    triplet: str
    cpu: str
    openat: int

    @property
    def emulator(self) -> str:
        return f"qemu-{self.arch}"

    @property
    def command_variable(self) -> str:
        return f"PADDLE_EDGE_LITE_RUN_{self.arch.upper()}"

    @property
    def sysroot_variable(self) -> str:
        return f"PADDLE_EDGE_SYSROOT_{self.arch.upper()}"


_KINDS = {
    "qemu-aarch64": _Device("aarch64", "aarch64-linux-gnu", "cortex-a72", 56),
    "qemu-arm": _Device("arm", "arm-linux-gnueabihf", "cortex-a15", 322),
}
DEVICES = tuple(_KINDS)
# What a malloc costs depends on how the heap came to be, and that on the clock, which logs print.
# A heap that only grows, with no fast bins, makes it the same each time.
_STEADY_MALLOC = (
    "glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=67108864:glibc.malloc.mxfast=0"
)
_SAYS = "lite_run: "  # before what the command writes to standard error
_WARNING = f"{_SAYS}warning: "
# In the checkout, and where the wheel puts it.
_PLUGINS = ("../armlinux/plugins", "plugins")
_PLUGIN = "count_instructions.c"


def missing(device: str) -> str:
    """What to set or install before a device can be emulated here; "" where nothing is missing."""
    try:
        _argv(_KINDS[device])
    except EngineError as error:
        return str(error)
    return ""


def answer(
    model: Model,
    samples: Iterable[Sample],
    out: Path,
    *,
    device: str,
    threads: int = 1,
    warmup: int = 1,
    repeat: int = 1,
    time_limit_s: float | None = None,
) -> list[str]:
    """Run a bundle's `arm` model on an emulated board, and leave a Run folder at `out`.

    Returns what `lite_run` warned of.

    Args:
        model: `Bundle.model("arm")`.
        samples: they fit the model's inputs.
        time_limit_s: for all of the samples.

    Raises EngineError in one line where something is missing, and where `lite_run` refuses or dies.
    """
    kind = _KINDS[device]
    with temporary_folder() as folder:
        _stage(folder, samples)
        options = ["--threads", threads, "--warmup", warmup, "--repeat", repeat]
        arguments = [model.files[0].parent, "--samples", folder, "--out", out, *options]
        said = _call(kind, _argv(kind), arguments, time_limit_s)
    lines = said.decode("utf-8", "replace").splitlines()
    return [line.removeprefix(_WARNING) for line in lines if line.startswith(_WARNING)]


def count_instructions(model: Model, sample: Sample, *, device: str = "qemu-aarch64") -> int:
    """How many ARM instructions one inference executes: copy in, run, copy out, on one thread.

    A model of cost and not a latency: it knows nothing of caches and of how many instructions a
    core executes at once. But it is the same number each time, whatever else the machine does.
    The emulated CPU is a Cortex-A72 (`qemu-arm`: Cortex-A15), or what QEMU_CPU says.

    Two runs differ by one inference of a sample. Counted is from the opening of that sample's file
    to that of the next sample's: the rest of a process depends on clocks and machines.

    Args and errors are those of `answer`; QEMU must take plugins of version 1, and a C compiler
    must be there to build ours.
    """
    kind = _KINDS[device]
    spans = []
    with temporary_folder() as temporary:
        folder = temporary.resolve()
        plugin = _built_plugin(folder)
        saved = _stage(folder, [Sample(str(index), sample.feeds) for index in range(2)])
        files = [str(folder / next(iter(entry.feeds.values()))) for entry in saved]
        for repeat in (1, 2):
            out, run = folder / f"counts{repeat}", folder / f"run{repeat}"
            options = f"{_escaped(plugin)},open={kind.openat},out={_escaped(out)}"
            arguments = ["--samples", folder, "--out", run, "--warmup", 1, "--repeat", repeat]
            _call(kind, _argv(kind, plugin=options), [model.files[0].parent, *arguments], None)
            executed = {}
            for line in out.read_text(encoding="utf-8", errors="replace").splitlines():
                count, _, path = line.partition(" ")
                executed[path] = int(count)
            spans.append(executed[files[1]] - executed[files[0]])
    return spans[1] - spans[0]


def _stage(folder: Path, samples: Iterable[Sample]) -> tuple[SavedSample, ...]:
    """Write samples as `lite_run --samples` reads them."""
    saved = save_samples(folder, samples)
    entries = [asdict(entry) for entry in saved]
    (folder / "samples.json").write_text(json.dumps(entries), encoding="ascii")
    return saved


def _argv(kind: _Device, *, plugin: str | None = None) -> list[str]:
    """The emulator with its options, and the command. Raises EngineError for what is missing."""
    command = _command(kind)
    # The static build knows no plugins; else either does.
    names = [kind.emulator] if plugin else [kind.emulator, f"{kind.emulator}-static"]
    emulator = next(filter(None, map(shutil.which, names)), None)
    if emulator is None:
        package = "qemu-user" if plugin else "qemu-user or qemu-user-static"
        raise EngineError(f"{names[0]} is not installed: `apt install {package}`")
    argv = [emulator]
    if plugin:
        argv += ["-plugin", plugin, "-E", f"GLIBC_TUNABLES={_STEADY_MALLOC}"]
        if "QEMU_CPU" not in os.environ:
            argv += ["-cpu", kind.cpu]
    if "QEMU_LD_PREFIX" not in os.environ:
        argv += ["-L", f"/usr/{kind.triplet}"]
    sysroot = os.environ.get(kind.sysroot_variable)
    if sysroot:
        places = [Path(sysroot, top, kind.triplet).absolute() for top in ("usr/lib", "lib")]
        if not any(place.is_dir() for place in places):
            raise EngineError(
                f"{kind.sysroot_variable}={sysroot}: holds no libraries under "
                f"usr/lib/{kind.triplet}: fill it with armlinux/toolchains/make_sysroot.sh"
            )
        argv += ["-E", f"LD_LIBRARY_PATH={':'.join(map(str, places))}"]
    return [*argv, str(command)]


def _command(kind: _Device) -> Path:
    named = os.environ.get(kind.command_variable)
    if not named:
        raise EngineError(
            f"device {kind.emulator} needs lite_run, built for {kind.arch} with your Paddle Lite "
            f"SDK: see docs/cross-compiling.md, and set {kind.command_variable} to it"
        )
    place = Path(named)
    if place.is_dir():
        inside = [place / name for name in ("bin/lite_run", "lite_run", "armlinux/lite_run")]
        place = next((path for path in inside if path.is_file()), place)
    if not place.is_file():
        raise EngineError(
            f"{kind.command_variable}={named}: "
            + ("holds no lite_run" if place.is_dir() else "no such file or folder")
        )
    return place.absolute()


def _call(
    kind: _Device, argv: list[str], arguments: list[object], time_limit_s: float | None
) -> bytes:
    """Standard error of the command, which succeeded."""
    try:
        done = subprocess.run(
            [*argv, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{kind.emulator} took longer than {time_limit_s:g} s") from None
    except OSError as error:
        raise EngineError(f"{argv[0]}: cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise EngineError(f"{kind.emulator}: {_words(kind, argv[-1], done)}")
    return done.stderr


def _words(kind: _Device, command: str, done: subprocess.CompletedProcess[bytes]) -> str:
    """Why an emulated process failed, and what to do, in one line."""
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix(_SAYS) if lines and lines[-1].startswith(_SAYS) else ""
    if said.startswith("the engine ended the process"):
        last = last_words("\n".join(lines[:-1]).encode())
        _, _, advice = said.partition("above. ")
        return f"the engine ended the process: {last}. {advice}"
    if said:
        return said
    reason = last_words(done.stderr).removeprefix(f"{command}: ")
    for telling, advice in (
        ("Could not open '/lib", f"set QEMU_LD_PREFIX to the C library of {kind.triplet}"),
        ("error while loading shared libraries", f"set {kind.sysroot_variable}"),
        ("' not found (required by", f"set {kind.sysroot_variable}, or QEMU_LD_PREFIX"),
        ("unable to find CPU model", "correct QEMU_CPU"),
        ("API version", "counting needs a QEMU of plugin version 1, such as 7.2 in Debian 12"),
        ("plugin", "counting needs the dynamic build of QEMU, as in Debian's qemu-user"),
    ):
        if telling in reason:
            return f"{command}: {reason}: {advice}"
    ended = how_it_ended(done.returncode)
    return f"{command}: {ended}: {reason}; {kind.command_variable} names it"


def _built_plugin(folder: Path) -> Path:
    package = Path(__file__).parent
    found = [package / place / _PLUGIN for place in _PLUGINS]
    source = next((path for path in found if path.is_file()), None)
    if source is None:
        raise EngineError(f"{found[-1]}: is missing: install paddle-edge again")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise EngineError("counting instructions needs a C compiler: `apt install gcc libc6-dev`")
    out = folder / "count_instructions.so"
    argv = [compiler, "-O2", "-shared", "-fPIC", "-o", str(out), str(source)]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"{source}: {compiler} fails: {last_words(done.stderr)}")
    return out


def _escaped(path: Path) -> str:
    """A path inside an option of QEMU's."""
    return str(path).replace(",", ",,")
