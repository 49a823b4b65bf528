# Build rules shared by every folder: one static library a folder, unit tests beside their sources.

set(FUSEWIRE_SANITIZE "" CACHE STRING "Sanitizers for the whole build, as -fsanitize= takes them")

add_library(fusewire_flags INTERFACE)
target_compile_options(fusewire_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-qual
  -Wimplicit-fallthrough -Wundef -Werror
  -fno-strict-aliasing) # Wire structures are read in place from byte buffers.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 sees overflows and dangling reads that are not there in inlined std:: code.
  target_compile_options(fusewire_flags INTERFACE
    -Wno-array-bounds -Wno-stringop-overflow -Wno-restrict -Wno-maybe-uninitialized)
endif()
target_include_directories(fusewire_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
if(FUSEWIRE_SANITIZE)
  target_compile_options(fusewire_flags INTERFACE -fsanitize=${FUSEWIRE_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(fusewire_flags INTERFACE -fsanitize=${FUSEWIRE_SANITIZE})
endif()

# What the daemon is made of is compiled so that it can be optimised across files when it is linked; other programs,
# tests above all, link the same objects in the usual way, which is much quicker.
option(FUSEWIRE_LTO "Optimise virtiofsd across files (GCC)" OFF)
if(FUSEWIRE_LTO AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(fusewire_flags INTERFACE -flto=auto -ffat-lto-objects)
  target_link_options(fusewire_flags INTERFACE -fno-lto)
  set(FUSEWIRE_LTO_LINK -flto=auto)
endif()

# fusewire_library(NAME SOURCES a.cc ... DEPS b ...): static library fusewire_NAME. What DEPS does not name cannot
# be linked, which is how the layering in the root file is kept.
function(fusewire_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(fusewire_${name} STATIC ${arg_SOURCES})
  target_link_libraries(fusewire_${name} PUBLIC fusewire_flags ${arg_DEPS})
endfunction()

# fusewire_test(NAME SOURCES a_test.cc ... DEPS b ...): one GoogleTest binary, each of its tests known to ctest.
function(fusewire_test name)
  if(NOT BUILD_TESTING)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main)
  # What is tested is optimised; the tests themselves take longer to compile than to run.
  target_compile_options(${name} PRIVATE -O0 -g1)
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120)
endfunction()
