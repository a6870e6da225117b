"""Serving: real clients of the protocol, its errors, pictures, batches, the shadow, who may ask."""

from __future__ import annotations

import base64
import io
import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import need
from make_images import jpeg, picture
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from serving_process import Serving, wait_until
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from lite_opt.cli.main import main
from lite_opt.conversion.convert import convert
from lite_opt.serving.messages import messages
from lite_opt.serving.metrics import Metrics
from lite_opt.serving.opening import Choices, opened_models
from lite_opt.serving.pool import Answer
from lite_opt.serving.protocol import parse_infer
from lite_opt.serving.refusals import Refusal
from lite_opt.serving.settings import Settings
from lite_opt.serving.shadow import Shadow
from py_runner.data.dataset import dataset
from py_runner.errors import UsageError
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tasks import decode
from py_runner.tensors import Sample, TensorSpec

SIDE = make_model.SIDE
SHARE = 0.5
ROWS = 4


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory, photos: Path, image_spec: str) -> Path:
    """Another classifier, whose batch is fixed, and whose classes have names."""
    folder = tmp_path_factory.mktemp("fixed")
    model = make_model.save(make_model.classifier(seed=3, batch=1), folder / "fixed")
    (folder / "labels.txt").write_text("\n".join(f"thing {n}" for n in range(10)))
    made = convert(
        model,
        folder / "fixed.bundle",
        target=["x86"],
        image=image_spec,
        samples=photos,
        labels=folder / "labels.txt",
    )
    assert made
    return folder / "fixed.bundle"


@pytest.fixture(scope="module")
def serving(bundle: Path, fixed: Path, model: Path) -> Iterator[Serving]:
    """Two models, of which the first has a shadow."""
    shadow = ("--shadow", "server", "--server", model, "--shadow-share", SHARE)
    with Serving(bundle, fixed, *shadow, models=2) as server:
        yield server


def tensors(count: int = 1, seed: int = 0) -> Any:
    shape = (count, 1, 3, SIDE, SIDE)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def answers(bundle: Path, inputs: Any) -> list[Any]:
    """What `run` says, a tensor each."""
    samples = [Sample(str(n), {"x": value}) for n, value in enumerate(inputs)]
    (values,) = run(Bundle.open(bundle).model("x86"), samples).outputs.values()
    return values


def client(kind: Any, serving: Serving) -> Any:
    if kind is triton_http:
        return kind.InferenceServerClient(serving.http.removeprefix("http://"))
    return kind.InferenceServerClient(serving.grpc)


def given(kind: Any, value: Any, **how: Any) -> Any:
    names = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
    result = kind.InferInput("x", value.shape, names[str(value.dtype)])
    result.set_data_from_numpy(value, **how)
    return result


BOTH = pytest.mark.parametrize("kind", [triton_http, triton_grpc], ids=["http", "grpc"])


@BOTH
def test_a_real_client_infers(kind: Any, serving: Serving, bundle: Path) -> None:
    (x,) = tensors()
    (expected,) = answers(bundle, [x])
    with client(kind, serving) as it:
        assert it.is_server_live() and it.is_server_ready() and it.is_model_ready("tiny")
        as_json = {} if kind is triton_http else {"as_json": True}
        assert it.get_server_metadata(**as_json)["name"] == "paddle-edge"
        about = it.get_model_metadata("tiny", **as_json)
        shape = [-1, 3, SIDE, SIDE] if kind is triton_http else ["-1", "3", str(SIDE), str(SIDE)]
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": shape}]
        (output,) = about["outputs"]
        (version,) = about["versions"]
        assert Bundle.open(bundle).sha256.startswith(version)
        answer = it.infer("tiny", [given(kind, x)], model_version=version, request_id="seven")
        assert answer.as_numpy(output["name"]).tobytes() == expected.tobytes()
        response = answer.get_response()
        assert (response["id"] if kind is triton_http else response.id) == "seven"
        # Several rows in one request, the output asked for by its name.
        many = tensors(3, seed=1)[:, 0]
        wanted = [kind.InferRequestedOutput(output["name"])]
        rows = it.infer("tiny", [given(kind, many)], outputs=wanted).as_numpy(output["name"])
        assert np.allclose(rows, np.concatenate(answers(bundle, many[:, None])), atol=1e-6)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("answered", [True, False])
