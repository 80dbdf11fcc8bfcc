/* Weights as the convolution kernels read them: blocks of 16 output channels, the channel innermost. */
#include <string.h>

#include "kernels/kernels.h"

static int64_t blocks_of(int64_t channels) {
    return (channels + ESPL__NR - 1) / ESPL__NR;
}

size_t espl__pack_s8_bytes(int64_t channels, int64_t segments, int64_t k) {
    return (size_t)blocks_of(channels) * (size_t)segments * (size_t)((k + 3) / 4) * ESPL__NR * 4 +
           ESPL__PACK_SLACK;
}

void espl__pack_s8(const int8_t *w, int64_t channels, int64_t segments, int64_t k, int8_t *packed) {
    int64_t groups = (k + 3) / 4;
    memset(packed, 0, espl__pack_s8_bytes(channels, segments, k));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t s = 0; s < segments; s++) {
            const int8_t *from = w + (c * segments + s) * k;
            int8_t *to = packed + ((c / ESPL__NR) * segments + s) * groups * ESPL__NR * 4 + c % ESPL__NR * 4;
            for (int64_t i = 0; i < k; i++) to[i / 4 * ESPL__NR * 4 + i % 4] = from[i];
        }
}

size_t espl__pack_f32_bytes(int64_t channels, int64_t segments, int64_t k) {
    return (size_t)blocks_of(channels) * (size_t)segments * (size_t)k * ESPL__NR * sizeof(float);
}

void espl__pack_f32(const float *w, int64_t channels, int64_t segments, int64_t k, float *packed) {
    memset(packed, 0, espl__pack_f32_bytes(channels, segments, k));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t s = 0; s < segments; s++) {
            const float *from = w + (c * segments + s) * k;
            float *to = packed + ((c / ESPL__NR) * segments + s) * k * ESPL__NR + c % ESPL__NR;
            for (int64_t i = 0; i < k; i++) to[i * ESPL__NR] = from[i];
        }
}
