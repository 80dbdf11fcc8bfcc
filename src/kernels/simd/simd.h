/* What the vector headers share. */
#ifndef ESPL_SIMD_H
#define ESPL_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

#define INLINE inline __attribute__((always_inline))

/* A BODY takes its tile size as arguments and must be specialised for it to be fast. With ESPL_ONE_BODY it is
 * compiled once for all sizes, in a twentieth of the time: the same loads, stores and arithmetic, sums in
 * memory. */
#ifdef ESPL_ONE_BODY
#define BODY __attribute__((noinline))
#define UNROLL
#else
#define BODY INLINE
#define UNROLL _Pragma("GCC unroll 32")
#endif

static INLINE int32_t load4(const uint8_t *from) {
    int32_t x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Hides where a value comes from, so that the compiler keeps it in a register and does not derive more from
 * it. */
static INLINE ptrdiff_t opaque(ptrdiff_t x) {
    __asm__("" : "+r"(x));
    return x;
}

/* Weights that stream from memory in several short runs are asked for so many bytes before they are used, since the
 * processor's own prefetchers stop at the end of a page. The second-level cache is near enough, and can have more lines
 * under way: into the first one, Zen 4 reads at 60 % of its bandwidth. */
enum { AHEAD = 2560 };
static INLINE void fetch_line(const void *at) {
    __builtin_prefetch(at, 0, 2);
}

/* Addresses i steps from a base, i in 0..7, out of one base and four registers: x86 scales an index by 1, 2,
 * 4 or 8. The ones a tile does not use vanish. */
typedef struct {
    ptrdiff_t s1, s3, s5, s7;
} steps;

static INLINE steps steps_of(ptrdiff_t step) {
    return (steps){opaque(step), opaque(3 * step), opaque(5 * step), opaque(7 * step)};
}

static INLINE ptrdiff_t step_at(steps s, int i) {
    switch (i) {
        case 0:
            return 0;
        case 1:
            return s.s1;
        case 2:
            return 2 * s.s1;
        case 3:
            return s.s3;
        case 4:
            return 4 * s.s1;
        case 5:
            return s.s5;
        case 6:
            return 2 * s.s3;
        default:
            return s.s7;
    }
}

#endif
