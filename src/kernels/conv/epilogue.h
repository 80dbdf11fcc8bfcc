/* From an accumulator to what is stored: the scalar definitions that every vector epilogue equals. */
#ifndef ESPL_KERNEL_EPILOGUE_H
#define ESPL_KERNEL_EPILOGUE_H

#include <math.h>

#include "kernels/kernels.h"
#include "tensor/tensor.h"

/* acc + x * w in 32 bits. It wraps instead of overflowing: the planner excludes it, and every set still
 * agrees. */
static inline int32_t multiply_add(int32_t acc, int32_t x, int32_t w) {
    return (int32_t)((uint32_t)acc + (uint32_t)(x * w));
}

static inline uint8_t epilogue_u8(const espl__epilogue_u8 *q, int c, int32_t acc, const uint8_t *res) {
    int32_t q1 = espl__requantize((float)acc * q->mult[c], q->zero, q->lo, q->hi);
    if (!res) return (uint8_t)q1;
    float other = (float)(*res - q->res_zero) * q->res_scale;
    return (uint8_t)espl__requantize(fmaf((float)(q1 - q->zero), q->res_scale_own, other), q->zero2, q->lo2,
                                     q->hi2);
}

/* NaN passes. */
static inline float epilogue_f32(float x, float lo, float hi) {
    x = lo > x ? lo : x;
    return hi < x ? hi : x;
}

#endif
