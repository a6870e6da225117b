"""A small network with biases, quantized after training, with quantize_linear and
dequantize_linear (onnx_format=True).

`python make_post_quantized.py FOLDER`: a script of its own, because paddle decides at import which
kind of program it makes. With `products` behind it, FOLDER/float is there already, and its products
are quantized, of activations too, as PaddleSlim does, in the older form (onnx_format=False).
"""

from __future__ import annotations

import os
import sys

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  paddle's own spelling

import numpy as np
import paddle
from paddle.static.quantization import PostTrainingQuantization

NAMES = {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"}


def small_network(folder: str, executor: paddle.static.Executor) -> None:
    """Save the float network to FOLDER/float."""
    scope = paddle.static.global_scope()
    program, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, start):
        x = paddle.static.data("x", [-1, 3, 16, 16])
        y = paddle.nn.functional.relu(paddle.nn.Conv2D(3, 8, 3, padding=1)(x))
        y = paddle.nn.functional.relu(paddle.nn.Conv2D(8, 8, 3, stride=2)(y))
        y = paddle.flatten(paddle.nn.functional.adaptive_avg_pool2d(y, 1), 1)
        scores = paddle.nn.Linear(8, 4)(y)
    executor.run(start)
    random = np.random.default_rng(0)
    for parameter in program.all_parameters():
        if len(parameter.shape) == 1:  # a bias: none of them zero
            bias = random.normal(0, 0.5, parameter.shape).astype("float32")
            scope.find_var(parameter.name).get_tensor().set(bias, paddle.CPUPlace())
    paddle.static.save_inference_model(
        f"{folder}/float/inference", [x], [scores], executor, program=program
    )


def main(folder: str, what: str = "") -> None:
    """Save the quantized network to FOLDER/quantized."""
    paddle.enable_static()
    paddle.seed(0)
    executor = paddle.static.Executor(paddle.CPUPlace())
    if what != "products":
        small_network(folder, executor)
    random = np.random.default_rng(0)
    shape = (1, 6, 8) if what == "products" else (2, 3, 16, 16)
    batches = [{"x": random.standard_normal(shape).astype("float32")} for _ in range(8)]
    post = PostTrainingQuantization(
        executor=executor,
        model_dir=f"{folder}/float",
        data_loader=lambda: iter(batches),
        batch_nums=len(batches),
        algo="abs_max",
        onnx_format=what != "products",
        quantizable_op_type=["conv2d", "depthwise_conv2d", "mul", "matmul_v2"],
        **NAMES,
    )
    post.quantize()
    post.save_quantized_model(f"{folder}/quantized", **NAMES)


if __name__ == "__main__":
    main(*sys.argv[1:])
