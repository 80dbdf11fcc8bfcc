#include "train/dense.h"

#include "base/base.h"

#define REAL_FILE "train/dense.inc.h"
#include "train/real.h"

static const espl__dense plain = {"plain", gemm_f32, gemm_f64};

const espl__dense *espl__dense_get(void) {
    return &plain;
}
