"""What a device far away costs over this machine: one run of a bundle there and here, by turns.

    python benchmarks/devices.py BUNDLE --device ssh://... [--samples 200] [--repeats 3]
    python benchmarks/devices.py BUNDLE --loopback ssh|adb [...]

With --loopback a server of OpenSSH, or an adbd, is started here (tests/sshd.py, tests/adbd.py), and
lite_run is installed behind it: PADDLE_EDGE_LITE_RUN names its folder. The run here is by engine
native. Prints one JSON object: the wall time of each run in seconds, the ratio of their medians,
and whether the answers are the same bit by bit. The first run there, which copies the bundle, is
not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from py_runner.data.random_samples import random_samples
from py_runner.devices.install import install
from py_runner.devices.ssh import CONFIG_VARIABLE
from py_runner.formats.bundle import Bundle
from py_runner.inference import bundle_target, run
from py_runner.tensors import Sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from adbd import attached
from sshd import serving


@contextmanager
def device(url: str | None, loopback: str | None) -> Iterator[str]:
    """The device's URL: as given, or of a server here, which is gone in the end."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder) / "server"
        place.mkdir()
        if loopback == "adb":
            phone = stack.enter_context(attached(place))
            os.environ.update(phone.environment)
            there = phone.url(Path(folder) / "device")
        else:
            server = stack.enter_context(serving(place))
            os.environ[CONFIG_VARIABLE] = str(server.config)
            there = server.url(Path(folder) / "device")
        install(there)
        yield there


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--device")
    where.add_argument("--loopback", choices=("ssh", "adb"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    with device(asked.device, asked.loopback) as there:
        models = {name: bundle.model(bundle_target("native", name)) for name in ("cpu", there)}
        (first,) = random_samples(bundle.inputs, image=bundle.image, shapes=None)[:1]
        draw = np.random.default_rng(0)
        samples = [
            Sample(
                str(n),
                {k: draw.permutation(v.ravel()).reshape(v.shape) for k, v in first.feeds.items()},
            )
            for n in range(asked.samples)
        ]
        run(models[there], samples[:1], engine="native", device=there)
        walls: dict[str, list[float]] = {name: [] for name in models}
        same = True
        for _ in range(asked.repeats):
            runs = [run(models[n], samples, engine="native", device=n) for n in models]
            for name, done in zip(models, runs):
                walls[name].append(round(done.wall_s, 3))
            same = same and all(
                a.tobytes() == b.tobytes()
                for output in runs[0].outputs
                for a, b in zip(runs[0].outputs[output], runs[1].outputs[output])
            )
    here_s, there_s = (statistics.median(values) for values in walls.values())
    document = {
        "samples": asked.samples,
        "here_s": walls["cpu"],
        "there_s": walls[there],
        "ratio": round(there_s / here_s, 3),
        "same_answers": same,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
