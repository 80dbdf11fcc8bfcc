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

uint64_t espl__mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

espl__rng espl__rng_at(uint64_t seed, uint64_t a, uint64_t b) {
    uint64_t key = espl__mix64(espl__mix64(espl__mix64(seed) ^ a) ^ b);
    return espl__rng_seed(key, espl__mix64(key));
}

void espl__rng_shuffle(espl__rng *rng, int64_t *order, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = espl__rng_below(rng, (uint32_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
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
