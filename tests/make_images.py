"""The golden images: files that every runner must turn into the same tensors, or refuse alike.

    python tests/make_images.py FOLDER

The set covers what Pillow, cameras, scanners and editors write, and what is left of it after a
broken download. Everything is seeded; the bytes depend on Pillow's encoders only.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

Pixels = npt.NDArray[Any]

_SIZES = [(1, 1), (1, 2), (2, 1), (1, 37), (41, 1), (2, 2), (3, 5), (8, 8), (9, 17), (16, 16)]
_SIZES += [(31, 33), (64, 48), (100, 75), (224, 224), (256, 256), (333, 500), (480, 640)]
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
_ADAM7 += [(0, 1, 1, 2)]
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth waves with a little noise: uint8, [height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = []
    for _ in range(channels):
        a, b, c = rng.uniform(5, 60, 3)
        planes.append(np.sin(x / a + c) + np.cos(y / b))
    waves = np.stack(planes, -1) * 55 + 128
    noise = rng.integers(-12, 13, (height, width, 1))
    result: Pixels = np.clip(waves + noise, 0, 255).astype(np.uint8)
    return result


def jpeg(image: Image.Image | Pixels, **options: Any) -> bytes:
    """A JPEG file by Pillow's encoder."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    """A marker segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(file: bytes, *segments: bytes) -> bytes:
    """A JPEG file with segments put behind its first marker."""
    return file[:2] + b"".join(segments) + file[2:]


