# Compiler settings and the words of CMakeLists.txt: espl_folder, espl_kernels, espl_library, espl_tests, espl_install.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
# Off for users: their compiler may be newer than ours and know a warning more. On in every preset and in CI.
option(ESPL_WERROR "Treat warnings as errors" OFF)
option(ESPL_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(ESPL_INSTALL "Make the install rules" ${PROJECT_IS_TOP_LEVEL})
set(ESPL_SANITIZE "" CACHE STRING "Sanitizers, for example address,undefined or thread")

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# What every source file of ours is compiled with.
add_library(espl_options INTERFACE)
# No contraction: a * b + c is two roundings unless the code says fma, on every compiler and CPU.
target_compile_options(espl_options INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  -Wpointer-arith -Wwrite-strings -Wvla -fno-math-errno -fno-trapping-math -ffp-contract=off)
if(ESPL_WERROR)
  target_compile_options(espl_options INTERFACE -Werror)
endif()
if(ESPL_SANITIZE)
  target_compile_options(espl_options INTERFACE -fsanitize=${ESPL_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
  target_link_options(espl_options INTERFACE -fsanitize=${ESPL_SANITIZE})
endif()
target_compile_definitions(espl_options INTERFACE _POSIX_C_SOURCE=200809L ESPL_VERSION="${PROJECT_VERSION}")
target_include_directories(espl_options INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(espl_options INTERFACE Threads::Threads m)

# The same and the headers of src/: for src/ itself and for tests. Programs make do with the public headers.
add_library(espl_internal INTERFACE)
target_link_libraries(espl_internal INTERFACE espl_options)
target_include_directories(espl_internal INTERFACE ${PROJECT_SOURCE_DIR}/src)

# espl_package(pkg-config-name OUT): finds a library and sets OUT to its target.
function(espl_package package out)
  string(MAKE_C_IDENTIFIER ${package} id)
  if(NOT TARGET PkgConfig::${id})
    pkg_check_modules(${id} REQUIRED IMPORTED_TARGET GLOBAL ${package})
  endif()
  set(${out} PkgConfig::${id} PARENT_SCOPE)
endfunction()

# espl_folder(NAME USES lower... PACKAGES pkg-config... PROTO file): src/NAME becomes the object library espl_NAME; PROTO
# names a .proto of the folder (without the ending) from which protoc-c makes C code in the build folder.
function(espl_folder name)
  cmake_parse_arguments(F "" "PROTO" "USES;PACKAGES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.c ${PROJECT_SOURCE_DIR}/src/${name}/*/*.c)
  add_library(espl_${name} OBJECT ${sources})
  target_link_libraries(espl_${name} PUBLIC espl_internal)
  foreach(lower ${F_USES})
    target_link_libraries(espl_${name} PUBLIC espl_${lower})
  endforeach()
  foreach(package ${F_PACKAGES})
    espl_package(${package} target)
    target_link_libraries(espl_${name} PUBLIC ${target})
  endforeach()
  set_target_properties(espl_${name} PROPERTIES ESPL_PACKAGES "${F_PACKAGES}")
  if(F_PROTO)
    find_program(ESPL_PROTOC_C protoc-c REQUIRED)
    set(from ${PROJECT_SOURCE_DIR}/src/${name}/${F_PROTO}.proto)
    set(to ${PROJECT_BINARY_DIR}/generated/${name})
    file(MAKE_DIRECTORY ${to})
    add_custom_command(OUTPUT ${to}/${F_PROTO}.pb-c.c ${to}/${F_PROTO}.pb-c.h
      COMMAND ${ESPL_PROTOC_C} --proto_path=${PROJECT_SOURCE_DIR}/src/${name} --c_out=${to} ${from}
      DEPENDS ${from} VERBATIM)
    target_sources(espl_${name} PRIVATE ${to}/${F_PROTO}.pb-c.c)
    # The library never aborts: generated code has assertions of its own.
    set_source_files_properties(${to}/${F_PROTO}.pb-c.c PROPERTIES COMPILE_DEFINITIONS NDEBUG)
    target_include_directories(espl_${name} PRIVATE ${to})
  endif()
endfunction()

# espl_embed(NAME table pattern): the files become the C table in the library espl_NAME (cmake/EmbedText.cmake).
function(espl_embed name table pattern)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${pattern})
  list(JOIN files "|" list)
  set(source ${PROJECT_BINARY_DIR}/${name}_bundle.c)
  set(script ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake)
  add_custom_command(OUTPUT ${source} COMMAND ${CMAKE_COMMAND} -DOUT=${source} -DTABLE=${table} "-DFILES=${list}"
    -P ${script} DEPENDS ${files} ${script} VERBATIM)
  target_sources(espl_${name} PRIVATE ${source})
endfunction()

# espl_kernels(kernels USES ...): like espl_folder; the end of a file's name says which instruction set it may use.
set(ESPL_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(ESPL_FLAGS_avx512 ${ESPL_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
set(ESPL_FLAGS_avx512vnni ${ESPL_FLAGS_avx512} -mavx512vnni)
set(ESPL_FLAGS_avx512vbmi ${ESPL_FLAGS_avx512vnni} -mavx512vbmi)
set(ESPL_FLAGS_amx ${ESPL_FLAGS_avx512vbmi} -mamx-tile -mamx-int8)
function(espl_kernels name)
  espl_folder(${name} ${ARGN})
  foreach(isa avx2 avx512 avx512vnni avx512vbmi amx)
    file(GLOB_RECURSE files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*_${isa}.c)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${ESPL_FLAGS_${isa}}")
    else()
      set_source_files_properties(${files} PROPERTIES HEADER_FILE_ONLY ON)
    endif()
  endforeach()
endfunction()

# espl_library(NAME ALIAS folders...): the objects of these folders as one static library, espalier::ALIAS to others.
# Whoever links it links the folders' packages too; its property ESPL_PACKAGES names them.
function(espl_library name alias)
  add_library(${name} STATIC)
  add_library(espalier::${alias} ALIAS ${name})
  set(all_packages)
  foreach(folder ${ARGN})
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:espl_${folder}>)
    get_target_property(packages espl_${folder} ESPL_PACKAGES)
    list(APPEND all_packages ${packages})
  endforeach()
  list(REMOVE_DUPLICATES all_packages)
  foreach(package ${all_packages})
    espl_package(${package} target)
    target_link_libraries(${name} PRIVATE ${target})
  endforeach()
  target_link_libraries(${name} PUBLIC Threads::Threads m)
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${alias} ESPL_PACKAGES "${all_packages}")
endfunction()

# espl_tests(): every tests/unit/test_*.c is a cmocka program of its own, run by ctest; a folder of tests/ that has a
# CMakeLists.txt adds its own. Labels: `unit`; `threads` what the thread sanitizer runs too; `release` what runs in the
# release build only; `long` what waits for make check-long.
function(espl_tests)
  espl_package(cmocka cmocka)
  add_custom_target(threads)
  file(GLOB tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/unit/test_*.c)
  foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    add_executable(${name} ${test})
    target_link_libraries(${name} PRIVATE espl_internal espalier ${cmocka})
    target_include_directories(${name} PRIVATE ${PROJECT_BINARY_DIR}/generated/onnx)
    target_compile_definitions(${name} PRIVATE ESPL_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 LABELS unit)
    if(name MATCHES "^test_(pool|session|executor|runtime|rnn|loader)")
      set_tests_properties(${name} PROPERTIES LABELS "unit;threads")
      add_dependencies(threads ${name})
    endif()
  endforeach()
  file(GLOB folders CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*/CMakeLists.txt)
  foreach(file ${folders})
    get_filename_component(folder ${file} DIRECTORY)
    add_subdirectory(${folder})
  endforeach()
endfunction()

# espl_install(LIBRARY EXPORT DESCRIPTION): the library, its exported target and its pkg-config file.
function(espl_install library export description)
  include(GNUInstallDirs)
  install(TARGETS ${library} EXPORT ${export}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT ${export} NAMESPACE espalier:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)
  # The file finds the prefix from where it lies, so that an installed tree can be moved.
  file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" up ${up})
  get_target_property(packages ${library} ESPL_PACKAGES)
  list(JOIN packages ", " requires)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/espalier.pc.in ${PROJECT_BINARY_DIR}/${library}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${library}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
