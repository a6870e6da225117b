#!/usr/bin/env bash
# Libraries and headers for a cross build, unpacked into a folder from Debian's packages of the
# foreign architecture. Nothing is installed: apt works under a private root, with the sources of
# this machine, which has to be Debian (or, for its own releases, Ubuntu with ports).
#
#   armlinux/toolchains/make_sysroot.sh arm64 build/sysroot/aarch64
#   armlinux/toolchains/make_sysroot.sh armhf build/sysroot/armv7hf
set -euo pipefail

if [ $# -ne 2 ] || [[ ! "$1" =~ ^(arm64|armhf)$ ]]; then
  echo "usage: $0 arm64|armhf FOLDER" >&2
  exit 2
fi
arch=$1
mkdir -p "$2"
sysroot=$(realpath "$2")
# What the C compiler brings along, libc above all, comes from the cross compiler's own packages.
packages=(libjpeg62-turbo-dev libjpeg62-turbo zlib1g-dev zlib1g libgomp1
  nlohmann-json3-dev doctest-dev)
mark="$sysroot/.complete"
if [ -e "$mark" ] && [ "$(cat "$mark")" = "${packages[*]}" ]; then
  exit 0
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{state/lists/partial,cache/archives/partial,downloads}
: > "$root/status"
options=(-q -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State=$root/state"
  -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null)
# One index of several may be out of step with its mirror: what is missing then, download says.
apt-get "${options[@]}" update >&2 || echo "$0: some package lists are missing, going on" >&2
cd "$root/downloads"
apt-get "${options[@]}" download "${packages[@]}" >&2
for package in *.deb; do
  dpkg-deb -x "$package" "$sysroot"
done
# Links to /lib would lead out of the sysroot.
find "$sysroot" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
  ln -sfr "$sysroot$(readlink "$link")" "$link"
done
echo "${packages[*]}" > "$mark"
