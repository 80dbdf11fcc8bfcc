/* The transforms of codes for tiles of SIDE x SIDE outputs; NAME and SIDE as in in.inc.h. */
#define word vi
#define add v16_add
#define sub v16_sub
#define times4 v16_times4
#define IN uint8_t
#define OUT int16_t
#define LANES (2 * VL)
#define load_part v16_load_u8_part
#define store_part v16_store_part
#include "kernels/winograd/in.inc.h"
#define add vi_add
#define sub vi_sub
#define times4 vi_times4
#define sum_t int32_t
#define load_sums(from, valid) ((void)(valid), vi_load(from))
#include "kernels/winograd/out.inc.h"