def test_tensors_as_bytes_and_as_json(
    sent: bool, answered: bool, serving: Serving, bundle: Path
) -> None:
    (x,) = tensors(seed=2)
    (expected,) = answers(bundle, [x])
    wanted = [triton_http.InferRequestedOutput("soft.out", binary_data=answered)]
    with client(triton_http, serving) as it:
        answer = it.infer("tiny", [given(triton_http, x, binary_data=sent)], outputs=wanted)
    assert answer.as_numpy("soft.out").tobytes() == expected.tobytes()


def test_curl_infers(serving: Serving, bundle: Path, photos: Path) -> None:
    need(shutil.which("curl") is not None, "curl")
    (x,) = tensors(seed=4)
    data = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    body = json.dumps({"id": "9", "inputs": [data]})

    def curl(*arguments: str) -> Any:
        argv = ["curl", "-sS", "--fail-with-body", *arguments]
        done = subprocess.run(argv, input=body, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    url = f"{serving.http}/v2/models/tiny/infer"
    answer = curl("-H", "Content-Type: application/json", "--data-binary", "@-", url)
    assert answer["id"] == "9" and answer["model_name"] == "tiny"
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [1, 10])
    assert np.array(output["data"], "float32").tobytes() == answers(bundle, [x])[0].tobytes()
    told = curl("-F", f"file=@{photos / 'picture_1.png'}", f"{serving.http}/predict/tiny?top=1")
    assert told["edge"]["result"]["top"][0]["index"] >= 0


def test_addresses_of_the_protocol(serving: Serving) -> None:
    assert serving.ask("/v2/health/live")[:2] == (200, {"live": True})
    assert serving.ask("/v2/health/ready")[:2] == (200, {"ready": True})
    status, body, _ = serving.ask("/v2")
    assert status == 200 and body["extensions"] == ["binary_tensor_data"]
    status, body, _ = serving.ask("/v2/models/fixed")
    assert status == 200 and body["inputs"][0]["shape"] == [1, 3, SIDE, SIDE]
    path = f"/v2/models/fixed/versions/{body['versions'][0]}/ready"
    assert serving.ask(path)[:2] == (200, {"name": "fixed", "ready": True})
    status, body, _ = serving.ask("/v2/models")
    assert [model["name"] for model in body["models"]] == ["tiny", "fixed"]
    assert list(body["models"][0]["engines"]) == ["edge", "server"]


RIGHT: dict[str, Any] = {
    "name": "x",
    "shape": [1, 3, SIDE, SIDE],
    "datatype": "FP32",
    "data": [0.5] * (3 * SIDE * SIDE),
}


def changed(**fields: Any) -> dict[str, Any]:
    entry = {**RIGHT, **fields}
    return {"inputs": [{key: value for key, value in entry.items() if value is not None}]}


