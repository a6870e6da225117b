#!/usr/bin/env bash
# adbd, the part of adb that runs on a device, from Debian 13, unpacked into a folder with all the
# libraries that it needs, and a script `adbd` that starts it. Nothing is installed: apt works under
# a private root, with the mirror of this machine, which has to be Debian, or the one in DEBIAN_MIRROR.
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

keys=/usr/share/keyrings/debian-archive-keyring.gpg
# Of the indexes that apt knows here: the address of the archive itself, not of its security updates.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
  grep -E '/debian/?$' | head -n 1)}
if [ -z "$mirror" ] || [ ! -e "$keys" ]; then
  echo "$0: needs a mirror of Debian in apt's sources or in DEBIAN_MIRROR, and $keys" >&2
  exit 1
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{state/lists/partial,cache/archives/partial}
: > "$root/status"
echo "deb [signed-by=$keys] $mirror trixie main" > "$root/sources.list"
options=(-q -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o "Dir::State=$root/state"
  -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache"
  -o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
  -o APT::Sandbox::User=root)
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" install -y --no-install-recommends --download-only adbd >&2
for package in "$root"/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$folder"
done
libraries=$folder/usr/lib/x86_64-linux-gnu
cat > "$folder/adbd.new" <<SCRIPT
#!/bin/sh
exec '$libraries/ld-linux-x86-64.so.2' --library-path '$libraries:$libraries/android' \\
  '$folder/usr/lib/android-sdk/platform-tools/adbd' "\$@"
SCRIPT
chmod +x "$folder/adbd.new"
mv "$folder/adbd.new" "$folder/adbd"
