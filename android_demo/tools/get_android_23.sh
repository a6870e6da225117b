#!/usr/bin/env bash
# android.jar of Android 6 and dx, from Debian 11, put into a folder: what the app's Java is compiled
# against where Google's SDK is not at hand. Nothing is installed: see unpack_debian.sh.
#
#   android_demo/tools/get_android_23.sh build/android-23
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(realpath "$1")
packages=(libandroid-23-java dalvik-exchange)
mark="$folder/.complete"
if [ -e "$mark" ] && [ "$(cat "$mark")" = "${packages[*]}" ]; then
  exit 0
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
"$(dirname "$0")/unpack_debian.sh" bullseye "$tree" "${packages[@]}"
cp "$(realpath "$tree/usr/share/java/com.android.android-23.jar")" "$folder/android.jar"
cp "$(realpath "$tree/usr/share/java/com.android.dx.jar")" "$folder/dx.jar"
echo "${packages[*]}" > "$mark"
