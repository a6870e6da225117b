"""A device far away, by ssh or adb: `lite_run` there, which `paddle-edge device install` puts.

In our folder there: `runners/<checksum>` are builds, `current` says which one is used;
`bundles/<checksum>` have the one model that was asked for; `jobs/<process>` are what works now.

Each batch of samples is one command there: an archive of them goes in, one of the answers comes
back. While one runs the next is sent, and waits there for its turn. The command listens whether
somebody still waits: if not, it ends `lite_run` and removes what it made. So nothing is left
running there, whether the connection is lost, time is up or the user has had enough. A batch whose
connection was lost is asked again, those before it are not.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, TypeVar

from py_runner.devices import sensors
from py_runner.devices.batches import SPOKE, answer, kept, said_at_last, stage, tell_warnings
from py_runner.devices.connection import Address, Begun, Connection, DroppedError, archive
from py_runner.errors import EngineError, RefusedError
from py_runner.files.checksum import sha256
from py_runner.files.folder import temporary_folder
from py_runner.files.process import how_it_ended, last_words
from py_runner.files.regular import read_bytes, read_text
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.tensors import Sample
from py_runner.watch import Watch

__all__ = ["Remote"]

_FIRST_BATCH = 16  # a connection costs more than a process
_TRIES = 5
_WAIT_S = 1.0  # before the second try; twice that before the next
_START_S = 60.0  # what opening a connection and copying a batch may take beside a time limit
_ROOM = 4  # times a batch have to be free for one that is sent ahead
_KILLED = 128 + 9
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_MANIFEST = "bundle.json"
# A line of sha256sum: GNU's begins with a backslash where it escapes characters of the name, and
# toybox escapes none, so that a name may have several lines.
_CHECKSUM = re.compile(r"^\\?([0-9a-f]{64}) ", re.MULTILINE)
_ANSWER = re.compile(r"(status|log|before|after|others|out(/[\w.-]+){0,2})")

_CHECKSUMS = r"""
[ ! -d "bundles/$1" ] || find "bundles/$1" -type f -exec sha256sum -- {} +
"""
# $1 checksum, $2 bytes of the archive
_PUT = r"""
new=partial/$$
fleeting "$new"
rm -rf "$new"; mkdir -p bundles "$new" || exit 74
head -c "$2" | tar -xof - -C "$new" || exit 74
rm -rf "bundles/$1"
# Where another was quicker, this one is inside it now.
mv "$new" "bundles/$1" && rm -rf "bundles/$1/$$"
"""
# $1 checksum of the bundle, $2 bytes of the archive, $3 who asks, $4 kilobytes that have to be
# free; then options of lite_run
_RUN = (
    sensors.READ
    + r"""
bundle=../../bundles/$1 bytes=$2 asks=$3 room=$4; shift 4
current=; [ ! -r current ] || read -r current <current
[ -e "runners/$current/bin/lite_run" ] && [ -n "$current" ] || {
  echo 'lite_run is not there: install it by `paddle-edge device install`' >&2; exit 71; }
mkdir -p jobs; job=$PWD/jobs/$$.$asks
free=$(df -Pk . | sed -n '$s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p')
[ "${free:-$room}" -ge "$room" ] || { echo 'No space left for a batch ahead' >&2; exit 74; }
fleeting "$job"
rm -rf "$job"; mkdir "$job" || exit 74
cd "$job" || exit 74
exec 3<&0
head -c "$bytes" <&3 | tar -xof - || exit 74
echo ready
read -r _ <&3 || exit 143
others=0
for other in ../*; do
  name=${other##*/}
  if ! kill -0 "${name%%.*}" 2>/dev/null; then rm -rf "$other"
  elif [ "${name#*.}" != "$asks" ]; then others=$((others + 1)); fi
done
echo "$others" >others
sensors >before
"../../runners/$current/bin/lite_run" "$bundle" --samples in --out out "$@" \
  >/dev/null 2>log </dev/null 3<&- &
