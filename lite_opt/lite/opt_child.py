"""Paddle Lite's optimizer on one model for one target: the child of optimize.py.

A script of its own, run as `python opt_child.py` by whatever interpreter has paddlelite:
standard library only. One Opt object a process: a second use of one gives a different file.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this file's folder: its modules are not for this interpreter

import ctypes
import json
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Run the optimizer as the JSON on standard input says."""
    if sys.platform == "linux":
        # Die with the parent, however it dies: nobody would use what comes out.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    from paddlelite.lite import Opt  # before reading: the parent has other work meanwhile

    config = json.loads(sys.stdin.read() or "null")
    if config is None:  # the parent has given up
        return
    opt = Opt()
    if "list_ops" in config:
        opt.set_valid_places(config["list_ops"])
        opt.print_supported_ops()
        return
    if config["folder"]:  # each parameter in a file of its own
        opt.set_model_dir(config["folder"])
    else:
        opt.set_model_file(config["model"])
        opt.set_param_file(config["params"])
    if config["fp16"]:
        opt.enable_fp16()  # has no effect after set_valid_places
    opt.set_valid_places(config["target"])
    if config["quant_type"]:
        opt.set_quant_model(True)
        opt.set_quant_type(config["quant_type"])
    opt.set_model_type("naive_buffer")
    opt.set_optimize_out(config["out"])
    opt.run()
    sys.stdout.flush()
    os._exit(0)  # the file is written: taking the engine's memory apart would only take time


if __name__ == "__main__":
    main()