WRONG: list[tuple[Any, str]] = [
    (changed(name="y"), "there is no input 'y', only x"),
    (changed(name=None), "an input has no 'name'"),
    (changed(datatype="FP64"), "input 'x' takes float32[?, 3, 16, 16], not float64[1, 3, 16, 16]"),
    (changed(datatype="FLOAT"), "unknown datatype 'FLOAT'"),
    (changed(datatype="BYTES"), "unknown datatype 'BYTES'"),
    (changed(shape=[1, 3, SIDE]), "'data' is [768], and 'shape' [1, 3, 16]"),
    (changed(shape=[3, SIDE * SIDE]), "not float32[3, 256]"),
    (changed(shape=[1, 3, -16, -16]), "'shape' [1, 3, -16, -16] is none"),
    (changed(shape=[0, 3, SIDE, SIDE], data=[]), "not float32[0, 3, 16, 16]"),
    (changed(shape="many"), "'shape' is no list of whole numbers"),
    (changed(shape=[True, 3, SIDE, SIDE]), "'shape' is no list of whole numbers"),
    (changed(shape=[1 << 40] * 20), "is none"),
    (changed(data=None), "neither 'data' nor binary_data_size"),
    (changed(data=["1.5"] * 768), "'data' is no array of FP32"),
    (changed(data=[None] * 768), "'data' is no array of FP32"),
    (changed(data=[[1], [1, 2]]), "'data' is no array of FP32"),
    (changed(data=[1e39] * 768), "holds NaN or infinite numbers"),
    (changed(parameters={"binary_data_size": 4}), "has both 'data' and binary_data_size"),
    (changed(data=None, parameters={"binary_data_size": 10**18}), "and 0 bytes follow"),
    (changed(parameters=[]), "'parameters' is no object"),
    ({"inputs": []}, "nothing is given for input 'x'"),
    ({"inputs": [RIGHT, RIGHT]}, "input 'x' stands there twice"),
    ({"inputs": {"x": 1}}, "'inputs' is no list of objects"),
    ({}, "'inputs' is no list of objects"),
    ({"inputs": [RIGHT], "outputs": [{"name": "z"}]}, "there is no output 'z', only soft.out"),
    ({"inputs": [RIGHT], "outputs": [7]}, "'outputs' is no list of objects"),
    ({"inputs": [RIGHT], "id": 7}, "'id' is no text"),
    (b"{", "the body is no JSON"),
    (b"[1]", "the body is no JSON object, but list"),
    (b"\xff\xfe", "the body is no JSON"),
    (b'{"inputs": [{"name": "x", "data": [NaN]}]}', "NaN is no number that JSON has"),
    (b'{"a":' * 100_000, "nested too deep"),
    (b"", "the body is no JSON"),
]


@pytest.mark.parametrize(("body", "words"), WRONG, ids=[words for _, words in WRONG])
def test_the_protocols_bodies_of_errors(body: Any, words: str, serving: Serving) -> None:
    status, document, headers = serving.ask("/v2/models/tiny/infer", body)
    assert status == 400 and list(document) == ["error"] and words in document["error"]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v2/models/other/infer", {"inputs": [RIGHT]}, 404, "there is no model 'other'"),
        ("/v2/models/other", None, 404, "there is no model 'other', only tiny, fixed"),
        ("/v2/models/tiny/versions/0", None, 404, "there is no version '0'"),
        ("/v2/models/tiny/infer", None, 405, "Method Not Allowed"),
        ("/v2/models/..%2f..%2fetc/ready", None, 404, ""),
        ("/predict/tiny?path=/etc/passwd", b"x", 400, "there are 'draw', 'server' and 'top'"),
        ("/predict/tiny?top=0", b"x", 400, "'top' is 1 to 1000"),
        ("/predict/tiny?draw=maybe", b"x", 400, "'draw' is true or false"),
        ("/predict/fixed?server=true", b"x", 400, "no server engine"),
        ("/predict/tiny", b"", 400, "the body is empty"),
        ("/predict/tiny", b"not a picture", 400, "not an image"),
        ("/no/such/place", None, 404, "Not Found"),
    ],
)
def test_what_is_not_there(path: str, body: Any, status: int, words: str, serving: Serving) -> None:
    told, document, _ = serving.ask(path, body)
    assert told == status and words in document["error"]


def test_errors_over_grpc(serving: Serving) -> None:
    (x,) = tensors()
    with client(triton_grpc, serving) as it:
        for model, value, status, words in (
            ("other", x, "NOT_FOUND", "there is no model 'other'"),
            ("tiny", x[..., :15], "INVALID_ARGUMENT", "not float32[1, 3, 16, 15]"),
            ("tiny", x.astype("float64"), "INVALID_ARGUMENT", "not float64[1, 3, 16, 16]"),
            ("tiny", x * np.float32("nan"), "INVALID_ARGUMENT", "NaN or infinite"),
            ("fixed", np.concatenate([x, x]), "INVALID_ARGUMENT", "takes float32[1, 3, 16, 16]"),
        ):
            with pytest.raises(InferenceServerException) as error:
                it.infer(model, [given(triton_grpc, value)])
            assert status in str(error.value.status()) and words in error.value.message()
        with pytest.raises(InferenceServerException, match="there is no version 'x'"):
            it.infer("tiny", [given(triton_grpc, x)], model_version="x")
        with pytest.raises(InferenceServerException, match="there is no output 'y'"):
            it.infer(
                "tiny", [given(triton_grpc, x)], outputs=[triton_grpc.InferRequestedOutput("y")]
            )


