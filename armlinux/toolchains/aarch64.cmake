# Cross-builds for 64-bit ARM Linux with Debian's compiler. First, once:
#   armlinux/toolchains/make_sysroot.sh arm64 build/sysroot/aarch64
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(TRIPLET aarch64-linux-gnu)
set(ARCH arm64)
set(SYSROOT aarch64)
set(EMULATOR qemu-aarch64-static)
set(CXX_EXTRA "")
include("${CMAKE_CURRENT_LIST_DIR}/debian.cmake")
