"""A run that is killed again and again, and gone on with: is it the undisturbed one in the end?

    python benchmarks/kills.py [--kills 50] [--chain 10] [--samples 3000] [--seed 0]

A tiny classifier answers pictures of noise by the command `paddle-edge run`, with parts of a tenth
of a second. A run is begun, killed (SIGKILL, to it and to its engine) at a random moment, gone on
with by --resume, killed again and so on, `--chain` times, unless it ends before; then it is left to
end, and the next one begins, until there were `--kills` in all. Printed is a line for each kill:
what was there then, in words; and of each Run whether it has the ids, their order and the answers
of an undisturbed one, bit by bit. Exits 1 where one has not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lite_opt.conversion.convert import convert
from py_runner.errors import ModelError
from py_runner.formats.parts import in_words, is_under_way
from py_runner.formats.run import Run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import make_model  # noqa: E402

PART_S = 0.1


def made(folder: Path) -> Path:
    """A bundle of the tiny classifier."""
    model = make_model.save(make_model.classifier(), folder / "tiny")
    few = make_model.pictures(folder / "few")
    out = folder / "tiny.bundle"
    if not convert(model, out, image=f"resize=short:20,crop={make_model.SIDE}", samples=few):
        raise SystemExit("the bundle fails its check")
    return out


def started(bundle: Path, data: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command at work, in a session of its own."""
    words = ["run", bundle, "--data", data, "-o", out, "--keep-every", PART_S, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "lite_opt.cli.main", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> float:
    """Seconds until it ended from now on. Raises SystemExit with its last words where it failed."""
    began = time.monotonic()
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"the command failed: {said.decode().strip()}")
    return time.monotonic() - began


def alike(a: Path, b: Path) -> bool:
    """Whether two Runs have the same samples in their order, and the same answers, bit by bit."""
    one, other = Run.open(a), Run.open(b)
    return list(one.samples) == list(other.samples) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for name in one.outputs
        for x, y in zip(one.outputs[name], other.outputs[name])
    )


def state(out: Path) -> str:
    """What is there: nothing, a run under way, or a whole one."""
    if is_under_way(out):
        return in_words(out).partition(": ")[2].partition(";")[0]
    try:
        return f"a whole run of {len(Run.open(out).samples)} samples"
    except ModelError:
        return "nothing yet"


def killed(
    bundle: Path, data: Path, folder: Path, *, kills: int, chain: int, seed: int
) -> Iterator[tuple[str, bool]]:
    """A line for each kill, and for each run that ended, with whether that is as it should be."""
    draw = random.Random(seed)
    undisturbed = folder / "undisturbed.run"
    whole_s = ended(started(bundle, data, undisturbed))
    yield f"undisturbed: {whole_s:.1f} s", True
    run, struck, count = 0, 0, 0
    while count < kills or struck:
        out = folder / f"killed{run}.run"
        process = started(bundle, data, out, "--resume")
        if struck < chain and count < kills:
            # Some fall into the start, most into the work, some into the joining of the parts.
            after = draw.uniform(0.2, 0.9) * whole_s
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                struck, count = struck + 1, count + 1
                yield f"run {run}: kill {count} after {after:.2f} s: {state(out)}", True
                continue
            whole_s = min(whole_s, after)
        ended(process)
        same = alike(undisturbed, out)
        yield f"run {run}: {struck} kills, {'bit-equal' if same else 'ANOTHER RUN'}", same
        run, struck = run + 1, 0


def main() -> None:
    """Kill, resume, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--chain", type=int, default=10)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle, data = made(folder), make_model.pictures(folder / "data", asked.samples)
        well = True
        for line, good in killed(
            bundle, data, folder, kills=asked.kills, chain=asked.chain, seed=asked.seed
        ):
            print(line, flush=True)
            well = well and good
    sys.exit(not well)


if __name__ == "__main__":
    main()
