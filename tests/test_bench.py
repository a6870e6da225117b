"""What `bench` keeps: a run for each row, and what the machine's sensors said meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lite_opt.bench as bench_module
from lite_opt.cli.main import paddle_edge
from py_runner.errors import UsageError
from py_runner.formats.run import Run


def command(*arguments: object) -> Any:
    return CliRunner().invoke(paddle_edge, ["bench", *map(str, arguments)])


def zone(sysfs: Path, celsius: int, *, most: int = 1800) -> None:
    """A machine's sensors, as files: this one may have none."""
    thermal, core = sysfs / "class/thermal/thermal_zone0", sysfs / "devices/system/cpu/cpu0/cpufreq"
    for folder in (thermal, core):
        folder.mkdir(parents=True, exist_ok=True)
    (thermal / "type").write_text("cpu-thermal\n")
    (thermal / "temp").write_text(f"{1000 * celsius}\n")
    (core / "scaling_cur_freq").write_text(f"{1000 * most}\n")
    (core / "scaling_max_freq").write_text(f"{1000 * most}\n")


def test_rows_are_kept_as_runs_that_report_reads(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed"
    done = command(bundle, "--threads", "1,2", "--repeat", 4, "--warmup", 1, "-o", out, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["runs"]
    runs = [Run.open(out / name) for name in ("lite-t1.run", "lite-t2.run")]
    assert [run.latency["count"] for run in runs] == [4, 4]
    for run, row in zip(runs, rows):
        assert run.latency["p50_ms"] == pytest.approx(row["latency"]["p50_ms"], rel=1e-3)
    page = tmp_path / "page.html"
    report = ["report", str(out / "lite-t2.run"), "--reference", str(out / "lite-t1.run")]
    done = CliRunner().invoke(paddle_edge, [*report, "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "Latency" in page.read_text()


def test_names_tell_what_differs(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed"
    assert command(model, "--batch", "1,2", "--repeat", 1, "--warmup", 0, "-o", out).exit_code == 0
    runs = ["paddle-t1-b1.run", "paddle-t1-b2.run"]
    assert sorted(p.name for p in out.iterdir()) == ["bench.json", *runs]
    quick = (model, "--repeat", 1, "--warmup", 0, "-o", out)
    refused = command(*quick).exception
    assert isinstance(refused, UsageError) and "exists already" in str(refused)
    done = command(*quick, "--force", "--json")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["bench.json", "paddle-t1.run"]
    assert json.loads((out / "bench.json").read_text()) == json.loads(done.stdout)


def test_what_is_counted_is_not_kept(bundle: Path, tmp_path: Path) -> None:
    asked = ("--engine", "native", "--device", "qemu-aarch64", "-o", tmp_path / "speed")
    refused = command(bundle, *asked).exception
    assert isinstance(refused, UsageError) and "-o keeps latencies" in str(refused)
    assert not (tmp_path / "speed").exists()


def test_a_machine_that_gets_hot_is_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs = tmp_path / "sys"
    monkeypatch.setenv("PADDLE_EDGE_SYSFS", str(sysfs))
    monkeypatch.delenv("COLUMNS", raising=False)
    quick = (bundle, "--repeat", 1, "--warmup", 0)
    assert "while measuring" not in command(*quick).output
    zone(sysfs, 51)
    told = command(*quick, "-o", tmp_path / "speed").output
    assert "while measuring: cpu-thermal 51 to 51 C; 1800 to 1800 MHz before" in told
    kept = Run.open(tmp_path / "speed/lite-t1.run").sensors
    assert kept is not None and kept["after"]["celsius"] == {"cpu-thermal": 51.0}
    honest = bench_module.run

    def heating(*arguments: Any, **options: Any) -> Run:
        zone(sysfs, 82, most=1000)
        return honest(*arguments, **options)

    monkeypatch.setattr(bench_module, "run", heating)
    told = command(*quick).output
    assert "this machine was throttled: cpu0 may run at 1000 MHz, 1800 MHz before" in told
    assert "cpu-thermal 51 to 82 C" in told
