/* Where the slots of packed banks are: what packers write and references read. espl__bank in kernels.h draws
 * it. */
#ifndef ESPL_BANK_H
#define ESPL_BANK_H

#include "kernels/kernels.h"
#include "tensor/tensor.h"

enum { BANK_VECTOR = ESPL__NR * 4, BANK_PAIR = 3 * BANK_VECTOR }; /* bytes */

/* Banks that fill whole words of four slots together. */
static inline int32_t bank_group(int32_t slots) {
    return slots % 4 == 0 ? 1 : slots % 2 == 0 ? 2 : 4;
}

/* Do so many windows follow one another? The last of an input begins early, and a group is filled up with the
 * first. */
static inline bool bank_joined(const int32_t *off, int windows) {
    for (int i = 1; i < windows; i++)
        if (off[i] - off[i - 1] != ESPL__BANK) return false;
    return true;
}

/* The place of one slot of one row in its block. */
typedef struct bank_place {
    ptrdiff_t position, weight; /* bytes from the block's first */
    int shift;                  /* of the position in its byte, or in its word of 32 bits */
} bank_place;

/* u8 x s8. Slots are numbered through, since the banks of a group fill whole words. */
static inline bank_place bank_place_s8(const espl__bank *k, int row, int32_t b, int32_t s) {
    const ptrdiff_t i = (ptrdiff_t)b * k->slots + s, v = i / 4, pair = v / 2 * BANK_PAIR, j = row * 4 + i % 4;
    return (bank_place){pair + j, pair + (1 + v % 2) * BANK_VECTOR + j, v % 2 * 4};
}

static inline int bank_bits(const espl__bank *k) {
    return k->size == ESPL__BANK ? 4 : 5;
}
/* Vectors that share a word of positions. */
static inline int bank_per(const espl__bank *k) {
    return 32 / bank_bits(k);
}
static inline int bank_value_bytes(const espl__bank *k) {
    return k->values == ESPL_F32 ? 4 : 2;
}

static inline bank_place bank_place_f32(const espl__bank *k, int row, int32_t b, int32_t s) {
    const int per = bank_per(k), bytes = bank_value_bytes(k);
    const ptrdiff_t v = (ptrdiff_t)b * k->slots + s, from = v / per * (BANK_VECTOR + per * ESPL__NR * bytes);
    return (bank_place){from + row * 4, from + BANK_VECTOR + (v % per * ESPL__NR + row) * bytes,
                        (int)(v % per) * bank_bits(k)};
}

#endif
