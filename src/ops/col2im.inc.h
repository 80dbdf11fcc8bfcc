/* One tap of the blocks of a plane: block i of `row` belongs to the element of `image` where the tap lies
 * when its block does. Included once for each kind of reals (REAL, FN): by the operator, and by its gradient,
 * which goes the other way. */

static void FN(col2im_tap)(const espl__window *w, const int64_t *tap, REAL *row, REAL *image, bool back) {
    int64_t lo[3], hi[3], offset[3];
    for (int i = 0; i < 3; i++) {
        offset[i] = tap[i] * w->dilation[i] - w->begin[i];
        espl__window_valid(offset[i], w->stride[i], w->in[i], w->out[i], &lo[i], &hi[i]);
    }
    for (int64_t d = lo[0]; d < hi[0]; d++)
        for (int64_t h = lo[1]; h < hi[1]; h++) {
            REAL *blocks = row + (d * w->out[1] + h) * w->out[2];
            int64_t at = (d * w->stride[0] + offset[0]) * w->in[1] + h * w->stride[1] + offset[1];
            REAL *pixels = image + at * w->in[2] + offset[2];
            for (int64_t i = lo[2]; i < hi[2] && !back; i++) pixels[i * w->stride[2]] += blocks[i];
            for (int64_t i = lo[2]; i < hi[2] && back; i++) blocks[i] += pixels[i * w->stride[2]];
        }
}

/* Planes [begin, end) of the image: all taps, of which each has a row of blocks. */
static void FN(col2im_planes)(const espl__window *w, REAL *rows, REAL *image, int64_t begin, int64_t end,
                              bool back) {
    const int64_t pixels = w->in[0] * w->in[1] * w->in[2];
    const int64_t blocks = w->out[0] * w->out[1] * w->out[2];
    int64_t t[3];
    rows += begin * blocks * w->kernel[0] * w->kernel[1] * w->kernel[2];
    for (int64_t p = begin; p < end; p++)
        for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
            for (t[1] = 0; t[1] < w->kernel[1]; t[1]++)
                for (t[2] = 0; t[2] < w->kernel[2]; t[2]++, rows += blocks)
                    FN(col2im_tap)(w, t, rows, image + p * pixels, back);
}
