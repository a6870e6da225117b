"""The floors of the house: who may import whom, and what each module shows."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Scripts that run under another interpreter: nobody imports them.
# What opens folders of ours, and what is no file.
OPENERS = ("Bundle", "History", "Plan", "Pages", "Pipeline", "Run", "Sdk", "opener", "Image", "cls")
CHILDREN = ("serve", "opt_child", "calibrate_child", "export_child", "counted_child")


def test_imports_go_downwards_and_not_in_circles() -> None:
    """The contracts of pyproject.toml."""
    linted = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_runner_does_not_name_the_converter() -> None:
    for file in (ROOT / "py_runner").rglob("*.py"):
        assert "lite_opt" not in file.read_text(encoding="utf-8"), file


def test_public_names_exist_and_are_listed() -> None:
    for package in ("lite_opt", "py_runner"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.stem in ("__init__", *CHILDREN):
                continue
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name)
            assert all(hasattr(module, public) for public in module.__all__), name


@pytest.mark.parametrize("package", ["lite_opt", "py_runner"])
def test_the_facade_is_what_its_homes_define(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module._HOMES) == module.__all__
    for name in module.__all__:
        home = importlib.import_module(f"{package}.{module._HOMES[name]}")
        assert getattr(module, name) is getattr(home, name)
        assert name in home.__all__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_the_facade_costs_nothing() -> None:
    script = "import sys, lite_opt, py_runner; print(sorted({'numpy', 'click'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_files_are_read_through_the_one_door() -> None:
    """Only files/regular.py opens what is read; writing, classes of ours and children are free."""
    for file in sorted([*(ROOT / "lite_opt").rglob("*.py"), *(ROOT / "py_runner").rglob("*.py")]):
        if file.stem in (*CHILDREN, "static_engine", "regular"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, line = node.func.attr, ast.unparse(node)
                where = f"{file.relative_to(ROOT)}:{node.lineno}: {line}"
                owner = ast.unparse(node.func.value)
                if name in ("read_bytes", "read_text"):
                    assert owner == "regular", where
                elif name in ("load", "fromfile", "memmap"):
                    assert owner not in ("np", "numpy") or "file" in line.split("(")[1], where
                elif name == "open" and owner not in OPENERS:
                    modes = {a.value for a in node.args if isinstance(a, ast.Constant)}
                    writes = modes & {"w", "wb", "x", "xb", "ab"} or "os.devnull" in line
                    writes = writes or "os.O_RDWR" in line
                    assert writes or "mode='r:'" in line or "if begun" in line, where
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", f"{file}:{node.lineno}"
