/* How much a weight matters: one function for each row of ESPL__SALIENCY_LIST. */
#include "compress/prune/prune.h"

#include <math.h>

static void magnitude(const espl__salient *of, float *out) {
    for (int64_t i = 0; i < of->count; i++) out[i] = fabsf(of->weights[i]);
}

static void (*const functions[ESPL__SALIENCY_COUNT])(const espl__salient *of, float *out) = {
    [ESPL__SALIENCY_MAGNITUDE] = magnitude,
};

void espl__saliency_of(espl__saliency kind, const espl__salient *of, float *out) {
    functions[kind](of, out);
}
