/* The transform of the input for one type of numbers and one size of tiles. The including file says
 *
 *   NAME(x), SIDE           what x is called here; outputs of a tile each way, 2 or 4
 *   word, add, sub          a vector, and what is done to it
 *   times4                  the same, where SIDE is 4
 *   IN, OUT, LANES          an element of the image and of the planes; elements of a vector
 *   load_part, store_part   of which only the first `valid` may be there
 *
 * and gets all but NAME, SIDE and word back undefined. */

#define SIZE (SIDE + 2)

/* B' times a vector. */
static INLINE void NAME(transform_in)(const word d[SIZE], word t[SIZE]) {
#if SIDE == 2
    t[0] = sub(d[0], d[2]);
    t[1] = add(d[1], d[2]);
    t[2] = sub(d[2], d[1]);
    t[3] = sub(d[1], d[3]);
#else
    const word a = sub(d[4], times4(d[2])), b = sub(d[3], times4(d[1])), c = sub(d[4], d[2]),
               half = sub(d[3], d[1]), e = add(half, half);
    t[0] = add(times4(sub(d[0], d[2])), c);
    t[1] = add(a, b);
    t[2] = sub(a, b);
    t[3] = add(c, e);
    t[4] = sub(c, e);
    t[5] = sub(sub(d[5], d[3]), add(e, e));
#endif
}

static INLINE void NAME(column_in)(const char *in, const ptrdiff_t row[SIZE], int valid, word t[SIZE]) {
    word d[SIZE];
    UNROLL
    for (int i = 0; i < SIZE; i++) d[i] = load_part((const IN *)(in + row[i]), valid);
    NAME(transform_in)(d, t);
}

/* One vector of channels, tile after tile: the last two columns of a tile are the first two of the next. */
static INLINE void NAME(tiles_in)(const espl__winograd *p, const char *in, char *v, int rows, int valid) {
    ptrdiff_t row[SIZE];
    word t[SIZE][SIZE]; /* [column][row] */
    for (int i = 0; i < SIZE; i++) row[i] = (i < rows + 1 ? i : rows + 1) * p->row;
    NAME(column_in)(in, row, valid, t[0]);
    NAME(column_in)(in + p->step, row, valid, t[1]);
    for (int left = p->width; left > 0; left -= SIDE, in += SIDE * p->step, v += p->tile) {
        const int last = (left < SIDE ? left : SIDE) + 1;
        char *to = v;
        UNROLL
        for (int j = 2; j < SIZE; j++)
            NAME(column_in)(in + (j < last ? j : last) * p->step, row, valid, t[j]);
        UNROLL
        for (int i = 0; i < SIZE; i++) {
            word d[SIZE], x[SIZE];
            UNROLL
            for (int j = 0; j < SIZE; j++) d[j] = t[j][i];
            NAME(transform_in)(d, x);
            UNROLL
            for (int j = 0; j < SIZE; j++, to += p->plane) store_part((OUT *)(void *)to, x[j], valid);
            t[0][i] = t[SIDE][i];
            t[1][i] = t[SIDE + 1][i];
        }
    }
}

static INLINE void NAME(row_in)(const espl__winograd *p, const IN *in, OUT *v, int rows) {
    assert(p->width > 0 && rows >= 1 && rows <= SIDE);
    int c = 0;
    for (; c + LANES <= p->channels; c += LANES)
        NAME(tiles_in)(p, (const char *)(in + c), (char *)(v + c), rows, LANES);
    if (c < p->channels) NAME(tiles_in)(p, (const char *)(in + c), (char *)(v + c), rows, p->channels - c);
}

#undef SIZE
#undef add
#undef sub
#undef times4
#undef IN
#undef OUT
#undef LANES
#undef load_part
#undef store_part
