/* 16 lanes meet in a tree: lane i and lane i + 8, then i + 4, i + 2 and i + 1. The same at every width. */
#ifndef ESPL_SIMD_TREE_H
#define ESPL_SIMD_TREE_H

#include <immintrin.h>

#include "kernels/simd/simd.h"

static INLINE __m256 larger_256(__m256 a, __m256 b) {
    return _mm256_blendv_ps(_mm256_max_ps(b, a), b, _mm256_cmp_ps(b, b, _CMP_UNORD_Q));
}
static INLINE __m128 larger_128(__m128 a, __m128 b) {
    return _mm_blendv_ps(_mm_max_ps(b, a), b, _mm_cmp_ps(b, b, _CMP_UNORD_Q));
}

#define TREE(name, step_256, step_128)                                               \
    static INLINE float name(const float lane[16]) {                                 \
        const __m256 x = step_256(_mm256_loadu_ps(lane), _mm256_loadu_ps(lane + 8)); \
        __m128 y = step_128(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)); \
        y = step_128(y, _mm_movehl_ps(y, y));                                        \
        return _mm_cvtss_f32(step_128(y, _mm_shuffle_ps(y, y, 1)));                  \
    }
TREE(tree_sum, _mm256_add_ps, _mm_add_ps)
TREE(tree_larger, larger_256, larger_128)
#undef TREE

#endif
