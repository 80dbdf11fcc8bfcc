/* Requantization without floating point (Jacob et al. 2018, section 2.2), for chips without an FPU: a real
 * multiplier is a 31-bit integer and a shift, M = multiplier / 2^shift.
 *
 *   espl__fixed_multiply(a, M) = floor(a * multiplier / 2^shift + 1/2), clamped to 32 bits
 *
 * The product has 63 bits and is rounded once, halves upwards: one multiplication, one addition, one
 * arithmetic shift. */
#ifndef ESPL_FIXED_H
#define ESPL_FIXED_H

#include <stdint.h>

typedef struct espl__fixed {
    int32_t multiplier; /* 0, or 2^30 to 2^31 - 1: 31 significant bits */
    int32_t shift;      /* 0 to 62 */
} espl__fixed;

/* The nearest there is to a real number >= 0; 0 below 2^-32, where every 32-bit number times it rounds to 0;
 * the largest, 2^31 - 1, from there on and for what is no number. */
espl__fixed espl__fixed_from(double real);
int32_t espl__fixed_multiply(int32_t a, espl__fixed m);
/* clamp(fixed_multiply(a, m) + zero, lo, hi) */
int32_t espl__fixed_requantize(int32_t a, espl__fixed m, int32_t zero, int32_t lo, int32_t hi);

#endif
