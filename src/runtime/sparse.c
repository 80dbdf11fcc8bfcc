#include "runtime/sparse.h"

#include <stdarg.h>
#include <stdio.h>

/* Shares of elements (f32, or groups of four codes) that are not 0 up to which compressed rows are looked at, and are the faster
 * way as a rule: a product of the f32 kernel costs about two of the dense one's, which take part in pairs; of codes 1.2, and
 * sums are turned on their way out. */
static const struct {
    double look, faster;
} CSR[2] = {{0.6, 0.3}, {0.75, 0.6}}; /* [codes] */
enum {
    LOOK_BLOCKS = 4, /* of 16 channels, that say whether to look at all of them */
    TILES_LOOK = 4,  /* slots of 16 inputs up to which vectors may keep up with tiles (AMX), which make eight
                        times the */
    TILES_FASTER =
        1, /* products of vectors; a vector of sparse weights stands for 16 / slots of dense ones */
    VECTORS_FASTER = 5 /* the same without tiles: twice the shuffles and products a weight */
};

/* --- looking ------------------------------------------------------------------------------------ */

static int64_t value_bytes(const weights *w) {
    return w->value->quant.format == ESPL_FORMAT_F16 || w->value->quant.format == ESPL_FORMAT_BF16 ? 2 : 4;
}

static int32_t value_type(const weights *w) {
    return w->value->quant.format == ESPL_FORMAT_F16    ? ESPL_F16
           : w->value->quant.format == ESPL_FORMAT_BF16 ? ESPL_BF16
                                                        : ESPL_F32;
}

static bool look_banks_s8(const weights *w, const espl__weight_order *o, bool rows, sparse_plan *plan) {
    bool tiles = !rows && espl__cpu_level() >= ESPL__CPU_AMX;
    int32_t slots = espl__bank_slots_s8(o, w->data, w->flip, tiles ? TILES_LOOK : ESPL__BANK_SLOTS_S8);
    if (slots == 0) return false;
    plan->bank = espl__bank_s8(o, slots);
    plan->faster = rows || slots <= (tiles ? TILES_FASTER : VECTORS_FASTER);
    return true;
}

/* The size of windows that takes fewer bytes. */
static bool look_banks(const weights *w, const espl__weight_order *o, sparse_plan *plan) {
    static const int32_t sizes[] = {ESPL__BANK, ESPL__BANK_WIDE};
    int64_t least =
        pad16(o->channels) / ESPL__NR * o->segments * o->taps * o->stored * ESPL__NR * value_bytes(w);
    for (size_t i = 0; i < ESPL_COUNT(sizes); i++) {
        int32_t slots = espl__bank_slots_f32(o, w->data, sizes[i], ESPL__BANK_SLOTS_F32);
        if (slots == 0) continue;
        espl__bank bank = espl__bank_f32(o, sizes[i], slots, value_type(w));
        int64_t bytes = pad16(o->channels) / ESPL__NR * bank.block;
        if (bytes >= least) continue;
        least = bytes;
        plan->bank = bank;
    }
    plan->faster = true;
    return plan->bank.slots > 0;
}

static espl__csr_source source_of(const weights *w, const espl__weight_order *o) {
    return (espl__csr_source){o, w->data, w->integer, w->flip};
}

static espl_status look_rows(espl_session *s, const weights *w, const espl__weight_order *o,
                             sparse_plan *plan, bool *found, espl_diag *diag) {
    static const espl__csr whole = {.piece = INT32_MAX, .pieces = 1};
    const espl__csr_source source = source_of(w, o);
    int32_t few[LOOK_BLOCKS * ESPL__NR + 1] = {0}, *start;
    int64_t blocks = pad16(o->channels) / ESPL__NR, first = ESPL_MIN(blocks, LOOK_BLOCKS);
    int64_t rows = ESPL_MIN(first * ESPL__NR, o->channels);
    double row = (double)(o->segments * o->taps * o->stored) / (w->integer ? 4 : 1), look = CSR[w->integer].look;
    if (!espl__csr_count(&source, &whole, 0, first, few) || few[rows] > look * row * (double)rows) return ESPL_OK;
    espl__csr m = espl__csr_of(&source);
    uint64_t numbers = (uint64_t)espl__csr_starts(&m, blocks);
    start = espl__arena_alloc(&s->arena, sizeof *start * numbers);
    if (!start) return espl__nomem(diag, sizeof *start * numbers);
    start[0] = 0;
    if (!espl__csr_count(&source, &m, 0, blocks, start)) return ESPL_OK;
    const double share = start[numbers - 1] / (row * (double)o->channels);
    if (share > look) return ESPL_OK;
    *plan = (sparse_plan){.rows = m, .share = share, .faster = share <= CSR[w->integer].faster};
    plan->rows.start = start;
    *found = true;
    return ESPL_OK;
}

/* Banks that are the faster way as a rule, or rows where the set has a kernel for them, or banks that may be faster. Tiles make
 * eight times the products of vectors, and never gain by rows. */
static espl_status look_codes(espl_session *s, const weights *w, const espl__weight_order *o, bool rows, sparse_plan *plan,
                              bool *found, espl_diag *diag) {
    *found = look_banks_s8(w, o, rows, plan);
    if ((*found && plan->faster) || rows || !s->kernels->csr_codes || espl__cpu_level() >= ESPL__CPU_AMX)
        return ESPL_OK;
    return look_rows(s, w, o, plan, found, diag);
}

