"""Pictures, and what heads of detectors, keypoint networks and segmenters put out, seeded: the same
numbers for the official implementations (benchmarks/golden.py) and for ours (tests/test_golden.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

COUNT = 50
CLASSES = 3
SIDES = (64, 96)  # of the input of the heads that have levels
STRIDES = (8, 16, 32, 64)
ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 23, 29, 43, 55, 73, 105)
PRIORS: dict[str, Any] = {
    "steps": [16, 32, 64],
    "aspect_ratios": [[2.0], [2.0, 3.0], [2.0, 3.0]],
    "min_sizes": [12.8, 33.3, 64.0],
    "max_sizes": [33.3, 64.0, 94.7],
}
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.-äß中文")
Arrays = list[np.ndarray[Any, Any]]


def made(head: str, number: int) -> Arrays:
    """The outputs of a head for one of COUNT inputs, in its export's order."""
    random = np.random.default_rng([7, *head.encode(), number])
    return [np.ascontiguousarray(value, "float32") for value in _HEADS[head](random)]


def digest(values: Sequence[np.ndarray[Any, Any]]) -> str:
    """Of arrays and their shapes: that both sides were given the same."""
    total = hashlib.sha256()
    for value in values:
        total.update(str(value.shape).encode() + value.tobytes())
    return total.hexdigest()[:16]


def _boxes(random: np.random.Generator) -> tuple[Any, Any]:
    """Boxes in heaps, as a network sees an object, [M, 4] and [M, C]."""
    middle = random.uniform(10, 300, (random.integers(1, 7), 1, 2)) + random.normal(0, 4, (1, 9, 2))
    half = random.uniform(8, 60, (len(middle), 1, 2)) * random.uniform(0.8, 1.25, (1, 9, 2))
    corners = np.concatenate([middle - half, middle + half], -1).reshape(-1, 4)
    return corners, random.beta(0.6, 1.5, (len(corners), CLASSES))


def _decoded(random: np.random.Generator) -> Arrays:
    corners, scores = _boxes(random)
    return [corners[None], scores.T[None]]


def _joined(random: np.random.Generator) -> Arrays:
    return [np.concatenate(_boxes(random), -1)[None]]


