/* The transform of the input for one type of numbers, once for each. The including file says
 *
 *   NAME(x)                 what x is called for this type
 *   word, add, sub          a vector, and what is done to it
 *   IN, OUT, LANES          an element of the image and of the planes; elements of a vector
 *   load_part, store_part   of which only the first `valid` may be there
 *
 * and gets all but NAME and word back undefined. */

/* B' times a vector of four. */
static INLINE void NAME(transform_in)(const word d[4], word t[4]) {
    t[0] = sub(d[0], d[2]);
    t[1] = add(d[1], d[2]);
    t[2] = sub(d[2], d[1]);
    t[3] = sub(d[1], d[3]);
}

static INLINE void NAME(column_in)(const char *in, ptrdiff_t row, ptrdiff_t last_row, int valid, word t[4]) {
    const word d[4] = {load_part((const IN *)in, valid), load_part((const IN *)(in + row), valid),
                       load_part((const IN *)(in + 2 * row), valid),
                       load_part((const IN *)(in + last_row), valid)};
    NAME(transform_in)(d, t);
}

/* One vector of channels, tile after tile: the last two columns of a tile are the first two of the next. */
static INLINE void NAME(tiles_in)(const espl__winograd *p, const char *in, char *v, int rows, int valid) {
    const ptrdiff_t row = p->row, last_row = (rows + 1) * row, plane = p->plane;
    word t[4][4]; /* [column][row] */
    NAME(column_in)(in, row, last_row, valid, t[0]);
    NAME(column_in)(in + p->step, row, last_row, valid, t[1]);
    for (int left = p->width; left > 0; left -= 2, v += p->tile) {
        in += 2 * p->step;
        NAME(column_in)(in, row, last_row, valid, t[2]);
        NAME(column_in)(left > 1 ? in + p->step : in, row, last_row, valid, t[3]);
        UNROLL
        for (int i = 0; i < 4; i++) {
            const word d[4] = {t[0][i], t[1][i], t[2][i], t[3][i]};
            word x[4];
            NAME(transform_in)(d, x);
            UNROLL
            for (int j = 0; j < 4; j++) store_part((OUT *)(void *)(v + (4 * i + j) * plane), x[j], valid);
            t[0][i] = t[2][i];
            t[1][i] = t[3][i];
        }
    }
}

static INLINE void NAME(row_in)(const espl__winograd *p, const IN *in, OUT *v, int rows) {
    assert(p->width > 0 && (rows == 1 || rows == 2));
    int c = 0;
    for (; c + LANES <= p->channels; c += LANES)
        NAME(tiles_in)(p, (const char *)(in + c), (char *)(v + c), rows, LANES);
    if (c < p->channels) NAME(tiles_in)(p, (const char *)(in + c), (char *)(v + c), rows, p->channels - c);
}

#undef add
#undef sub
#undef IN
#undef OUT
#undef LANES
#undef load_part
#undef store_part
