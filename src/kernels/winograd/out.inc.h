/* The transform of the sums for one type of numbers and one size of tiles, once for each: NAME, SIDE, word,
 * add, sub and times4 as in in.inc.h; sum_t is an element and load_sums its load_part. All are undefined
 * behind it. */

#define SIZE (SIDE + 2)

/* A' times a vector. */
static INLINE void NAME(transform_out)(const word m[SIZE], word y[SIDE]) {
#if SIDE == 2
    y[0] = add(add(m[0], m[1]), m[2]);
    y[1] = sub(sub(m[1], m[2]), m[3]);
#else
    const word a = add(m[1], m[2]), b = sub(m[1], m[2]), c = add(m[3], m[4]), half = sub(m[3], m[4]),
               d = add(half, half), e = add(add(d, d), m[5]);
    y[0] = add(add(m[0], a), c);
    y[1] = add(b, d);
    y[2] = add(a, times4(c));
    y[3] = add(b, add(e, e));
#endif
}

/* One vector of channels of a tile: [row][column] of its outputs. */
static INLINE void NAME(tile_out)(const char *m, ptrdiff_t plane, int valid, word y[SIDE * SIDE]) {
    word t[SIZE][SIDE];
    UNROLL
    for (int j = 0; j < SIZE; j++) {
        const char *from = m + j * plane;
        word column[SIZE];
        UNROLL
        for (int i = 0; i < SIZE; i++, from += SIZE * plane)
            column[i] = load_sums((const sum_t *)(const void *)from, valid);
        NAME(transform_out)(column, t[j]);
    }
    UNROLL
    for (int i = 0; i < SIDE; i++) {
        word d[SIZE];
        UNROLL
        for (int j = 0; j < SIZE; j++) d[j] = t[j][i];
        NAME(transform_out)(d, y + i * SIDE);
    }
}

#undef SIZE
#undef NAME
#undef SIDE
#undef word
#undef add
#undef sub
#undef times4
#undef sum_t
#undef load_sums
