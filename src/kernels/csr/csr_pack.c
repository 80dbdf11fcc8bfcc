/* Compressed sparse rows of a weight tensor. Sixteen channels advance together, so that a matrix whose
 * channels follow each other is read line by line too. */
#include "kernels/csr/csr.h"

#include <string.h>

#include "base/base.h"

espl__csr espl__csr_of(const espl__weight_order *o) {
    const int64_t elements = o->segments * o->taps * o->stored;
    const int64_t pieces = ESPL_MAX(1, (elements + ESPL__CSR_PIECE - 1) / ESPL__CSR_PIECE);
    const int64_t lines = (elements + pieces * ESPL__NR - 1) / (pieces * ESPL__NR);
    const int64_t piece = ESPL_MAX(1, lines) * ESPL__NR;
    return (espl__csr){(int32_t)piece, (int32_t)ESPL_MAX(1, (elements + piece - 1) / piece), NULL, NULL};
}

int64_t espl__csr_starts(const espl__csr *m, int64_t blocks) {
    return blocks * m->pieces * ESPL__NR + 1;
}

/* The 16 numbers of `start` where the rows of a block begin in a piece. */
static int64_t rows_at(const espl__csr *m, int64_t block, int64_t piece) {
    return (block * m->pieces + piece) * ESPL__NR;
}

typedef struct window {
    int64_t channels; /* of one block */
    const float *at;  /* of its first channel: a segment's tap */
    int64_t first;    /* number of its first element */
} window;

static window window_of(const espl__weight_order *o, const float *w, int64_t block, int64_t number) {
    const int64_t c = block * ESPL__NR, s = number / o->taps, t = number % o->taps;
    return (window){ESPL_MIN(ESPL__NR, o->channels - c),
                    w + c * o->by_channel + s * o->by_segment + t * o->by_tap, number * o->stored};
}

/* Adds the weights of a window to the numbers of a block. */
static void count_window(const espl__weight_order *o, const window *v, const espl__csr *m, int32_t *numbers) {
    for (int64_t i = 0; i < o->real; i++) {
        int32_t *count = numbers + (v->first + i) / m->piece * ESPL__NR;
        for (int64_t c = 0; c < v->channels; c++)
            count[c] += v->at[i * o->by_input + c * o->by_channel] != 0.0f;
    }
}

bool espl__csr_count(const espl__weight_order *o, const float *w, const espl__csr *m, int64_t block0,
                     int64_t block1, int32_t *start) {
    const int64_t windows = o->segments * o->taps, numbers = rows_at(m, 1, 0);
    for (int64_t b = block0; b < block1; b++) {
        int32_t *end = start + rows_at(m, b, 0) + 1;
        memset(end, 0, (size_t)numbers * sizeof *end);
        for (int64_t n = 0; n < windows; n++) {
            const window v = window_of(o, w, b, n);
            count_window(o, &v, m, end);
        }
        for (int64_t i = 0; i < numbers; i++) {
            if (end[i] > INT32_MAX - end[i - 1]) return false;
            end[i] += end[i - 1];
        }
    }
    return true;
}

static void fill_block(const espl__weight_order *o, const float *w, const espl__csr *m, int64_t block,
                       espl__csr_entry *entries) {
    int32_t next[ESPL__NR];
    for (int64_t n = 0, piece = -1; n < o->segments * o->taps; n++) {
        const window v = window_of(o, w, block, n);
        for (int64_t i = 0; i < o->real; i++) {
            const int64_t element = v.first + i, q = element / m->piece;
            if (q != piece) memcpy(next, m->start + rows_at(m, block, q), sizeof next);
            piece = q;
            for (int64_t c = 0; c < v.channels; c++) {
                const float x = v.at[i * o->by_input + c * o->by_channel];
                if (x != 0.0f) entries[next[c]++] = (espl__csr_entry){(uint32_t)(element - q * m->piece), x};
            }
        }
    }
}

void espl__csr_fill(const espl__weight_order *o, const float *w, const espl__csr *m, int64_t block0,
                    int64_t block1, espl__csr_entry *entries) {
    for (int64_t b = block0; b < block1; b++) fill_block(o, w, m, b, entries);
}

/* The elements of a strip and a piece, [element][pixel], and sums, [channel][pixel]: of one block at a time,
 * or of all where they wait for the next piece. */
size_t espl__csr_scratch_bytes(const espl__conv *p) {
    const espl__csr *m = p->csr;
    const size_t blocks = m->pieces > 1 ? (size_t)(p->channels + ESPL__NR - 1) / ESPL__NR : 1;
    return ((size_t)m->piece * ESPL__CSR_STRIP + blocks * ESPL__CSR_SUMS) * sizeof(float);
}
