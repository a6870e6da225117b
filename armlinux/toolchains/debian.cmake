# What the cross-builds with Debian's compilers share. Before it is included:
#   TRIPLET    the compiler's name of the target, such as aarch64-linux-gnu
#   ARCH       Debian's name of the architecture, which make_sysroot.sh takes
#   SYSROOT    the folder below build/sysroot
#   EMULATOR   QEMU's user mode for it
#   CXX_EXTRA  further compiler flags for C++
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_C_COMPILER ${TRIPLET}-gcc)
set(CMAKE_CXX_COMPILER ${TRIPLET}-g++)
set(CMAKE_LIBRARY_ARCHITECTURE ${TRIPLET})

set(LITE_RUN_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/sysroot/${SYSROOT}"
    CACHE PATH "Folder that make_sysroot.sh filled")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LITE_RUN_SYSROOT)
if(NOT EXISTS "${LITE_RUN_SYSROOT}/.complete")
  message(FATAL_ERROR "${LITE_RUN_SYSROOT} is not there: run armlinux/toolchains/make_sysroot.sh ${ARCH} build/sysroot/${SYSROOT}")
endif()
# The C library is the compiler's own: this is where the rest is found, and nothing elsewhere.
set(CMAKE_FIND_ROOT_PATH "${LITE_RUN_SYSROOT}" /usr/${TRIPLET})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# jconfig.h and zconfig.h lie here.
set(CMAKE_C_FLAGS_INIT "-isystem ${LITE_RUN_SYSROOT}/usr/include/${TRIPLET}")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT} ${CXX_EXTRA}")
# Where the linker finds what shared libraries need in turn.
foreach(kind EXE SHARED)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT
      "-Wl,-rpath-link,${LITE_RUN_SYSROOT}/lib/${TRIPLET}:${LITE_RUN_SYSROOT}/usr/lib/${TRIPLET}")
endforeach()
# CTest runs what was built under QEMU's user mode.
set(CMAKE_CROSSCOMPILING_EMULATOR "${EMULATOR};-L;/usr/${TRIPLET};-E;LD_LIBRARY_PATH=${LITE_RUN_SYSROOT}/usr/lib/${TRIPLET}:${LITE_RUN_SYSROOT}/lib/${TRIPLET}")
