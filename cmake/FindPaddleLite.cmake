#[[
Finds the Paddle Lite library, and makes the imported target `paddle_lite` of it.

  PADDLE_LITE_DIR     variable or environment variable: the folder of an SDK, which holds
                      cxx/include and cxx/lib as the official archives do, or include and lib
  PADDLE_LITE_PYTHON  on x86-64 without PADDLE_LITE_DIR: a Python with the wheel paddlelite==2.13rc0,
                      whose engine is used. Default: $PADDLE_EDGE_LITE_PYTHON, then the checkout's
                      .venv, then python3. It has to be built with a shared libpython, which the
                      engine needs

Sets PaddleLite_FOUND, and PaddleLite_RUNTIME: the files to install beside liblite_run, none for
the wheel, which stays where pip put it.
]]

if(NOT PADDLE_LITE_DIR AND DEFINED ENV{PADDLE_LITE_DIR})
  set(PADDLE_LITE_DIR "$ENV{PADDLE_LITE_DIR}")
endif()
set(PADDLE_LITE_DIR "${PADDLE_LITE_DIR}" CACHE PATH "Folder of a Paddle Lite SDK")

set(PaddleLite_RUNTIME)
unset(_paddle_lite_problem)

function(_paddle_lite_from_sdk)
  # Not from the system or a sysroot: headers and library have to be of the same version.
  set(options NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH NO_CACHE)
  find_path(include paddle_api.h PATHS "${PADDLE_LITE_DIR}" PATH_SUFFIXES cxx/include include
            ${options})
  find_library(library NAMES paddle_light_api_shared PATHS "${PADDLE_LITE_DIR}"
               PATH_SUFFIXES cxx/lib lib ${options})
  if(NOT include OR NOT library)
    set(_paddle_lite_problem
        "PADDLE_LITE_DIR=${PADDLE_LITE_DIR} holds no paddle_api.h and libpaddle_light_api_shared.so \
under cxx/include and cxx/lib, or include and lib" PARENT_SCOPE)
    return()
  endif()
  add_library(paddle_lite SHARED IMPORTED GLOBAL)
  set_target_properties(paddle_lite PROPERTIES
    IMPORTED_LOCATION "${library}"
    INTERFACE_INCLUDE_DIRECTORIES "${include}")
  set(PaddleLite_RUNTIME "${library}" PARENT_SCOPE)
endfunction()

function(_paddle_lite_from_wheel)
  set(candidates "${PADDLE_LITE_PYTHON}" "$ENV{PADDLE_EDGE_LITE_PYTHON}"
      "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv/bin/python" python3.10 python3)
  # Neither import runs the engine: its folder, the version pip installed, and libpython's place.
  set(question "import sysconfig as s, importlib.util as u, importlib.metadata as m, os
print(os.path.dirname(u.find_spec('paddlelite').origin), m.version('paddlelite'),
      os.path.join(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME')), sep=';')")
  foreach(python IN LISTS candidates)
    if(NOT python)
      continue()
    endif()
    execute_process(COMMAND "${python}" -c "${question}" OUTPUT_VARIABLE answer ERROR_QUIET
                    RESULT_VARIABLE result OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(result EQUAL 0)
      break()
    endif()
  endforeach()
  if(NOT result EQUAL 0)
    set(_paddle_lite_problem "set PADDLE_LITE_DIR to an SDK of Paddle Lite, or PADDLE_LITE_PYTHON \
to a Python with paddlelite==2.13rc0" PARENT_SCOPE)
    return()
  endif()
  list(GET answer 0 wheel)
  list(GET answer 1 version)
  list(GET answer 2 libpython)
  if(NOT version STREQUAL "2.13rc0")
    set(_paddle_lite_problem "${python} has paddlelite ${version}, and the header here declares \
2.13rc0" PARENT_SCOPE)
    return()
  endif()
  if(NOT EXISTS "${libpython}" OR NOT libpython MATCHES "\\.so")
    set(_paddle_lite_problem "${python} has no shared library of Python (${libpython}), which the \
engine needs" PARENT_SCOPE)
    return()
  endif()
  # The loader looks for the engine by its SONAME, and the engine for its libraries beside the path
  # it was opened by.
  set(place "${CMAKE_BINARY_DIR}/paddlelite")
  file(MAKE_DIRECTORY "${place}")
  file(CREATE_LINK "${wheel}/lite.so" "${place}/liblite_pybind.so" SYMBOLIC)
  file(CREATE_LINK "${wheel}/libs" "${place}/libs" SYMBOLIC)
  get_filename_component(python_lib "${libpython}" DIRECTORY)
  add_library(paddle_lite SHARED IMPORTED GLOBAL)
  set_target_properties(paddle_lite PROPERTIES
    IMPORTED_LOCATION "${place}/liblite_pybind.so"
    IMPORTED_SONAME liblite_pybind.so
    INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/paddlelite-wheel"
    # The engine does not name libpython, so whoever links the engine has to: --no-as-needed.
    INTERFACE_LINK_OPTIONS
    "LINKER:--no-as-needed;${libpython};LINKER:--as-needed;LINKER:-rpath-link,${place}/libs;LINKER:-rpath,${place};LINKER:-rpath,${python_lib}")
endfunction()

if(NOT TARGET paddle_lite)
  if(PADDLE_LITE_DIR)
    _paddle_lite_from_sdk()
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND NOT CMAKE_CROSSCOMPILING)
    _paddle_lite_from_wheel()
  else()
    set(_paddle_lite_problem "set PADDLE_LITE_DIR to the folder of an SDK of Paddle Lite for \
${CMAKE_SYSTEM_PROCESSOR}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
if(TARGET paddle_lite)
  set(_paddle_lite_target paddle_lite)
endif()
find_package_handle_standard_args(PaddleLite REQUIRED_VARS _paddle_lite_target
                                  REASON_FAILURE_MESSAGE "${_paddle_lite_problem}")