def exif(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """EXIF data that say no more than the orientation, as TIFF type `kind`."""
    packed = {
        1: struct.pack(order + "Bxxx", orientation),
        2: b"%d\0\0\0" % orientation,
        3: struct.pack(order + "Hxx", orientation),
        4: struct.pack(order + "L", orientation),
        5: struct.pack(order + "L", 26),
        11: struct.pack(order + "f", orientation),
    }[kind]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HLH", 42, 8, 1)
    tail = struct.pack(order + "LLL", 0, 2 * orientation, 2)
    return head + struct.pack(order + "HHL", 0x0112, kind, 1) + packed + tail


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", checksum)


def png(
    samples: Pixels,
    color: int,
    depth: int,
    *,
    interlaced: bool = False,
    filters: str = "01234",
    before: bytes = b"",
    after: bytes = b"",
    parts: int = 1,
    level: int = 6,
) -> bytes:
    """A PNG file of any kind, which Pillow's encoder cannot write.

    samples: [height, width, channels] of `depth` bits; filters: used row by row in turn; before,
    after: chunks round the pixels, which come in `parts` chunks.
    """
    height, width = samples.shape[:2]
    passes = _ADAM7 if interlaced else [(0, 0, 1, 1)]
    raw = b"".join(
        _filtered(samples[top::down, left::across], depth, filters)
        for left, top, across, down in passes
        if left < width and top < height
    )
    data = zlib.compress(raw, level)
    step = -(-len(data) // parts)
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    pixels = b"".join(chunk(b"IDAT", data[i : i + step]) for i in range(0, len(data), step))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + before + pixels + after + chunk(b"IEND", b"")


def _filtered(samples: Pixels, depth: int, filters: str) -> bytes:
    height, width, channels = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        rows = samples.astype(np.uint8).reshape(height, -1)
    else:
        bits = (samples.reshape(height, width, 1) >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.astype(np.uint8).reshape(height, -1), axis=1)
    gap = max(channels * depth // 8, 1)
    padded = np.zeros((height + 1, rows.shape[1] + gap), dtype=np.int32)
    padded[1:, gap:] = rows
    left, above, corner = padded[1:, :-gap], padded[:-1, gap:], padded[:-1, :-gap]
    estimate = left + above - corner
    distances = [abs(estimate - near) for near in (left, above, corner)]
    paeth = np.select(
        [
            (distances[0] <= distances[1]) & (distances[0] <= distances[2]),
            distances[1] <= distances[2],
        ],
        [left, above],
        corner,
    )
    predictions = [np.zeros_like(left), left, above, (left + above) // 2, paeth]
    out = b""
    for y in range(height):
        kind = int(filters[y % len(filters)])
        out += bytes([kind]) + (rows[y] - predictions[kind][y]).astype(np.uint8).tobytes()
    return out


def _samples(height: int, width: int, color: int, depth: int, seed: int) -> Pixels:
    waves = picture(height, width, _CHANNELS[color], seed).astype(np.int64)
    if depth == 16:
        low = np.random.default_rng(seed).integers(0, 256, waves.shape)
        return waves * 256 + low
    return waves >> (8 - depth)


def _palette(entries: int, seed: int = 1) -> bytes:
    colors = np.random.default_rng(seed).integers(0, 256, entries * 3, dtype=np.uint8)
    return chunk(b"PLTE", colors.tobytes())


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for index, (height, width) in enumerate(_SIZES):
        for subsampling, name in enumerate(("444", "422", "420")):
            pixels = picture(height, width, seed=index)
            yield f"{name}-{width}x{height}.jpg", jpeg(pixels, subsampling=subsampling)
        grey = picture(height, width, 1, seed=index)[..., 0]
        yield f"grey-{width}x{height}.jpg", jpeg(grey, progressive=index % 2)
        yield f"progressive-{width}x{height}.jpg", jpeg(picture(height, width), progressive=True)
    for height, width in ((1, 1), (33, 47), (120, 200)):
        inks = Image.fromarray(picture(height, width, 4), "CMYK")
        for subsampling in (0, 2):
            file = jpeg(inks, subsampling=subsampling)
            yield f"cmyk-{subsampling}-{width}x{height}.jpg", file
            # Adobe's transform 2: the same samples, read as YCCK
            at = file.index(b"Adobe") + 11
            ycck = file[:at] + b"\2" + file[at + 1 :]
            yield f"ycck-{subsampling}-{width}x{height}.jpg", ycck
            at = file.index(b"\xff\xee")
            plain = file[:at] + file[at + 16 :]
            yield f"cmyk-no-adobe-{subsampling}-{width}x{height}.jpg", plain
        yield f"cmyk-progressive-{width}x{height}.jpg", jpeg(inks, progressive=True)
    small = picture(66, 90)
    for quality in (1, 10, 50, 75, 100):
        yield f"quality-{quality}.jpg", jpeg(small, quality=quality)
    yield "optimised.jpg", jpeg(small, optimize=True)
    yield "restarts.jpg", jpeg(small, restart_marker_rows=1)
    yield "dpi.jpg", jpeg(small, dpi=(300, 300))
    yield "comment.jpg", jpeg(small, comment=b"a comment")
    yield "profile.jpg", jpeg(small, icc_profile=bytes(100_000))
    # 4:4:0, which cameras write that turn pictures: chroma halved from top to bottom only
    turned = jpeg(picture(32, 64), subsampling=1)
    at = turned.index(b"\xff\xc0") + 5
    frame = turned[at : at + 7].replace(b"\0\x20\0\x40", b"\0\x40\0\x20").replace(b"\x21", b"\x12")
    yield "440.jpg", turned[:at] + frame + turned[at + 7 :]
    stored_rgb = jpeg(small, keep_rgb=True)
    yield "stored-rgb.jpg", stored_rgb


def _turned() -> Iterator[tuple[str, bytes]]:
    plain = jpeg(picture(47, 83))
    for value in range(10):
        block = segment(0xE1, b"Exif\0\0" + exif(value, order="<>"[value % 2]))
        yield f"exif-{value}.jpg", with_segments(plain, block)
    wide = jpeg(picture(120, 331), progressive=True)
    for value in range(2, 9):
        block = segment(0xE1, b"Exif\0\0" + exif(value))
        yield f"exif-wide-{value}.jpg", with_segments(wide, block)
    for kind in (1, 2, 4, 5, 11):
        block = segment(0xE1, b"Exif\0\0" + exif(6, kind=kind))
        yield f"exif-type-{kind}.jpg", with_segments(plain, block)
    whole = exif(8)
    halves = (b"Exif\0\0" + whole[:20], b"Exif\0\0" + whole[20:])
    yield "exif-in-two.jpg", with_segments(plain, *(segment(0xE1, half) for half in halves))
    yield "exif-cut.jpg", with_segments(plain, segment(0xE1, b"Exif\0\0" + whole[:14]))
    yield "exif-twice.jpg", with_segments(plain, segment(0xE1, b"Exif\0\0Exif\0\0" + whole))
    yield "exif-empty.jpg", with_segments(plain, segment(0xE1, b"Exif\0\0"))
    unreadable = segment(0xE1, b"Exif\0\0nonsense")
    yield "exif-unreadable.jpg", with_segments(plain, unreadable)
    with_dpi = jpeg(picture(47, 83), dpi=(72, 72))
    yield "exif-unreadable-dpi.jpg", with_segments(with_dpi, unreadable)
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>'
    yield "xmp-3.jpg", with_segments(plain, segment(0xE1, xmp))
    both = (segment(0xE1, xmp), segment(0xE1, b"Exif\0\0" + exif(6)))
    yield "xmp-and-exif.jpg", with_segments(plain, *both)
    inks = jpeg(Image.fromarray(picture(31, 40, 4), "CMYK"))
    block = segment(0xE1, b"Exif\0\0" + exif(6))
    yield "exif-cmyk.jpg", with_segments(inks, block)

    samples = _samples(40, 61, 2, 8, 3)
    for value in range(1, 9):
        block = chunk(b"eXIf", exif(value))
        place = {"after": block} if value % 2 else {"before": block}
        yield f"exif-{value}.png", png(samples, 2, 8, interlaced=value > 4, **place)  # type: ignore[arg-type]
    yield "exif-unreadable.png", png(samples, 2, 8, before=chunk(b"eXIf", b"nonsense"))
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<tiff:Orientation>8</tiff:Orientation>", zip=True)
    file = io.BytesIO()
    Image.fromarray(picture(40, 61)).save(file, "PNG", pnginfo=info)
    yield "xmp-8.png", file.getvalue()
    profile = b"Raw profile type exif\0\nexif\n      38\n" + (b"Exif\0\0" + exif(6)).hex().encode()
    yield "raw-profile-6.png", png(samples, 2, 8, before=chunk(b"tEXt", profile + b"\n"))


def _pngs() -> Iterator[tuple[str, bytes]]:
    kinds = [(0, d) for d in (1, 2, 4, 8, 16)] + [(3, d) for d in (1, 2, 4, 8)]
    kinds += [(color, depth) for color in (2, 4, 6) for depth in (8, 16)]
    for seed, (color, depth) in enumerate(kinds):
        before = _palette(1 << depth) if color == 3 else b""
        for interlaced in (False, True):
            samples = _samples(53, 70, color, depth, seed)
            name = f"{'adam7' if interlaced else 'png'}-{color}-{depth}.png"
            yield name, png(samples, color, depth, interlaced=interlaced, before=before)
        for height, width in ((1, 1), (1, 9), (5, 3)):
            samples = _samples(height, width, color, depth, seed)
            name = f"adam7-{color}-{depth}-{width}x{height}.png"
            yield name, png(samples, color, depth, interlaced=True, before=before)
    for kind in "01234":
        yield f"filter-{kind}.png", png(_samples(40, 50, 2, 8, 5), 2, 8, filters=kind)
    rgb, indices = _samples(64, 64, 2, 8, 7), _samples(64, 64, 3, 8, 7)
    every, some = _palette(256), _palette(40)
    yield "parts.png", png(rgb, 2, 8, parts=50)
    yield "stored.png", png(_samples(300, 200, 2, 8, 7), 2, 8, level=0, parts=2)
    yield "palette-short.png", png(indices, 3, 8, before=some)
    yield "palette-missing.png", png(indices, 3, 8)
    yield "palette-late.png", png(indices, 3, 8, after=every)
    yield "palette-large.png", png(indices, 3, 8, before=chunk(b"PLTE", bytes(771)))
    yield "palette-odd.png", png(indices, 3, 8, before=chunk(b"PLTE", bytes(range(250)) + b"\1"))
    alphas = chunk(b"tRNS", bytes(range(200)))
    yield "palette-alphas.png", png(indices, 3, 8, before=every + alphas)
    one = chunk(b"tRNS", b"\xff" * 7 + b"\0" + b"\xff" * 9)
    yield "palette-one-transparent.png", png(indices, 3, 8, before=every + one, interlaced=True)
    yield (
        "palette-too-many-alphas.png",
        png(indices, 3, 8, before=every + chunk(b"tRNS", bytes(300))),
    )
    key = chunk(b"tRNS", struct.pack(">H", 100))
    yield "grey-key.png", png(_samples(20, 30, 0, 8, 7), 0, 8, before=key)
    yield "grey-16-key.png", png(_samples(20, 30, 0, 16, 7), 0, 16, before=key)
    yield "bit-key.png", png(_samples(20, 30, 0, 1, 7), 0, 1, before=key)
    yield "rgb-key.png", png(rgb, 2, 8, before=chunk(b"tRNS", bytes(6)))
    yield "key-too-short.png", png(rgb, 2, 8, before=chunk(b"tRNS", bytes(4)))
    metadata = chunk(b"gAMA", struct.pack(">L", 45455)) + chunk(b"pHYs", bytes(9))
    metadata += chunk(b"sRGB", b"\0") + chunk(b"cHRM", bytes(32)) + chunk(b"prIv", b"abc")
    metadata += chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(5000)))
    metadata += chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"text" * 100))
    yield "metadata.png", png(rgb, 2, 8, before=metadata, after=chunk(b"tEXt", b"Title\0text"))
    animation = chunk(b"acTL", struct.pack(">LL", 2, 0))
    frame = struct.pack(">LLLLHHBB", 64, 64, 0, 0, 1, 10, 0, 0)
    first = chunk(b"fcTL", struct.pack(">L", 0) + frame)
    later = chunk(b"fcTL", struct.pack(">L", 1) + frame) + chunk(b"fdAT", struct.pack(">L", 2))
    yield "animation.png", png(rgb, 2, 8, before=animation + first, after=later)
    yield "animation-default.png", png(rgb, 2, 8, before=animation, after=first)


