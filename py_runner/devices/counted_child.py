"""An engine in Python whose instructions are counted: the child of qemu_python.py.

A script of its own, run as `python counted_child.py JOB.json TIMES` by an emulated interpreter: it
may import the standard library and NumPy only. It answers sample by sample, each read when its turn
comes: by the opening of its file the counts of qemu.py begin and end.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this file's folder

import gc
import importlib.util
import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Answer each sample so many times, the first one to warm up."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    spec = importlib.util.spec_from_file_location("engine", job["engine"])
    assert spec is not None and spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    session = engine.open_session(job["config"])
    gc.disable()  # when it collects is not up to the model
    for files in job["feeds"]:
        feeds = {name: np.load(file) for name, file in files.items()}
        session.prepare(feeds)
        for _ in range(int(sys.argv[2])):
            session.run(feeds)


if __name__ == "__main__":
    main()
