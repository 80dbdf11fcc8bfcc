/* Compressed sparse rows of a weight tensor. Sixteen channels advance together, so that a matrix whose
 * channels follow each other is read line by line too. */
#include "kernels/csr/csr.h"

typedef struct window {
    int64_t channel, channels; /* of one block */
    const float *at;           /* of its first channel: a segment's tap */
    int64_t first;             /* number of its first element */
} window;

static window window_of(const espl__weight_order *o, const float *w, int64_t block, int64_t number) {
    const int64_t c = block * ESPL__NR, left = o->channels - c, s = number / o->taps, t = number % o->taps;
    return (window){c, left < ESPL__NR ? left : ESPL__NR,
                    w + c * o->by_channel + s * o->by_segment + t * o->by_tap, number * o->stored};
}

static void count_window(const espl__weight_order *o, const window *v, int64_t count[ESPL__NR]) {
    for (int64_t i = 0; i < o->real; i++)
        for (int64_t c = 0; c < v->channels; c++)
            count[c] += v->at[i * o->by_input + c * o->by_channel] != 0.0f;
}

static void fill_window(const espl__weight_order *o, const window *v, int32_t next[ESPL__NR], int32_t *at,
                        float *weight) {
    for (int64_t i = 0; i < o->real; i++)
        for (int64_t c = 0; c < v->channels; c++) {
            const float x = v->at[i * o->by_input + c * o->by_channel];
            if (x == 0.0f) continue;
            at[next[c]] = (int32_t)(v->first + i);
            weight[next[c]++] = x;
        }
}

bool espl__csr_count(const espl__weight_order *o, const float *w, int64_t block0, int64_t block1,
                     int32_t *start) {
    const int64_t windows = o->segments * o->taps;
    for (int64_t b = block0; b < block1; b++) {
        int64_t count[ESPL__NR] = {0}, c = b * ESPL__NR;
        for (int64_t n = 0; n < windows; n++) {
            const window v = window_of(o, w, b, n);
            count_window(o, &v, count);
        }
        for (int i = 0; i < ESPL__NR && c < o->channels; i++, c++) {
            if (count[i] > INT32_MAX - start[c]) return false;
            start[c + 1] = start[c] + (int32_t)count[i];
        }
    }
    return true;
}

void espl__csr_fill(const espl__weight_order *o, const float *w, int64_t block0, int64_t block1,
                    const int32_t *start, int32_t *at, float *weight) {
    const int64_t windows = o->segments * o->taps;
    for (int64_t b = block0; b < block1; b++) {
        int32_t next[ESPL__NR];
        for (int64_t i = 0, c = b * ESPL__NR; i < ESPL__NR && c < o->channels; i++, c++) next[i] = start[c];
        for (int64_t n = 0; n < windows; n++) {
            const window v = window_of(o, w, b, n);
            fill_window(o, &v, next, at, weight);
        }
    }
}

/* The elements of a strip, [element][pixel], and the sums of 16 channels, [channel][pixel]. */
size_t espl__csr_scratch_bytes(const espl__conv *p) {
    const size_t elements = (size_t)p->segments * (size_t)p->seg_k;
    return (elements + ESPL__NR) * ESPL__CSR_STRIP * sizeof(float);
}
