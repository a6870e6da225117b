"""A small network trained with quantization by Paddle (QAT), saved in either of its two forms.

`python tests/make_quantized.py FOLDER fake|linear`: a script of its own, because paddle decides
at import which kind of program it makes. What it does is what PaddleSlim's `quant_aware` and
`convert` do, with the passes of paddle.static.quantization that they call.
"""

from __future__ import annotations

import os
import sys

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  paddle's own spelling

import numpy as np
import paddle
from paddle.base import core
from paddle.base.framework import IrGraph
from paddle.static import quantization

SIDE, CLASSES, STEPS, BATCH = 16, 4, 30, 32
LAYERS = ["conv2d", "depthwise_conv2d", "mul"]


def network(x: paddle.Tensor) -> paddle.Tensor:
    """Two convolutions and a linear layer."""
    for index, channels in enumerate((8, 16)):
        weight = paddle.ParamAttr(name=f"conv{index}.w")
        x = paddle.static.nn.conv2d(
            x, channels, 3, stride=2, padding=1, param_attr=weight, bias_attr=False
        )
        x = paddle.nn.functional.relu(x)
    x = paddle.nn.functional.adaptive_avg_pool2d(x, 1)
    return paddle.static.nn.fc(paddle.flatten(x, 1), CLASSES)


def batch(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Noise over a pattern of its class."""
    patterns = np.random.default_rng(0).standard_normal((CLASSES, 3, SIDE, SIDE))
    label = random.integers(0, CLASSES, BATCH)
    noise = random.standard_normal((BATCH, 3, SIDE, SIDE))
    image = patterns[label] + 0.5 * noise
    return {"x": image.astype("float32"), "label": label[:, None]}


def main(folder: str, form: str) -> None:
    """Train with fake quantization, freeze, save."""
    paddle.enable_static()
    paddle.seed(0)
    linear = form == "linear"
    place = paddle.CPUPlace()
    executor, scope = paddle.static.Executor(place), paddle.static.global_scope()
    train, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(train, start):
        x = paddle.static.data("x", [-1, 3, SIDE, SIDE])
        label = paddle.static.data("label", [-1, 1], "int64")
        scores = network(x)
        loss = paddle.nn.functional.cross_entropy(scores, label).mean()
        test = train.clone(for_test=True)
        paddle.optimizer.Adam(0.01).minimize(loss)
    executor.run(start)
    transform = (
        quantization.QuantizationTransformPassV2
        if linear
        else quantization.QuantizationTransformPass
    )
    graphs = []
    for program, for_test in ((train, False), (test, True)):
        graph = IrGraph(core.Graph(program.desc), for_test=for_test)
        transform(
            scope=scope,
            place=place,
            weight_quantize_type="channel_wise_abs_max",
            activation_quantize_type="moving_average_abs_max",
            quantizable_op_type=LAYERS,
        ).apply(graph)
        graphs.append(graph)
    random = np.random.default_rng(1)
    trained = graphs[0].to_program()
    for _ in range(STEPS):
        executor.run(trained, feed=batch(random), fetch_list=[loss.name])
    if linear:
        quantization.QuantWeightPass(scope, place).apply(graphs[1])
    else:
        quantization.QuantizationFreezePass(
            scope, place, weight_quantize_type="channel_wise_abs_max", quantizable_op_type=LAYERS
        ).apply(graphs[1])
    frozen = graphs[1].to_program()
    data = batch(random)
    (answers,) = executor.run(frozen, feed=data, fetch_list=[scores.name])
    right = float((answers.argmax(-1) == data["label"][:, 0]).mean())
    paddle.static.save_inference_model(
        f"{folder}/inference",
        [frozen.global_block().var("x")],
        [frozen.global_block().var(scores.name)],
        executor,
        program=frozen,
    )
    print(f"accuracy {right:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
