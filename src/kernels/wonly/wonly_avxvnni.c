/* Weights of few bits in 256 bits with VNNI. */
#define ESPL__VNNI
#include "kernels/wonly/words_256.h"

#include <math.h>

#include "kernels/wonly/wonly.inc.h"

const espl__kernels espl__wonly_avxvnni = {.wonly_f32 = wonly_f32};
