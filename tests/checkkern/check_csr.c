/* Compressed sparse rows: how they are packed, and convolution with them. */
#include "conv_case.h"

/* Weights of which a share is 0, some rows all of them. */
static void thin_out(float *w, int64_t rows, int64_t row) {
    static const int kept[] = {100, 50, 20, 10, 5, 1};
    const int percent = kept[between(0, (int)ESPL_COUNT(kept) - 1)];
    for (int64_t r = 0; r < rows; r++) {
        const bool none = one_in(10);
        for (int64_t i = 0; i < row; i++)
            if (none || between(1, 100) > percent) w[r * row + i] = one_in(8) ? -0.0f : 0.0f;
    }
}

/* The blocks in two calls, as a caller with little memory does; what is written ends at forbidden pages. */
static espl__csr packed(const espl__weight_order *o, const float *w) {
    const int64_t blocks = espl__weight_all(o).block1, cut = between(0, (int)blocks);
    espl__csr m = espl__csr_of(o);
    const size_t numbers = (size_t)espl__csr_starts(&m, blocks);
    int32_t *start = take(SLOT_MULT, numbers * sizeof *start);
    start[0] = 0;
    expect(espl__csr_count(o, w, &m, 0, cut, start) && espl__csr_count(o, w, &m, cut, blocks, start),
           "csr_count", 0, "too many");
    espl__csr_entry *entries = take(SLOT_W, (size_t)start[numbers - 1] * sizeof *entries);
    m.start = start;
    espl__csr_fill(o, w, &m, 0, cut, entries);
    espl__csr_fill(o, w, &m, cut, blocks, entries);
    m.entries = entries;
    return m;
}

/* A channel's row of a piece, element by element: the weight that is next in it, or 0. */
static bool holds_row(const espl__csr *m, const espl__weight_order *o, const float *w, int64_t c, int32_t q) {
    const int32_t *start = m->start + (c / ESPL__NR * m->pieces + q) * ESPL__NR + c % ESPL__NR;
    int32_t i = start[0];
    for (int64_t n = 0; c < o->channels && n < o->segments * o->taps * o->real; n++) {
        const int64_t k = n % o->real, t = n / o->real % o->taps, s = n / o->real / o->taps;
        const int64_t element = (s * o->taps + t) * o->stored + k;
        const float x = w[c * o->by_channel + s * o->by_segment + t * o->by_tap + k * o->by_input];
        if (x == 0.0f || element / m->piece != q) continue;
        if (i == start[1] || m->entries[i].element != element % m->piece) return false;
        if (memcmp(&m->entries[i++].weight, &x, sizeof x) != 0) return false;
    }
    return i == start[1];
}

static bool holds(const espl__csr *m, const espl__weight_order *o, const float *w) {
    const int64_t padded = espl__weight_all(o).block1 * ESPL__NR;
    for (int64_t c = 0; c < padded; c++)
        for (int32_t q = 0; q < m->pieces; q++)
            if (!holds_row(m, o, w, c, q)) return false;
    return m->start[0] == 0;
}

void check_csr_packing(void) {
    for (int i = 0; i < cases(500); i++) {
        const espl__weight_order o = random_order(1);
        const int64_t row = o.segments * o.taps * o.real;
        float *w = take(SLOT_IN, (size_t)(o.channels * row) * sizeof *w);
        fill_f32(w, o.channels * row, 1.0f, true);
        thin_out(w, o.channels, row);
        const espl__csr m = packed(&o, w);
        expect(holds(&m, &o, w), "csr_fill", 0, "%d channels, %d x %d x %d of %d, by %d", (int)o.channels,
               (int)o.segments, (int)o.taps, (int)o.real, (int)o.stored, (int)o.by_channel);
    }
}

/* What conv_f32 makes of the same weights in dense form: not only nearly the same. */
static bool same_as_dense(const conv_case *c, const float *w) {
    espl__conv p = c->p;
    const size_t bytes = espl__pack_f32_bytes(p.channels, p.segments, p.seg_k);
    float *dense = malloc(bytes);
    if (!dense) exit(2);
    espl__pack_f32(w, p.channels, p.segments, p.seg_k, dense);
    p.w = dense;
    void *got = take_again(&c->out);
    espl__kernels_own(ESPL__CPU_REF)->conv_f32(&p, c->in, got, c->res, c->pixels, c->block0, c->block1);
    free(dense);
    return same_bytes(&c->out, got);
}

void check_csr_conv_f32(void) {
    for (int i = 0; i < cases(1500); i++) {
        conv_case c = {.most = one_in(3) ? 300 : 0};
        random_shape(&c, 4, i % 50 == 0, false);
        const espl__weight_order o = espl__weight_rows(c.p.channels, c.p.segments, c.p.seg_k);
        const int64_t row = o.segments * o.real;
        float *w = take(SLOT_B, (size_t)(o.channels * row) * sizeof *w),
              *bias = take(SLOT_BIAS, (size_t)round16(c.p.channels) * sizeof *bias);
        fill_f32(w, o.channels * row, 1.0f, c.hostile);
        thin_out(w, o.channels, row);
        fill_f32(bias, round16(c.p.channels), 1.0f, c.hostile);
        const espl__csr m = packed(&o, w);
        c.p.csr = &m;
        c.p.bias = bias;
        random_clamp(&c.p.flo, &c.p.fhi);
        random_outputs(&c, 4, one_in(2));
        c.p.scratch = take(SLOT_FBIAS, espl__csr_scratch_bytes(&c.p));
        espl__kernels_own(ESPL__CPU_REF)
            ->csr_conv_f32(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        expect(wrote_its_own(&c, 4), "csr_conv_f32", 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        if (!c.hostile)
            expect(same_as_dense(&c, w), "csr_conv_f32", 0, CASE_FORMAT ": not as dense", CASE_ARGS(c));
        FOR_LEVELS(level, csr_conv_f32) {
            void *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)
                ->csr_conv_f32(&c.p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_floats(&c.out, got), "csr_conv_f32", level, CASE_FORMAT, CASE_ARGS(c));
        }
    }
}
