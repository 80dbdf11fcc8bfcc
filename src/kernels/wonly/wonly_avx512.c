/* Weights of few bits in 512 bits. */
#include "kernels/wonly/words_512.h"

#include <math.h>

#include "kernels/wonly/wonly.inc.h"

const espl__kernels espl__wonly_avx512 = {.wonly_round = wonly_round, .wonly_f32 = wonly_f32};
