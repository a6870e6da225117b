"""Writes docs/robustness.md: what happens where a disk is full, a file damaged, a process killed.

    python benchmarks/robustness.py --work FOLDER [--lite-run FILE] [--only NAME,NAME]

many      20,000 pictures of a tiny model: memory, and what is told without a terminal
pipes     a pipe (FIFO) in place of each file that is read
full      a disk that is full at every size from 8 KB on (a tmpfs: needs root)
killed    `kill -9` at a random moment of writing a bundle, a run and a page, 100 times each
damaged   1,000 .nb files with altered bytes and right checksums, under time and memory limits

Results stay in FOLDER: `--only` measures these anew, and the page has the others from before.
`--lite-run` names the native command, which is tried as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import make_model

from lite_opt.conversion.convert import convert
from py_runner.errors import EngineError, ModelError, PaddleEdgeError, RefusedError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
SAMPLES, KILLS, DAMAGED = 20_000, 100, 1_000
HANG_S, LONG_S = 120.0, 3600.0  # longer than one call may take, and than thousands
TIME_LIMIT_S = 10.0
SPEC = f"resize=short:20,crop={make_model.SIDE}"
EDGE = (sys.executable, "-m", "lite_opt.cli.main")

Row = tuple[str, str, str, str]  # what, how many, outcome, lost or hanging


class Setting:
    """A tiny model, its bundle and pictures, and the commands, in a folder of work."""

    def __init__(self, work: Path, lite_run: str | None) -> None:
        self.work, self.lite_run = work, lite_run
        self.model, self.bundle = work / "model", work / "tiny.bundle"
        self.photos = work / "photos"
        if not self.bundle.exists():
            make_model.save(make_model.classifier(), self.model)
            make_model.save(make_model.classifier(seed=1), work / "other")
            make_model.pictures(self.photos)
            assert convert(self.model, self.bundle, image=SPEC, samples=self.photos)
        self.old_run = work / "old.run"
        if not self.old_run.exists():
            bundle = Bundle.open(self.bundle)
            run(bundle.model("x86"), bundle.read_samples()).save(self.old_run)

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


class Ended:
    """How a command ended: code (None: it hung, and was killed), output, seconds, peak memory."""

    def __init__(self, argv: Sequence[object], hang_s: float = HANG_S) -> None:
        start = time.monotonic()
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(list(map(str, argv)), stdout=subprocess.DEVNULL, stderr=log)
            self.code: int | None = None
            while True:
                done, status, used = os.wait4(process.pid, os.WNOHANG)
                if done:
                    self.code = os.waitstatus_to_exitcode(status)
                    break
                if time.monotonic() - start > hang_s:
                    process.kill()
                    _, _, used = os.wait4(process.pid, 0)
                    break
                time.sleep(0.005)
            process.returncode = 0  # waited for
            log.seek(0)
            self.said = log.read().decode("utf-8", "replace")
        self.seconds = time.monotonic() - start
        self.memory_mb = used.ru_maxrss / 1e3  # the largest process of it

    @property
    def sentence(self) -> bool:
        """Whether it ended in one line of ours."""
        lines = self.said.strip().splitlines()
        ours = bool(lines) and lines[-1].startswith(("paddle-edge: ", "lite_run: "))
        return self.code in (1, 2, 3) and ours and "internal error" not in self.said


def many(setting: Setting) -> Iterator[Row]:
    """20,000 pictures: links to six."""
    data = setting.work / "many"
    if not data.exists():
        data.mkdir()
        for index in range(SAMPLES):
            os.link(setting.photos / f"picture_{index % 6}.png", data / f"{index:05d}.png")
    commands: dict[str, list[object]] = {
        "`paddle-edge run`, engine lite": [*EDGE, "run", setting.bundle, "--data", data]
    }
    if setting.lite_run:
        commands["`lite_run`"] = [setting.lite_run, setting.bundle, data]
    runs = []
    for name, argv in commands.items():
        out = setting.fresh("many-out") / "run"
        few = setting.fresh("few-out") / "run"
        less = Ended([*argv[:-1], setting.photos, "-o", few])
        ended = Ended([*argv, "-o", out], LONG_S)
        answered = len(Run.open(out).samples)
        runs.append([v.copy() for v in next(iter(Run.open(out).outputs.values()))])
        told = sum(" of " in line for line in ended.said.splitlines())
        yield (
            f"{name} on pictures",
            f"{SAMPLES:,}",
            f"{answered:,} answered in {ended.seconds:.0f} s; peak {ended.memory_mb:.0f} MB, with "
            f"six pictures {less.memory_mb:.0f} MB; {told} lines of progress without a terminal",
            "nothing" if answered == SAMPLES else f"{SAMPLES - answered:,} LOST",
        )
    if len(runs) == 2:
        same = sum(np.array_equal(a, b) for a, b in zip(*runs))
        yield ("the two runs against each other", f"{SAMPLES:,}", f"{same:,} equal bit by bit", "")


def pipes(setting: Setting) -> Iterator[Row]:
    """A pipe in place of a file: each command that reads it."""
    spoilt = ("bundle.json", "model.x86.nb", "samples/*.npy", "reference/run.json")
    folder = setting.fresh("pipes")
    calls: list[list[object]] = []
    for index, pattern in enumerate(spoilt):
        bundle = Path(shutil.copytree(setting.bundle, folder / f"{index}.bundle"))
        _pipe(next(iter(sorted(bundle.glob(pattern)))))
        calls.append([*EDGE, "run", bundle, "-o", folder / f"{index}.run"])
        calls.append([*EDGE, "inspect", bundle])
        if setting.lite_run:
            calls.append([setting.lite_run, bundle])
    data = Path(shutil.copytree(setting.photos, folder / "data"))
    _pipe(data / "a.jpg")
    for name in ("one.png", "stack.npy", "several.npz", "list.txt", "list.csv", "labels.txt"):
        _pipe(folder / name)
    for path in (data, *(folder / n for n in ("one.png", "stack.npy", "several.npz", "list.txt"))):
        calls.append([*EDGE, "run", setting.bundle, "--data", path, "-o", folder / "run"])
        if setting.lite_run and path.suffix not in (".npz", ".txt"):
            calls.append([setting.lite_run, setting.bundle, path])
    model = Path(shutil.copytree(setting.model, folder / "model"))
    calls.append([*EDGE, "run", setting.bundle, "--labels", folder / "labels.txt", "-o", "x"])
    _pipe(model / "inference.yml")
    calls.append([*EDGE, "convert", model, "-o", folder / "out"])
    for name in sorted(p.name for p in setting.model.iterdir()):
        shutil.rmtree(model)
        shutil.copytree(setting.model, model)
        _pipe(model / name)
        calls.append([*EDGE, "convert", model, "-o", folder / f"out-{name}"])
    counts = Counter(_class_of(Ended(argv)) for argv in calls)
    yield (
        "a pipe in place of a bundle's files, a picture, an array, a list, labels, a model's files",
        str(len(calls)),
        _told(counts),
        "nothing hangs" if not counts["hung"] else f"{counts['hung']} HUNG",
    )


def _class_of(ended: Ended) -> str:
    if ended.code is None:
        return "hung"
    if ended.code == 0:
        return "did not need it"
    return "ended in a sentence" if ended.sentence else f"ended otherwise: {ended.said[-200:]!r}"


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def full(setting: Setting) -> Iterator[Row]:
    """A disk on which an older result is, and so many KB are free."""
    old_run = setting.old_run
    page = setting.work / "old.html"
    page.write_text("<html>old</html>")
    data = setting.work / "stack.npy"
    np.save(data, np.zeros((300, 3, make_model.SIDE, make_model.SIDE), "float32"))
    kinds: dict[str, tuple[Path, Callable[[Path], list[object]]]] = {
        "bundle": (setting.bundle, lambda to: [
            *EDGE, "convert", setting.work / "other", "--image", SPEC, "-o", to, "--force"]),
        "run": (old_run, lambda to: [
            *EDGE, "run", setting.bundle, "--data", data, "-o", to, "--force"]),
        "page": (page, lambda to: [
            *EDGE, "compare", setting.bundle / "reference", old_run, "--common", "--html", to,
            "--force"]),
    }  # fmt: skip
    if setting.lite_run:
        native = setting.lite_run
        kinds["run of `lite_run`"] = (
            old_run, lambda to: [native, setting.bundle, data, "-o", to, "--force"],
        )  # fmt: skip
    for what, (old, argv) in kinds.items():
        counts: Counter[str] = Counter()
        lost = 0
        sizes = [0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 1024]
        for free in sizes:
            with _small_disk(setting.work / "disk", old, free) as place:
                if place is None:
                    yield (f"a full disk: {what}", "0", "left out: no right to mount a tmpfs", "")
                    return
                before, names = _tree(place), sorted(p.name for p in place.parent.iterdir())
                ended = Ended(argv(place))
                after = _tree(place)
                stays = after == before and sorted(p.name for p in place.parent.iterdir()) == names
                if ended.code == 0:
                    counts["wrote it: there was room"] += 1
                    lost += not _whole(place)
                else:
                    full_ = ended.sentence and "disk is full" in ended.said
                    counts["said that the disk is full" if full_ else ended.said[-200:]] += 1
                    lost += not stays
        yield (
            f"a full disk: {what} over an older one, 0 to 1024 KB free",
            str(len(sizes)),
            _told(counts),
            "the older one stays" if not lost else f"{lost} LOST",
        )


@contextmanager
def _small_disk(mount: Path, old: Path, free_kb: int) -> Iterator[Path | None]:
    """The older result on a file system with no more than so many KB free; None without root."""
    mount.mkdir(exist_ok=True)
    size = sum(-(-p.stat().st_size // 4096) * 4 for p in old.rglob("*")) if old.is_dir() else 4
    options = f"size={size + free_kb}k"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)], capture_output=True
    )
    if done.returncode:
        yield None
        return
    try:
        place = mount / f"result{old.suffix}"
        shutil.copytree(old, place) if old.is_dir() else shutil.copy(old, place)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def _tree(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(p): p.read_bytes() for p in files if p.is_file()}


def _whole(path: Path) -> bool:
    """Whether a bundle, a run or a page is there with all that belongs to it."""
    try:
        if (path / "bundle.json").exists():
            bundle = Bundle.open(path)
            for target in bundle.targets:
                bundle.model(target)  # checksums
            return len(bundle.read_samples()) == len(bundle.samples)
        if (path / "run.json").exists():
            opened = Run.open(path)
            return all(np.isfinite(v).all() for vs in opened.outputs.values() for v in vs)
        return path.read_text().rstrip().endswith("</html>")
    except (PaddleEdgeError, OSError):
        return False


# Writes one of two things, again and again: killed while it does.
WRITERS = {
    "bundle": """
