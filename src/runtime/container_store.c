#include "runtime/container_store.h"
#include "passes/passes.h"

#include <stdlib.h>

/* f32 constants beyond that stay as they are, for readers that leave them in the file. */
enum { SHORT_MOST = 65536 };

/* --- tables of distinct elements ----------------------------------------------------------------------- */

static uint32_t bits_at(const espl_tensor *t, int64_t i) {
    uint32_t bits;
    memcpy(&bits, (const char *)t->data + 4 * i, 4);
    return bits;
}

static int index_of(const uint32_t *table, int distinct, uint32_t bits) {
    int at = 0;
    while (at < distinct && table[at] != bits) at++;
    return at;
}

/* The bits of the distinct elements in order of appearance; 0: there are too many. */
static int find_table(const espl_tensor *t, uint32_t *table) {
    int distinct = 0;
    for (int64_t i = 0, count = espl_shape_count(&t->shape); i < count; i++) {
        const uint32_t bits = bits_at(t, i);
        const int at = index_of(table, distinct, bits);
        if (at == CONTAINER_MAX_TABLE) return 0;
        if (at == distinct) table[distinct++] = bits;
    }
    return distinct;
}

/* Their number as a uint. */
static uint64_t table_head(int distinct) {
    return (distinct < 128 ? 1 : 2) + 4 * (uint64_t)distinct;
}

static void encode_table(const espl_tensor *t, int bits, uint8_t *out) {
    uint32_t table[CONTAINER_MAX_TABLE];
    const int distinct = find_table(t, table);
    uint8_t *indices = out + table_head(distinct);
    *out++ = (uint8_t)(distinct < 128 ? distinct : (distinct & 127) | 128);
    if (distinct >= 128) *out++ = (uint8_t)(distinct >> 7);
    memcpy(out, table, 4 * (size_t)distinct);
    for (int64_t i = 0, count = espl_shape_count(&t->shape); i < count; i++)
        espl__bits_put(indices, (uint64_t)i * (unsigned)bits,
                       (uint32_t)index_of(table, distinct, bits_at(t, i)));
}

/* --- fewer bits -------------------------------------------------------------------------------------- */

/* Of two's complement, 1 to 32. */
static int bits_of_integers(const espl_tensor *t) {
    uint32_t any = 0;
    for (int64_t i = 0, count = espl_shape_count(&t->shape); i < count; i++) {
        const uint32_t x = bits_at(t, i);
        any |= x >> 31 ? ~x : x;
    }
    return espl__bits_for(any) + 1;
}

static void encode_short(const espl_tensor *t, int bits, uint8_t *out) {
    const int64_t count = espl_shape_count(&t->shape);
    if (t->dtype == ESPL_S32) *out++ = (uint8_t)bits;
    for (int64_t i = 0; i < count; i++) {
        const uint16_t half = t->dtype == ESPL_F32 ? espl__half_from_float(((const float *)t->data)[i]) : 0;
        if (t->dtype == ESPL_F32)
            memcpy(out + 2 * i, &half, 2);
        else
            espl__bits_put(out, (uint64_t)i * (unsigned)bits, bits_at(t, i) & ((1u << bits) - 1));
    }
}

/* --- the choice -------------------------------------------------------------------------------------- */

static void take_if_fewer(espl__store *s, espl__store_form form, int bits, uint64_t bytes) {
    if (bytes >= s->bytes) return;
    s->form = form;
    s->bits = bits;
    s->bytes = bytes;
}

/* Of a constant that is not sparse yet. */
static void try_table(const espl_tensor *t, espl__store out[2]) {
    uint32_t table[CONTAINER_MAX_TABLE];
    const int distinct = find_table(t, table);
    for (int i = 0; distinct && i < 2; i++) {
        const int bits = espl__container_index_bits(i ? CONTAINER_VERSION : 1, distinct);
        take_if_fewer(&out[i], ESPL__STORE_TABLE, bits,
                      table_head(distinct) + espl__codes_bytes(espl_shape_count(&t->shape), bits));
    }
}

static void try_short(const espl_tensor *t, espl__store *out) {
    const int64_t count = espl_shape_count(&t->shape);
    if (t->dtype == ESPL_F32) {
        if (espl__tensor_bytes(t) <= SHORT_MOST && espl__are_halves(t->data, count))
            take_if_fewer(out, ESPL__STORE_SHORT, 0, 2 * (uint64_t)count);
    } else {
        const int bits = bits_of_integers(t);
        if (bits < 32) take_if_fewer(out, ESPL__STORE_SHORT, bits, 1 + espl__codes_bytes(count, bits));
    }
}

