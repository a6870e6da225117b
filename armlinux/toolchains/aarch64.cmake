# Cross-builds for 64-bit ARM Linux with Debian's compiler. First, once:
#   armlinux/toolchains/make_sysroot.sh arm64 build/sysroot/aarch64
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(LITE_RUN_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/sysroot/aarch64"
    CACHE PATH "Folder that make_sysroot.sh filled")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LITE_RUN_SYSROOT)
if(NOT EXISTS "${LITE_RUN_SYSROOT}/.complete")
  message(FATAL_ERROR "${LITE_RUN_SYSROOT} is not there: run armlinux/toolchains/make_sysroot.sh arm64 build/sysroot/aarch64")
endif()
# The C library is the compiler's own: this is where the rest is found, and nothing elsewhere.
set(CMAKE_FIND_ROOT_PATH "${LITE_RUN_SYSROOT}" /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# jconfig.h and zconfig.h lie here.
set(CMAKE_CXX_FLAGS_INIT "-isystem ${LITE_RUN_SYSROOT}/usr/include/aarch64-linux-gnu")
set(CMAKE_C_FLAGS_INIT "-isystem ${LITE_RUN_SYSROOT}/usr/include/aarch64-linux-gnu")
# Where the linker finds what shared libraries need in turn.
foreach(kind EXE SHARED)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT
      "-Wl,-rpath-link,${LITE_RUN_SYSROOT}/lib/aarch64-linux-gnu:${LITE_RUN_SYSROOT}/usr/lib/aarch64-linux-gnu")
endforeach()
# CTest runs what was built under QEMU's user mode.
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64-static;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=${LITE_RUN_SYSROOT}/usr/lib/aarch64-linux-gnu:${LITE_RUN_SYSROOT}/lib/aarch64-linux-gnu")
