/* Depthwise convolution of codes in 256 bits, with vpdpwssd for vpmaddwd and an addition. */
#define ESPL__VNNI
#include "kernels/conv/dwconv_256.inc.h"

const espl__kernels espl__dwconv_avxvnni = {.dwconv_u8 = dwconv_u8};
