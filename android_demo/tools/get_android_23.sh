#!/usr/bin/env bash
# android.jar of Android 6 and dx, from Debian 11, unpacked into a folder: what the app's Java is
# compiled against where Google's SDK is not at hand. Nothing is installed: apt works under a private
# root, with the mirror of this machine, which has to be Debian, or the one in DEBIAN_MIRROR.
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
mkdir -p "$root"/{state/lists/partial,cache/archives/partial,downloads}
: > "$root/status"
echo "deb [signed-by=$keys] $mirror bullseye main" > "$root/sources.list"
options=(-q -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o "Dir::State=$root/state"
  -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache"
  -o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
  -o APT::Sandbox::User=root)
apt-get "${options[@]}" update >&2
cd "$root/downloads"
apt-get "${options[@]}" download "${packages[@]}" >&2
for package in *.deb; do
  dpkg-deb -x "$package" "$root/tree"
done
cp "$(realpath "$root/tree/usr/share/java/com.android.android-23.jar")" "$folder/android.jar"
cp "$(realpath "$root/tree/usr/share/java/com.android.dx.jar")" "$folder/dx.jar"
echo "${packages[*]}" > "$mark"
