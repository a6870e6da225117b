"""The Android app, as far as a host can show: its Java on this JVM with the real engine, and all
but its native libraries as an APK. No phone and no emulator takes part."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import need
from PIL import Image, ImageOps
from test_native import built, command

from lite_opt.android import prepare
from lite_opt.judge.compare import compare
from py_runner.errors import ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run

ROOT = Path(__file__).parents[1]
APP = ROOT / "android_demo"
BUILD = ROOT / "build"
SOURCES = sorted(APP.glob("*/src/main/java/**/*.java"))
TESTS = sorted(APP.glob("*/src/test/java/**/*.java"))
RESOURCES = APP / "app/src/main/res"
JARS = Path("/usr/share/java")
# What Debian's junit5 brings along, and Android's own org.json.
JUNIT = (
    *("junit-jupiter-api", "junit-jupiter-engine", "junit-jupiter-params", "opentest4j"),
    *("junit-platform-commons", "junit-platform-engine", "junit-platform-launcher"),
    *("junit-platform-console", "junit-platform-reporting", "apiguardian-api"),
    *("picocli", "univocity-parsers", "com.android.json"),
)
ANDROID = "{http://schemas.android.com/apk/res/android}"


def done(*arguments: object, **options: Any) -> str:
    """Standard output of a command that has to succeed."""
    ran = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-6000:]
    return ran.stdout


def javac(out: Path, *options: object, files: list[Path]) -> Path:
    """Compile with every warning an error; the classes are in `out`."""
    need(shutil.which("javac") is not None, "default-jdk-headless")
    out.mkdir(parents=True)
    strict = ("-encoding", "UTF-8", "-Xlint:all,-options,-path", "-Werror")
    done("javac", *strict, "-d", out, *options, *files)
    return out


def path_of(*parts: Path) -> str:
    return ":".join(map(str, parts))


@pytest.fixture(scope="module")
def labelled(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier with labels that Java's and C's strings write in different bytes."""
    copy = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("labelled") / "tiny.bundle"))
    document = json.loads((copy / "bundle.json").read_text())
    document["labels"] = [f"class {i} of é😺" for i in range(make_model.CLASSES)]
    (copy / "bundle.json").write_text(json.dumps(document))
    return copy


@pytest.fixture(scope="module")
def jni() -> Path:
    """The folder of LiteRunner's native half, built as Gradle builds it but for this host."""
    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    need(shutil.which("javac") is not None, "default-jdk-headless")
    need(all(map(shutil.which, ("cmake", "ninja", "g++"))), "cmake, ninja-build and g++")
    folder = BUILD / "android-host"
    env = {k: v for k, v in os.environ.items() if k != "PADDLE_LITE_DIR"}
    env["PADDLE_EDGE_LITE_PYTHON"] = sys.executable
    source = APP / "runner/src/main/cpp"
    options = ("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release")
    done("cmake", "-S", source, "-B", folder, *options, env=env)
    done("cmake", "--build", folder, "--target", "lite_runner_jni", env=env)
    return folder


@pytest.fixture(scope="module")
def jars() -> list[Path]:
    files = [JARS / f"{name}.jar" for name in JUNIT]
    need(all(map(Path.exists, files)), "junit5 and libandroid-json-java")
    return files


