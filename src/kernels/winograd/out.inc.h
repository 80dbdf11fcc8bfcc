/* The transform of the sums for one type of numbers, once for each: NAME, word, add and sub as in in.inc.h;
 * sum_t is an element and load_sums its load_part. All are undefined behind it. */

/* A' times a vector of four. */
static INLINE void NAME(transform_out)(const word m[4], word y[2]) {
    y[0] = add(add(m[0], m[1]), m[2]);
    y[1] = sub(sub(m[1], m[2]), m[3]);
}

/* One vector of channels of a tile: [row][column] of its outputs. */
static INLINE void NAME(tile_out)(const char *m, ptrdiff_t plane, int valid, word y[2][2]) {
    word t[4][2];
    UNROLL
    for (int j = 0; j < 4; j++) {
        word column[4];
        UNROLL
        for (int i = 0; i < 4; i++)
            column[i] = load_sums((const sum_t *)(const void *)(m + (4 * i + j) * plane), valid);
        NAME(transform_out)(column, t[j]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        const word d[4] = {t[0][i], t[1][i], t[2][i], t[3][i]};
        NAME(transform_out)(d, y[i]);
    }
}

#undef NAME
#undef word
#undef add
#undef sub
#undef sum_t
#undef load_sums
