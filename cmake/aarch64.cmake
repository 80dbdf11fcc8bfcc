# Toolchain of the preset aarch64: 64-bit ARM with Debian's cross compiler (gcc-aarch64-linux-gnu).
set(processor aarch64)
set(triplet aarch64-linux-gnu)
set(debian arm64)
set(emulator aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake)
