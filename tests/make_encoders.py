"""Exports small networks of the kinds whose weights are not those of convolutions alone.

`python tests/make_encoders.py FOLDER`: transformers of pictures, of words and of lines of text,
and a network with recurrent layers.
"""

from __future__ import annotations

import sys
from typing import Any

import paddle
from paddle import nn

WIDTH, HEADS, TOKENS, WORDS = 16, 2, 12, 50


class Attention(nn.Layer):  # type: ignore[misc]
    """Self-attention as vision transformers write it: one linear layer for all three."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        size = x.shape[1]
        qkv = self.qkv(x).reshape([-1, size, 3, HEADS, WIDTH // HEADS]).transpose([2, 0, 3, 1, 4])
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q.matmul(k.transpose([0, 1, 3, 2])) * (WIDTH // HEADS) ** -0.5
        mixed = nn.functional.softmax(scores, -1).matmul(v)
        return self.proj(mixed.transpose([0, 2, 1, 3]).reshape([-1, size, WIDTH]))


class Block(nn.Layer):  # type: ignore[misc]
    """Attention and two linear layers, each beside a short cut."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.LayerList([nn.LayerNorm(WIDTH) for _ in range(2)])
        self.attention = Attention()
        self.wide = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norms[0](x))
        return x + self.wide(self.norms[1](x))


class Vision(nn.Layer):  # type: ignore[misc]
    """ViT and DeiT: patches, a class token, positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2D(3, WIDTH, 4, stride=4)
        self.token = self.create_parameter([1, 1, WIDTH])
        self.places = self.create_parameter([1, 17, WIDTH])
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose([0, 2, 1])
        x = paddle.concat([self.token.expand([x.shape[0], -1, -1]), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Words(nn.Layer):  # type: ignore[misc]
    """BERT: an embedding, layers of paddle.nn with the norm behind, a mask of what is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.0, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.pool, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        mask = (attention_mask.unsqueeze([1, 2]).astype("float32") - 1) * 1e4
        x = self.encoder(self.words(input_ids), mask)
        return self.head(paddle.tanh(self.pool(x[:, 0])))


class Lines(nn.Layer):  # type: ignore[misc]
    """SVTR: convolutions, mixing over all places, fewer rows, scores of characters by column."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.GELU(),
            nn.Conv2D(8, WIDTH, 3, 2, 1), nn.BatchNorm2D(WIDTH), nn.GELU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(Block(), Block())
        self.fewer, self.norm = nn.Conv2D(WIDTH, WIDTH, 3, [2, 1], 1), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 12)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        rows, columns = x.shape[2:]
        x = self.blocks(x.flatten(2).transpose([0, 2, 1])).transpose([0, 2, 1])
        x = self.fewer(x.reshape([-1, WIDTH, rows, columns])).mean(2).transpose([0, 2, 1])
        return nn.functional.softmax(self.head(self.norm(x)), -1)


class Recurrent(nn.Layer):  # type: ignore[misc]
    """CRNN: a convolution, an LSTM and a GRU over columns, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, 2, 1)
        self.lstm = nn.LSTM(32, 12, direction="bidirect")
        self.gru, self.head = nn.GRU(24, 12), nn.Linear(12, 10)

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.stem(x)).transpose([0, 3, 1, 2]).flatten(2)
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


_PICTURE = {"x": ([None, 3, 16, 16], "float32")}
NETWORKS: dict[type[nn.Layer], dict[str, tuple[list[Any], str]]] = {
    Vision: _PICTURE,
    Words: {name: ([None, TOKENS], "int64") for name in ("input_ids", "attention_mask")},
    Lines: {"x": ([None, 3, 8, 32], "float32")},
    Recurrent: {"x": ([None, 3, 8, 32], "float32")},
}

if __name__ == "__main__":
    paddle.seed(1)
    for kind, inputs in NETWORKS.items():
        network = kind()
        network.eval()
        spec = [paddle.static.InputSpec(*what, name) for name, what in inputs.items()]
        static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        paddle.jit.save(static, f"{sys.argv[1]}/{kind.__name__}/inference")
