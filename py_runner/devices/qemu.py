"""An ARM board that is not there: the command `lite_run`, built for ARM, under QEMU's user mode.

Devices `qemu-aarch64` and `qemu-arm` of engine `native`, and by name those of boards.py, such as
`qemu-aarch64:pi5`. They compute what a board computes with the same Paddle Lite library, hours
before one is at hand, but their latencies are the emulator's: what a board would take is modelled
by the instructions executed, see `count_instructions`. Which kernels run is up to the CPU, to
/proc/cpuinfo and to the sizes of caches: without a board's name the last two are the host's.

Environment, for each of AARCH64 and ARM:
    PADDLE_EDGE_LITE_RUN_AARCH64   the cross-built `lite_run`, or the folder of `cmake --install`
    PADDLE_EDGE_SYSROOT_AARCH64    what armlinux/toolchains/make_sysroot.sh filled: libraries that
                                   `lite_run` needs and its folder lacks
    QEMU_LD_PREFIX, QEMU_CPU       QEMU's own: where the C library for ARM is, by default that of
                                   the cross compiler; and which CPU to be, without a board's name
    LR_CPU                         lite_run's own: "off" leaves the engine to what it knows of CPUs
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from py_runner.devices.batches import SPOKE, answer, kept, said_at_last, stage, tell_warnings
from py_runner.devices.boards import Board
from py_runner.errors import EngineError, RefusedError
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child, how_it_ended, last_words
from py_runner.files.regular import read_bytes
from py_runner.formats.run import Run
from py_runner.job import Job, memory_limit
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = ["EMULATOR_BYTES", "Emulated", "counted"]

# Of memory: QEMU maps the whole space of a CPU of 32 bits, and for its translations.
EMULATOR_BYTES = 8 << 30
# What a malloc costs depends on how the heap came to be, and that on the clock, which logs print.
# A heap that only grows, with no fast bins, makes it the same each time.
_STEADY_MALLOC = (
    "glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=67108864:glibc.malloc.mxfast=0"
)
_PLUGIN = "count_instructions.c"
# In the checkout, and where the wheel puts it.
_PLUGINS = (
    Path(__file__).parents[2] / "armlinux" / "plugins" / _PLUGIN,
    Path(__file__).with_name(_PLUGIN),
)


@dataclass(frozen=True)
class Emulated:
    """One kind of emulated board: names of its architecture, the number that its C library calls
    openat by, the CPU whose instructions are counted, and the board where it is one by name."""

    arch: str
    triplet: str
    cpu: str
    openat: int
    board: Board | None = None

    @property
    def emulator(self) -> str:
        """QEMU's command, and what the device is called, without a board's name."""
        return f"qemu-{self.arch}"

    @property
    def command_variable(self) -> str:
        """The environment variable that names `lite_run`."""
        return f"PADDLE_EDGE_LITE_RUN_{self.arch.upper()}"

    @property
    def sysroot_variable(self) -> str:
        """The environment variable that names the libraries it needs."""
        return f"PADDLE_EDGE_SYSROOT_{self.arch.upper()}"

    def target(self, engine: str) -> str:
        """ "arm"."""
        return "arm"

    def missing(self) -> str:
        """What to set or install before it can be emulated here; "" where nothing is missing."""
        try:
            self._argv()
        except EngineError as error:
            return str(error)
        return ""

    def parts(
        self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch
    ) -> Generator[Run, None, None]:
        """`inference.parts` here: batch by batch, each in a process that warms up anew.

        Raises in one line EngineError where something is missing, and RefusedError where `lite_run`
        refuses or dies.
        """
        self._argv()

        def ask(batch: list[Sample], watch: Watch, _: object) -> Run:
            return self._answer(job, batch, watch)

        yield from answer(job, samples, total, watch, ask, clock=_spent_s)

    def _answer(self, job: Job, batch: list[Sample], watch: Watch) -> Run:
        """The Run of one batch, with its arrays in memory."""
        bundle = job.model.files[0].parent
        with temporary_folder() as folder:
            stage(folder, batch)
            options = ["--threads", job.threads, "--warmup", job.warmup, "--repeat", job.repeat]
            out = folder / "run"
            arguments = [bundle, "--samples", folder, "--out", out, *options]
            limit = job.time_limit_s and job.time_limit_s * len(batch)
            try:
                argv = self._argv(folder)
                said = self.call(argv, arguments, limit, job.memory_bytes(batch[0]))
            except EngineError as error:
                if str(bundle) in str(error):
                    raise  # lite_run names what is at fault itself
                which = " to ".join(dict.fromkeys(f"'{s.id}'" for s in (batch[0], batch[-1])))
                raise type(error)(f"{job.model.files[0]}: sample {which}: {error}") from None
            tell_warnings(said, watch)
            return kept(job, out, batch)

    def count_instructions(self, model: Model, sample: Sample) -> int:
        """How many ARM instructions one inference executes: copy in, run, copy out, one thread.

        A model of cost and not a latency: it knows nothing of caches and of how many instructions a
        core executes at once. But it is the same number each time, whatever else the machine does.
        The emulated CPU is the board's, else `cpu`, or what QEMU_CPU says.

        Two runs differ by one inference of a sample, the second of two. Counted is from the opening
        of that sample's file to that of the next one's, where the run ends: the rest of a process
        depends on clocks and machines.

        `model` is `Bundle.model("arm")`. Errors are those of `parts`; QEMU must take plugins of
        version 1, and a C compiler must be there to build ours.
        """
        with temporary_folder() as temporary:
            folder = temporary.resolve()
            saved = stage(folder, [Sample(str(index), sample.feeds) for index in range(2)])
            files = [folder / next(iter(entry.feeds.values())) for entry in saved]

            def argv(plugin: str, repeat: int) -> list[str]:
                out = folder / f"run{repeat}"
                options = ["--samples", folder, "--out", out, "--warmup", 0, "--repeat", repeat]
                command = self._argv(folder, plugin=plugin)
                return [*command, *map(str, [model.files[0].parent, *options])]

            return counted(self, argv, folder, files, memory_limit(model.files, [sample]))

    def _argv(self, folder: Path | None = None, *, plugin: str | None = None) -> list[str]:
        """The emulator, its options and the command; a board's files are put into `folder`.

        Raises EngineError for what is missing.
        """
        command = self._command()
        argv = self.emulator_argv(folder, plugin=plugin)
        sysroot = os.environ.get(self.sysroot_variable)
        if sysroot:
            places = [Path(sysroot, top, self.triplet).absolute() for top in ("usr/lib", "lib")]
            if not any(place.is_dir() for place in places):
                raise EngineError(
                    f"{self.sysroot_variable}={sysroot}: holds no libraries under "
                    f"usr/lib/{self.triplet}: fill it with armlinux/toolchains/make_sysroot.sh"
                )
            argv += ["-E", f"LD_LIBRARY_PATH={':'.join(map(str, places))}"]
        return [*argv, str(command)]

    def emulator_argv(
        self, folder: Path | None, *, plugin: str | None = None, system: Path | None = None
    ) -> list[str]:
        """The emulator and its options; a board's files are put into `folder`. `system` is where
        its C library is, where that is not QEMU's own to say. Raises EngineError without QEMU."""
        # The static build knows no plugins; else either does.
        names = [self.emulator] if plugin else [self.emulator, f"{self.emulator}-static"]
        emulator = next(filter(None, map(shutil.which, names)), None)
        if emulator is None:
            package = "qemu-user" if plugin else "qemu-user or qemu-user-static"
            raise EngineError(f"{names[0]} is not installed: `apt install {package}`")
        argv = [emulator]
        if plugin:
            argv += ["-plugin", plugin, "-E", f"GLIBC_TUNABLES={_STEADY_MALLOC}"]
        if self.board is not None:
            argv += ["-cpu", self.board.cpu]
        elif plugin and "QEMU_CPU" not in os.environ:
            argv += ["-cpu", self.cpu]
        return [*argv, "-L", str(self._root(folder, system))]

    def _root(self, folder: Path | None, system: Path | None) -> Path:
        """What QEMU looks into before it takes this machine's files."""
        own = os.environ.get("QEMU_LD_PREFIX") or f"/usr/{self.triplet}"
        system = system or Path(own).absolute()
        if self.board is None or folder is None or not system.is_dir():
            return system
        root = folder / "root"
        if not root.exists():
            root.mkdir()
            self.board.write_root(root, system)
        return root

    def _command(self) -> Path:
        named = os.environ.get(self.command_variable)
        if not named:
            raise EngineError(
                f"device {self.emulator} needs lite_run, built for {self.arch} with your Paddle "
                f"Lite SDK: see docs/cross-compiling.md, and set {self.command_variable} to it"
            )
        place = Path(named)
        if place.is_dir():
            inside = [place / name for name in ("bin/lite_run", "lite_run", "armlinux/lite_run")]
            place = next((path for path in inside if path.is_file()), place)
        if not place.is_file():
            raise EngineError(
                f"{self.command_variable}={named}: "
                + ("holds no lite_run" if place.is_dir() else "no such file or folder")
            )
        return place.absolute()

    def call(
        self,
        argv: list[str],
        arguments: list[object],
        time_limit_s: float | None,
        memory_bytes: int | None = None,
    ) -> bytes:
        """What the command said, which succeeded."""
        with Child([*argv, *map(str, arguments)], output="none", apart=True) as child:
            if memory_bytes is not None:
                child.limit_memory(EMULATOR_BYTES + memory_bytes)
            child.tell()
            returncode = child.wait(time_limit_s)
            if returncode is None:
                raise RefusedError(f"{self.emulator} took longer than {time_limit_s:g} s")
            said = child.log(None)
        if returncode != 0:
            # Without a word from lite_run, and not killed, it was never started.
            ran = returncode < 0 or SPOKE.search(said)
            kind = RefusedError if ran else EngineError
            raise kind(f"{self.emulator}: {self._words(argv[-1], returncode, said)}")
        return said

    def _words(self, command: str, returncode: int, log: bytes) -> str:
        """Why an emulated process failed, and what to do, in one line."""
        if said := said_at_last(log):
            return said
        reason = last_words(log).removeprefix(f"{command}: ")
        for telling, advice in (
            ("Could not open '/lib", f"set QEMU_LD_PREFIX to the C library of {self.triplet}"),
            ("error while loading shared libraries", f"set {self.sysroot_variable}"),
            ("' not found (required by", f"set {self.sysroot_variable}, or QEMU_LD_PREFIX"),
            ("unable to find CPU model", "correct QEMU_CPU"),
            ("API version", "counting needs a QEMU of plugin version 1, such as 7.2 in Debian 12"),
            ("plugin", "counting needs the dynamic build of QEMU, as in Debian's qemu-user"),
        ):
            if telling in reason:
                return f"{command}: {reason}: {advice}"
        ended = how_it_ended(returncode)
        return f"{command}: {ended}: {reason}; {self.command_variable} names it"


