"""A small network with biases, quantized after training, with quantize_linear and
dequantize_linear (onnx_format=True).

`python make_post_quantized.py FOLDER`: a script of its own, because paddle decides at import which
kind of program it makes.
"""

from __future__ import annotations

import os
import sys

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  paddle's own spelling

import numpy as np
import paddle
from paddle.static.quantization import PostTrainingQuantization


def main(folder: str) -> None:
    """Save the float network to FOLDER/float, the quantized one to FOLDER/quantized."""
    paddle.enable_static()
    paddle.seed(0)
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.global_scope()
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
    batches = [{"x": random.standard_normal((2, 3, 16, 16)).astype("float32")} for _ in range(8)]
    names = {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"}
    post = PostTrainingQuantization(
        executor=executor,
        model_dir=f"{folder}/float",
        data_loader=lambda: iter(batches),
        batch_nums=len(batches),
        algo="abs_max",
        onnx_format=True,
        quantizable_op_type=["conv2d", "depthwise_conv2d", "mul", "matmul_v2"],
        **names,
    )
    post.quantize()
    post.save_quantized_model(f"{folder}/quantized", **names)


if __name__ == "__main__":
    main(sys.argv[1])