def _damaged() -> Iterator[tuple[str, bytes]]:
    pixels = picture(90, 120)
    sources = {
        "baseline.jpg": jpeg(pixels),
        "progressive.jpg": jpeg(pixels, progressive=True),
        "restarts.jpg": jpeg(pixels, restart_marker_rows=1),
        "rgb.png": png(_samples(90, 120, 2, 8, 8), 2, 8, parts=4),
        "palette.png": png(_samples(90, 120, 3, 4, 8), 3, 4, before=_palette(16)),
        "adam7.png": png(_samples(90, 120, 0, 8, 8), 0, 8, interlaced=True),
    }
    rng = np.random.default_rng(9)
    for name, file in sources.items():
        for part in (3, 20, 60, 200, len(file) // 3, 2 * len(file) // 3, len(file) - 20):
            yield f"cut-{part}-{name}", file[:part]
        for missing in (1, 2, 4, 8, 12, 13, 16):
            yield f"short-{missing}-{name}", file[:-missing]
        yield f"trailing-{name}", file + b"trailing bytes"
        for index in range(14):
            damaged = bytearray(file)
            for at in rng.integers(2, len(file), 1 + index % 3):
                damaged[at] ^= 1 << int(rng.integers(0, 8))
            yield f"flipped-{index}-{name}", bytes(damaged)
    good = sources["rgb.png"]
    at = good.index(b"IDAT")
    length = struct.unpack(">L", good[at - 4 : at])[0]
    broken_sum = bytearray(good)
    broken_sum[at + 4 + length] ^= 1
    yield "checksum-of-pixels.png", bytes(broken_sum)
    broken_sum = bytearray(good)
    broken_sum[29] ^= 1
    yield "checksum-of-header.png", bytes(broken_sum)
    yield "no-pixels.png", good[: at - 4] + chunk(b"IEND", b"")
    yield "no-header.png", good[:8] + good[33:]
    flat = struct.pack(">LLBBBBB", 4, 4, 8, 0, 0, 0, 0)
    start = good[:8] + chunk(b"IHDR", flat)
    rows = b"".join(b"\0" + bytes([50 * y] * 4) for y in range(4))
    end = chunk(b"IEND", b"")
    unknown = chunk(b"IDAT", zlib.compress(rows.replace(b"\0\x64", b"\x09\x64")))
    yield "filter-9.png", start + unknown + end
    yield "rows-missing.png", start + chunk(b"IDAT", zlib.compress(rows[:10])) + end
    yield "half-a-row.png", start + chunk(b"IDAT", zlib.compress(rows[:12])) + end
    yield "rows-to-spare.png", start + chunk(b"IDAT", zlib.compress(rows * 3)) + end
    yield "no-end.png", start + chunk(b"IDAT", zlib.compress(rows))
    yield "wrong-adler.png", start + chunk(b"IDAT", zlib.compress(rows)[:-1] + b"?") + end
    for name, color, depth in (("depth-3", 0, 3), ("colour-5", 5, 8), ("rgb-4", 2, 4)):
        header = struct.pack(">LLBBBBB", 4, 4, depth, color, 0, 0, 0)
        file = good[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + end
        yield f"{name}.png", file
    for name, width, height in (("zero", 0, 4), ("bomb", 100_000, 100_000), ("over", 9460, 9460)):
        header = struct.pack(">LLBBBBB", width, height, 1, 0, 0, 0, 0)
        file = good[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + end
        yield f"{name}.png", file
    baseline = sources["baseline.jpg"]
    at = baseline.index(b"\xff\xc0") + 5
    for name, size in (("huge", b"\xff\xdc\xff\xdc"), ("flat", b"\0\0\0\x40")):
        yield f"{name}.jpg", baseline[:at] + size + baseline[at + 4 :]
    yield "taller.jpg", baseline[:at] + b"\0\xff" + baseline[at + 2 :]
    yield "lower.jpg", baseline[:at] + b"\0\x20" + baseline[at + 2 :]
    yield "twelve-bits.jpg", baseline[: at - 1] + b"\x0c" + baseline[at:]
    twice = segment(0xC0, baseline[at - 1 : at + 14])
    yield "two-frames.jpg", baseline[: at - 5] + twice + baseline[at - 5 :]
    yield "no-tables.jpg", baseline.replace(b"\xff\xc4", b"\xff\xfe")
    at = baseline.index(b"\xff\xdb")
    yield "junk-between.jpg", baseline[:at] + b"junk\xff\xff\xff\0" + baseline[at:]
    yield "two-images.jpg", baseline + sources["progressive.jpg"]
    yield "empty.jpg", b""
    yield "text.png", b"not an image"


def _large() -> Iterator[tuple[str, bytes]]:
    yield "1080p.jpg", jpeg(picture(1080, 1920), subsampling=2)
    photo = picture(3000, 4000)
    yield "12-megapixels.jpg", jpeg(photo, subsampling=2)
    turned = segment(0xE1, b"Exif\0\0" + exif(6))
    yield "12-megapixels-6.jpg", with_segments(jpeg(photo, subsampling=1), turned)
    flat = np.repeat(np.repeat(_samples(30, 40, 3, 8, 4), 100, 0), 100, 1)
    yield "12-megapixels.png", png(flat, 3, 8, before=_palette(256), filters="2")
    yield "1x4000.png", png(_samples(1, 4000, 2, 8, 4), 2, 8)
    yield "4000x1.png", png(_samples(4000, 1, 6, 8, 4), 6, 8)
    yield "900x3.jpg", jpeg(picture(3, 900))


def save(folder: Path) -> list[Path]:
    """Write the golden images into a folder that is there, and return their paths."""
    paths = []
    for group in (_jpegs(), _turned(), _pngs(), _damaged(), _large()):
        for name, content in group:
            path = folder / f"{len(paths):03d}-{name}"
            path.write_bytes(content)
            paths.append(path)
    return paths


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(f"{len(save(target))} images in {target}")
