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
static espl__csr packed(const espl__csr_source *w) {
    const int64_t blocks = espl__weight_all(w->order).block1, cut = between(0, (int)blocks);
    espl__csr m = espl__csr_of(w);
    const size_t numbers = (size_t)espl__csr_starts(&m, blocks);
    int32_t *start = take(SLOT_SUMS, numbers * sizeof *start);
    start[0] = 0;
    expect(espl__csr_count(w, &m, 0, cut, start) && espl__csr_count(w, &m, cut, blocks, start),
           "csr_count", 0, "too many");
    espl__csr_entry *entries = take(SLOT_W, (size_t)start[numbers - 1] * sizeof *entries);
    m.start = start;
    espl__csr_fill(w, &m, 0, cut, entries);
    espl__csr_fill(w, &m, cut, blocks, entries);
    m.entries = entries;
    return m;
}

/* The same for codes: groups of four of which some are left as they were. */
static void thin_out_codes(uint8_t *w, int64_t rows, int64_t row, uint8_t zero) {
    static const int kept[] = {100, 50, 20, 10, 5, 1};
    const int percent = kept[between(0, (int)ESPL_COUNT(kept) - 1)];
    for (int64_t r = 0; r < rows; r++) {
        const bool none = one_in(10);
        for (int64_t i = 0; i < row; i++)
            if (none || between(1, 100) > percent) w[r * row + i] = zero;
    }
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

/* Where the tensor has input k of a window (a tap of a segment), -1: nowhere. */
static int64_t stands_at(const espl__weight_order *o, int64_t c, int64_t window, int64_t k) {
    const int64_t s = window / o->taps, t = window % o->taps;
    return c < o->channels && k < o->real
               ? c * o->by_channel + s * o->by_segment + t * o->by_tap + k * o->by_input
               : -1;
}

/* Every group of every row in turn: the entry that is next in its piece, or four zeros. */
static bool holds_codes(const espl__csr *m, const espl__csr_source *source) {
    const espl__weight_order *o = source->order;
    const int64_t padded = espl__weight_all(o).block1 * ESPL__NR, groups = (o->stored + 3) / 4;
    for (int64_t c = 0; c < padded; c++) {
        int32_t i = 0, q = -1;
        for (int64_t e = 0; e < o->segments * o->taps * groups; e++) {
            const int32_t *start = m->start + (c / ESPL__NR * m->pieces + e / m->piece) * ESPL__NR + c % ESPL__NR;
            int8_t codes[4] = {0};
            if (e / m->piece != q) {
                if (q >= 0 && i != start[1 - ESPL__NR]) return false;
                q = (int32_t)(e / m->piece), i = start[0];
            }
            for (int64_t k = 0; k < 4; k++) {
                const int64_t at = stands_at(o, c, e / groups, e % groups * 4 + k);
                if (at >= 0) codes[k] = (int8_t)(((const uint8_t *)source->w)[at] ^ source->flip);
            }
            if (!codes[0] && !codes[1] && !codes[2] && !codes[3]) continue;
            if (i == start[1] || m->entries[i].element != e % m->piece) return false;
            if (memcmp(m->entries[i++].codes, codes, 4) != 0) return false;
        }
    }
    return true;
}

static void check_code_packing(void) {
    for (int i = 0; i < cases(500); i++) {
        const espl__weight_order o = random_order(4);
        const int64_t row = o.segments * o.taps * o.real;
        const espl__csr_source source = {&o, take(SLOT_IN, (size_t)(o.channels * row)), true, one_in(2) ? 0x80 : 0};
        thin_out_codes((uint8_t *)source.w, o.channels, row, source.flip);
        const espl__csr m = packed(&source);
        expect(holds_codes(&m, &source), "csr_fill", 0, "codes, %d channels, %d x %d x %d of %d, by %d", (int)o.channels,
               (int)o.segments, (int)o.taps, (int)o.real, (int)o.stored, (int)o.by_channel);
    }
}

void check_csr_packing(void) {
    check_code_packing();
    for (int i = 0; i < cases(500); i++) {
        const espl__weight_order o = random_order(1);
        const int64_t row = o.segments * o.taps * o.real;
        float *w = take(SLOT_IN, (size_t)(o.channels * row) * sizeof *w);
        fill_f32(w, o.channels * row, 1.0f, true);
        thin_out(w, o.channels, row);
        const espl__csr_source source = {&o, w, false, 0};
        const espl__csr m = packed(&source);
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
        const espl__csr_source source = {&o, w, false, 0};
        const espl__csr m = packed(&source);
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

/* Weights of codes, and what they are made of. */
static espl__csr random_rows_u8(conv_case *c, const int8_t **w) {
    *c = (conv_case){.most = one_in(3) ? 300 : 0};
    random_shape(c, 1, one_in(50), false);
    random_weights_u8(c); /* the bias, and inputs that go with extreme weights */
    const espl__weight_order o = espl__weight_rows(c->p.channels, c->p.segments, 4 * (int64_t)c->p.seg_k);
    const size_t count = (size_t)(o.channels * o.segments * o.real);
    int8_t *codes = take(SLOT_B, count);
    if (one_in(8)) memset(codes, one_in(2) ? 127 : -128, count);
    thin_out_codes((uint8_t *)codes, o.channels, o.segments * o.real, 0);
    *w = codes;
    c->p.w = NULL;
    const espl__csr_source source = {&o, codes, true, 0};
    return packed(&source);
}

/* What conv_u8 or conv_u8_f32 makes of the same weights in dense form. */
static bool same_as_dense_codes(const conv_case *c, const int8_t *w, bool f32) {
    const espl__kernels *ref = espl__kernels_own(ESPL__CPU_REF);
    espl__conv p = c->p;
    int8_t *dense = malloc(espl__pack_s8_bytes(p.channels, p.segments, 4 * (int64_t)p.seg_k));
    if (!dense) exit(2);
    espl__pack_s8(w, p.channels, p.segments, 4 * (int64_t)p.seg_k, dense);
    p.w = dense;
    void *got = take_again(&c->out);
    if (f32)
        ref->conv_u8_f32(&p, c->in, got, c->pixels, c->block0, c->block1);
    else
        ref->conv_u8(&p, c->in, got, c->res, c->pixels, c->block0, c->block1);
    free(dense);
    return same_bytes(&c->out, got);
}

void check_csr_conv_u8(void) {
    for (int i = 0; i < cases(1500); i++) {
        conv_case c;
        const int8_t *w;
        const espl__csr m = random_rows_u8(&c, &w);
        c.p.csr = &m;
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        random_outputs(&c, 1, one_in(2));
        c.p.scratch = take(SLOT_FBIAS, espl__csr_scratch_bytes(&c.p));
        espl__kernels_own(ESPL__CPU_REF)->csr_conv_u8(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        expect(wrote_its_own(&c, 1), "csr_conv_u8", 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        expect(same_as_dense_codes(&c, w, false), "csr_conv_u8", 0, CASE_FORMAT ": not as dense", CASE_ARGS(c));
        FOR_LEVELS(level, csr_conv_u8) {
            void *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)->csr_conv_u8(&c.p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_bytes(&c.out, got), "csr_conv_u8", level, CASE_FORMAT, CASE_ARGS(c));
        }
    }
}

void check_csr_conv_u8_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        conv_case c;
        const int8_t *w;
        const espl__csr m = random_rows_u8(&c, &w);
        c.p.csr = &m;
        c.p.q.mult = random_mults(c.p.channels, c.hostile);
        random_clamp(&c.p.flo, &c.p.fhi);
        if (one_in(2)) {
            float *fbias = take(SLOT_BANK, (size_t)round16(c.p.channels) * sizeof *fbias);
            fill_f32(fbias, round16(c.p.channels), 10.0f, c.hostile);
            c.p.fbias = fbias;
        }
        random_outputs(&c, 4, false);
        c.p.scratch = take(SLOT_FBIAS, espl__csr_scratch_bytes(&c.p));
        espl__kernels_own(ESPL__CPU_REF)->csr_conv_u8_f32(&c.p, c.in, c.out.want, c.pixels, c.block0, c.block1);
        expect(wrote_its_own(&c, 4), "csr_conv_u8_f32", 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        if (!c.hostile)
            expect(same_as_dense_codes(&c, w, true), "csr_conv_u8_f32", 0, CASE_FORMAT ": not as dense", CASE_ARGS(c));
        FOR_LEVELS(level, csr_conv_u8_f32) {
            void *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)->csr_conv_u8_f32(&c.p, c.in, got, c.pixels, c.block0, c.block1);
            expect(same_floats(&c.out, got), "csr_conv_u8_f32", level, CASE_FORMAT, CASE_ARGS(c));
        }
    }
}