runner=$!
# No `cat`: mksh would let it live, and hold the connection.
{ while read -r _; do :; done; kill -9 "$runner"; } <&3 >/dev/null 2>&1 3<&- &
watcher=$!
wait "$runner" 2>/dev/null
echo $? >status
kill -9 "$watcher" 2>/dev/null
sensors >after
rm -rf in; mkdir -p out
tar -cf - status log before after others out || exit 74
"""
)


@dataclass(frozen=True)
class Remote:
    """The device that an address names."""

    address: Address

    def target(self, engine: str) -> str:
        """Which of a bundle's models lite_run takes there: "arm" or "x86". Raises EngineError where
        the device cannot be reached."""
        return _target(self.address)

    def missing(self) -> str:
        """What to do before `lite_run` runs there; "" where it does."""
        try:
            with self.address.connection() as there:
                there.call("[ -e current ] || { echo 'lite_run is not there' >&2; exit 71; }")
        except EngineError as error:
            return str(error)
        return ""

    def parts(
        self, job: Job, samples: Iterator[Sample], total: int | None, watch: Watch
    ) -> Generator[Run, None, None]:
        """`inference.parts` there, batch by batch.

        Raises in one line EngineError where the device cannot be reached, or loses the connection
        again and again, and RefusedError where `lite_run` refuses or dies.
        """
        with self.address.connection() as there:
            bundle = _tried(partial(_bundle, there, job, watch), watch)
            with _Work(there, job, bundle) as work:
                yield from answer(job, samples, total, watch, work.ask, size=_FIRST_BATCH)


class _Work:
    """A job there, whose next batch is on its way while one is run. Use as a context manager:
    leaving ends what has begun there."""

    def __init__(self, there: Connection, job: Job, bundle: str) -> None:
        self._there, self._job, self._bundle = there, job, bundle
        self.address = there.address
        self._asks = token_hex(8)  # by which the commands of one job know each other
        self._ahead: tuple[list[Sample], Begun] | None = None  # a batch, and what was sent of it

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._sent_of([])

    def _sent_of(self, batch: list[Sample]) -> list[Begun]:
        """What was sent ahead, where it is of this batch; else that is ended there."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] is batch:
            return [ahead[1]] if ahead else []
        ahead[1].close()
        return []

    def ask(self, batch: list[Sample], watch: Watch, follow: Callable[[], list[Sample]]) -> Run:
        """The Run of a batch, which has been sent already where `follow` gave it."""
        waiting = self._sent_of(batch)

        def once() -> Run:
            if waiting:
                with waiting.pop() as begun:
                    if begun.arrived(self._limit_s(batch)):
                        return self._answer(begun, batch, watch, follow)
            # It is the first, or to be done again; or what was sent ahead went with the connection,
            # or found too little room beside the one before it.
            with self._begin(batch) as begun:
                if begun.arrived(self._limit_s(batch)):
                    return self._answer(begun, batch, watch, follow)
                begun.finish()
            raise DroppedError(f"{self.address.url}: ended before its time")

        return _tried(once, watch)

    def _limit_s(self, batch: list[Sample]) -> float | None:
        limit = self._job.time_limit_s
        return limit and limit * (len(batch) + 1) + _START_S

    def _begin(self, batch: list[Sample], *, ahead: bool = False) -> Begun:
        job = self._job
        options: list[object] = ["--threads", job.threads, "--warmup", job.warmup]
        options += ["--repeat", job.repeat]
        limit = job.time_limit_s
        options += ["--time-limit", limit] if limit is not None else []
        memory = job.memory_limit_gb
        options += ["--memory-limit", memory] if memory is not None else []
        with temporary_folder() as folder:
            stage(folder, batch)
            data = archive(
                {
                    f"in/{file.relative_to(folder).as_posix()}": file
                    for file in sorted(folder.rglob("*"))
                    if file.is_file()
                }
            )
        room = _ROOM * len(data) // 1024 if ahead else 0
        words = (self._bundle, len(data), self._asks, room, *options)
        return self._there.begin(_RUN, *words, data=data)

    def _answer(
        self,
        begun: Begun,
        batch: list[Sample],
        watch: Watch,
        follow: Callable[[], list[Sample]],
    ) -> Run:
        begun.go()
        if self._ahead is None and (following := follow()):
            self._ahead = following, self._begin(following, ahead=True)
        said = begun.finish(self._limit_s(batch))
        with temporary_folder() as folder:
            answered = folder / "answer"
            self._unpack(said, answered)
            self._check(answered, self._job, batch, watch)
            found = sensors.between(
                *(sensors.parse(read_text(answered / name)) for name in ("before", "after"))
            )
            for word in found["throttled"]:
                watch.warn(f"{self.address.url} was throttled: {word}")
            return replace(kept(self._job, answered / "out", batch), sensors=found)

    def _unpack(self, said: BinaryIO, folder: Path) -> None:
        """What came back, which is somebody else's: plain files under the names we know."""
        folder.mkdir()
        try:
            with tarfile.open(fileobj=said, mode="r:") as tar:
                for entry in tar:
                    if entry.isfile() and _ANSWER.fullmatch(entry.name) and ".." not in entry.name:
                        source = tar.extractfile(entry)
                        assert source is not None
                        place = folder / entry.name
                        place.parent.mkdir(exist_ok=True, parents=True)
                        with place.open("xb") as file:
                            shutil.copyfileobj(source, file)
        except (tarfile.TarError, OSError) as error:
            raise DroppedError(
                f"{self.address.url}: what came back is not whole: {error}"
            ) from None

    def _check(self, folder: Path, job: Job, batch: list[Sample], watch: Watch) -> None:
        """Raise what the end of lite_run means; pass on what it warned of."""
        log = read_bytes(folder / "log")
        status = int(read_text(folder / "status"))
        if read_text(folder / "others").strip() != "0":
            watch.warn(f"{self.address.url}: another job runs there: latencies are of both")
        if status == 0:
            tell_warnings(log, watch)
            return
        if status == _KILLED:
            raise DroppedError(f"{self.address.url}: lite_run was killed there")
        if status in (_NOT_EXECUTABLE, _NOT_FOUND):
            raise EngineError(
                f"{self.address.url}: {self.address.folder}: lite_run cannot be started there: "
                f"{last_words(log)}: install it again by `paddle-edge device install`, in a folder "
                f"from which programs may be run: {self.address.elsewhere}"
            )
        local = str(job.model.files[0].parent)
        said = re.sub(r"\.\./\.\./bundles/[0-9a-f]{64}", lambda _: local, said_at_last(log))
        ended = how_it_ended(128 - status if status > 128 else status)
        if local in said:
            raise RefusedError(f"{self.address.url}: {said}")
        which = " to ".join(dict.fromkeys(f"'{s.id}'" for s in (batch[0], batch[-1])))
        kind = RefusedError if SPOKE.search(log) or status > 128 else EngineError
        words = said or f"{ended}: {last_words(log)}"
        raise kind(f"{job.model.files[0]}: sample {which}: {self.address.url}: {words}")


