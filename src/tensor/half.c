/* Numbers of 16 bits: IEEE 754 half precision, and f32 without its lower half (bf16). */
#include <math.h>

#include "tensor/tensor.h"

float espl__half_to_float(uint16_t h) {
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float value = exponent == 0    ? ldexpf((float)mantissa, -24)
                  : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                   : ldexpf((float)(mantissa + 1024), exponent - 25);
    return h & 0x8000 ? -value : value;
}

/* Scaling by a power of two is exact, so one rintf rounds to nearest even; 2^-24 is the subnormals' step. */
uint16_t espl__half_from_float(float x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    float a = fabsf(x);
    if (isnan(x)) return sign | 0x7e00;
    if (a >= 65520.0f) return sign | 0x7c00;
    if (a == 0.0f) return sign;
    int exponent = 0;
    frexpf(a, &exponent);
    int shift = ESPL_MAX(exponent - 11, -24);
    uint32_t mantissa = (uint32_t)rintf(ldexpf(a, -shift)); /* 2048 carries into the exponent */
    return (uint16_t)(sign | (((uint32_t)(shift + 24) << 10) + mantissa));
}

float espl__bfloat_to_float(uint16_t b) {
    uint32_t bits = (uint32_t)b << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint16_t espl__bfloat_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
