"""convert --no-check runs on the server what the bundle keeps, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lite_opt.conversion.plan import Material, Plan
from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from lite_opt.recipes import recipe


def test_unchecked_int8_judges_only_what_is_kept(model: Path, tmp_path: Path) -> None:
    source = Source.of(load(model))
    shape = (60, *(side if side > 0 else 1 for side in source.inputs[0].shape[1:]))
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(0).standard_normal(shape).astype("float32"))
    chosen = recipe("int8", samples=20)
    for check, count in ((False, 3), (True, 40)):
        plan = Plan(
            recipe=chosen,
            target=["arm"],
            out=tmp_path / "b",
            calibration=data,
            samples=None,
            check_samples=3,
            check=check,
            save_quantized=None,
            force=False,
            reads=(),
        )
        assert len(Material.gather(plan, source, chosen, None).judged) == count
