/* Number formats: names, ranges, and the one conversion between codes and numbers of each. */
#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    const char *name;
    espl_format_kind kind;
    int bits;
    bool sign;
} formats[] = {
#define X(NAME, name, kind, bits, sign, text) {name, ESPL_FORMAT_KIND_##kind, bits, sign},
    ESPL_FORMAT_LIST(X)
#undef X
};

const char *espl_format_name(espl_format f) {
    return (unsigned)f < ESPL_FORMAT_COUNT ? formats[f].name : "?";
}
int espl_format_bits(espl_format f) {
    return formats[f].bits;
}
espl_format_kind espl_format_kind_of(espl_format f) {
    return formats[f].kind;
}
bool espl_format_is_signed(espl_format f) {
    return formats[f].sign;
}

bool espl_format_parse(const char *name, espl_format *out) {
    for (int i = 0; i < ESPL_FORMAT_COUNT; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *out = (espl_format)i;
            return true;
        }
    return false;
}

bool espl__format_is_code8(espl_format f) {
    bool integer = formats[f].kind == ESPL_FORMAT_KIND_INTEGER && formats[f].bits <= 8;
    return integer || f == ESPL_FORMAT_TERNARY || f == ESPL_FORMAT_BINARY;
}

espl_dtype espl__format_dtype(espl_format f) {
    switch (f) {
        case ESPL_FORMAT_F32:
        case ESPL_FORMAT_TF32:
            return ESPL_F32;
        case ESPL_FORMAT_F16:
            return ESPL_F16;
        case ESPL_FORMAT_BF16:
            return ESPL_BF16;
        case ESPL_FORMAT_S32:
            return ESPL_S32;
        case ESPL_FORMAT_S16:
            return ESPL_S16;
        default:
            return formats[f].sign && formats[f].kind != ESPL_FORMAT_KIND_FP8 ? ESPL_S8 : ESPL_U8;
    }
}

/* Integers below 8 bits use the code -2^(b-1) too; 8 and 16 bits do not, so that their range is symmetric. */
void espl__format_range(espl_format f, int32_t *lo, int32_t *hi) {
    const int bits = formats[f].bits;
    const bool twos = formats[f].kind == ESPL_FORMAT_KIND_INTEGER && bits < 8;
    if (!formats[f].sign) {
        *lo = 0;
        *hi = (1 << bits) - 1;
        return;
    }
    *hi = bits == 1 ? 1 : (int32_t)((1u << (bits - 1)) - 1);
    *lo = twos ? -*hi - 1 : -*hi;
}

/* --- fp8 ------------------------------------------------------------------------------------------ */

/* ONNX's FLOAT8E4M3FN: bias 7, the code 0x7f is NaN and nothing is infinite. FLOAT8E5M2: the upper byte of
 * f16. */
enum { E4M3_NAN = 0x7f, E4M3_MANTISSA = 3, E4M3_BIAS = 7 };

static float e4m3_to_float(unsigned code) {
    int exponent = (int)(code >> E4M3_MANTISSA & 15), mantissa = (int)(code & 7);
    float x = exponent ? ldexpf((float)(8 + mantissa), exponent - E4M3_BIAS - E4M3_MANTISSA)
                       : ldexpf((float)mantissa, 1 - E4M3_BIAS - E4M3_MANTISSA);
    if ((code & 0x7f) == E4M3_NAN) x = NAN;
    return code & 0x80 ? -x : x;
}

/* To nearest even; beyond the largest number to it, infinities too. */
static unsigned e4m3_from_float(float x) {
    unsigned sign = signbit(x) ? 0x80 : 0;
    float a = fabsf(x);
    int exponent;
    if (a != a) return sign | E4M3_NAN;
    if (a == 0) return sign;
    if (a >= 448) return sign | 0x7e;
    (void)frexpf(a, &exponent);
    exponent = ESPL_MAX(exponent - 1, 1 - E4M3_BIAS);
    unsigned steps = (unsigned)nearbyintf(ldexpf(a, E4M3_MANTISSA - exponent)); /* 0 to 16 */
    return sign | (((unsigned)(exponent + E4M3_BIAS - 1) << E4M3_MANTISSA) + steps);
}

/* The upper byte of f16, rounded to nearest even from the number itself: through f16 it would be rounded
 * twice. */
static unsigned e5m2_from_float(float x) {
    enum { MANTISSA = 2, BIAS = 15 };
    unsigned sign = signbit(x) ? 0x80 : 0;
    float a = fabsf(x);
    int exponent;
    if (a != a) return sign | 0x7f;
    if (a == 0) return sign;
    if (a >= 57344) return sign | 0x7b;
    (void)frexpf(a, &exponent);
    exponent = ESPL_MAX(exponent - 1, 1 - BIAS);
    unsigned steps = (unsigned)nearbyintf(ldexpf(a, MANTISSA - exponent));
    return sign | (((unsigned)(exponent + BIAS - 1) << MANTISSA) + steps);
}

