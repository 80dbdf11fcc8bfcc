#include "tensor/fixed.h"

#include <math.h>

/* real = fraction * 2^exponent with 0.5 <= fraction < 1, so multiplier = fraction * 2^31 has 31 bits; when
 * that rounds up to 2^31 it is 2^30 and one shift less. */
espl__fixed espl__fixed_from(double real) {
    int exponent;
    if (!(real < 0x1p31)) return (espl__fixed){INT32_MAX, 0};
    if (real < 0x1p-32) return (espl__fixed){0, 0};
    int64_t multiplier = (int64_t)nearbyint(frexp(real, &exponent) * 0x1p31);
    if (multiplier == INT64_C(1) << 31) {
        multiplier >>= 1;
        exponent++;
    }
    if (exponent > 31) return (espl__fixed){INT32_MAX, 0};
    return (espl__fixed){(int32_t)multiplier, 31 - exponent};
}

int32_t espl__fixed_multiply(int32_t a, espl__fixed m) {
    int64_t product = (int64_t)a * m.multiplier;
    if (m.shift > 0) product = (product + (INT64_C(1) << (m.shift - 1))) >> m.shift;
    return product > INT32_MAX ? INT32_MAX : product < INT32_MIN ? INT32_MIN : (int32_t)product;
}

int32_t espl__fixed_requantize(int32_t a, espl__fixed m, int32_t zero, int32_t lo, int32_t hi) {
    int64_t q = (int64_t)espl__fixed_multiply(a, m) + zero;
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
}