def _picodet(random: np.random.Generator) -> Arrays:
    places = [-(-SIDES[0] // s) * -(-SIDES[1] // s) for s in STRIDES]
    scores = [random.beta(0.3, 2.0, (1, n, CLASSES)) for n in places]
    chances = [random.normal(0, 2, (1, n, 4 * 8)) for n in places]
    return [*scores, *chances]


def _yolo(random: np.random.Generator) -> Arrays:
    return [
        random.normal(0, 1, (1, 3 * (5 + CLASSES), SIDES[0] // s, SIDES[1] // s))
        + random.normal(0, 1.5, (1, 3 * (5 + CLASSES), 1, 1))
        for s in (32, 16, 8)
    ]


def _ssd(random: np.random.Generator) -> Arrays:
    grids = [-(-SIDES[0] // s) * -(-SIDES[1] // s) for s in PRIORS["steps"]]
    counts = [2 * len(ratios) + 2 for ratios in PRIORS["aspect_ratios"]]
    offsets = [random.normal(0, 1, (1, n * k, 4)) for n, k in zip(grids, counts)]
    scores = [random.normal(0, 2, (1, n * k, CLASSES + 1)) for n, k in zip(grids, counts)]
    return [*offsets, *scores]


def _heatmaps(random: np.random.Generator) -> Arrays:
    """17 bumps of some width, a few of them at the border or hardly there, and noise."""
    high, wide = 32, 24
    y, x = np.mgrid[:high, :wide]
    middle = random.uniform(-1, 1, (17, 2)) * (high / 2, wide / 2) + (high / 2, wide / 2)
    gap = (y[None] - middle[:, :1, None]) ** 2 + (x[None] - middle[:, 1:, None]) ** 2
    sigma = random.uniform(0.8, 2.5, (17, 1, 1))
    bumps = random.uniform(0.05, 1, (17, 1, 1)) * np.exp(-gap / (2 * sigma**2))
    return [(bumps + random.normal(0, 0.01, bumps.shape))[None]]


def _maps(random: np.random.Generator) -> Arrays:
    """Scores of 4 classes; rounded, so that some are equal."""
    return [np.round(random.normal(0, 2, (1, 4, 24, 32)))]


def _texts(random: np.random.Generator) -> Arrays:
    """How much each pixel of a page is text: slanted bars with soft edges, some faint or tiny."""
    y, x = np.mgrid[:120, :160]
    page = np.zeros(y.shape)
    for _ in range(7):
        middle, turn = random.uniform((10, 10), (110, 150)), random.uniform(-0.4, 0.4)
        half = random.uniform((2, 2), (9, 40))
        down, along = y - middle[0], x - middle[1]
        across = np.abs(np.cos(turn) * down - np.sin(turn) * along) - half[0]
        beyond = np.abs(np.sin(turn) * down + np.cos(turn) * along) - half[1]
        soft = 1 / (1 + np.exp(np.clip(np.maximum(across, beyond), -30, 30)))
        page = np.maximum(page, random.uniform(0.4, 1) * soft)
    return [page[None, None]]


def _steps(random: np.random.Generator) -> Arrays:
    """Scores of CHARACTERS, a blank and a space in 30 steps, of which half are blank and some
    repeat the one before."""
    scores = random.random((30, len(CHARACTERS) + 2))
    scores[random.random(30) < 0.5, 0] = 2
    for step in np.flatnonzero(random.random(29) < 0.3):
        scores[step + 1] = scores[step]
    return [scores[None]]


_HEADS = {
    "decoded": _decoded,
    "joined": _joined,
    "picodet": _picodet,
    "yolo": _yolo,
    "ssd": _ssd,
    "heatmaps": _heatmaps,
    "maps": _maps,
    "steps": _steps,
    "texts": _texts,
}


def picture(number: int) -> np.ndarray[Any, Any]:
    """Pixels of one of COUNT pictures, uint8 [h, w, 3]: noise, waves, and both."""
    random = np.random.default_rng([9, number])
    high, wide = (int(side) for side in random.integers(24, 280, 2))
    y, x = np.mgrid[:high, :wide]
    waves = np.stack(
        [128 + 100 * np.sin((x * a + y * b) / 16) for a, b in random.random((3, 2))], -1
    )
    noise = random.integers(0, 256, (high, wide, 3))
    share = (0.0, 0.5, 1.0)[number % 3]
    return np.rint(waves * share + noise * (1 - share)).astype(np.uint8)


_NORMAL = (
    "{type: NormalizeImage, is_scale: true, mean: [0.485, 0.456, 0.406], "
    "std: [0.229, 0.224, 0.225]}"
)
_PLAIN = "{type: NormalizeImage, is_scale: true, norm_type: none, mean: [0, 0, 0], std: [1, 1, 1]}"
_SEGMENT = "{type: Normalize, mean: [0.4, 0.5, 0.6], std: [0.5, 0.4, 0.3]}"
_PAGE = """
  - DetResizeForTest: {options}
  - NormalizeImage: {{mean: [0.485, 0.456, 0.406], order: hwc, scale: 1./255.,
      std: [0.229, 0.224, 0.225]}}
  - ToCHWImage: null
"""


def _detection(*steps: str) -> str:
    return "Preprocess:\n" + "".join(f"- {step}\n" for step in steps)


def _segmentation(*steps: str) -> str:
    return "Deploy:\n  transforms:\n" + "".join(f"  - {step}\n" for step in steps)


def _reading(steps: str) -> str:
    decode = "  - DecodeImage: {channel_first: false, img_mode: BGR}"
    return f"PreProcess:\n  transform_ops:\n{decode}\n{steps.lstrip(chr(10))}"


# What lies beside a model, as its kit writes it.
TRANSFORMS = {
    **{
        f"detection: exact, interp {mode}": _detection(
            f"{{type: Resize, interp: {mode}, keep_ratio: false, target_size: [96, 128]}}",
            _NORMAL,
            "{type: Permute}",
        )
        for mode in (0, 1, 2)
    },
    "detection: ratio kept, stride": _detection(
        "{type: Resize, interp: 2, keep_ratio: true, target_size: [96, 128]}",
        _NORMAL,
        "{type: Permute}",
        "{type: PadStride, stride: 32}",
    ),
    "detection: padded before": _detection(
        "{type: Resize, interp: 1, keep_ratio: true, target_size: [128, 128]}",
        "{type: Pad, size: [128, 128], fill_value: [114.0, 114.0, 114.0]}",
        _PLAIN,
        "{type: Permute}",
    ),
    "detection: letterbox": _detection(
        "{type: LetterBoxResize, target_size: [96, 160]}", _NORMAL, "{type: Permute}"
    ),
    "keypoints: affine": _detection(
        "{type: TopDownEvalAffine, trainsize: [96, 128]}", _NORMAL, "{type: Permute}"
    ),
    "segmentation: exact": _segmentation("{type: Resize, target_size: [128, 96]}", _SEGMENT),
    "segmentation: long": _segmentation("{type: ResizeByLong, long_size: 130}", _SEGMENT),
    "segmentation: short": _segmentation("{type: ResizeByShort, short_size: 70}", _SEGMENT),
    "segmentation: within": _segmentation(
        "{type: LimitLong, max_long: 200, min_long: 120}", _SEGMENT
    ),
    "segmentation: padded": _segmentation(
        "{type: ResizeByLong, long_size: 128}",
        "{type: Padding, target_size: [128, 160], im_padding_value: 127.5}",
        _SEGMENT,
    ),
    "page: max": _reading(_PAGE.format(options="{limit_side_len: 160, limit_type: max}")),
    "page: min": _reading(_PAGE.format(options="{limit_side_len: 96, limit_type: min}")),
    "page: long": _reading(_PAGE.format(options="{resize_long: 160}")),
    "page: exact": _reading(_PAGE.format(options="{image_shape: [96, 128]}")),
    "line": _reading("  - RecResizeImg: {image_shape: [3, 48, 160], eval_mode: true}"),
}
