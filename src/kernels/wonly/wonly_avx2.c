/* Weights of few bits in 256 bits. */
#include "kernels/wonly/words_256.h"

#include <math.h>

#include "kernels/wonly/wonly.inc.h"

const espl__kernels espl__wonly_avx2 = {.wonly_round = wonly_round, .wonly_f32 = wonly_f32};
