"""A small network quantized by Paddle 3's own API, paddle.quantization, and exported by it.

`python tests/make_paddle3_quantized.py FOLDER` writes FOLDER/post (PTQ: observers, no training)
and FOLDER/trained (QAT), each with what the quantized network answers to FOLDER/x.npy beside it.

In the older form: what Paddle 3.3.1 exports of such a network as inference.json, it cannot run
itself (Paddle Inference: "Tensor holds no memory"; paddle.jit.load: other numbers).
"""

from __future__ import annotations

import os
import sys

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  paddle's own spelling

from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.quantization import PTQ, QAT, QuantConfig
from paddle.quantization.observers import AbsmaxObserver
from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver
from paddle.quantization.quanters.abs_max import FakeQuanterWithAbsMaxObserverLayer

STEPS, BATCH = 20, 32


class Network(nn.Layer):  # type: ignore[misc]
    """Two convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2D(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2D(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.middle, self.head = nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, x: Any) -> Any:
        x = self.features(x).mean([2, 3])
        return self.head(nn.functional.relu(self.middle(x)))


def batch(random: np.random.Generator) -> tuple[Any, Any]:
    """Noise over a pattern of its class."""
    patterns = np.random.default_rng(0).standard_normal((4, 3, 16, 16))
    labels = random.integers(0, 4, BATCH)
    images = patterns[labels] + 0.5 * random.standard_normal((BATCH, 3, 16, 16))
    return paddle.to_tensor(images.astype("float32")), paddle.to_tensor(labels)


def train(network: Any, random: np.random.Generator) -> None:
    """A few steps."""
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    network.train()
    for _ in range(STEPS):
        images, labels = batch(random)
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    network.eval()


def save(quantizer: Any, network: Any, images: Any, folder: Path) -> None:
    """Export, with what it answers."""
    converted = quantizer.convert(network)
    converted.eval()
    spec = [paddle.static.InputSpec([None, 3, 16, 16], "float32", "x")]
    paddle.jit.save(converted, str(folder / "inference"), input_spec=spec)
    np.save(folder.with_suffix(".npy"), converted(images).numpy())


def zero_points(quanter: Any) -> Any:
    """What Paddle 3.3.1 answers None for, which its own `QAT.convert` then dies of."""
    return paddle.zeros_like(quanter.scales())


def main(folder: Path) -> None:
    """Train in float, quantize both ways, export."""
    FakeQuanterWithAbsMaxObserverLayer.zero_points = zero_points
    paddle.seed(0)
    random = np.random.default_rng(1)
    network = Network()
    train(network, random)
    images, _ = batch(random)
    np.save(folder / "x.npy", images.numpy())

    observer = AbsmaxObserver(quant_bits=8)
    post = PTQ(QuantConfig(activation=observer, weight=observer))
    observed = post.quantize(network)
    for _ in range(4):
        observed(batch(random)[0])
    save(post, observed, images, folder / "post")

    quanter = FakeQuanterWithAbsMaxObserver(moving_rate=0.9)
    training = QAT(QuantConfig(activation=quanter, weight=quanter))
    network.train()
    fake = training.quantize(network)
    train(fake, random)
    save(training, fake, images, folder / "trained")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