void espl__store_of(const espl__value *v, espl__store out[2]) {
    const espl_tensor *t = v->constant;
    out[0] = out[1] = (espl__store){.form = ESPL__STORE_PLAIN};
    if (!t || t->dtype == ESPL_S64) return;
    const bool numbers = t->dtype == ESPL_F32 && !espl__is_quantized(v);
    espl__store s = {.form = ESPL__STORE_PLAIN, .bytes = espl__tensor_bytes(t)};
    if (espl__is_quantized(v) && espl__format_packs(v->quant.format)) {
        s.form = ESPL__STORE_PACKED;
        s.bytes = espl__codes_bytes(espl_shape_count(&t->shape), espl_format_bits(v->quant.format));
    }
    if (espl__constant_sparse(v, &s.layout)) {
        s.form = ESPL__STORE_SPARSE;
        s.bytes = s.layout.bytes;
    }
    out[0] = out[1] = s;
    if (numbers) try_table(t, out);
    if (numbers || t->dtype == ESPL_S32) try_short(t, &out[1]);
}

unsigned espl__store_flags(const espl__store *s) {
    switch (s->form) {
        case ESPL__STORE_TABLE:
            return VALUE_TABLE;
        case ESPL__STORE_SPARSE:
            return VALUE_SPARSE;
        case ESPL__STORE_SHORT:
            return VALUE_SHORT;
        default:
            return 0;
    }
}

void espl__store_encode(const espl__store *s, const espl__value *v, uint8_t *out) {
    const espl_tensor *t = v->constant;
    memset(out, 0, (size_t)s->bytes);
    switch (s->form) {
        case ESPL__STORE_TABLE:
            encode_table(t, s->bits, out);
            break;
        case ESPL__STORE_SHORT:
            encode_short(t, s->bits, out);
            break;
        case ESPL__STORE_SPARSE:
            espl__sparse_encode(&s->layout, t, out);
            break;
        case ESPL__STORE_PACKED:
            espl__format_pack(v->quant.format, t->data, espl_shape_count(&t->shape), out);
            break;
        case ESPL__STORE_PLAIN:
            break;
    }
}

/* --- each constant once ------------------------------------------------------------------------------ */

static int difference(const espl__value *a, const espl__value *b) {
    const espl_shape *s = &a->constant->shape, *t = &b->constant->shape;
    const uint64_t bytes = espl__tensor_bytes(a->constant);
    if (a->constant->dtype != b->constant->dtype) return a->constant->dtype < b->constant->dtype ? -1 : 1;
    if (s->rank != t->rank) return s->rank - t->rank;
    for (int d = 0; d < s->rank; d++)
        if (s->dim[d] != t->dim[d]) return s->dim[d] < t->dim[d] ? -1 : 1;
    return bytes ? memcmp(a->constant->data, b->constant->data, (size_t)bytes) : 0;
}

static int by_contents(const void *a, const void *b) {
    const espl__value *x = *(espl__value *const *)a, *y = *(espl__value *const *)b;
    const int d = difference(x, y);
    return d ? d : x->id - y->id;
}

bool espl__store_once(espl_graph *g) {
    espl__value **list = espl__alloc(g->arena.ctx, sizeof *list * ((uint64_t)g->value_count + 1));
    espl__value **first = espl__calloc(g->arena.ctx, (uint64_t)g->value_count + 1, sizeof *first); /* by id */
    int count = 0;
    for (int i = 0; i < g->value_count; i++) g->values[i]->mark = 0;
    for (int i = 0; i < g->output_count; i++) g->outputs[i]->mark = 1; /* keep their names */
    for (int i = 0; list && first && i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (v->constant && !espl__is_quantized(v) && !v->mark && v->dtype != ESPL_STRING) list[count++] = v;
    }
    if (count) qsort(list, (size_t)count, sizeof *list, by_contents);
    for (int i = 1; i < count; i++)
        if (difference(list[i - 1], list[i]) == 0)
            first[list[i]->id] = first[list[i - 1]->id] ? first[list[i - 1]->id] : list[i - 1];
    for (int i = 0; count && i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i]->input_count; k++) {
            espl__value **v = &g->nodes[i]->inputs[k];
            if (*v && first[(*v)->id]) *v = first[(*v)->id];
        }
    const bool good = list && first;
    espl__free(g->arena.ctx, list);
    espl__free(g->arena.ctx, first);
    if (good) espl__graph_sweep(g);
    return good;
}
