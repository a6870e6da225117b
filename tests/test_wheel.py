"""The wheel, installed outside the checkout, on an interpreter that has no engines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need

ROOT = Path(__file__).parents[1]


def uv() -> str:
    own = ROOT / ".uv" / "bin" / "uv"  # where the README puts it
    found = str(own) if own.exists() else shutil.which("uv")
    need(found is not None, "uv")
    return str(found)


def call(*argv: object, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return subprocess.run(
        [str(a) for a in argv], capture_output=True, text=True, check=check, env={**plain, **env}
    )


def interpreter(version: str) -> str:
    """A CPython of that version: one that uv finds, or one of pyenv's that no shim leads to."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for found in sorted(pyenv.glob(f"{version}.*/bin/python")):
        return str(found)
    asked = call(uv(), "python", "find", "--no-project", version, check=False)
    need(asked.returncode == 0, f"CPython {version}")
    return asked.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    call(uv(), "build", "--wheel", "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_on_a_newer_python(
    version: str, wheel: Path, model: Path, bundle: Path, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    call(uv(), "venv", "--no-project", "--python", interpreter(version), venv)
    call(uv(), "pip", "install", "--python", venv / "bin" / "python", wheel)
    command = venv / "bin" / "paddle-edge"
    listed = call(uv(), "pip", "list", "--python", venv / "bin" / "python").stdout
    assert "numpy 2." in " ".join(listed.split())
    assert "paddlelite" not in listed and "paddlepaddle" not in listed

    for arguments in (
        ("convert", model, "-o", tmp_path / "b", "--no-check"),
        ("run", bundle, "-o", tmp_path / "r"),
    ):
        missing = call(command, *arguments, check=False)
        assert missing.returncode == 3
        telling = [line for line in missing.stderr.splitlines() if "paddle-edge:" in line]
        assert len(telling) == 1 and "pip install paddlelite==2.13rc0" in telling[0]
    assert not (tmp_path / "b").exists() and not (tmp_path / "r").exists()

    # The engine lives in this test's own environment: CPython 3.10 with NumPy 1.
    lite = {"PADDLE_EDGE_LITE_PYTHON": sys.executable}
    call(command, "convert", model, "-o", tmp_path / "b", "--no-check", **lite)
    call(command, "run", bundle, "-o", tmp_path / "r", **lite)
    compared = call(command, "compare", bundle / "reference", tmp_path / "r")
    assert "PASSED on 4 samples" in compared.stdout
    server = call(command, "run", model, "-o", tmp_path / "s", check=False)
    assert server.returncode == 3 and "pip install paddlepaddle==3.3.1" in server.stderr
    inspected = call(command, "inspect", tmp_path / "b" / "model.arm.nb")
    assert "v2.13-rc" in inspected.stdout


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"lite_opt", "py_runner", "paddle_edge-0.1.0.dist-info"}
    for file in (ROOT / "lite_opt/views/templates").glob("*.*"):
        assert str(file.relative_to(ROOT)) in names
