/* Reads how the constants of an .espl file are stored, and their elements. */
#include "runtime/container_reader.h"
#include "passes/passes.h"

enum { LARGE_FILE = 1 << 20 }; /* the constants of smaller ones are copied */

/* Bytes of the file that a constant takes at least: hostile sizes end here, before any memory is taken. */
static uint64_t least_bytes(const reader *r, const espl__value *v, unsigned form) {
    const espl_dtype type = v->constant->dtype;
    uint64_t count = (uint64_t)espl_shape_count(&v->constant->shape);
    if (count > UINT64_MAX / 32) return UINT64_MAX;
    if (form == VALUE_TABLE) return r->version < 3 ? count : (count + 7) / 8;
    if (form == VALUE_SHORT) return type == ESPL_F32 ? 2 * count : (count + 7) / 8;
    if (type == ESPL_S64 || type == ESPL_STRING) return count; /* one byte an element or more */
    return espl__is_quantized(v) ? espl__codes_bytes((int64_t)count, espl_format_bits(v->quant.format))
                                 : count * espl_dtype_bytes(type);
}

/* The sparsity pattern of a constant and the numbers that its layout needs. */
static void get_pattern(reader *r, espl__sparse *l) {
    espl_sparsity *p = &l->zeros.pattern;
    p->pattern = (espl_pattern)get_byte(r);
    l->zeros.row_axis = (int)get_byte(r);
    l->zeros.inner_axis = (int)get_byte(r);
    bool banks = p->pattern == ESPL_PATTERN_NM || p->pattern == ESPL_PATTERN_BANK;
    bool pair = banks || p->pattern == ESPL_PATTERN_BLOCK;
    uint64_t first = pair ? get_uint(r) : 0, second = pair ? get_uint(r) : 0;
    if (first > ESPL_BANK_MAX || second > ESPL_BANK_MAX) r->bad = true;
    if (r->bad) return;
    *(banks ? &p->n : &p->rows) = (int32_t)first;
    *(banks ? &p->m : &p->columns) = (int32_t)second;
    if (banks) return;
    get_bytes(r, &p->share, sizeof p->share);
    l->values = (int64_t)get_uint(r);
    l->gap_bits = p->pattern == ESPL_PATTERN_UNSTRUCTURED ? (int)get_byte(r) : 0;
}

static espl_status get_layout(reader *r, espl__value *v, espl_diag *diag) {
    const espl_tensor *t = v->constant;
    espl__sparse *l = espl__arena_alloc(&r->g->arena, sizeof *l);
    if (!l) return espl__nomem(diag, sizeof *l);
    *l = (espl__sparse){.type = t->dtype, .value_bits = espl__constant_sparse_bits(v)};
    get_pattern(r, l);
    if (!r->bad && (!espl__constant_zero_is_zero(v) || !espl__sparse_complete(l, &t->shape)))
        return espl__fail(diag, ESPL_FORMAT, "constant '%s' has a sparse layout whose numbers do not fit it",
                          v->name);
    r->sparse[v->id] = l;
    return ESPL_OK;
}

static bool form_fits(const reader *r, const espl__value *v, unsigned form) {
    const espl_dtype type = v->constant->dtype;
    const bool numbers = type == ESPL_F32 && !espl__is_quantized(v);
    if (type == ESPL_STRING) return form == 0;
    if (form == VALUE_TABLE) return numbers;
    if (form == VALUE_SPARSE) return r->version >= 2;
    return form == 0 || (r->version >= 3 && (numbers || type == ESPL_S32));
}

espl_status espl__container_storage(reader *r, espl__value *v, unsigned flags, espl_diag *diag) {
    const unsigned form = flags & VALUE_SHORT;
    espl_status status = ESPL_OK;
    if (!form_fits(r, v, form)) r->bad = true;
    if (r->bad) return ESPL_OK;
    r->form[v->id] = (uint8_t)form;
    if (form == VALUE_SPARSE) status = get_layout(r, v, diag);
    if (r->bad || status != ESPL_OK) return status;
    uint64_t bytes = form == VALUE_SPARSE ? r->sparse[v->id]->bytes : least_bytes(r, v, form);
    if (bytes > (uint64_t)(r->end - r->start) - r->claimed)
        return espl__fail(diag, ESPL_FORMAT, "constant '%s' needs more bytes than the file has", v->name);
    r->claimed += bytes;
    return ESPL_OK;
}

/* The next elements, of so many bits each; NULL: the file ends before. What least_bytes let pass has at most
 * eight elements for a byte of the file, so the product is exact. */
static const uint8_t *get_packed(reader *r, uint64_t count, int bits) {
    const uint8_t *at = r->p;
    const uint64_t bytes = espl__codes_bytes((int64_t)count, bits);
    if (r->bad || bytes > left(r)) {
        r->bad = true;
        return NULL;
    }
    r->p += bytes;
    return at;
}

/* At most 256 distinct elements, then for each element which of them it is. */
static void get_table(reader *r, espl_tensor *t) {
    char table[4 * CONTAINER_MAX_TABLE];
    uint64_t distinct = get_uint(r), count = (uint64_t)espl_shape_count(&t->shape);
    if (distinct == 0 || distinct > CONTAINER_MAX_TABLE) r->bad = true;
    if (r->bad) return;
    get_bytes(r, table, 4 * distinct);
    const int bits = espl__container_index_bits(r->version, (int64_t)distinct);
    const uint8_t *indices = get_packed(r, count, bits);
    for (uint64_t i = 0; i < count && !r->bad; i++) {
        const uint32_t at = espl__bits_get(indices, i * (unsigned)bits, bits);
        if (at >= distinct)
            r->bad = true;
        else
            memcpy((char *)t->data + 4 * i, table + 4 * at, 4);
    }
}

