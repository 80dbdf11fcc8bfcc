/* PCG32 XSH-RR: O'Neill, "PCG: a family of simple fast space-efficient statistically good algorithms", 2014.
 */
#include "base/base.h"

#include <math.h>

espl__rng espl__rng_seed(uint64_t seed, uint64_t stream) {
    espl__rng rng = {0, stream << 1 | 1};
    espl__rng_u32(&rng);
    rng.state += seed;
    espl__rng_u32(&rng);
    return rng;
}

uint32_t espl__rng_u32(espl__rng *rng) {
    uint64_t old = rng->state;
    rng->state = old * 6364136223846793005u + rng->stream;
    uint32_t x = (uint32_t)((old >> 18 ^ old) >> 27), r = (uint32_t)(old >> 59);
    return x >> r | x << (-r & 31);
}

uint32_t espl__rng_below(espl__rng *rng, uint32_t n) {
    uint32_t threshold = -n % n, x;
    do x = espl__rng_u32(rng);
    while (x < threshold);
    return x % n;
}

float espl__rng_float(espl__rng *rng) {
    return (float)(espl__rng_u32(rng) >> 8) * 0x1p-24f;
}

float espl__rng_normal(espl__rng *rng) {
    double u = 1.0 - espl__rng_float(rng), v = espl__rng_float(rng);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