def test_messages_are_those_of_the_published_interface() -> None:
    """Held to the module that the Triton client has of it."""
    within = {
        "TensorMetadata": service_pb2.ModelMetadataResponse.TensorMetadata,
        "InferInputTensor": service_pb2.ModelInferRequest.InferInputTensor,
        "InferRequestedOutputTensor": service_pb2.ModelInferRequest.InferRequestedOutputTensor,
        "InferOutputTensor": service_pb2.ModelInferResponse.InferOutputTensor,
    }
    for name, ours in messages().items():
        theirs = within.get(name) or getattr(service_pb2, name)
        for mine in ours.DESCRIPTOR.fields:
            other = theirs.DESCRIPTOR.fields_by_name[mine.name]
            assert (mine.number, mine.type) == (other.number, other.type), (name, mine.name)
    # Elements that are not sent as bytes stand in fields by their types.
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"ab"])
    request.inputs.add(name="x", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    read = messages()["ModelInferRequest"].FromString(request.SerializeToString())
    assert list(read.inputs[0].contents.fp32_contents) == [1, 2]
    assert (read.model_name, list(read.raw_input_contents)) == ("m", [b"ab"])


@pytest.mark.parametrize(
    ("kind", "dtype", "data", "refused"),
    [
        ("INT64", "int64", [1, -(2**63)], ""),
        ("INT64", "int64", [2**63, 0], "no array of INT64|beyond"),
        ("INT8", "int8", [-128, 127], ""),
        ("INT8", "int8", [-129, 0], "beyond INT8"),
        ("UINT8", "uint8", [256, 0], "beyond UINT8"),
        ("INT32", "int32", [1.0, 2.0], "no array of INT32"),
        ("BOOL", "bool", [True, False], ""),
        ("BOOL", "bool", [1, 0], "no array of BOOL"),
        ("FP16", "float16", [0.5, 1e6], "infinite"),
        ("FP64", "float64", [1, 1e300], ""),
    ],
)
def test_numbers_keep_their_types(kind: str, dtype: str, data: list[Any], refused: str) -> None:
    entry = {"name": "x", "shape": [2], "datatype": kind, "data": data}
    body, spec = json.dumps({"inputs": [entry]}).encode(), TensorSpec("x", dtype, (2,))
    if refused:
        with pytest.raises(Refusal, match=refused):
            parse_infer(body, None, [spec])
        return
    feeds, _ = parse_infer(body, None, [spec])
    assert feeds["x"].dtype == dtype and feeds["x"].tolist() == data
    value = np.array(data, dtype)
    head = {"name": "x", "shape": [2], "datatype": kind}
    head["parameters"] = {"binary_data_size": value.nbytes}
    text = json.dumps({"inputs": [head]}).encode()
    feeds, _ = parse_infer(text + value.tobytes(), str(len(text)), [spec])
    assert feeds["x"].tobytes() == value.tobytes() and feeds["x"].flags.aligned
    for length, left in ((str(len(text) + 99), b""), ("-1", b""), (str(len(text)), b"x")):
        with pytest.raises(Refusal):
            parse_infer(text + value.tobytes() + left, length, [spec])


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_a_picture_is_answered_by_the_task(
    form: bool, serving: Serving, fixed: Path, photos: Path
) -> None:
    owner = Bundle.open(fixed)
    samples = dataset(photos, inputs=owner.inputs, image=owner.image)
    expected = decode(run(owner.model("x86"), samples), owner.labels)
    for number, file in enumerate(sorted(photos.iterdir())):
        body, headers = file.read_bytes(), {"Content_Type": "image/png"}
        if form:
            head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="../../x"\r\n\r\n'
            body = head + body + b"\r\n--b--\r\n"
            headers = {"Content_Type": "multipart/form-data; boundary=b"}
        status, answer, _ = serving.ask("/predict/fixed", body, **headers)
        assert status == 200 and answer["task"] == "classification"
        assert answer["edge"]["result"]["top"] == expected[number]["top"]
        assert answer["edge"]["result"]["top"][0]["name"].startswith("thing ")


def test_edge_and_server_are_asked_side_by_side(serving: Serving) -> None:
    photo = jpeg(picture(40, 60))
    status, answer, _ = serving.ask("/predict/tiny?server=true&draw=1", photo)
    assert status == 200 and answer["agreement"]["passed"] is True
    edge, server = answer["edge"], answer["server"]
    assert (edge["engine"], server["engine"]) == ("lite", "paddle")
    assert [c["index"] for c in edge["result"]["top"]] == [
        c["index"] for c in server["result"]["top"]
    ]
    assert edge["engine_ms"] > 0 and server["engine_ms"] > 0
    assert edge["drawn"].startswith("data:image/png;base64,")


def test_other_tasks_answer_in_their_own_words(tmp_path: Path, photos: Path) -> None:
    """One network whose output [1, 4, 16, 16] is classes of pixels, heatmaps, or just a tensor."""
    b = make_model.Builder()
    x = b.input("x", (-1, 3, SIDE, SIDE))
    y = b.conv2d(x, b.param("w", (4, 3, 3, 3), 2.0), "y", (-1, 4, SIDE, SIDE))
    model, bundle = make_model.save(b.program(y), tmp_path / "map"), tmp_path / "map.bundle"
    image = f"resize=exact:{SIDE}x{SIDE}"
    assert convert(model, bundle, target=["x86"], image=image, samples=photos, task="segmentation")
    manifest = bundle / "bundle.json"
    about = json.loads(manifest.read_text())
    photo = sorted(photos.iterdir())[0]
    told = {}
    for task in ("segmentation", "keypoints", "tensor", "detection"):
        manifest.write_text(json.dumps({**about, "task": {"name": task}}))
        with Serving(bundle, "--no-check") as serving:
            path = f"/predict/map?draw={task != 'tensor'}"
            status, answer, _ = serving.ask(path, photo.read_bytes())
            told[task] = answer.get("error") or answer["edge"]["result"]
            assert status == (500 if task == "detection" else 200)
            if task in ("segmentation", "keypoints"):
                assert answer["edge"]["drawn"].startswith("data:image/png;base64,")
    owner = Bundle.open(bundle)
    samples = dataset(photo, inputs=owner.inputs, image=owner.image)
    (((value,),),) = [run(owner.model("x86"), samples).outputs.values()]
    mask = value[0].argmax(0)
    png = base64.b64decode(told["segmentation"]["mask"].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), mask)
    shares = {c["index"]: c["share"] for c in told["segmentation"]["classes"]}
    assert shares == {int(i): float((mask == i).mean()) for i in np.unique(mask)}
    assert all(0 <= p["x"] < SIDE and p["score"] >= 0.2 for p in told["keypoints"]["points"])
    (output,) = told["tensor"]["outputs"]
    assert np.array(output["data"], "float32").tobytes() == value.tobytes()
    assert "this head needs the option anchors" in told["detection"]


