"""What a bundle is made for: arm, to deploy, and x86, to check what was made where it was made,
both by Paddle Lite; and onnx, for ONNX Runtime anywhere."""

from __future__ import annotations

from lite_opt.recipes import Recipe

__all__ = ["LITE", "TARGETS", "cannot"]

# In the order in which files are made: arm decides, x86 is there to check it.
LITE = ("arm", "x86")
TARGETS = (*LITE, "onnx")


def cannot(target: str, recipe: Recipe) -> str:
    """Why no file of a recipe can be made for a target, or none be trusted; "" where one can."""
    if target == "onnx" and recipe.name != "fp32":
        return "files for ONNX Runtime are made in fp32 only"
    if target == "x86" and recipe.fp16:
        return "Paddle Lite has fp16 kernels for ARM only"
    if target == "x86" and recipe.name == "int8":
        # Measured: accuracy 0.5 instead of 0.95, NaN, and other numbers in the next run.
        return "Paddle Lite's int8 kernels for x86 compute wrong numbers"
    return ""