/* f32 as f16; s32 in two's complement of as many bits as a byte says. */
static void get_short(reader *r, espl_tensor *t) {
    const uint64_t count = (uint64_t)espl_shape_count(&t->shape);
    const int bits = t->dtype == ESPL_F32 ? 16 : (int)get_byte(r);
    if (bits < 1 || bits > 31) r->bad = true;
    const uint8_t *from = get_packed(r, count, bits);
    for (uint64_t i = 0; i < count && !r->bad; i++)
        if (t->dtype == ESPL_F32)
            ((float *)t->data)[i] = espl__half_to_float((uint16_t)espl__bits_get(from, 16 * i, 16));
        else
            ((int32_t *)t->data)[i] = espl__bits_get_signed(from, i * (unsigned)bits, bits);
}

/* Elements that stand in a large file as they do in memory stay there, unless they are few or lie askew. */
static bool leave_in_file(reader *r, espl_tensor *t) {
    uint64_t bytes = espl__tensor_bytes(t);
    if ((uint64_t)(r->end - r->start) < LARGE_FILE || bytes < CONTAINER_LARGE || bytes > left(r) ||
        (uintptr_t)r->p % espl_dtype_bytes(t->dtype) != 0)
        return false;
    t->data = (void *)r->p;
    r->p += bytes;
    r->left_in_file = true;
    return true;
}

static espl_status get_sparse(reader *r, espl__value *v, const espl__sparse *l, espl_diag *diag) {
    espl_tensor *t = v->constant;
    if (l->bytes > left(r))
        return espl__fail(diag, ESPL_FORMAT, "constant '%s' needs more bytes than the file has", v->name);
    t->data = espl__arena_raw(&r->g->arena, espl__tensor_bytes(t));
    if (!t->data) return espl__nomem(diag, espl__tensor_bytes(t));
    espl_status status = espl__sparse_decode(l, r->p, t, diag);
    if (status != ESPL_OK) espl__diag_prefix(diag, "constant '%s'", v->name);
    r->p += l->bytes;
    v->zeros = l->zeros;
    return status;
}

espl_status espl__container_texts(reader *r, int64_t count, espl_text **out, espl_diag *diag) {
    *out = NULL;
    if (count < 0 || (uint64_t)count > left(r)) r->bad = true;
    if (r->bad) return ESPL_OK;
    *out = espl__calloc(r->g->arena.ctx, (uint64_t)count + 1, sizeof **out);
    if (!*out) return espl__nomem(diag, (uint64_t)count * sizeof **out);
    for (int64_t i = 0; i < count && !r->bad; i++) {
        const uint64_t length = get_uint(r);
        if (length > left(r)) r->bad = true;
        if (r->bad) break;
        (*out)[i] = (espl_text){(const char *)r->p, length};
        r->p += length;
    }
    return ESPL_OK;
}

static espl_status get_texts(reader *r, espl_tensor *t, espl_diag *diag) {
    espl_text *texts;
    espl_status status = espl__container_texts(r, espl_shape_count(&t->shape), &texts, diag);
    if (status != ESPL_OK || r->bad) {
        espl__free(r->g->arena.ctx, texts);
        return status;
    }
    espl_tensor *copy = espl__graph_tensor(r->g, t->dtype, &t->shape, texts);
    espl__free(r->g->arena.ctx, texts);
    if (!copy) return espl__nomem(diag, 0);
    *t = *copy;
    return ESPL_OK;
}

espl_status espl__container_elements(reader *r, espl__value *v, espl_diag *diag) {
    espl_tensor *t = v->constant;
    int64_t count = espl_shape_count(&t->shape);
    const unsigned form = r->form[v->id];
    const bool packed = espl__is_quantized(v) && espl__format_packs(v->quant.format),
               ints = t->dtype == ESPL_S64;
    if (form == VALUE_SPARSE) return get_sparse(r, v, r->sparse[v->id], diag);
    if (t->dtype == ESPL_STRING) return get_texts(r, t, diag);
    if (form == 0 && !packed && !ints && leave_in_file(r, t)) return ESPL_OK;
    t->data = espl__arena_alloc(&r->g->arena, ESPL_MAX(espl__tensor_bytes(t), 1));
    if (!t->data) return espl__nomem(diag, espl__tensor_bytes(t));
    if (form == VALUE_TABLE) {
        get_table(r, t);
    } else if (form == VALUE_SHORT) {
        get_short(r, t);
    } else if (packed) {
        const uint8_t *from = get_packed(r, (uint64_t)count, espl_format_bits(v->quant.format));
        if (from) espl__format_unpack(v->quant.format, from, count, t->data);
    } else if (ints) {
        for (int64_t i = 0; i < count && !r->bad; i++) ((int64_t *)t->data)[i] = get_int(r);
    } else {
        get_bytes(r, t->data, espl__tensor_bytes(t));
    }
    return ESPL_OK;
}
