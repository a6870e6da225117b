# Cross-builds for 32-bit ARM Linux with hard floats with Debian's compiler. First, once:
#   armlinux/toolchains/make_sysroot.sh armhf build/sysroot/armv7hf
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(TRIPLET arm-linux-gnueabihf)
set(ARCH armhf)
set(SYSROOT armv7hf)
set(EMULATOR qemu-arm-static)
set(CXX_EXTRA "-mfpu=neon -Wno-psabi")
include("${CMAKE_CURRENT_LIST_DIR}/debian.cmake")
