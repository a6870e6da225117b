"""Puts bundles into the Android app: its assets, from where it copies them when it starts.

    android_demo/app/src/main/assets/bundles/<name>/    a bundle without models of other CPUs

The manifest stays as it is, byte for byte: a Run of the app belongs to the same bundle.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from py_runner.errors import UsageError
from py_runner.files.folder import check_free, whole_folder
from py_runner.formats.bundle import Bundle

__all__ = ["Prepared", "prepare"]

_ASSETS = "app/src/main/assets/bundles"
_TARGET = "arm"


@dataclass(frozen=True)
class Prepared:
    """A bundle in the app's assets: its folder there, its size, and what to know about it."""

    path: Path
    bytes: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields; the path as text."""
        return {**asdict(self), "path": str(self.path)}


def prepare(
    bundle: str | Path,
    app: str | Path = "android_demo",
    *,
    name: str | None = None,
    force: bool = False,
) -> Prepared:
    """Copy a bundle into the assets of the app, after its files were verified.

    Args:
        bundle: its folder.
        app: the folder of the app's Gradle project.
        name: of the folder there; by default the bundle's, without `.bundle`.
        force: replace a bundle of that name.

    Raises UsageError where `app` is no such project, the name is taken or would be left out of the
    app, or the bundle has no model for arm; ModelError where the bundle is damaged.
    """
    app = Path(app)
    if not (app / "app/src/main/AndroidManifest.xml").is_file():
        raise UsageError(
            f"{app}: is not the folder of the Android app: there is no "
            "app/src/main/AndroidManifest.xml in it; name it with --app"
        )
    opened = Bundle.open(bundle)
    name = opened.path.resolve().name.removesuffix(".bundle") if name is None else name
    # Gradle leaves out what begins with a dot or an underscore.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise UsageError(f"'{name}': cannot be the name of an asset; give another one with --name")
    place = app / _ASSETS / name
    if place.parent.is_dir():
        check_free(place, force=force, keep=[bundle])
    files = [opened.model(_TARGET).files[0]]
    samples = opened.read_samples()
    files += [opened.path / file for saved in opened.samples for file in saved.feeds.values()]
    warnings = []
    if samples:
        opened.reference()
        files += [file for file in (opened.path / "reference").rglob("*") if file.is_file()]
    else:
        warnings.append(f"{bundle}: holds no samples, so the app's self-check has nothing to check")
    if opened.image is None or len(opened.inputs) != 1:
        warnings.append(f"{bundle}: says nothing of images, so the app cannot show it pictures")
    elif opened.image.beyond_native:
        warnings.append(
            f"{bundle}: its preprocessing has {opened.image.beyond_native}, which the app does not "
            "do, so it cannot show it pictures"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(place, force=force) as folder:
        # The manifest last, as everywhere: a folder without it is no bundle.
        for file in [*files, opened.path / "bundle.json"]:
            copy = folder / file.relative_to(opened.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Prepared(place, size, tuple(warnings))
