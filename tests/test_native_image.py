"""The native runner's preprocessing equals py_runner's bit by bit, or refuses where it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import warnings
import zlib
from pathlib import Path
from typing import Any

import make_images
import numpy as np
import pytest
from conftest import need
from test_native import sysroot

from py_runner.data.decode import open_image
from py_runner.data.image import PRESETS, ImageSpec
from py_runner.errors import DataError

ROOT = Path(__file__).parent.parent
_DECODERS = (ROOT / "armlinux/src/decode").glob("*.cc")
SOURCES = [
    "tests/native/image_driver.cc",
    "armlinux/src/image.cc",
    "armlinux/src/decode.cc",
    *sorted(map(str, _DECODERS)),
]
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-Iarmlinux/src"]

_CLAS = PRESETS["paddleclas"]
_PIXELS = ImageSpec(resize="none", size=None, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
SPECS = {
    **PRESETS,
    "pixels": dataclasses.replace(_PIXELS, crop=(1, 1)),
    "short-bgr": dataclasses.replace(_CLAS, size=33, crop=(33, 20), color="BGR"),
    "short-pil": dataclasses.replace(_CLAS, size=40, crop=None, interpolation="pil-bilinear"),
    "exact": dataclasses.replace(_CLAS, resize="exact", size=(60, 45), crop=(31, 44)),
    "exact-pil": dataclasses.replace(
        _CLAS, resize="exact", size=(47, 83), crop=None, interpolation="pil-bilinear"
    ),
    "half": dataclasses.replace(_CLAS, resize="exact", size=(45, 60), crop=(40, 51)),
    "pad-pil": ImageSpec(
        resize="pad", size=(31, 50), color="BGR", interpolation="pil-bilinear", divisor=3.7
    ),
    # Subnormal values, which some vector units flush to zero.
    "subnormal": dataclasses.replace(
        _PIXELS, resize="exact", size=(9, 11), scale=2e-38, divisor=1e3
    ),
    "whole": dataclasses.replace(_PIXELS, color="BGR"),
    # The decoder shrinks; the last one by 8 what is larger than 80 x 104.
    "draft": dataclasses.replace(_CLAS, draft=True),
    "draft-pil": dataclasses.replace(PRESETS["efficientnet-lite"], draft=True, size=60, crop=None),
    "draft-pad": dataclasses.replace(PRESETS["ppocr-cls"], draft=True, size=(10, 90)),
    "draft-exact": ImageSpec(resize="exact", size=(10, 13), draft=True),
}
# Every pixel of these would be a few hundred megabytes of tensors.
_TOO_LARGE = ("12-megapixels", "1080p")


@dataclasses.dataclass(frozen=True)
class Build:
    """How the driver is built and run for one kind of machine."""

    compiler: str = "g++"
    options: tuple[str, ...] = ("-O3",)
    sysroot: str = ""  # under build/sysroot
    emulator: str = ""
    triple: str = ""


BUILDS = {
    "host": Build(),
    "sanitized": Build(
        options=("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    ),
    "aarch64": Build(
        compiler="aarch64-linux-gnu-g++",
        sysroot="aarch64",
        emulator="qemu-aarch64-static",
        triple="aarch64-linux-gnu",
    ),
    "armv7hf": Build(
        compiler="arm-linux-gnueabihf-g++",
        options=("-O3", "-mfpu=neon", "-Wno-psabi"),
        sysroot="armv7hf",
        emulator="qemu-arm-static",
        triple="arm-linux-gnueabihf",
    ),
}


def compile_driver(build: Build, out: Path) -> list[str]:
    """Compile the driver and return the command that runs it."""
    for tool in filter(None, (build.compiler, build.emulator)):
        need(shutil.which(tool) is not None, tool)
    include, command = [], [str(out)]
    link = ["-ljpeg", "-lz"]
    if build.sysroot:
        root = sysroot(build.sysroot)
        folders = [root / "usr/lib" / build.triple, root / "lib" / build.triple]
        include = [f"-isystem{root}/usr/include", f"-isystem{root}/usr/include/{build.triple}"]
        link = [*(f"-L{folder}" for folder in folders), *link]
        library_path = "LD_LIBRARY_PATH=" + ":".join(map(str, folders))
        command = [build.emulator, "-L", f"/usr/{build.triple}", "-E", library_path, str(out)]
    arguments = [*FLAGS, *build.options, *include, *SOURCES, *link, "-o", str(out)]
    subprocess.run([build.compiler, *arguments], cwd=ROOT, check=True)
    return command


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the driver of this machine."""
    return compile_driver(BUILDS["host"], tmp_path_factory.mktemp("driver") / "driver")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_images.save(tmp_path_factory.mktemp("golden"))


