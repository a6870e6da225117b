"""Paddle's PostTrainingQuantization on one model: the child of calibrate.py.

A script of its own, because the kind of program that paddle makes is decided when it is imported,
and because it may die. The JSON on standard input says what to do; standard output gets one line
for each sample that has been through the model, everything else goes to standard error.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this file's folder: its modules are not for paddle

import ctypes
import importlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PIR_FLAG = "FLAGS_enable_pir_api"  # read once, when paddle is imported
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Loader:
    """The samples, one a batch, each time anew: one pass for the ranges, one for the rest."""

    def __init__(self, samples: list[dict[str, str]], report: Any) -> None:
        self._samples, self._report = samples, report

    def __len__(self) -> int:
        return len(self._samples)

    def __call__(self) -> Iterator[dict[str, Any]]:
        import numpy as np

        for feeds in self._samples:
            try:
                yield {name: np.load(file, allow_pickle=False) for name, file in feeds.items()}
            finally:  # also of the last, after which paddle does not ask again
                print("sample", file=self._report, flush=True)


def main() -> None:
    """Quantize as the JSON on standard input says."""
    if sys.platform == "linux":
        # Die with the parent, however it dies: nobody would use what comes out.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # paddle prints what it likes where it likes
    config = json.load(sys.stdin)
    os.environ[_PIR_FLAG] = "0"  # its quantization edits programs of the old form
    paddle: Any = importlib.import_module("paddle")
    ptq: Any = importlib.import_module("paddle.static.quantization")
    paddle.enable_static()
    model, params = Path(config["model"]), Path(config["params"])
    quantization = ptq.PostTrainingQuantization(
        executor=paddle.static.Executor(paddle.CPUPlace()),
        model_dir=str(model.parent),
        model_filename=model.name,
        params_filename=os.path.relpath(params, model.parent),
        data_loader=_Loader(config["samples"], report),
        batch_nums=len(config["samples"]),
        algo=config["algorithm"],
        weight_quantize_type="channel_wise_abs_max" if config["per_channel"] else "abs_max",
        quantizable_op_type=config["operators"],
        skip_tensor_list=config["skip"],
    )
    quantization.quantize()
    quantization.save_quantized_model(
        config["out"], model_filename="inference.pdmodel", params_filename="inference.pdiparams"
    )
    sys.stderr.flush()
    os._exit(0)  # the file is written: taking paddle apart would only take time


if __name__ == "__main__":
    main()
