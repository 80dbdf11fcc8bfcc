/* Numbers of 16 bits: IEEE 754 half precision, and f32 without its lower half (bf16). */
#include "tensor/tensor.h"

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The exponent moves from bias 15 to 127; zero and the subnormals are mantissa * 2^-24. */
float espl__half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 0) return of_bits(bits_of((float)mantissa * 0x1p-24f) | sign);
    return of_bits(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13);
}

/* 0.5 has the step of the subnormals, 2^-24, so its addition rounds to them; what rounding carries out of the mantissa
 * raises the exponent, up to infinity. */
uint16_t espl__half_from_float(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520: half way beyond the largest number */
    if (a < 0x38800000u) return (uint16_t)(sign | (bits_of(of_bits(a) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | (((a + 0xfff + (a >> 13 & 1)) >> 13) - (112u << 10)));
}

bool espl__are_halves(const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (espl__half_to_float(espl__half_from_float(x[i])) != x[i]) return false;
    return true;
}

float espl__bfloat_to_float(uint16_t b) {
    return of_bits((uint32_t)b << 16);
}

uint16_t espl__bfloat_from_float(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