/* --- log2 ----------------------------------------------------------------------------------------- */

/* LogNet (Miyashita 2016): the exponent is round(log2 |x|), which is k for |x| from 2^(k - 1/2) to 2^(k +
 * 1/2). */
static int32_t log2_from_float(espl_format f, float x) {
    const int top = formats[f].sign ? (1 << (formats[f].bits - 1)) - 1 : (1 << formats[f].bits) - 1;
    int exponent;
    float fraction = frexpf(fabsf(x), &exponent); /* 1/2 to 1 */
    if (!(fabsf(x) > 0) || (x < 0 && !formats[f].sign)) return 0;
    if (isinf(x)) exponent = 2, fraction = 0.5f;
    if (fraction < 0.70710678f) exponent--;
    int32_t code = ESPL_MIN(exponent, 0) + top;
    return code < 1 ? 0 : x < 0 ? -code : code;
}

static float log2_to_float(espl_format f, int32_t code) {
    const int top = formats[f].sign ? (1 << (formats[f].bits - 1)) - 1 : (1 << formats[f].bits) - 1;
    return code == 0 ? 0 : copysignf(ldexpf(1, abs(code) - top), (float)code);
}

/* --- codes and numbers ------------------------------------------------------------------------------ */

static float bits19(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000u)
        bits |= 0x400000;
    else
        bits += 0xfff + (bits >> 13 & 1);
    bits &= ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

int32_t espl__format_encode(espl_format f, float x) {
    int32_t lo, hi;
    switch (formats[f].kind) {
        case ESPL_FORMAT_KIND_FP8:
            return (int32_t)(f == ESPL_FORMAT_E4M3 ? e4m3_from_float(x) : e5m2_from_float(x));
        case ESPL_FORMAT_KIND_LOG2:
            return log2_from_float(f, x);
        case ESPL_FORMAT_KIND_TERNARY:
            return (x >= 0.5f) - (x <= -0.5f);
        case ESPL_FORMAT_KIND_BINARY:
            return formats[f].sign ? (x >= 0 ? 1 : -1) : x >= 0.5f;
        default:
            espl__format_range(f, &lo, &hi);
            return x != x ? 0 : (int32_t)nearbyint(fmin(fmax((double)x, lo), hi));
    }
}

float espl__format_decode(espl_format f, int32_t code) {
    switch (formats[f].kind) {
        case ESPL_FORMAT_KIND_FP8:
            return f == ESPL_FORMAT_E4M3 ? e4m3_to_float((unsigned)code & 0xff)
                                         : espl__half_to_float((uint16_t)((unsigned)code << 8));
        case ESPL_FORMAT_KIND_LOG2:
            return log2_to_float(f, code);
        default:
            return (float)code;
    }
}

float espl__format_largest(espl_format f) {
    int32_t lo, hi;
    switch (formats[f].kind) {
        case ESPL_FORMAT_KIND_FP8:
            return f == ESPL_FORMAT_E4M3 ? 448 : 57344;
        case ESPL_FORMAT_KIND_INTEGER:
            espl__format_range(f, &lo, &hi);
            return (float)hi;
        default:
            return 1;
    }
}

/* The same number as by way of the code, without tables and branches: adding 1.5 * 2^23 steps and taking them
 * away again rounds to a multiple of the step, to even where two are as near. */
static float round_fp8(espl_format f, float x) {
    const bool e4m3 = f == ESPL_FORMAT_E4M3;
    const float most = e4m3 ? 448 : 57344;
    const int32_t mantissa = e4m3 ? 3 : 2, least = e4m3 ? 1 - E4M3_BIAS : 1 - 15;
    uint32_t bits;
    x = x > most ? most : x < -most ? -most : x;
    memcpy(&bits, &x, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23 & 255) - 127;
    bits = (uint32_t)((exponent > least ? exponent : least) - mantissa + 23 + 127) << 23 | 0x400000;
    float shift;
    memcpy(&shift, &bits, sizeof shift);
    return x + shift - shift;
}

/* What f16 cannot hold becomes its largest. */
float espl__format_round(espl_format f, float x) {
    switch (f) {
        case ESPL_FORMAT_F32:
            return x;
        case ESPL_FORMAT_TF32:
            return bits19(x);
        case ESPL_FORMAT_E4M3:
        case ESPL_FORMAT_E5M2:
            return round_fp8(f, x);
        case ESPL_FORMAT_BF16:
            return espl__bfloat_to_float(espl__bfloat_from_float(x));
        case ESPL_FORMAT_F16:
            return espl__half_to_float(espl__half_from_float(x > 65504 ? 65504 : x < -65504 ? -65504 : x));
        default:
            return espl__format_decode(f, espl__format_encode(f, x));
    }
}

float espl__grid_round(espl_format f, float scale, int32_t zero, float x) {
    float code = x / scale;
    if (espl_format_kind_of(f) == ESPL_FORMAT_KIND_INTEGER) code = rintf(code);
    return (espl__format_round(f, code + (float)zero) - (float)zero) * scale;
}
