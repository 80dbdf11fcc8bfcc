/* Compressed sparse rows of a weight tensor. Sixteen channels advance together, so that a matrix whose
 * channels follow each other is read line by line too. */
#include "kernels/csr/csr.h"

#include <string.h>

#include "base/base.h"

enum { CODES = 4 }; /* of an element */

/* Elements of a tap. */
static int64_t elements_of_tap(const espl__csr_source *w, int64_t inputs) {
    return w->codes ? (inputs + CODES - 1) / CODES : inputs;
}

espl__csr espl__csr_of(const espl__csr_source *w) {
    const espl__weight_order *o = w->order;
    const int64_t elements = o->segments * o->taps * elements_of_tap(w, o->stored);
    const int64_t most = w->codes ? ESPL__CSR_CODES_PIECE : ESPL__CSR_PIECE;
    const int64_t pieces = ESPL_MAX(1, (elements + most - 1) / most);
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
    int64_t at;       /* number of its first weight in the tensor: a segment's tap */
    int64_t first;    /* number of its first element */
    int64_t elements; /* that may have weights */
} window;

static window window_of(const espl__csr_source *w, int64_t block, int64_t number) {
    const espl__weight_order *o = w->order;
    const int64_t c = block * ESPL__NR, s = number / o->taps, t = number % o->taps;
    return (window){ESPL_MIN(ESPL__NR, o->channels - c), c * o->by_channel + s * o->by_segment + t * o->by_tap,
                    number * elements_of_tap(w, o->stored), elements_of_tap(w, o->real)};
}

/* Element i of a window and channel c of its block; false: there is no weight but 0. */
static inline bool entry_of(const espl__csr_source *w, const window *v, int64_t i, int64_t c, bool codes,
                            espl__csr_entry *to) {
    const espl__weight_order *o = w->order;
    const int64_t at = v->at + c * o->by_channel;
    uint32_t bits = 0;
    if (!codes) return (to->weight = ((const float *)w->w)[at + i * o->by_input]) != 0.0f;
    for (int64_t k = i * CODES; k < ESPL_MIN(i * CODES + CODES, o->real); k++)
        to->codes[k % CODES] = (int8_t)(((const uint8_t *)w->w)[at + k * o->by_input] ^ w->flip);
    for (int64_t k = o->real; k < i * CODES + CODES; k++) to->codes[k % CODES] = 0;
    memcpy(&bits, to->codes, sizeof bits);
    return bits != 0;
}

/* Adds the entries of a window to the numbers of a block. */
static inline void count_window(const espl__csr_source *w, const window *v, const espl__csr *m, bool codes, int32_t *numbers) {
    espl__csr_entry entry;
    for (int64_t i = 0; i < v->elements; i++) {
        int32_t *count = numbers + (v->first + i) / m->piece * ESPL__NR;
        for (int64_t c = 0; c < v->channels; c++) count[c] += entry_of(w, v, i, c, codes, &entry);
    }
}

bool espl__csr_count(const espl__csr_source *w, const espl__csr *m, int64_t block0, int64_t block1, int32_t *start) {
    const int64_t windows = w->order->segments * w->order->taps, numbers = rows_at(m, 1, 0);
    for (int64_t b = block0; b < block1; b++) {
        int32_t *end = start + rows_at(m, b, 0) + 1;
        memset(end, 0, (size_t)numbers * sizeof *end);
        for (int64_t n = 0; n < windows; n++) {
            const window v = window_of(w, b, n);
            if (w->codes)
                count_window(w, &v, m, true, end);
            else
                count_window(w, &v, m, false, end);
        }
        for (int64_t i = 0; i < numbers; i++) {
            if (end[i] > INT32_MAX - end[i - 1]) return false;
            end[i] += end[i - 1];
        }
    }
    return true;
}

static inline void fill_block(const espl__csr_source *w, const espl__csr *m, int64_t block, bool codes,
                              espl__csr_entry *entries) {
    int32_t next[ESPL__NR];
    for (int64_t n = 0, piece = -1; n < w->order->segments * w->order->taps; n++) {
        const window v = window_of(w, block, n);
        for (int64_t i = 0; i < v.elements; i++) {
            const int64_t element = v.first + i, q = element / m->piece;
            if (q != piece) memcpy(next, m->start + rows_at(m, block, q), sizeof next);
            piece = q;
            for (int64_t c = 0; c < v.channels; c++) {
                espl__csr_entry entry = {.element = (uint32_t)(element - q * m->piece)};
                if (entry_of(w, &v, i, c, codes, &entry)) entries[next[c]++] = entry;
            }
        }
    }
}

void espl__csr_fill(const espl__csr_source *w, const espl__csr *m, int64_t block0, int64_t block1,
                    espl__csr_entry *entries) {
    for (int64_t b = block0; b < block1; b++)
        if (w->codes)
            fill_block(w, m, b, true, entries);
        else
            fill_block(w, m, b, false, entries);
}

/* The elements of a strip and a piece, [element][pixel], and sums, [channel][pixel]: of the blocks that are stored together, or of
 * all where they wait for the next piece. */
size_t espl__csr_scratch_bytes(const espl__conv *p) {
    const espl__csr *m = p->csr;
    const size_t blocks = m->pieces > 1 ? (size_t)(p->channels + ESPL__NR - 1) / ESPL__NR : ESPL__CSR_BLOCKS;
    return ((size_t)m->piece + blocks * ESPL__NR) * ESPL__CSR_CODES_STRIP * sizeof(float);
}
