/* What packer, reference and vector code of espl__wonly share; kernels.h draws the layout. */
#ifndef ESPL_WONLY_H
#define ESPL_WONLY_H

#include "kernels/kernels.h"
#include "tensor/tensor.h"

enum {
    WONLY_QUADS = ESPL__UNIT / 4, /* vectors of four inputs of 16 rows */
    WONLY_TINY = 27 << 23         /* the bits of 2^-100: less counts as 0 */
};

static inline int32_t wonly_offset(const espl__wonly *k) {
    return 1 << (k->bits - 1);
}
static inline ptrdiff_t wonly_unit_bytes(const espl__wonly *k) {
    return ESPL__NR * 4 * (ptrdiff_t)k->bits;
}
static inline ptrdiff_t wonly_scale_bytes(const espl__wonly *k) {
    return ESPL__NR * (k->scales == ESPL_F16 ? 2 : 4);
}
/* Of unit u in its block. */
static inline ptrdiff_t wonly_unit_at(const espl__wonly *k, int32_t u) {
    return u * wonly_unit_bytes(k) + (u / k->group + 1) * wonly_scale_bytes(k);
}
/* Of the scales of unit u. */
static inline ptrdiff_t wonly_scale_at(const espl__wonly *k, int32_t u) {
    const int32_t first = u / k->group * k->group;
    return wonly_unit_at(k, first) - wonly_scale_bytes(k);
}
/* The largest |q|: such that all bytes are s8. */
static inline float wonly_most(const espl__wonly *k) {
    return k->planes == 3 ? 127.0f * 65536.0f : 127.0f;
}

#endif
