/* Weights of few bits with VNNI. */
#define ESPL__VNNI
#include "kernels/wonly/words_512.h"

#include <math.h>

#include "kernels/wonly/wonly.inc.h"

const espl__kernels espl__wonly_avx512vnni = {.wonly_f32 = wonly_f32};
