# Toolchain of the preset armhf: 32-bit ARM, version 7, with Debian's cross compiler (gcc-arm-linux-gnueabihf).
set(processor armv7l)
set(triplet arm-linux-gnueabihf)
set(debian armhf)
set(emulator arm)
include(${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake)