espl_status espl__sparse_look(espl_session *s, const weights *w, const espl__weight_order *o, bool rows,
                              sparse_plan *plan, bool *found, espl_diag *diag) {
    *plan = (sparse_plan){0};
    *found = false;
    if (s->arithmetic.accumulator_bits && w->integer) return ESPL_OK;
    if (o->channels < ESPL__NR || o->stored * o->taps * o->segments > INT32_MAX / 8) return ESPL_OK;
    if (w->integer)
        return look_codes(s, w, o, rows, plan, found, diag);
    if (!rows) return look_rows(s, w, o, plan, found, diag);
    *found = look_banks(w, o, plan);
    return ESPL_OK;
}

/* --- packing ------------------------------------------------------------------------------------ */

static espl_status pack_banks(espl_session *s, const weights *w, const espl__weight_order *o,
                              const espl__bank *plan, espl__conv *p, uint64_t *bytes, espl_diag *diag) {
    int64_t blocks = pad16(o->channels) / ESPL__NR;
    espl__bank *bank = espl__arena_alloc(&s->arena, sizeof *bank);
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)plan->count);
    *bytes = (uint64_t)(blocks * plan->block);
    void *packed = espl__plan_packed(s, *bytes);
    if (!bank || !off || !packed) return espl__nomem(diag, *bytes);
    *bank = *plan;
    bank->off = off;
    espl__bank_offsets(o, bank, p->seg_off, off);
    if (w->integer)
        espl__pack_bank_s8(o, w->data, w->flip, bank, 0, blocks, packed);
    else
        espl__pack_bank_f32(o, w->data, bank, 0, blocks, packed);
    p->bank = bank;
    p->w = packed;
    return ESPL_OK;
}

static espl_status pack_rows(espl_session *s, const weights *w, const espl__weight_order *o,
                             const espl__csr *plan, espl__conv *p, uint64_t *bytes, espl_diag *diag) {
    int64_t blocks = pad16(o->channels) / ESPL__NR, numbers = espl__csr_starts(plan, blocks);
    uint64_t count = (uint64_t)plan->start[numbers - 1];
    espl__csr *csr = espl__arena_alloc(&s->arena, sizeof *csr);
    espl__csr_entry *entries = espl__plan_packed(s, sizeof *entries * count);
    *bytes = sizeof *entries * count + sizeof *plan->start * (uint64_t)numbers;
    if (!csr || !entries) return espl__nomem(diag, *bytes);
    const espl__csr_source source = source_of(w, o);
    espl__csr_fill(&source, plan, 0, blocks, entries);
    *csr = *plan;
    csr->entries = entries;
    p->csr = csr;
    p->w = NULL;
    return ESPL_OK;
}

espl_status espl__sparse_pack(espl_session *s, const weights *w, const espl__weight_order *o,
                              sparse_plan *plan, espl__conv *p, uint64_t *bytes, espl_diag *diag) {
    return plan->rows.start ? pack_rows(s, w, o, &plan->rows, p, bytes, diag)
                            : pack_banks(s, w, o, &plan->bank, p, bytes, diag);
}

/* --- choosing ----------------------------------------------------------------------------------- */

static espl_status pack_both(espl_session *s, step *st, size_t size, espl__pack_fn *pack, void *arg,
                             espl_diag *diag) {
    step *dense = espl__arena_alloc(&s->arena, size);
    if (!dense) return espl__nomem(diag, size);
    memcpy(dense, st, size);
    st->other = dense;
    s->hold = &dense->memory;
    espl_status status = pack(s, dense, false, arg, diag);
    s->hold = &st->memory;
    if (status == ESPL_OK) status = pack(s, st, true, arg, diag);
    s->hold = NULL;
    return status;
}

espl_status espl__sparse_lower(espl_session *s, step *st, size_t size, const char *key, bool faster,
                               const char *const kernels[2], espl__pack_fn *pack, void *arg,
                               espl_diag *diag) {
    if (!key) return espl__nomem(diag, ESPL__TUNE_KEY);
    double gain = espl__tune_find(s->ctx, key);
    st->choice = key;
    if (gain == 0 && espl__tune_allowed()) return pack_both(s, st, size, pack, arg, diag);
    bool sparse = gain > 0 ? gain >= 1 : faster;
    st->gain = sparse || gain == 0 ? gain : 1 / gain;
    st->kernel = kernels[sparse];
    st->slower = kernels[!sparse];
    return pack(s, st, sparse, arg, diag);
}

const char *espl__sparse_key(espl_session *s, const char *fmt, ...) {
    char text[ESPL__TUNE_KEY];
    int used = snprintf(text, sizeof text, "%s %d ", espl__cpu_level_name(espl__cpu_level()), s->threads);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + used, sizeof text - (size_t)used, fmt, args);
    va_end(args);
    return espl__arena_strdup(&s->arena, text);
}

const char *espl__sparse_text(const sparse_plan *plan, char *buf, size_t size) {
    if (plan->rows.start)
        snprintf(buf, size, "csr");
    else
        snprintf(buf, size, "bank %d:%d x%d/%d", (int)plan->bank.slots, (int)plan->bank.size,
                 (int)plan->bank.count, (int)plan->bank.values);
    return buf;
}
