#!/usr/bin/env bash
# Packages of a release of Debian, unpacked into a folder, with the packages that they depend on or
# without. Nothing is installed: apt works under a private root, with the mirror of this machine,
# which has to be Debian, or the one in DEBIAN_MIRROR.
#
#   android_demo/tools/unpack_debian.sh bullseye FOLDER dalvik-exchange
#   android_demo/tools/unpack_debian.sh trixie FOLDER --with-dependencies adbd
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: $0 RELEASE FOLDER [--with-dependencies] PACKAGE..." >&2
  exit 2
fi
release=$1
mkdir -p "$2"
folder=$(realpath "$2")
shift 2
fetch=(download)
if [ "$1" = --with-dependencies ]; then
  fetch=(install -y --no-install-recommends --download-only)
  shift
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
mkdir -p "$root"/{state/lists/partial,cache/archives/partial}
: > "$root/status"
echo "deb [signed-by=$keys] $mirror $release main" > "$root/sources.list"
options=(-q -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o "Dir::State=$root/state"
  -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache"
  -o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
  -o APT::Sandbox::User=root)
apt-get "${options[@]}" update >&2
cd "$root/cache/archives"  # where `download` puts packages, as `install` does
apt-get "${options[@]}" "${fetch[@]}" "$@" >&2
for package in *.deb; do
  dpkg-deb -x "$package" "$folder"
done
