# Warns where a library cannot be loaded on devices with 16 KB pages. Also a script:
#   cmake -DLIBRARY=libx.so -P page_size.cmake
function(warn_of_small_pages library)
  find_program(reader NAMES llvm-readelf readelf
               HINTS "${ANDROID_TOOLCHAIN_ROOT}/bin" NO_CMAKE_FIND_ROOT_PATH NO_CACHE)
  if(NOT reader)
    message(STATUS "no readelf: the page size of ${library} was not checked")
    return()
  endif()
  execute_process(COMMAND "${reader}" -lW "${library}" OUTPUT_VARIABLE headers
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "LOAD [^\n]*0x[0-9a-f]+" segments "${headers}")
  foreach(segment IN LISTS segments)
    string(REGEX MATCH "0x[0-9a-f]+$" alignment "${segment}")
    math(EXPR bytes "${alignment}")
    if(bytes LESS 16384)
      message(WARNING "${library}: aligned to pages of ${bytes} bytes: devices with 16 KB pages \
cannot load it, and Google Play refuses it in apps for Android 15 and later. Build Paddle Lite with \
-Wl,-z,max-page-size=16384, or ask its makers")
      return()
    endif()
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  warn_of_small_pages("${LIBRARY}")
endif()
