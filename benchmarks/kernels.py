"""Which settings of an operator Paddle Lite's kernels compute wrong: a sweep against the server.

    python benchmarks/kernels.py FAMILY... [--target arm|x86] [--raw] [--only TEXT] [--per 200]

Every setting is one operator; about 200 of them, with an output each, are one program, so that a
sweep of thousands takes minutes. A program that kills an engine is halved until the setting that
does it is alone. `--raw` leaves the repair rules out: what it finds and a run without it does not,
the rules repair or refuse. arm needs PADDLE_EDGE_LITE_RUN_AARCH64, see CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import make_model
from operators import trial

from lite_opt.lite.refusals import reasons
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from py_runner.errors import ConvertError, PaddleEdgeError

TOLERANCE = 1e-4  # of the largest magnitude of an output
Build = Callable[[make_model.Builder, str], str]


@dataclass(frozen=True)
class Setting:
    """One operator with its attributes and input: `build(builder, name)` adds it and returns its
    output's name; `text` says what it is."""

    text: str
    build: Build


def _input(b: make_model.Builder, shape: tuple[int, ...]) -> str:
    name = "x" + "x".join(map(str, shape))
    return name if name in b.vars else b.input(name, shape)


def _out(side: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    return (side + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _conv(kernel, strides, pads, dilation, channels, groups, side, act) -> Setting | None:
    cin, cout = channels
    out = tuple(
        _out(side[i], kernel[i], strides[i], pads[2 * i], pads[2 * i + 1], dilation) for i in (0, 1)
    )
    if min(out) < 1:
        return None
    type_ = "depthwise_conv2d" if groups == cin == cout and groups > 1 else "conv2d"
    text = f"{type_} k{kernel} s{strides} p{pads} d{dilation} {cin}->{cout} g{groups} {side} {act}"

    def build(b: make_model.Builder, name: str) -> str:
        x = _input(b, (1, cin, *side))
        y = b.op(
            type_,
            {"Input": [x], "Filter": [b.param(f"{name}.w", (cout, cin // groups, *kernel))]},
            name,
            (1, cout, *out),
            slot="Output",
            strides=list(strides),
            paddings=list(pads),
            dilations=[dilation, dilation],
            groups=groups,
            padding_algorithm="EXPLICIT",
            data_format="NCHW",
        )
        return b.op(act, {"X": [y]}, f"{name}.act", (1, cout, *out)) if act else y

    return Setting(text, build)


SIDES = [(n, n) for n in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 20)] + [(4, 9), (9, 4), (6, 17)]


def _paddings(kernel: int) -> list[tuple[int, int, int, int]]:
    half = kernel // 2
    found = {(0,) * 4, (1,) * 4, (half,) * 4, (0, 1, 0, 1), (1, 0, 1, 0), (0, 2, 0, 2)}
    found |= {(1, 2, 1, 2), (0, 0, 1, 1), (1, 1, 0, 0), (0, 0, 0, 1), (half - 1, half) * 2}
    return sorted(p for p in found if min(p) >= 0 and max(p) <= max(kernel - 1, 0))


def depthwise() -> Iterator[Setting | None]:
    for k, s, c, side in itertools.product((3, 5, 7), (1, 2, 3), (1, 4, 6), SIDES):
        for pads in _paddings(k):
            yield _conv((k, k), (s, s), pads, 1, (c, c), c, side, "")


def depthwise_odd() -> Iterator[Setting | None]:
    for kernel, strides, side in itertools.product(
        ((3, 3), (5, 5), (3, 1), (1, 3), (2, 2), (4, 4)), ((1, 1), (2, 2), (1, 2), (2, 1)), SIDES
    ):
        for pads, dilation in itertools.product(_paddings(min(kernel)), (1, 2)):
            yield _conv(kernel, strides, pads, dilation, (4, 4), 4, side, "relu")


def dense() -> Iterator[Setting | None]:
    for k, s, c, side in itertools.product((1, 2, 3, 5), (1, 2, 3), ((3, 4), (8, 8)), SIDES[1::2]):
        for pads in _paddings(k):
            yield _conv((k, k), (s, s), pads, 1, c, 1, side, "")


def dense_odd() -> Iterator[Setting | None]:
    for kernel, strides, groups, side in itertools.product(
        ((1, 1), (3, 3), (3, 1), (1, 5)), ((1, 1), (2, 2), (1, 2), (2, 1)), (1, 2), SIDES[::3]
    ):
        for pads, dilation in itertools.product(_paddings(min(kernel)), (1, 2)):
            yield _conv(kernel, strides, pads, dilation, (4, 6), groups, side, "")


def _pool(kind, kernel, strides, pads, exclusive, ceil, adaptive, side) -> Setting | None:
    if adaptive:
        out = kernel
    else:
        more = [s - 1 if ceil else 0 for s in strides]
        out = tuple(
            (side[i] + pads[2 * i] + pads[2 * i + 1] - kernel[i] + more[i]) // strides[i] + 1
            for i in (0, 1)
        )
        # A window that holds padding only has no answer: the server gives NaN or -3.4e38.
        last = [(out[i] - 1) * strides[i] - pads[2 * i] for i in (0, 1)]
        if any(last[i] >= side[i] for i in (0, 1)):
            return None
    if min(out) < 1 or any(pads[2 * i + j] >= kernel[i] for i in (0, 1) for j in (0, 1)):
        return None
    text = f"pool2d {kind} k{kernel} s{strides} p{pads} excl{exclusive} ceil{ceil} "
    text += f"adaptive{adaptive} {side}"

    def build(b: make_model.Builder, name: str) -> str:
        return b.op(
            "pool2d",
            {"X": [_input(b, (1, 5, *side))]},
            name,
            (1, 5, *out),
            pooling_type=kind,
            ksize=list(kernel),
            strides=list(strides),
            paddings=list(pads),
            global_pooling=False,
            ceil_mode=ceil,
            exclusive=exclusive,
            adaptive=adaptive,
            padding_algorithm="EXPLICIT",
            data_format="NCHW",
        )

    return Setting(text, build)


def pool() -> Iterator[Setting | None]:
    for k, s, side in itertools.product((1, 2, 3, 5), (1, 2, 3), SIDES):
        for pads, ceil in itertools.product(_paddings(k), (False, True)):
            yield _pool("max", (k, k), (s, s), pads, True, ceil, False, side)
            for exclusive in (True, False):
                yield _pool("avg", (k, k), (s, s), pads, exclusive, ceil, False, side)


def pool_odd() -> Iterator[Setting | None]:
    for kernel, strides, side in itertools.product(
        ((2, 3), (3, 2), (2, 1), (1, 2), (3, 3)), ((2, 1), (1, 2), (2, 2), (1, 1)), SIDES[::2]
    ):
        for pads, kind in itertools.product(_paddings(min(kernel)), ("max", "avg")):
            yield _pool(kind, kernel, strides, pads, True, False, False, side)


def adaptive() -> Iterator[Setting | None]:
    sizes = [(n, n) for n in (1, 2, 3, 4, 5, 6, 7, 8)] + [(2, 4), (3, 1), (1, 3), (3, 6)]
    for kernel, side in itertools.product(sizes, SIDES):
        yield _pool("avg", kernel, (1, 1), (0, 0, 0, 0), True, False, True, side)


def elementwise() -> Iterator[Setting | None]:
    """Every pair of shapes that broadcast, of ranks 1 to 5, and the axes that place a shorter Y."""
    full = (2, 3, 4, 5)
    shapes: list[tuple[int, ...]] = [full, (1,), (5,), (1, 1), (4, 5), (4, 1), (1, 5), (3, 1, 1)]
    shapes += [(3, 4, 5), (3, 1, 5), (1, 4, 1), (1, 1, 1, 1), (2, 1, 1, 1), (1, 3, 1, 1)]
    shapes += [(2, 3, 1, 1), (2, 1, 4, 1), (1, 3, 1, 5), (2, 1, 1, 5), (1, 1, 4, 5), (1, 1, 1, 5)]
    shapes += [(2, 3, 4, 1), (2, 1, 4, 5), (7, 2, 3, 4, 5), (7, 1, 3, 1, 5), (7, 2, 3, 1, 1)]
    types = ("add", "sub", "mul", "div", "max", "min", "pow")
    for x, y, kind in itertools.product(shapes, shapes, types):
        yield _elementwise(f"elementwise_{kind}", x, y, -1)
    for axis, y in (
        (0, (2,)),
        (1, (3,)),
        (1, (3, 4)),
        (2, (4,)),
        (0, (2, 3)),
        (1, (3, 1)),
        (0, (2, 1, 4)),
    ):
        for kind in types:
            yield _elementwise(f"elementwise_{kind}", full, y, axis)


def _elementwise(type_: str, x: tuple[int, ...], y: tuple[int, ...], axis: int) -> Setting | None:
    placed = y if axis < 0 else (1,) * axis + y + (1,) * (len(x) - len(y) - axis)
    try:
        out = np.broadcast_shapes(x, placed)
    except ValueError:
        return None

    def build(b: make_model.Builder, name: str) -> str:
        # Positive and away from 0, for division and powers.
        known = {}
        for shape in (x, y):
            key = "p" + "x".join(map(str, shape))
            if key not in b.vars:
                plain = _input(b, shape)
                b.op("sigmoid", {"X": [plain]}, f"{key}.s", shape)
                b.op("scale", {"X": [f"{key}.s"]}, key, shape, scale=1.0, bias=0.5,
                     bias_after_scale=True)  # fmt: skip
            known[shape] = key
        return b.op(type_, {"X": [known[x]], "Y": [known[y]]}, name, out, axis=axis)

    return Setting(f"{type_} {x} {y} axis {axis}", build)


def resize() -> Iterator[Setting | None]:
    scales = ((2.0, 2.0), (2.0, 3.0), (3.0, 2.0), (0.5, 0.5), (1.5, 1.5), (2.0, 1.0), (1.3, 1.3))
    for kind, scale, side in itertools.product(("bilinear", "nearest"), scales, ((6, 6), (5, 8))):
        for corners, mode in itertools.product((False, True), (0, 1)):
            if kind == "bilinear" or (mode == 1 and not corners):
                yield _resize(kind, scale, side, corners, mode)


def _resize(kind, scale, side, corners, mode) -> Setting | None:
    out = tuple(int(d * s) for d, s in zip(side, scale))

    def build(b: make_model.Builder, name: str) -> str:
        return b.op(
            f"{kind}_interp_v2",
            {"X": [_input(b, (1, 3, *side))]},
            name,
            (1, 3, *out),
            scale=list(scale),
            out_h=-1,
            out_w=-1,
            out_d=-1,
            align_corners=corners,
            align_mode=mode,
            interp_method=kind,
            data_layout="NCHW",
        )

    return Setting(f"{kind}_interp_v2 {scale} {side} corners{corners} mode{mode}", build)


FAMILIES: dict[str, Callable[[], Iterator[Setting | None]]] = {
    "adaptive": adaptive,
    "dense": dense,
    "dense-odd": dense_odd,
    "depthwise": depthwise,
    "depthwise-odd": depthwise_odd,
    "elementwise": elementwise,
    "pool": pool,
    "pool-odd": pool_odd,
    "resize": resize,
}


def program_of(settings: list[Setting]) -> Program:
    """One program, an output a setting."""
    b = make_model.Builder(0)
    return b.program(*[s.build(b, f"y{i}") for i, s in enumerate(settings)])


def is_refused(setting: Setting, target: str) -> bool:
    """Whether it is one of those that lite_opt/lite/refusals.py refuses once repaired."""
    program = program_of([setting])
    repair(program)
    return bool(reasons(program, (target,)))


def wrong(settings: list[Setting], target: str, *, raw: bool) -> Iterator[tuple[Setting, str]]:
    """Those settings that a target computes wrong, each with what it did."""
    program = program_of(settings)
    samples = trial.samples_of(program, 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        want = trial.on_server(program, samples, folder / "server")
        try:
            if not raw:
                repair(program)
            got = trial.on_lite(program, target, samples, folder / "lite")
        except PaddleEdgeError as error:
            if len(settings) == 1:
                words = "refused" if isinstance(error, ConvertError) else "dies"
                yield settings[0], f"{words}: {str(error)[-160:]}"
                return
            half = len(settings) // 2
            for part in (settings[:half], settings[half:]):
                yield from wrong(part, target, raw=raw)
            return
    for setting, a, b in zip(settings, want, got):
        if a.size != b.size:
            yield setting, f"shape {b.shape} for {a.shape}"
            continue
        largest = float(np.abs(a).max()) or 1.0
        difference = float(np.abs(a - b.reshape(a.shape)).max()) / largest
        if not difference <= TOLERANCE:
            yield setting, f"differs by {difference:.2g}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=[], help=", ".join(FAMILIES))
    parser.add_argument("--target", default="arm", choices=["arm", "x86"])
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--per", type=int, default=200)
    args = parser.parse_args()
    found = 0
    for family in args.families or FAMILIES:
        settings = [s for s in FAMILIES[family]() if s is not None and args.only in s.text]
        settings = list({s.text: s for s in settings}.values())
        count, swept = 0, len(settings)
        if not args.raw:
            settings = [s for s in settings if not is_refused(s, args.target)]
        for start in range(0, len(settings), args.per):
            for setting, what in wrong(
                settings[start : start + args.per], args.target, raw=args.raw
            ):
                print(f"{setting.text}: {what}", flush=True)
                count += 1
        refused = swept - len(settings)
        print(f"{family}: {count} of {swept} wrong on {args.target}, {refused} refused", flush=True)
        found += count
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