def _spent_s() -> float:
    """Seconds of a CPU that processes which have ended took: to start the emulator takes seconds of
    it, and on a busy machine many more of the clock."""
    spent = os.times()
    return spent.children_user + spent.children_system


def counted(
    on: Emulated,
    argv: Callable[[str, int], list[str]],
    folder: Path,
    files: Sequence[Path],
    memory_bytes: int,
) -> int:
    """The instructions of one inference more: by so many do two processes differ, between their
    opening of the last two `files`, the last of which ends them.

    `argv` makes a command line of the plugin's options and of how often to infer. Errors are those
    of `Emulated.parts`.
    """
    plugin = folder / "count_instructions.so"
    _build_plugin(plugin)
    spans = []
    for repeat in (1, 2):
        out = folder / f"counts{repeat}"
        options = f"{_escaped(plugin)},open={on.openat},out={_escaped(out)}"
        on.call(argv(f"{options},last={_escaped(files[-1])}", repeat), [], None, memory_bytes)
        executed = {}
        for line in read_bytes(out).decode("utf-8", "replace").splitlines():
            count, _, path = line.partition(" ")
            executed[path] = int(count)
        spans.append(executed[str(files[-1])] - executed[str(files[-2])])
    return spans[1] - spans[0]


def _build_plugin(out: Path) -> None:
    source = next((path for path in _PLUGINS if path.is_file()), None)
    if source is None:
        raise EngineError(f"{_PLUGINS[-1]}: is missing: install paddle-edge again")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise EngineError("counting instructions needs a C compiler: `apt install gcc libc6-dev`")
    with Child([compiler, "-O2", "-shared", "-fPIC", "-o", str(out), str(source)]) as child:
        if child.wait() != 0:
            raise EngineError(f"{source}: {compiler} fails: {last_words(child.log())}")


def _escaped(path: Path) -> str:
    """A path inside an option of QEMU's."""
    return str(path).replace(",", ",,")