def metric(serving: Serving, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(serving.ask("/metrics")[1].decode())
    samples = [s for family in families for s in family.samples]
    found = [s.value for s in samples if s.name == f"paddle_edge_{name}" and s.labels == labels]
    return found[0] if found else 0.0


def test_the_shadow_answers_its_share_and_metrics_tell(serving: Serving, bundle: Path) -> None:
    def shadowed() -> float:
        results = ("compared", "skipped", "failed")
        return sum(
            metric(serving, "shadow_requests_total", model="tiny", result=r) for r in results
        )

    before = shadowed()
    requests = {"model": "tiny", "door": "http", "status": "200"}
    answered = metric(serving, "requests_total", **requests)
    for x in tensors(20, seed=7):
        body = {"inputs": [{**RIGHT, "data": x.ravel().tolist()}]}
        assert serving.ask("/v2/models/tiny/infer", body)[0] == 200
    assert metric(serving, "requests_total", **requests) == answered + 20
    wait_until(lambda: shadowed() == before + 20 * SHARE)
    compared = metric(serving, "shadow_requests_total", model="tiny", result="compared")
    assert compared > 0
    for by in ("limits", "best class"):
        assert metric(serving, "shadow_agreed_total", model="tiny", by=by) == compared
    assert metric(serving, "engines", model="tiny", engine="edge") == 1
    logged = [e for e in serving.events("request") if e["path" if e["door"] == "http" else "model"]]
    assert {"time", "level", "event", "door", "status", "ms"} <= set(logged[0])


def test_a_shadow_that_disagrees_is_counted(bundle: Path) -> None:
    """The answers are made here: an engine that is wrong at times is not to be had."""
    metrics = Metrics()
    right, near = [0.7] + [0.3 / 9] * 9, [0.6] + [0.4 / 9] * 9
    with opened_models([bundle], Choices(), metrics, max_pixels=100) as (served,):
        served.add_server(served.edge)
        shadow = Shadow("tiny", served.edge, 1.0, served.agreement, metrics)
        for edge in (right, near, near[::-1]):
            made = [Answer({"o": np.array([v], "float32")}, 1.0, 0.0, 1) for v in (right, edge)]
            shadow.count(served.agreement(*made))
    assert counted(metrics, result="compared") == 3
    assert counted(metrics, by="limits") == 1
    assert counted(metrics, by="best class") == 2


def test_a_bundle_is_held_to_the_limits_that_it_was_made_with(bundle: Path, tmp_path: Path) -> None:
    """One of 1.0, which no engine holds, is not that of its precision."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    document = json.loads((copy / "bundle.json").read_text())
    document["recipe"]["limits"].update(cosine=1.0, max_abs_diff=0.0, noise_times=0.0)
    (copy / "bundle.json").write_text(json.dumps(document))
    rows = ([0.7] + [0.3 / 9] * 9, [0.70001] + [0.29999 / 9] * 9)
    made = [Answer({"o": np.array([row], "float32")}, 1.0, 0.0, 1) for row in rows]
    for path, passes in ((bundle, True), (copy, False)):
        with opened_models([path], Choices(), Metrics(), max_pixels=100) as (served,):
            served.add_server(served.edge)
            assert bool(served.agreement(*made)) == passes
            served.edge.start()
            assert ("does not answer its own samples" in served.check()) != passes
            served.edge.close()


def counted(metrics: Metrics, **label: str) -> float:
    ((name, value),) = label.items()
    lines = metrics.text().decode().splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if f'{name}="{value}"' in line and "_total" in line
    )


def test_requests_become_batches_where_the_batch_is_free(bundle: Path, fixed: Path) -> None:
    inputs = tensors(24, seed=9)
    expected = answers(bundle, inputs)

    def ask(x: Any) -> Any:
        entry = {**RIGHT, "shape": list(x.shape), "data": x.ravel().tolist()}
        status, answer, _ = serving.ask("/v2/models/tiny/infer", {"inputs": [entry]})
        assert status == 200, answer
        return np.array(answer["outputs"][0]["data"], "float32").reshape(-1, 10)

    batches = ("--max-batch", ROWS, "--batch-delay-ms", 200)
    with Serving(bundle, *batches) as serving, ThreadPoolExecutor(12) as clients:
        told = list(clients.map(ask, inputs))
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(told, expected))
        rows = metric(serving, "batch_rows_sum", model="tiny", engine="edge")
        assert rows / metric(serving, "batch_rows_count", model="tiny", engine="edge") > 2
        # A request of more rows than a batch has is run as it is.
        assert ask(np.concatenate(list(inputs[:6]))).shape == (6, 10)
    with (
        pytest.raises(UsageError, match="batch is not free"),
        opened_models([fixed], Choices(max_batch=2), Metrics(), max_pixels=1),
    ):
        pass


def test_only_who_may_is_answered(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef0123\n")
    bearing = {"Authorization": "Bearer 0123456789abcdef0123"}
    (x,) = tensors()
    with Serving(bundle, "--token-file", tmp_path / "token") as serving:
        for path in ("/v2/models", "/metrics", "/v2/models/tiny"):
            status, body, headers = serving.ask(path)
            assert status == 401 and "token" in body["error"]
            assert headers["www-authenticate"] == "Bearer"
            assert serving.ask(path, Authorization="Bearer 0123456789abcdef0124")[0] == 401
            assert serving.ask(path, **bearing)[0] == 200
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert serving.ask(path)[0] == 200
        with client(triton_grpc, serving) as it:
            assert it.is_server_live()
            with pytest.raises(InferenceServerException, match="this server asks for a token"):
                it.infer("tiny", [given(triton_grpc, x)])
            headers = {"authorization": bearing["Authorization"]}
            assert it.infer("tiny", [given(triton_grpc, x)], headers=headers)
        # Pages of other sites, and names that somebody else's DNS leads here.
        assert serving.ask("/v2/models", Host="evil.example:80", **bearing)[0] == 403
        assert serving.ask("/v2/models", Origin="http://evil.example", **bearing)[0] == 403
        assert serving.ask("/v2/models", Origin=serving.http, **bearing)[0] == 200
        assert "0123456789abcdef" not in "".join(serving.lines)
        assert "access-control-allow-origin" not in serving.ask("/v2/models", **bearing)[2]


def test_over_tls(bundle: Path, tmp_path: Path) -> None:
    need(shutil.which("openssl") is not None, "openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    with Serving(bundle, "--tls-cert", cert, "--tls-key", key) as serving:
        assert serving.http.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(serving.http + "/v2/health/ready", context=context) as answer:
            assert json.load(answer) == {"ready": True}
        it = triton_grpc.InferenceServerClient(serving.grpc, ssl=True, root_certificates=str(cert))
        with it:
            assert it.is_model_ready("tiny")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shadow", "server"), "--server MODEL"),
        (("--device", "gpu"), "of the server engine"),
        (("--engine", "paddle"), "engine lite, native, onnx, not"),
        (("--tls-cert", "c.pem"), "a certificate and its key"),
        (("--port", "99999"), "a port is 0 to 65535"),
        (("--port", "8001"), "cannot share port 8001"),
        (("--shadow-share", "2", "--shadow", "server"), "0 to 1"),
    ],
)
def test_what_cannot_be_served(
    arguments: tuple[str, ...], words: str, bundle: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["paddle-edge", "serve", str(bundle), *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    error = capfd.readouterr().err
    assert end.value.code == 2 and words in error and error.count("\n") == 1


@pytest.mark.parametrize("package", ["starlette", "grpc", "h11"])
def test_what_is_missing_is_named(package: str, bundle: Path) -> None:
    script = (
        f"import sys; sys.modules['{package}'] = None; "
        f"sys.argv = ['paddle-edge', 'serve', {str(bundle)!r}]; "
        "from lite_opt.cli.main import main; main()"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    words = f"paddle-edge: serving needs {package}: pip install 'paddle-edge[serve]'\n"
    assert (done.returncode, done.stderr) == (2, words)


def test_a_server_model_has_to_be_the_bundles_own(bundle: Path, tmp_path: Path) -> None:
    other = make_model.save(make_model.classifier(seed=8), tmp_path / "other")
    with (
        pytest.raises(UsageError, match="none of these bundles was made from this model"),
        opened_models([bundle], Choices(servers=[other]), Metrics(), max_pixels=1),
    ):
        pass
    with (
        pytest.raises(UsageError, match="two bundles are named 'tiny'"),
        opened_models([bundle, bundle], Choices(), Metrics(), max_pixels=1),
    ):
        pass


def test_only_this_machine_is_listened_to_unless_told() -> None:
    assert Settings().loopback and Settings().hosts
    assert not Settings(host="0.0.0.0").hosts