_T = TypeVar("_T")


def _tried(work: Callable[[], _T], watch: Watch) -> _T:
    """What work makes, which is done again where the connection is lost, so many times."""
    for attempt in range(_TRIES - 1):
        try:
            return work()
        except DroppedError as error:
            watch.say(f"{error}: trying again")
            time.sleep(_WAIT_S * 2**attempt)
    try:
        return work()
    except DroppedError as error:
        raise EngineError(f"{error}; gave up after {_TRIES} tries") from None


@lru_cache(maxsize=64)
def _target(address: Address) -> str:
    with address.connection() as there:
        return "arm" if re.match(rb"aarch64|arm", there.call("uname -m")) else "x86"


def _bundle(there: Connection, job: Job, watch: Watch) -> str:
    """Have the job's model there, and return what it is called. Copied is what is not there, or is
    damaged there."""
    file = job.model.files[0]
    manifest = file.parent / _MANIFEST
    wanted = [sha256(manifest), sha256(file)]
    called = sha256(manifest, file)
    for _ in range(2):
        listed = _CHECKSUM.findall(there.call(_CHECKSUMS, called).decode("ascii", "replace"))
        if sorted(listed) == sorted(wanted):
            return called
        data = archive({_MANIFEST: manifest, file.name: file})
        name, whole = f"sending {job.model.name}, KB", len(data) // 1000

        def sent(count: int, name: str = name, whole: int = whole) -> None:
            watch.step(name, count // 1000, whole)

        there.call(_PUT, called, len(data), data=data, sent=sent)
    raise EngineError(f"{there.address.url}: {file}: arrives there damaged: is its disk sound?")
