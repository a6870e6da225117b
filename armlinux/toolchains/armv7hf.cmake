# Cross-builds for 32-bit ARM Linux with hard floats with Debian's compiler. First, once:
#   armlinux/toolchains/make_sysroot.sh armhf build/sysroot/armv7hf
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)
set(CMAKE_LIBRARY_ARCHITECTURE arm-linux-gnueabihf)

set(LITE_RUN_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/sysroot/armv7hf"
    CACHE PATH "Folder that make_sysroot.sh filled")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LITE_RUN_SYSROOT)
if(NOT EXISTS "${LITE_RUN_SYSROOT}/.complete")
  message(FATAL_ERROR "${LITE_RUN_SYSROOT} is not there: run armlinux/toolchains/make_sysroot.sh armhf build/sysroot/armv7hf")
endif()
# The C library is the compiler's own: this is where the rest is found, and nothing elsewhere.
set(CMAKE_FIND_ROOT_PATH "${LITE_RUN_SYSROOT}" /usr/arm-linux-gnueabihf)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# jconfig.h and zconfig.h lie here.
set(CMAKE_CXX_FLAGS_INIT "-isystem ${LITE_RUN_SYSROOT}/usr/include/arm-linux-gnueabihf -mfpu=neon -Wno-psabi")
set(CMAKE_C_FLAGS_INIT "-isystem ${LITE_RUN_SYSROOT}/usr/include/arm-linux-gnueabihf")
# Where the linker finds what shared libraries need in turn.
foreach(kind EXE SHARED)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT
      "-Wl,-rpath-link,${LITE_RUN_SYSROOT}/lib/arm-linux-gnueabihf:${LITE_RUN_SYSROOT}/usr/lib/arm-linux-gnueabihf")
endforeach()
# CTest runs what was built under QEMU's user mode.
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-arm-static;-L;/usr/arm-linux-gnueabihf;-E;LD_LIBRARY_PATH=${LITE_RUN_SYSROOT}/usr/lib/arm-linux-gnueabihf:${LITE_RUN_SYSROOT}/lib/arm-linux-gnueabihf")
