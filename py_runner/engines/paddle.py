"""Engine `paddle`: Paddle Inference, the server that an edge engine is judged against.

Devices: `cpu` (Paddle's plain kernels), `cpu+onednn` (faster), `gpu`, `gpu:1`; on a GPU optionally
TensorRT, in fp32 or fp16.
The top level of this file imports the standard library only: see serve.py.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["load", "open_session"]


def _paddle() -> Any:
    try:
        return importlib.import_module("paddle")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"paddlepaddle cannot be imported by CPython {sys.version.split()[0]} ({error}): "
            "`pip install paddlepaddle==3.3.1 setuptools`, or paddlepaddle-gpu for a GPU"
        ) from None
    except ImportError as error:  # it is installed, but not what it is linked with
        raise ImportError(
            f"paddlepaddle lacks a library of the system ({error}): for libgomp.so.1, "
            "`apt-get install libgomp1` on Debian and Ubuntu"
        ) from None


def _configure(paddle: Any, config: dict[str, Any]) -> Any:
    inference = paddle.inference
    settings = inference.Config(*config["files"])
    settings.disable_glog_info()
    kind, _, number = config["device"].partition(":")
    if kind.startswith("cpu"):
        settings.disable_gpu()
        if kind == "cpu":
            # Measured with 3.3.1: oneDNN's passes segfault on some models (CSPDarkNet53), and a
            # reference has to be right before it is fast.
            settings.disable_mkldnn()
        settings.set_cpu_math_library_num_threads(config["threads"])
        return settings
    if not paddle.is_compiled_with_cuda():
        raise RuntimeError(
            f"device {config['device']}: this paddlepaddle {paddle.__version__} is a CPU build; "
            "replace it by paddlepaddle-gpu as Paddle's install page says, or use --device cpu"
        )
    index = int(number or 0)
    count = paddle.device.cuda.device_count()
    if index >= count:
        raise RuntimeError(f"device {config['device']}: this machine has {count} GPUs")
    precision = {
        "fp32": inference.PrecisionType.Float32,
        "fp16": inference.PrecisionType.Half,
    }[config["precision"]]
    settings.enable_use_gpu(256, index, precision)  # 256 MB of memory to begin with
    settings.enable_memory_optim()
    if config["tensorrt"]:
        settings.enable_tensorrt_engine(
            workspace_size=1 << 30,
            max_batch_size=max((s["sample"][:1] or (1,))[0] for s in config["shapes"].values()),
            min_subgraph_size=3,
            precision_mode=precision,
            use_static=False,
            use_calib_mode=False,
        )
        dynamic = {n: s for n, s in config["shapes"].items() if -1 in s["model"]}
        if dynamic:
            # TensorRT builds its engines for a range of shapes; ours is the one sample's.
            shape = {name: s["sample"] for name, s in dynamic.items()}
            settings.set_trt_dynamic_shape_info(shape, shape, shape)
    return settings


def _predictor(paddle: Any, settings: Any) -> Any:
    try:
        return paddle.inference.create_predictor(settings)
    except RuntimeError as error:
        # Measured with 3.3.1: it exports a branch on a parameter, and loses its blocks.
        if "control_flow_op.cc" not in str(error):
            raise
        raise RuntimeError(
            f"Paddle {paddle.__version__} cannot open a branch on a parameter (pd_op.if) that it "
            "exported itself: export the model without it, of PaddleDetection after the layers' "
            "convert_to_deploy()"
        ) from None


class _Session:
    def __init__(self, config: dict[str, Any]) -> None:
        paddle = _paddle()
        self.version = paddle.__version__
        self._predictor = _predictor(paddle, _configure(paddle, config))
        self._inputs = [(n, self._predictor.get_input_handle(n)) for n in config["inputs"]]
        names = self._predictor.get_output_names()
        self._outputs = [(n, self._predictor.get_output_handle(n)) for n in names]

    def prepare(self, feeds: dict[str, Any]) -> None:
        """Nothing: Paddle Inference takes any shape that the model does."""

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        for name, handle in self._inputs:
            handle.copy_from_cpu(feeds[name])
        self._predictor.run()
        return {name: handle.copy_to_cpu() for name, handle in self._outputs}


def load() -> None:
    """Import the engine: what the time limit of opening a model does not count. In the child."""
    _paddle()


def open_session(config: dict[str, Any]) -> _Session:
    """A session on `config["files"]`: model file and parameter file. Called in the child."""
    return _Session(config)