from lite_opt.conversion.convert import convert
begins()
while True:
    for model in (work / "model", work / "other"):
        convert(model, place, image=spec, check=False, force=True)
""",
    "run": """
from py_runner.formats.run import Run
runs = [Run.open(work / "old.run"), Run.open(work / "old.run").first(2)]
while True:
    for one in runs:
        one.save(place, force=True)
        begins()
""",
    "page": """
from lite_opt.cli.output import write
while True:
    for letter in "ab":
        write(place, "<html>" + letter * 100_000 + "</html>")
        begins()
""",
}


def killed(setting: Setting) -> Iterator[Row]:
    """`kill -9` while an older result is being replaced."""
    choose = random.Random(0)
    for what, script in WRITERS.items():
        place = setting.fresh("killed") / f"result.{what}"
        old = {"bundle": setting.bundle, "run": setting.old_run}.get(what)
        shutil.copytree(old, place) if old else place.write_text("<html></html>")
        start = "import sys\nfrom pathlib import Path\nwork, place = map(Path, sys.argv[1:3])\n"
        start += "spec = sys.argv[3]\ntold = []\n"
        start += "def begins():\n    if not told: told.append(print('begins', flush=True))\n"
        argv = [sys.executable, "-c", start + script, str(setting.work), str(place), SPEC]
        span = 3.0 if what == "bundle" else 0.1
        yield _killed(f"`kill -9` while a {what} is written", argv, place, span, choose, wait=True)
    if setting.lite_run:
        place = setting.fresh("killed") / "result.run"
        data = setting.work / "stack.npy"
        np.save(data, np.zeros((300, 3, make_model.SIDE, make_model.SIDE), "float32"))
        argv = [setting.lite_run, str(setting.bundle), str(data), "-o", str(place), "--force"]
        shutil.copytree(setting.old_run, place)
        took = Ended(argv).seconds
        what = "`kill -9` while `lite_run` answers"
        yield _killed(what, argv, place, took, choose, wait=False)
        what = "`kill -9` while `lite_run` writes a run"
        yield _killed(what, argv, place, 0.0005, choose, wait=False, partial=True)


def _killed(
    what: str,
    argv: list[str],
    place: Path,
    span: float,
    choose: random.Random,
    *,
    wait: bool,
    partial: bool = False,
) -> Row:
    """The row of KILLS kills: up to `span` seconds after a start, after the first line that it
    prints (`wait`), or after something unfinished is there (`partial`)."""
    whole = parts = left = 0
    for _ in range(KILLS):
        quiet = {"stderr": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, **quiet)  # type: ignore[call-overload]
        if wait:
            process.stdout.readline()
        while partial and process.poll() is None and not any(place.parent.glob(".*")):
            pass
        time.sleep(choose.uniform(0, span))
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()
        whole += _whole(place)
        left += _left_of(process.pid)
        parts += sum(p.name.startswith(".") for p in place.parent.iterdir())
        for rest in place.parent.glob(".*"):  # which a reader does not take for a result
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    return (
        what,
        str(KILLS),
        f"{whole} times the old or the new one is there, whole; {parts} unfinished ones beside it, "
        "by hidden names",
        "nothing" if whole == KILLS and not left else f"{KILLS - whole} LOST, {left} HANGING",
    )


def _left_of(session: int) -> int:
    """Processes of a session that are still there after it was killed and given 20 s."""
    stop = time.monotonic() + 20
    while True:
        found = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                found += int(fields[3]) == session and fields[0] != "Z"
        if not found or time.monotonic() > stop:
            return found
        time.sleep(0.05)


def damaged(setting: Setting) -> Iterator[Row]:
    """.nb files with altered bytes and right checksums, on both runners of x86."""
    found = Ended([sys.executable, __file__, "--damaged", setting.work], LONG_S)
    tallies = {"engine lite": json.loads(found.said.strip().splitlines()[-1])}
    if setting.lite_run:
        counts: Counter[str] = Counter()
        memory_mb = seconds = 0.0
        for copy in _damaged_bundles(setting.work):
            ended = Ended([setting.lite_run, copy, "--time-limit", TIME_LIMIT_S])
            counts[_outcome(ended)] += 1
            memory_mb, seconds = max(memory_mb, ended.memory_mb), max(seconds, ended.seconds)
        tallies["`lite_run`"] = {"counts": counts, "memory_mb": memory_mb, "seconds": seconds}
    for name, tally in tallies.items():
        odd = sum(n for outcome, n in tally["counts"].items() if outcome not in TOLD)
        yield (
            f"damaged .nb with right checksums, {name}, `--time-limit {TIME_LIMIT_S:g}`",
            f"{DAMAGED:,}",
            f"{_told(Counter(tally['counts']))}; peak {tally['memory_mb']:.0f} MB, slowest "
            f"{tally['seconds']:.1f} s",
            "nothing hangs" if not odd else f"{odd} ODD",
        )


def _damaged_bundles(work: Path) -> Iterator[Path]:
    """The same folder again and again, each time with another damage."""
    copy = work / "damaged" / "tiny.bundle"
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(work / "tiny.bundle", copy)
    data = (copy / "model.x86.nb").read_bytes()
    for seed in range(DAMAGED):
        _damage(copy, data, random.Random(seed))
        yield copy


TOLD = (
    "other bytes, the same answers",
    "other answers: what was altered is a weight, or says how to compute",
    "refused before the engine saw it",
    "the engine refused it or died: a sentence",
    "stopped by the time limit: a sentence",
    "stopped by the memory limit: a sentence",
)


def _damage(bundle: Path, data: bytes, choose: random.Random) -> None:
    """Alter one to eight bytes, of the topology alone every second time, and keep the sums."""
    altered = bytearray(data)
    topology = 26 + int.from_bytes(data[18:26], "little")
    end = topology if choose.random() < 0.5 else len(data)
    for _ in range(choose.randint(1, 8)):
        altered[choose.randrange(end)] = choose.randrange(256)
    (bundle / "model.x86.nb").write_bytes(altered)
    document = json.loads((bundle / "bundle.json").read_text())
    document["targets"]["x86"]["sha256"] = hashlib.sha256(altered).hexdigest()
    document["targets"]["x86"]["crc32"] = f"{zlib.crc32(altered):08x}"
    (bundle / "bundle.json").write_text(json.dumps(document))


def _outcome(ended: Ended) -> str:
    if ended.code in (0, 1):
        return TOLD[ended.code]
    if ended.code is None or not ended.sentence:
        return "hung" if ended.code is None else f"code {ended.code}: {ended.said[-100:]!r}"
    if "gave no answer within" in ended.said:
        return TOLD[4]
    if "give --memory-limit" in ended.said:
        return TOLD[5]
    return TOLD[3] if "the engine ended the process" in ended.said else TOLD[2]


def answer_damaged(work: Path) -> dict[str, Any]:
    """What engine lite makes of damaged bundles. In a process of its own, whose children count."""
    counts: Counter[str] = Counter()
    slowest = 0.0
    for copy in _damaged_bundles(work):
        start = time.monotonic()
        counts[_answer(copy)] += 1
        slowest = max(slowest, time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {"counts": counts, "memory_mb": peak, "seconds": slowest}


def _answer(folder: Path) -> str:
    try:
        bundle = Bundle.open(folder)
        samples = bundle.read_samples()
        done = run(bundle.model("x86"), samples, time_limit_s=TIME_LIMIT_S)
    except RefusedError as error:
        text = str(error)
        return TOLD[4 if "gave no answer within" in text else 5 if "it may take" in text else 3]
    except (ModelError, EngineError):
        return TOLD[2]
    reference = bundle.reference()
    pairs = zip(done.outputs.values(), reference.outputs.values())
    same = all(
        a.shape == b.shape and np.allclose(a, b, atol=1e-5) for x, y in pairs for a, b in zip(x, y)
    )
    return TOLD[0] if same else TOLD[1]


def _told(counts: Counter[str]) -> str:
    return "; ".join(f"{count} {what}" for what, count in counts.most_common())


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "many": many, "pipes": pipes, "full": full, "killed": killed, "damaged": damaged,
}  # fmt: skip


def page(results: dict[str, Any]) -> str:
    """docs/robustness.md."""
    rows = [row for name in PARTS for row in results.get(name, [])]
    table = ["| What | Times | Outcome | Lost, or hanging |", "|---|---:|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(
        [
            "# When things go wrong",
            "",
            "What becomes of bundles, runs and pages where a disk is full, a file is damaged or a "
            "process is killed, on a model with ten classes that is a few KB, on x86-64 Linux. "
            "`benchmarks/robustness.py` makes this page; its head says what each line does.",
            "",
            *table,
            "",
            "A result is written beside its place under a hidden name (`.NAME.partial-...`) and "
            "takes its place at once: after `kill -9` such a folder may be left, which no reader "
            "takes for a result, and which can be removed. A sentence is one line on standard "
            "error that says what, which file and what to do, with exit code 2 or 3.",
            "",
        ]
    )


def main() -> None:
    """Measure what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--lite-run")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--damaged", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.damaged:
        print(json.dumps(answer_damaged(options.damaged)), file=sys.stderr)
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options.work.mkdir(parents=True, exist_ok=True)
    setting = Setting(options.work.resolve(), options.lite_run)
    store = setting.work / "results.json"
    for name in options.only.split(","):
        results = json.loads(store.read_text()) if store.exists() else {}
        results[name] = list(PARTS[name](setting))
        store.write_text(json.dumps(results, indent=1))
        for row in results[name]:
            print(*row, sep=" | ", flush=True)
        PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