def digest(tensor: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    data = tensor.tobytes()
    _, _, height, width = tensor.shape
    return f"ok {height} {width} {zlib.crc32(data):08x} {zlib.adler32(data):08x}"


def specs_for(image: Path) -> dict[str, ImageSpec]:
    large = any(name in image.name for name in _TOO_LARGE)
    return {name: spec for name, spec in SPECS.items() if not (large and name == "whole")}


def expected(image: Path) -> dict[str, str]:
    """What the driver has to print for each spec, by py_runner."""
    specs = specs_for(image)
    try:
        pixels = open_image(image)
    except DataError as error:
        return dict.fromkeys(specs, f"refused 3 {error}")
    lines = {}
    for name, spec in specs.items():
        try:
            lines[name] = digest(spec.apply(open_image(image, spec) if spec.draft else pixels))
        except DataError as error:
            lines[name] = f"refused 3 {error}"
    return lines


@pytest.fixture(scope="session")
def answers(images: list[Path]) -> dict[Path, dict[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged files
        return {image: expected(image) for image in images}


def run(command: list[str], specs: list[Any], images: list[Path], folder: Path) -> list[str]:
    """The driver's lines: all specs of the first image, then of the second, and so on."""
    (folder / "specs.json").write_text(json.dumps(specs))
    listing = "".join(f"{image}\n" for image in images)
    done = subprocess.run(
        [*command, str(folder / "specs.json")],
        input=listing,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def agrees(mine: str, native: str) -> bool:
    """The same tensor, or a refusal for the same kind of reason."""
    if mine.startswith("ok") or native.startswith("ok"):
        return mine == native
    kinds = ("truncated", "exceed", "larger than the image", "too large", "invalid palette")
    return native.startswith("refused 3 ") and all(
        (kind in mine.lower()) == (kind in native.lower()) for kind in kinds
    )


@pytest.mark.parametrize(
    "name", ["host", *(pytest.param(name, marks=pytest.mark.slow) for name in list(BUILDS)[1:])]
)
def test_tensors_are_those_of_py_runner(
    name: str,
    answers: dict[Path, dict[str, str]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if name == "host":
        command = request.getfixturevalue("driver")
    else:
        command = compile_driver(BUILDS[name], tmp_path / "driver")
        # Slow there, and no other code than that of smaller images.
        answers = {p: lines for p, lines in answers.items() if "12-megapixels" not in p.name}
    wrong, accepted = [], 0
    for large in (False, True):
        part = {p: lines for p, lines in answers.items() if ("whole" not in lines) == large}
        if not part:
            continue
        names = list(next(iter(part.values())))
        specs = [SPECS[spec].to_json() for spec in names]
        lines = run(command, specs, list(part), tmp_path)
        assert len(lines) == len(part) * len(names)
        for image, block in zip(part, np.reshape(lines, (-1, len(names))).tolist()):
            for spec, native in zip(names, block):
                mine = part[image][spec]
                accepted += mine.startswith("ok")
                both_decode = mine.startswith("ok") and native.startswith("ok")
                if name == "armv7hf" and both_decode and "flipped" in image.name:
                    # Coefficients that no encoder writes overflow libjpeg's inverse DCT, which has
                    # 32 bits here: other pixels of damaged files, but of the same number.
                    mine, native = (line.rsplit(" ", 2)[0] for line in (mine, native))
                if not agrees(mine, native):
                    wrong.append(f"{image.name} {spec}\n  py_runner {mine}\n  native    {native}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:20])
    assert accepted > 3000


def test_the_golden_images_are_many_and_mixed(answers: dict[Path, dict[str, str]]) -> None:
    refused = [image for image, lines in answers.items() if lines["pixels"].startswith("refused")]
    assert len(answers) >= 400
    assert 100 <= len(refused) <= len(answers) // 2


def test_specs_that_from_json_refuses(driver: list[str], tmp_path: Path) -> None:
    good = _CLAS.to_json()
    changes: list[dict[str, Any]] = [
        {"resize": "wide"},
        {"resize": 3},
        {"resize": "short", "size": [256, 256]},
        {"size": None},
        {"size": 0},
        {"size": 65537},
        {"size": 256.0},
        {"size": True},
        {"resize": "exact"},
        {"resize": "exact", "size": [256]},
        {"resize": "none"},
        {"resize": "pad", "size": [48, 192]},
        {"crop": 224},
        {"crop": [224, 0]},
        {"crop": [300, 300]},
        {"resize": "exact", "size": [224, 100]},
        {"color": "rgb"},
        {"interpolation": "cubic"},
        {"interpolation": None},
        {"scale": 0},
        {"scale": 1e-60},
        {"scale": 1e60},
        {"divisor": "255"},
        {"divisor": True},
        {"mean": [0.5, 0.5]},
        {"mean": 0.5},
        {"mean": [0.5, 0.5, None]},
        {"std": [1, 1, 0]},
        {"std": [1, 1, -1]},
        {"gamma": 2},
        {"draft": 1},
        {"resize": "none", "size": None, "draft": True},
    ]
    bad: list[Any] = [{**good, **change} for change in changes]
    bad += [{key: value for key, value in good.items() if key != "std"}, [], 5, "paddleclas", None]
    for value in bad:
        with pytest.raises(DataError):
            ImageSpec.from_json(value)
    lines = run(driver, bad, [], tmp_path)
    assert len(lines) == len(bad)
    for value, line in zip(bad, lines):
        assert line.startswith("refused 3 image: "), (value, line)

    accepted: list[dict[str, Any]] = [
        {"scale": 1, "divisor": 255, "mean": [0, -1, 1e3]},
        {"crop": [256, 300]},
        {"draft": True},
        {"draft": False},
        {"resize": "none", "size": None},
        {"resize": "pad", "size": [48, 192], "crop": None},
    ]
    fine = [{**good, **change} for change in accepted]
    assert [ImageSpec.from_json(value).resize for value in fine]
    assert run(driver, fine, [], tmp_path) == []


def test_a_bomb_is_refused_before_memory_is_taken(
    driver: list[str], images: list[Path], tmp_path: Path
) -> None:
    bombs = [p for p in images if p.name[4:] in ("bomb.png", "huge.jpg")]
    assert len(bombs) == 2
    limited = ["bash", "-c", 'ulimit -v 150000; exec "$@"', "bash", *driver]
    for line in run(limited, [_CLAS.to_json()], bombs, tmp_path):
        assert "exceed the limit of 89478485" in line


def test_a_file_of_endless_scans_is_refused(driver: list[str], tmp_path: Path) -> None:
    file = make_images.jpeg(make_images.picture(20, 30), progressive=True)
    last = file[file.rindex(b"\xff\xda") : -2]
    for scans in (50, 150):
        (tmp_path / f"{scans}.jpg").write_bytes(file[:-2] + last * scans + file[-2:])
    paths = [tmp_path / "50.jpg", tmp_path / "150.jpg"]
    few, many = run(driver, [SPECS["whole"].to_json()], paths, tmp_path)
    assert few == digest(SPECS["whole"].apply(open_image(paths[0])))
    assert many == "refused 3 cannot decode this image: more than 100 scans"
