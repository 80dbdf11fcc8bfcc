/* Reads how the constants of an .espl file are stored, and their elements. */
#include "runtime/container_reader.h"
#include "passes/passes.h"

enum { LARGE_FILE = 1 << 20 }; /* the constants of smaller ones are copied */

/* Bytes of the file that a constant takes at least: hostile sizes end here, before any memory is taken. */
static uint64_t least_bytes(const espl__value *v, bool table) {
    const espl_dtype type = v->constant->dtype;
    uint64_t count = (uint64_t)espl_shape_count(&v->constant->shape);
    if (type == ESPL_S64 || table) return count; /* one byte an element or more */
    if (count > UINT64_MAX / 32) return UINT64_MAX;
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

espl_status espl__container_storage(reader *r, espl__value *v, unsigned flags, espl_diag *diag) {
    const espl_tensor *t = v->constant;
    bool table = (flags & VALUE_TABLE) != 0, sparse = (flags & VALUE_SPARSE) != 0;
    espl_status status = ESPL_OK;
    if (table && (t->dtype != ESPL_F32 || espl__is_quantized(v) || sparse)) r->bad = true;
    if (sparse && r->version < 2) r->bad = true;
    if (r->bad) return ESPL_OK;
    r->tabled[v->id] = table;
    if (sparse) status = get_layout(r, v, diag);
    if (r->bad || status != ESPL_OK) return status;
    uint64_t bytes = sparse ? r->sparse[v->id]->bytes : least_bytes(v, table);
    if (bytes > (uint64_t)(r->end - r->start) - r->claimed)
        return espl__fail(diag, ESPL_FORMAT, "constant '%s' needs more bytes than the file has", v->name);
    r->claimed += bytes;
    return ESPL_OK;
}

/* At most 256 distinct elements, then a byte for each element that says which it is. */
static void get_table(reader *r, espl_tensor *t) {
    char table[4 * CONTAINER_MAX_TABLE];
    uint64_t distinct = get_uint(r), count = (uint64_t)espl_shape_count(&t->shape);
    if (distinct == 0 || distinct > CONTAINER_MAX_TABLE) r->bad = true;
    if (r->bad) return;
    get_bytes(r, table, 4 * distinct);
    if (count > left(r)) r->bad = true;
    for (uint64_t i = 0; i < count && !r->bad; i++) {
        unsigned at = get_byte(r);
        if (at >= distinct)
            r->bad = true;
        else
            memcpy((char *)t->data + 4 * i, table + 4 * at, 4);
    }
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

espl_status espl__container_elements(reader *r, espl__value *v, espl_diag *diag) {
    espl_tensor *t = v->constant;
    int64_t count = espl_shape_count(&t->shape);
    bool table = r->tabled[v->id], packed = espl__is_quantized(v) && espl__format_packs(v->quant.format);
    bool ints = t->dtype == ESPL_S64;
    if (r->sparse[v->id]) return get_sparse(r, v, r->sparse[v->id], diag);
    if (!table && !packed && !ints && leave_in_file(r, t)) return ESPL_OK;
    t->data = espl__arena_alloc(&r->g->arena, ESPL_MAX(espl__tensor_bytes(t), 1));
    if (!t->data) return espl__nomem(diag, espl__tensor_bytes(t));
    if (table) {
        get_table(r, t);
    } else if (packed) {
        uint64_t bytes = espl__codes_bytes(count, espl_format_bits(v->quant.format));
        if (bytes > left(r)) {
            r->bad = true;
            return ESPL_OK;
        }
        espl__format_unpack(v->quant.format, r->p, count, t->data);
        r->p += bytes;
    } else if (ints) {
        for (int64_t i = 0; i < count && !r->bad; i++) ((int64_t *)t->data)[i] = get_int(r);
    } else {
        get_bytes(r, t->data, espl__tensor_bytes(t));
    }
    return ESPL_OK;
}