@pytest.fixture(scope="module")
def plain(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes without android.*: compiled without android.jar, so that they stay so."""
    files = [file for file in SOURCES if "\nimport android." not in file.read_text()]
    assert len(files) >= 17
    out = tmp_path_factory.mktemp("plain") / "classes"
    return javac(out, "--release", 8, "-cp", path_of(*jars), files=files)


@pytest.fixture(scope="module")
def android() -> Path:
    """The folder with android.jar of API 23 and dx.jar."""
    folder = BUILD / "android-23"
    ran = subprocess.run(
        [APP / "tools/get_android_23.sh", folder], capture_output=True, text=True, check=False
    )
    need(ran.returncode == 0, f"android.jar of Debian 11: {ran.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> tuple[Path, Path]:
    """An APK of manifest, resources and a bundle in its assets; and the folder of R.java."""
    framework = Path("/usr/share/android-framework-res/framework-res.apk")
    need(framework.exists() and shutil.which("aapt2") is not None, "aapt, android-framework-res")
    folder = tmp_path_factory.mktemp("linked")
    manifest = (APP / "app/src/main/AndroidManifest.xml").read_text()
    # What Gradle does with them.
    manifest = manifest.replace("<manifest ", '<manifest package="paddle.edge.demo" ', 1)
    (folder / "AndroidManifest.xml").write_text(
        manifest.replace("${applicationId}", "paddle.edge.demo")
    )
    (folder / "app/src/main").mkdir(parents=True)
    (folder / "app/src/main/AndroidManifest.xml").touch()
    prepare(labelled, folder)
    done("aapt2", "compile", "--dir", RESOURCES, "-o", folder / "resources.zip")
    options = ("--min-sdk-version", 21, "--target-sdk-version", 36, "--debug-mode")
    versions = ("--version-code", 1, "--version-name", "0.1.0")
    files = ("--manifest", folder / "AndroidManifest.xml", "-A", folder / "app/src/main/assets")
    out = ("--java", folder / "java", "-o", folder / "linked.apk", folder / "resources.zip")
    done("aapt2", "link", "-I", framework, *files, *options, *versions, *out)
    return folder / "linked.apk", folder / "java"


def zipped(bundle: Path, out: Path) -> Path:
    """A bundle as archives of other tools have it: in a folder, and here with a link."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.rglob("*")):
            archive.write(file, Path("tiny.bundle") / file.relative_to(bundle))
        link = zipfile.ZipInfo("tiny.bundle/link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return out


@pytest.fixture
def pixels(photos: Path, tmp_path: Path) -> Path:
    """The pictures as PPM: Android's classes, which Gradle compiles tests against, read no PNG."""
    folder = tmp_path / "pixels"
    folder.mkdir()
    for photo in photos.iterdir():
        with Image.open(photo) as image:
            image.convert("RGB").save(folder / f"{photo.name}.ppm")
    return folder


def test_the_app_without_its_screen_works_on_this_jvm(
    jni: Path,
    plain: Path,
    jars: list[Path],
    labelled: Path,
    photos: Path,
    pixels: Path,
    tmp_path: Path,
) -> None:
    """LiteRunner's and the workbench's tests, and answers equal to lite_run's, bit by bit."""
    lite_run = command(built("host", PADDLE_EDGE_LITE_PYTHON=sys.executable))
    verdict = lite_run(labelled)
    assert verdict.returncode == 0, verdict.stderr
    eight = ("-source", 8, "-target", 8)  # the language, as Gradle compiles them
    tests = javac(tmp_path / "tests", *eight, "-cp", path_of(plain, *jars), files=TESTS)
    properties = {
        "java.library.path": jni,
        "edge.bundle": labelled,
        "edge.photos": pixels,
        "edge.out": tmp_path,
        "edge.verdict": verdict.stdout,
        "edge.zip": zipped(labelled, tmp_path / "tiny.zip"),
    }
    ran = subprocess.run(
        [
            *("java", "-XX:TieredStopAtLevel=1", "-Xcheck:jni", "-Dfile.encoding=UTF-8"),
            # The heap is all there from the start, the compiler the small one: what grows is ours.
            *("-Xms128m", "-Xmx128m", "-XX:+AlwaysPreTouch"),
            *(f"-D{name}={value}" for name, value in properties.items()),
            *("-cp", path_of(plain, tests, *jars), "org.junit.platform.console.ConsoleLauncher"),
            *("--disable-banner", "--details=tree", "--disable-ansi-colors"),
            *("--reports-dir", str(tmp_path / "reports"), "--scan-classpath", str(tests)),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert "in native method" not in ran.stdout + ran.stderr  # what -Xcheck:jni finds
    suite = ElementTree.parse(tmp_path / "reports/TEST-junit-jupiter.xml").getroot()
    assert int(suite.attrib["tests"]) >= 80
    assert suite.attrib["skipped"] == "0"

    for name, data in (("samples", []), ("pictures", [photos])):
        run = tmp_path / f"lite_run-{name}.run"
        asked = lite_run(labelled, *data, "-o", run)
        assert asked.returncode == 0, asked.stderr
        expected, answered = Run.open(run), Run.open(tmp_path / f"{name}.run")
        assert len(answered.samples) == (6 if data else 4)
        assert expected.samples == answered.samples  # hashes included: the same tensors
        for left, right in zip(expected.outputs.values(), answered.outputs.values()):
            assert all(np.array_equal(a, b) for a, b in zip(left, right))
    assert compare(Bundle.open(labelled).reference(), Run.open(tmp_path / "samples.run"))
    for name, samples in (("check", 4), ("benchmark", 1)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
            archive.extractall(tmp_path / name)
        (run,) = (tmp_path / name).iterdir()
        assert len(Run.open(run).samples) == samples
        reference = Bundle.open(labelled).reference().first(samples)
        assert compare(reference, Run.open(run))


def test_our_libraries_fit_pages_of_16_kb(jni: Path) -> None:
    """The host's build takes the linker's option from where the device's does."""
    need(shutil.which("readelf") is not None, "binutils")
    for library in (jni / "liblite_runner_jni.so", *jni.glob("paddle_edge/**/liblite_run.so")):
        segments = [line for line in done("readelf", "-lW", library).splitlines() if "LOAD" in line]
        assert len(segments) >= 2
        assert all(int(line.split()[-1], 16) >= 16384 for line in segments), library


def test_the_natives_are_found_by_registration_only(jni: Path) -> None:
    listed = done("nm", "-D", "--defined-only", jni / "liblite_runner_jni.so")
    assert [line.split()[-1] for line in listed.splitlines()] == ["JNI_OnLoad"]
    java = (APP / "runner/src/main/java/paddle/edge/runner/LiteRunner.java").read_text()
    native = (APP / "runner/src/main/cpp/lite_runner_jni.cc").read_text()
    assert set(re.findall(r"private static native \S+ (\w+)\(", java)) == set(
        re.findall(r'native\("(\w+)"', native)
    )


def test_an_app_without_the_library_says_so(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "Without.java").write_text(
        "import paddle.edge.runner.*;\n"
        "class Without { public static void main(String[] a) throws Exception {\n"
        "  for (int i = 0; i < 2; i++) try { LiteRunner.library(); }\n"
        "  catch (LiteException e) { System.out.println(e.status() + e.getMessage()); } } }\n"
    )
    classes = javac(tmp_path / "out", "-cp", plain, files=[tmp_path / "Without.java"])
    said = done("java", "-cp", path_of(plain, classes), "Without").splitlines()
    assert len(said) == 2 and said[0] == said[1]
    assert said[0].startswith("3this app has no Paddle Lite for this device (no lite_runner_jni")


def test_the_app_compiles_against_android(
    android: Path, linked: tuple[Path, Path], tmp_path: Path
) -> None:
    """By the language of Java 8, and then with Android 6's own java.*, in place of the JDK's."""
    (example,) = re.findall(r"```java\n(.*?)```", (ROOT / "docs/android.md").read_text(), re.DOTALL)
    (tmp_path / "Example.java").write_text(
        "import android.graphics.Bitmap;\nimport android.util.Log;\nimport java.io.File;\n"
        "import java.nio.ByteBuffer;\nimport paddle.edge.runner.*;\n"
        f"class Example {{ void answer(File bundleFolder, Bitmap bitmap) {{\n{example}}} }}\n"
    )
    files = [*SOURCES, *linked[1].rglob("R.java"), tmp_path / "Example.java"]
    jar = android / "android.jar"
    javac(tmp_path / "by-release", "--release", 8, "-cp", jar, files=files)
    # What javac compiles lambdas to; Gradle's dexer replaces it for Android before 8.
    (tmp_path / "LambdaMetafactory.java").write_text(
        "package java.lang.invoke;\n"
        "class MethodType {} class MethodHandle {} class CallSite {}\n"
        "class MethodHandles { public static class Lookup {} }\n"
        "public class LambdaMetafactory {\n"
        "  public static CallSite metafactory(MethodHandles.Lookup a, String b, MethodType c,\n"
        "      MethodType d, MethodHandle e, MethodType f) { return null; } }\n"
    )
    eight = ("-source", 8, "-target", 8)
    lambdas = javac(
        tmp_path / "lambdas",
        *eight,
        "-bootclasspath",
        jar,
        files=[tmp_path / "LambdaMetafactory.java"],
    )
    boot = ("-bootclasspath", path_of(jar, lambdas))
    javac(tmp_path / "by-android", *eight, *boot, files=files)


def test_an_apk_is_assembled_and_accepted(
    android: Path, linked: tuple[Path, Path], tmp_path: Path
) -> None:
    """A debug APK without native libraries, which need Google's NDK: it would start and say so."""
    tools = ("zipalign", "apksigner", "aapt", "keytool")
    need(all(map(shutil.which, tools)), "zipalign, apksigner, aapt and default-jdk-headless")
    files = [*SOURCES, *linked[1].rglob("R.java")]
    jar = android / "android.jar"
    classes = javac(tmp_path / "classes", "--release", 8, "-cp", jar, files=files)
    dex = tmp_path / "classes.dex"
    main = ("com.android.dx.command.Main", "--dex", "--min-sdk-version=26")
    done("java", "-cp", android / "dx.jar", *main, f"--output={dex}", classes)
    apk = Path(shutil.copy(linked[0], tmp_path / "app.apk"))
    with zipfile.ZipFile(apk, "a") as archive:
        archive.write(dex, "classes.dex", zipfile.ZIP_DEFLATED)
    aligned = tmp_path / "aligned.apk"
    done("zipalign", "-p", 4, apk, aligned)
    key = tmp_path / "debug.keystore"
    secret = ("-storepass", "android", "-keypass", "android", "-alias", "debug")
    subject = ("-dname", "CN=Debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "2")
    done("keytool", "-genkeypair", "-keystore", key, *secret, *subject)
    done("apksigner", "sign", "--ks", key, "--ks-pass", "pass:android", aligned)
    verified = done("apksigner", "verify", "--verbose", aligned)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in verified
    done("zipalign", "-c", "-p", 4, aligned)

    badging = done("aapt", "dump", "badging", aligned)
    assert "package: name='paddle.edge.demo' versionCode='1' versionName='0.1.0'" in badging
    assert "sdkVersion:'21'" in badging and "targetSdkVersion:'36'" in badging
    assert "launchable-activity: name='paddle.edge.demo.MainActivity'" in badging
    assert re.findall(r"uses-permission: name='([^']+)'", badging) == ["android.permission.CAMERA"]
    for camera in ("camera", "camera.any"):
        assert f"uses-feature-not-required: name='android.hardware.{camera}'" in badging
    assert "uses-implied-feature: name='android.hardware.camera" not in badging
    assert re.search(r"locales: '--_--' 'zh-CN'", badging)
    with zipfile.ZipFile(aligned) as archive:
        names = set(archive.namelist())
        assert "assets/bundles/tiny/bundle.json" in names
        assert "assets/bundles/tiny/model.arm.nb" in names
        assert "assets/bundles/tiny/model.x86.nb" not in names
        assert archive.read("classes.dex")[:4] == b"dex\n"


def test_upright_means_what_pillow_means() -> None:
    """The table of PictureTest.java is that of ImageOps.exif_transpose."""
    table = (APP / "app/src/test/java/paddle/edge/demo/work/PictureTest.java").read_text()
    for orientation in range(10):
        image = Image.fromarray(np.frombuffer(b"abcdef", np.uint8).reshape(2, 3))
        image.getexif()[0x0112] = orientation
        upright = np.asarray(ImageOps.exif_transpose(image))
        letters = "/".join(bytes(row).decode() for row in upright)
        assert f'"{orientation},{letters}"' in table


def test_the_java_is_in_googles_style_and_of_androids_classes() -> None:
    need(shutil.which("checkstyle") is not None, "checkstyle")
    # Gradle compiles tests against Android's classes too.
    for file in TESTS:
        assert not re.search(r"import (java\.awt|javax)\.", file.read_text()), file
    listed = done("checkstyle", "-c", "/google_checks.xml", *SOURCES, *TESTS)
    assert [line for line in listed.splitlines() if line.startswith("[")] == []
    assert "Audit done" in listed


def strings(folder: str) -> dict[str, list[str]]:
    """Texts of a language by name; several for plurals and arrays."""
    root = ElementTree.parse(RESOURCES / folder / "strings.xml").getroot()
    return {
        node.attrib["name"]: [item.text or "" for item in node.findall("item")] or [node.text or ""]
        for node in root
    }


def test_texts_are_there_in_both_languages() -> None:
    english, chinese = strings("values"), strings("values-zh-rCN")
    assert list(english) == list(chinese)
    for name, texts in english.items():
        for text, other in zip(texts, chinese[name]):
            assert sorted(re.findall(r"%\d\$[sd]", text)) == sorted(
                re.findall(r"%\d\$[sd]", other)
            ), name
            assert not re.search(r"(?<!\\)'", text + other), f"{name}: aapt takes ' for a quote"
    assert len(english["power_modes"]) == len(chinese["power_modes"]) == 6
    same = [name for name in english if english[name] == chinese[name]]
    assert same == ["app_name"]
    used = "".join(file.read_text() for file in [*SOURCES, *RESOURCES.rglob("*.xml")])
    used += (APP / "app/src/main/AndroidManifest.xml").read_text()
    for name in english:
        assert re.search(rf"(R\.(string|plurals|array)\.|@string/){name}\b", used), name


def test_layouts_hold_no_text_and_describe_what_they_show() -> None:
    layouts = sorted((RESOURCES / "layout").glob("*.xml"))
    assert len(layouts) == 3
    for layout in [*layouts, APP / "app/src/main/AndroidManifest.xml"]:
        for node in ElementTree.parse(layout).iter():
            for name in ("text", "contentDescription", "hint", "label", "title"):
                value = node.attrib.get(ANDROID + name, "@string/")
                assert value.startswith("@string/"), f"{layout.name}: {value}"
            if node.tag in ("ImageView", "ImageButton", "Spinner", "ProgressBar"):
                said = node.attrib.get(ANDROID + "contentDescription")
                unsaid = node.attrib.get(ANDROID + "importantForAccessibility") == "no"
                assert said or unsaid, f"{layout.name}: {node.tag} says nothing"
    for file in SOURCES:
        assert not re.search(r'(setText|setTitle|makeText)\([^)]*"[^"]', file.read_text()), file
    day = {n.attrib["name"] for n in ElementTree.parse(RESOURCES / "values/styles.xml").getroot()}
    night = ElementTree.parse(RESOURCES / "values-night/styles.xml").getroot()
    assert {n.attrib["name"] for n in night} == day - {"icon"}


def test_gradle_files_parse_and_agree(tmp_path: Path) -> None:
    reader = "tomli" if sys.version_info < (3, 11) else "tomllib"
    need(importlib.util.find_spec(reader) is not None, reader)
    catalog = importlib.import_module(reader).loads((APP / "gradle/libs.versions.toml").read_text())
    scripts = sorted(APP.glob("**/*.gradle"))
    assert len(scripts) == 4
    text = "".join(script.read_text() for script in scripts)
    for kind, accessor in (("libraries", "libs."), ("plugins", "libs.plugins.")):
        for name, entry in catalog[kind].items():
            assert accessor + name.replace("-", ".") in text, name
            assert entry["version"]["ref"] in catalog["versions"]
    for name in re.findall(r"libs\.versions\.(\w+)\.get", text):
        assert name in catalog["versions"]
    # Other apps include the module: nothing of this one's root may be in it.
    assert "rootProject" not in (APP / "runner/build.gradle").read_text()
    wrapper = (APP / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert "gradle-9.5.0-bin.zip" in wrapper and "Gradle 9.5.0" in (
        (APP / "gradle/libs.versions.toml").read_text()
    )
    need(shutil.which("groovy") is not None, "groovy")
    java = shutil.which("javac")
    need(java is not None, "default-jdk-headless")
    assert java is not None
    parse = tmp_path / "parse.groovy"
    parse.write_text("args.each { new GroovyShell().parse(new File(it)) }\n")
    broken = tmp_path / "broken.gradle"
    broken.write_text(scripts[0].read_text() + "android {\n")
    env = {**os.environ, "JAVA_HOME": str(Path(java).resolve().parents[1])}
    done("groovy", parse, *scripts, env=env)
    failed = subprocess.run(["groovy", parse, broken], env=env, capture_output=True, check=False)
    assert failed.returncode != 0


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_small_pages_of_a_library_are_warned_of(page: int, tmp_path: Path) -> None:
    need(all(map(shutil.which, ("cmake", "gcc", "readelf"))), "cmake, gcc and binutils")
    library = tmp_path / "libx.so"
    (tmp_path / "x.c").write_text("int x = 1;\n")
    flags = ("-shared", f"-Wl,-z,max-page-size={page}")
    done("gcc", *flags, "-o", library, tmp_path / "x.c")
    script = APP / "runner/src/main/cpp/page_size.cmake"
    ran = subprocess.run(
        ["cmake", f"-DLIBRARY={library}", "-P", script], capture_output=True, text=True, check=True
    )
    assert (" ".join(ran.stderr.split()).count("pages of 4096 bytes") == 1) == (page == 4096)
    assert (ran.stderr == "") == (page > 4096)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As much of the app's project as prepare looks at."""
    manifest = tmp_path / "app_project/app/src/main/AndroidManifest.xml"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    return tmp_path / "app_project"


def test_prepare_puts_a_bundle_into_the_assets(bundle: Path, project: Path) -> None:
    prepared = prepare(bundle, project)
    assert prepared.path == project / "app/src/main/assets/bundles/tiny"
    assert prepared.warnings == ()
    copied = {str(f.relative_to(prepared.path)) for f in prepared.path.rglob("*") if f.is_file()}
    whole = {str(f.relative_to(bundle)) for f in bundle.rglob("*") if f.is_file()}
    assert copied == whole - {"model.x86.nb"}
    assert prepared.bytes == sum((bundle / name).stat().st_size for name in copied)
    assert Bundle.open(prepared.path).sha256 == Bundle.open(bundle).sha256
    with pytest.raises(UsageError, match="exists already"):
        prepare(bundle, project)
    prepare(bundle, project, force=True)
    prepare(bundle, project, name="an-other.1")
    assert sorted(p.name for p in prepared.path.parent.iterdir()) == ["an-other.1", "tiny"]
    assert json.loads(json.dumps(prepared.to_json()))["path"] == str(prepared.path)


def test_prepare_refuses(bundle: Path, project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of the Android app"):
        prepare(bundle, tmp_path)
    for name in ("_x", ".x", "a/b", "", "é", "a b"):
        with pytest.raises(UsageError, match="name of an asset"):
            prepare(bundle, project, name=name)
    with pytest.raises(ModelError, match="not a bundle"):
        prepare(project, project)
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))
    shutil.copy(copy / "samples/0001.0.npy", copy / "samples/0000.0.npy")
    with pytest.raises(ModelError, match="were altered"):
        prepare(copy, project)
    model = copy / "model.arm.nb"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelError, match="copy it again"):
        prepare(copy, project)
    document = json.loads((copy / "bundle.json").read_text())
    del document["targets"]["arm"]
    (copy / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="has no arm model"):
        prepare(copy, project)
    assert list((project / "app/src/main/assets").rglob("*.json")) == []


def test_prepare_says_what_the_app_cannot_do(bundle: Path, project: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))
    document = json.loads((copy / "bundle.json").read_text())
    document["samples"], document["image"] = [], None
    (copy / "bundle.json").write_text(json.dumps(document))
    warnings = prepare(copy, project).warnings
    assert len(warnings) == 2
    assert "no samples" in warnings[0] and "nothing of images" in warnings[1]


def test_prepare_says_which_preprocessing_the_app_lacks(
    bundle: Path, project: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))
    document = json.loads((copy / "bundle.json").read_text())
    plain = document["image"]
    changes: dict[str, tuple[dict[str, Any], bool]] = {
        "resize long": ({"resize": "long", "size": 20, "crop": None}, False),
        "resize fit": ({"resize": "fit", "size": [20, 20], "crop": None}, True),
        "interpolation cv2-cubic": ({"interpolation": "cv2-cubic"}, True),
        "wide": ({"wide": True}, True),
    }
    for what, (change, lacks) in changes.items():
        document["image"] = {**plain, **change}
        (copy / "bundle.json").write_text(json.dumps(document))
        warnings = prepare(copy, project, force=True).warnings
        assert len(warnings) == lacks, what
        assert not lacks or f"its preprocessing has {what}, which the app does not" in warnings[0]
