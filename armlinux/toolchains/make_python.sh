#!/usr/bin/env bash
# CPython for 64-bit ARM with NumPy and ONNX Runtime, unpacked into a folder from Debian's packages
# and PyPI's wheels, for engine onnx on an emulated board (py_runner/devices/qemu_python.py).
# Nothing is installed: apt works under a private root, as in make_sysroot.sh.
#
#   armlinux/toolchains/make_python.sh build/python/aarch64
#   export PADDLE_EDGE_PYTHON_AARCH64=$PWD/build/python/aarch64
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
out=$(realpath "$1")
[ -e "$out/.complete" ] && exit 0

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{state/lists/partial,cache/archives/partial,debs,wheels}
: > "$root/status"
options=(-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$root/state"
  -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null)
apt-get "${options[@]}" update >&2 || echo "$0: some package lists are missing, going on" >&2
# Which CPython a release has, its package python3 tells: "Depends: python3.11 (>= ...)".
about=$(apt-cache "${options[@]}" show python3)
python=$(grep -om1 'python3\.[0-9]*' <<< "$about")
cd "$root/debs"
apt-get "${options[@]}" download "$python-minimal" "lib$python-minimal" "lib$python-stdlib" \
  libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 >&2
for package in *.deb; do
  dpkg-deb -x "$package" "$out"
done
platforms=()
for release in 2_17 2_27 2_28 2_34; do
  platforms+=(--platform "manylinux_${release}_aarch64")
done
python3 -m pip -q download --no-deps --only-binary=:all: "${platforms[@]}" --implementation cp \
  --python-version "${python#python}" -d "$root/wheels" numpy onnxruntime >&2
for wheel in "$root"/wheels/*.whl; do
  python3 -m zipfile -e "$wheel" "$out/usr/lib/python3/dist-packages"
done
touch "$out/.complete"
