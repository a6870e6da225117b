#!/usr/bin/env bash
# adbd, the part of adb that runs on a device, from Debian 13, unpacked into a folder with all the
# libraries that it needs, and a script `adbd` that starts it. Nothing is installed: see
# unpack_debian.sh.
#
#   tests/get_adbd.sh build/adbd
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(realpath "$1")
[ ! -x "$folder/adbd" ] || exit 0

"$(dirname "$0")/../android_demo/tools/unpack_debian.sh" trixie "$folder" --with-dependencies adbd
libraries=$folder/usr/lib/x86_64-linux-gnu
cat > "$folder/adbd.new" <<SCRIPT
#!/bin/sh
exec '$libraries/ld-linux-x86-64.so.2' --library-path '$libraries:$libraries/android' \\
  '$folder/usr/lib/android-sdk/platform-tools/adbd' "\$@"
SCRIPT
chmod +x "$folder/adbd.new"
mv "$folder/adbd.new" "$folder/adbd"
