/* Reads the graph; container_data.c its constants' elements. */
#include "runtime/container_reader.h"
#include "base/output.h"
#include "passes/passes.h"

#include <inttypes.h>
#include <stdio.h>

/* A count of things that take at least `each` bytes of the file. */
static uint64_t get_count(reader *r, uint64_t each) {
    uint64_t n = get_uint(r);
    if (n > left(r) / ESPL_MAX(each, 1) || n > INT32_MAX / 2) r->bad = true;
    return r->bad ? 0 : n;
}

/* In r->string until the next one. */
static const char *get_string(reader *r) {
    uint64_t shared = get_uint(r), rest = get_uint(r);
    if (shared > strlen(r->string) || rest > CONTAINER_MAX_STRING - shared || rest > left(r)) r->bad = true;
    if (r->bad) return "";
    get_bytes(r, r->string + shared, rest);
    r->string[shared + rest] = 0;
    if (strlen(r->string) != shared + rest) r->bad = true;
    return r->string;
}

static void get_shape(reader *r, espl_shape *s, bool unknown_allowed) {
    *s = (espl_shape){.rank = (int)get_byte(r)};
    if (s->rank > ESPL_MAX_RANK) {
        r->bad = true;
        s->rank = 0;
    }
    for (int i = 0; i < s->rank; i++) {
        uint64_t d = get_uint(r);
        if (d > INT64_MAX || (d == 0 && !unknown_allowed)) r->bad = true;
        s->dim[i] = r->bad ? 0 : (int64_t)d - 1;
    }
    espl_shape known = *s; /* a size that nothing could hold is no size */
    for (int i = 0; i < known.rank && unknown_allowed; i++)
        if (known.dim[i] == ESPL_DIM_UNKNOWN) known.dim[i] = 1;
    if (espl_shape_count(&known) < 0) r->bad = true;
}

static espl_dtype get_dtype(reader *r) {
    unsigned d = get_byte(r);
    if (d >= ESPL_DTYPE_COUNT || (d == ESPL_STRING && r->version < CONTAINER_TEXT)) r->bad = true;
    return r->bad ? ESPL_F32 : (espl_dtype)d;
}

static espl_status get_names(reader *r, espl_diag *diag) {
    r->op_count = get_count(r, 2);
    r->ops = espl__arena_alloc(&r->g->arena, (r->op_count + 1) * sizeof *r->ops);
    if (!r->ops) return espl__nomem(diag, r->op_count);
    for (uint64_t i = 0; i < r->op_count && !r->bad; i++) {
        const char *name = get_string(r);
        r->ops[i] = espl__op_find("", name);
        if (!r->bad && !r->ops[i])
            return espl__fail(diag, ESPL_UNSUPPORTED, "operator '%s' is not known to this version", name);
    }
    r->attr_count = get_count(r, 2);
    r->attrs = espl__arena_alloc(&r->g->arena, (r->attr_count + 1) * sizeof *r->attrs);
    if (!r->attrs) return espl__nomem(diag, r->attr_count);
    for (uint64_t i = 0; i < r->attr_count && !r->bad; i++)
        if (!(r->attrs[i] = espl__arena_strdup(&r->g->arena, get_string(r)))) return espl__nomem(diag, 1);
    return ESPL_OK;
}

/* Whether scales, element type and version go together. */
static bool quant_fits(const reader *r, const espl__value *v, unsigned flags) {
    const espl__quant *q = &v->quant;
    const bool offsets = flags & QUANT_OFFSETS;
    if (r->version < espl__container_quant_version(v) || (offsets && r->version < 3)) return false;
    if ((flags & QUANT_HALVES) && r->version < 3) return false;
    if ((flags & QUANT_ZEROS) && espl_format_kind_of(q->format) != ESPL_FORMAT_KIND_INTEGER) return false;
    if (!v->constant)
        return q->count == 1 && q->axis < 0 && q->group == 0 && !offsets && q->format != ESPL_FORMAT_S32;
    return v->constant->dtype == espl__format_dtype(q->format) &&
           espl__quant_scales(q, &v->constant->shape) == q->count;
}

static void get_scales(reader *r, espl__quant *q, unsigned flags) {
    uint16_t half = 0;
    if (!(flags & QUANT_HALVES)) get_bytes(r, q->scale, (uint64_t)q->count * sizeof *q->scale);
    for (int64_t i = 0; flags & QUANT_HALVES && i < q->count && !r->bad; i++) {
        get_bytes(r, &half, sizeof half);
        q->scale[i] = espl__half_to_float(half);
    }
    for (int64_t i = 0; i < q->count; i++)
        if (!(q->scale[i] > 0 && q->scale[i] < 3.4e38f)) r->bad = true;
}

/* Zero points are codes; accumulators (s32) may have any. */
static void get_zeros(reader *r, espl__quant *q) {
    int32_t lo = -128, hi = 127;
    if (espl_format_kind_of(q->format) == ESPL_FORMAT_KIND_INTEGER) espl__format_range(q->format, &lo, &hi);
    if (q->format == ESPL_FORMAT_S8) lo = -128;
    for (int64_t i = 0; i < q->count; i++) {
        int64_t z = get_int(r);
        if ((z < lo || z > hi) && q->format != ESPL_FORMAT_S32) r->bad = true;
        if (z < INT32_MIN || z > INT32_MAX) r->bad = true;
        q->zero[i] = r->bad ? 0 : (int32_t)z;
    }
}

static espl_status get_grid(reader *r, espl__quant *q, unsigned flags, bool derived, espl_diag *diag) {
    const uint64_t bytes = (uint64_t)q->count * sizeof *q->scale;
    q->scale = espl__arena_alloc(&r->g->arena, bytes);
    q->zero = flags & QUANT_ZEROS ? espl__arena_alloc(&r->g->arena, bytes) : NULL;
    q->offset = flags & QUANT_OFFSETS ? espl__arena_alloc(&r->g->arena, bytes) : NULL;
    if (!q->scale || (flags & QUANT_ZEROS && !q->zero) || (flags & QUANT_OFFSETS && !q->offset))
        return espl__nomem(diag, bytes);
    if (!derived) get_scales(r, q, flags);
    if (q->offset) get_bytes(r, q->offset, bytes);
    for (int64_t i = 0; q->offset && i < q->count; i++)
        if (!(q->offset[i] > -3.4e38f && q->offset[i] < 3.4e38f)) r->bad = true;
    if (q->zero) get_zeros(r, q);
    return ESPL_OK;
}

static espl_status get_quant(reader *r, espl__value *v, bool derived, espl_diag *diag) {
    unsigned format = get_byte(r), flags = get_byte(r), axis = flags & QUANT_AXIS;
    uint64_t count = get_count(r, derived ? 0 : flags & QUANT_HALVES ? 2 : 4);
    espl__quant *q = &v->quant;
    if (format >= ESPL_FORMAT_COUNT || format == ESPL_FORMAT_F32 || count == 0 || axis > ESPL_MAX_RANK) r->bad = true;
    if (r->bad) return ESPL_OK;
    *q = (espl__quant){.format = (espl_format)format, .axis = (int)axis - 1, .count = (int64_t)count};
    if (flags & QUANT_GROUPS) {
        uint64_t group_axis = get_byte(r), group = get_uint(r);
        if (group_axis >= ESPL_MAX_RANK || group == 0 || group > INT32_MAX) r->bad = true;
        q->group_axis = (int)(group_axis & 127);
        q->group = (int64_t)(group & INT32_MAX);
    }
    if (r->bad || !quant_fits(r, v, flags)) r->bad = true;
    if (r->bad) return ESPL_OK;
    return get_grid(r, q, flags, derived, diag);
}

static espl_status get_constant(reader *r, espl__value *v, unsigned flags, espl_diag *diag) {
    espl_shape shape;
    espl_dtype type = get_dtype(r);
    get_shape(r, &shape, false);
    if (v->dtype != (flags & VALUE_QUANTIZED ? ESPL_F32 : type)) r->bad = true;
    if (r->bad) return ESPL_OK;
    v->constant = espl__arena_alloc(&r->g->arena, sizeof *v->constant);
    if (!v->constant) return espl__nomem(diag, sizeof *v->constant);
    *v->constant = (espl_tensor){type, shape, NULL};
    v->shape = shape;
    v->known_rank = true;
    return ESPL_OK;
}

static espl_status get_value(reader *r, espl_diag *diag) {
    char fresh[32];
    unsigned flags = get_byte(r);
    snprintf(fresh, sizeof fresh, "v%d", r->g->value_count);
    espl__value *v = espl__graph_value(r->g, flags & VALUE_NAMED ? get_string(r) : fresh);
    if (!v) return espl__nomem(diag, sizeof *v);
    v->is_input = flags & VALUE_INPUT;
    if (flags & (VALUE_INPUT | VALUE_CONSTANT)) v->dtype = get_dtype(r);
    if ((flags & (VALUE_INPUT | VALUE_CONSTANT)) == (VALUE_INPUT | VALUE_CONSTANT)) r->bad = true;
    if (flags & VALUE_QUANTIZED && v->dtype != ESPL_F32) r->bad = true;
    if (v->is_input && flags & VALUE_KNOWN_RANK) {
        get_shape(r, &v->shape, true);
        v->known_rank = true;
    }
    if (flags & VALUE_CONSTANT && !r->bad) {
        espl_status status = get_constant(r, v, flags, diag);
        if (status != ESPL_OK || r->bad) return status;
    }
    bool derived = (flags & VALUE_DERIVED_SCALE) != 0;
    if (derived && (!v->constant || !(flags & VALUE_QUANTIZED))) r->bad = true;
    if (flags & (VALUE_TABLE | VALUE_SPARSE) && !v->constant) r->bad = true;
    if (!r->bad) r->derived[v->id] = derived;
    if (flags & VALUE_QUANTIZED && !r->bad) {
        espl_status status = get_quant(r, v, derived, diag);
        if (status != ESPL_OK) return status;
    }
    return v->constant && !r->bad ? espl__container_storage(r, v, flags, diag) : ESPL_OK;
}

static espl_status get_body(reader *r, espl__node *n, const char *name, espl_diag *diag);

static espl_status get_tensor(reader *r, espl__node *n, const char *label, espl_diag *diag) {
    espl_text *texts = NULL;
    espl_status status = ESPL_OK;
    espl_tensor t = {.dtype = get_dtype(r)};
    get_shape(r, &t.shape, false);
    if (r->bad) return ESPL_OK;
    t.data = (void *)r->p;
    if (t.dtype == ESPL_STRING) {
        status = espl__container_texts(r, espl_shape_count(&t.shape), &texts, diag);
        t.data = texts;
    } else if ((uint64_t)espl_shape_count(&t.shape) > left(r) / espl_dtype_bytes(t.dtype)) {
        r->bad = true;
    } else {
        r->p += espl__tensor_bytes(&t);
    }
    if (status == ESPL_OK && !r->bad && !espl__attr_set_tensor(r->g, n, label, &t)) status = espl__nomem(diag, 0);
    espl__free(r->g->arena.ctx, texts);
    return status;
}

static espl_status get_attr(reader *r, espl__node *n, espl_diag *diag) {
    uint64_t name = get_uint(r), count;
    unsigned kind = get_byte(r);
    espl__arena *arena = &r->g->arena;
    bool good = true;
    float f = 0;
    if (name >= r->attr_count || r->bad) {
        r->bad = true;
        return ESPL_OK;
    }
    const char *label = r->attrs[name];
    switch (kind) {
        case ESPL__ATTR_INT:
            good = espl__attr_set_int(r->g, n, label, get_int(r));
            break;
        case ESPL__ATTR_FLOAT:
            get_bytes(r, &f, 4);
            good = espl__attr_set_float(r->g, n, label, f);
            break;
        case ESPL__ATTR_STRING:
            good = espl__attr_set_string(r->g, n, label, get_string(r));
            break;
        case ESPL__ATTR_INTS: {
            count = get_count(r, 1);
            int64_t *ints = espl__arena_alloc(arena, (count + 1) * sizeof *ints);
            if (!ints) return espl__nomem(diag, count);
            for (uint64_t i = 0; i < count; i++) ints[i] = get_int(r);
            good = espl__attr_set_ints(r->g, n, label, ints, (int64_t)count);
            break;
        }
        case ESPL__ATTR_FLOATS: {
            count = get_count(r, 4);
            float *floats = espl__arena_alloc(arena, (count + 1) * sizeof *floats);
            if (!floats) return espl__nomem(diag, count);
            get_bytes(r, floats, count * 4);
            good = espl__attr_set_floats(r->g, n, label, floats, (int64_t)count);
            break;
        }
        case ESPL__ATTR_STRINGS:
            good = espl__attr_set_strings(r->g, n, label, get_string(r));
            break;
        case ESPL__ATTR_TENSOR:
            return get_tensor(r, n, label, diag);
        case ESPL__ATTR_GRAPH:
            return get_body(r, n, label, diag);
        default:
            r->bad = true;
    }
    return good ? ESPL_OK : espl__nomem(diag, 0);
}

static espl__value *get_value_id(reader *r, bool absent_allowed) {
    uint64_t id = get_uint(r);
    if (id == 0 && absent_allowed) return NULL;
    if (id == 0 || id > (uint64_t)r->g->value_count) {
        r->bad = true;
        return NULL;
    }
    return r->g->values[id - 1];
}

static espl_status get_node(reader *r, espl_diag *diag) {
    unsigned flags = get_byte(r);
    uint64_t op = get_uint(r);
    if (op >= r->op_count || r->bad) {
        r->bad = true;
        return ESPL_OK;
    }
    char *name = espl__arena_strdup(&r->g->arena, flags & NODE_NAMED ? get_string(r) : "");
    uint64_t opset = flags & NODE_OPSET ? get_uint(r) : (uint64_t)r->g->opset;
    const uint8_t *inputs = r->p;
    uint64_t input_count = get_count(r, 1);
    for (uint64_t i = 0; i < input_count; i++) get_uint(r);
    uint64_t output_count = get_count(r, 1);
    if (opset > 1000) r->bad = true;
    if (r->bad) return ESPL_OK;
    espl__node *n = espl__graph_node(r->g, r->ops[op], name, (int)input_count, (int)output_count, 0);
    if (!n || !name) return espl__nomem(diag, sizeof *n);
    n->opset = (int)opset;
    for (uint64_t i = 0; i < output_count && !r->bad; i++) {
        espl__value *v = get_value_id(r, true);
        if (v && (v->producer || v->constant || v->is_input)) r->bad = true;
        if (!r->bad) espl__node_set_output(n, (int)i, v);
    }
    const uint8_t *after = r->p;
    r->p = inputs;
    get_uint(r);
    for (uint64_t i = 0; i < input_count && !r->bad; i++) n->inputs[i] = get_value_id(r, true);
    r->p = after;
    uint64_t attrs = get_count(r, 3);
    for (uint64_t i = 0; i < attrs && !r->bad; i++) {
        espl_status status = get_attr(r, n, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static espl_status get_io(reader *r, espl_diag *diag) {
    espl__value **lists[2];
    uint64_t counts[2] = {0};
    for (int k = 0; k < 2; k++) {
        counts[k] = get_count(r, 1);
        lists[k] = espl__arena_alloc(&r->g->arena, (counts[k] + 1) * sizeof **lists);
        if (!lists[k]) return espl__nomem(diag, counts[k]);
        for (uint64_t i = 0; i < counts[k] && !r->bad; i++) {
            lists[k][i] = get_value_id(r, false);
            if (k == 0 && !r->bad && !lists[k][i]->is_input) r->bad = true;
        }
    }
    /* Every input of the graph is listed, and once. */
    for (int i = 0; i < r->g->value_count; i++) r->g->values[i]->mark = 0;
    for (uint64_t i = 0; i < counts[0] && !r->bad; i++)
        if (lists[0][i]->mark++) r->bad = true;
    for (int i = 0; i < r->g->value_count && !r->bad; i++)
        if (r->g->values[i]->is_input != r->g->values[i]->mark) r->bad = true;
    if (counts[1] == 0) r->bad = true;
    if (r->bad) return ESPL_OK;
    return espl__graph_set_io(r->g, lists[0], (int)counts[0], lists[1], (int)counts[1])
               ? ESPL_OK
               : espl__nomem(diag, 0);
}

static void fix_bias_scales(reader *r) {
    for (int i = 0; i < r->g->node_count; i++) {
        espl__node *n = r->g->nodes[i];
        espl__value *b = n->input_count > 2 ? n->inputs[2] : NULL;
        if (!b || !r->derived[b->id]) continue;
        if (!n->inputs[0] || !n->inputs[1] || !espl__container_bias_scales(n, b->quant.scale, b->quant.count))
            r->bad = true;
        r->derived[b->id] = false;
    }
    for (int i = 0; i < r->g->value_count; i++)
        if (r->derived[i]) r->bad = true;
}

static espl_status fill_body(reader *r, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_graph *body = r->g;
    uint64_t formals = get_uint(r), values = get_count(r, 1);
    for (uint64_t i = 0; i < values && !r->bad; i++) {
        char fresh[32];
        snprintf(fresh, sizeof fresh, "v%d", body->value_count);
        if (!espl__graph_value(body, fresh)) return espl__nomem(diag, 0);
    }
    uint64_t nodes = get_count(r, 4);
    for (uint64_t i = 0; i < nodes && !r->bad; i++) ESPL_TRY(get_node(r, diag));
    const uint8_t *inputs = r->p; /* they are inputs because they are listed */
    uint64_t count = get_count(r, 1);
    for (uint64_t i = 0; i < count && !r->bad; i++) {
        espl__value *v = get_value_id(r, false);
        if (r->bad || v->producer || v->is_input) r->bad = true;
        if (!r->bad) v->is_input = true;
    }
    r->p = inputs;
    if (!r->bad) ESPL_TRY(get_io(r, diag));
    if (formals > (uint64_t)body->input_count) r->bad = true;
    body->formals = r->bad ? 0 : (int)formals;
    if (!r->bad) status = espl__graph_verify(body, diag);
done:
    return status;
}

static espl_status get_body(reader *r, espl__node *n, const char *name, espl_diag *diag) {
    espl_graph *outer = r->g, *body = NULL;
    if (n->op->eval || r->depth == CONTAINER_DEPTH || r->version < CONTAINER_BODIES) {
        r->bad = true;
        return ESPL_OK;
    }
    espl_status status = espl__graph_create(outer->arena.ctx, &body, diag);
    if (status != ESPL_OK) return status;
    espl__graph_own(outer, body);
    body->opset = outer->opset;
    r->g = body;
    r->depth++;
    status = fill_body(r, diag);
    r->depth--;
    r->g = outer;
    if (status != ESPL_OK || r->bad) return status;
    return espl__attr_set_graph(outer, n, name, body) ? ESPL_OK : espl__nomem(diag, 0);
}

static espl_status get_graph(reader *r, espl_diag *diag) {
    espl_status status = ESPL_OK;
    uint64_t opset = get_uint(r);
    if (opset > 1000) r->bad = true;
    r->g->opset = (int)opset;
    r->g->name = espl__arena_strdup(&r->g->arena, get_string(r));
    ESPL_TRY(get_names(r, diag));
    uint64_t values = get_count(r, 1);
    r->derived = espl__arena_alloc(&r->g->arena, values + 1);
    r->form = espl__arena_alloc(&r->g->arena, values + 1);
    r->sparse = espl__arena_alloc(&r->g->arena, (values + 1) * sizeof *r->sparse);
    if (!r->derived || !r->form || !r->sparse || !r->g->name) return espl__nomem(diag, values);
    for (uint64_t i = 0; i < values && !r->bad; i++) ESPL_TRY(get_value(r, diag));
    uint64_t nodes = get_count(r, 4);
    for (uint64_t i = 0; i < nodes && !r->bad; i++) ESPL_TRY(get_node(r, diag));
    ESPL_TRY(get_io(r, diag));
    if (!r->bad) fix_bias_scales(r);
    for (int i = 0; i < r->g->value_count && !r->bad; i++)
        if (r->g->values[i]->constant) ESPL_TRY(espl__container_elements(r, r->g->values[i], diag));
    if (r->p != r->end) r->bad = true;
done:
    return status;
}

espl_status espl__model_probe(const char *path, bool *sealed, espl_diag *diag) {
    char magic[4];
    size_t n;
    espl_status status = espl__file_peek(path, magic, sizeof magic, &n, diag);
    *sealed = status == ESPL_OK && n == sizeof magic && memcmp(magic, CONTAINER_MAGIC, sizeof magic) == 0;
    return status;
}

bool espl_model_probe(const char *path) {
    bool sealed;
    return espl__model_probe(path, &sealed, NULL) == ESPL_OK && sealed;
}

/* Version, length and checksum. */
static espl_status check_header(const espl__mapping *file, const char *path, espl_diag *diag) {
    uint64_t length;
    uint32_t crc;
    uint16_t version;
    if (file->length < CONTAINER_HEADER || memcmp(file->data, CONTAINER_MAGIC, 4) != 0)
        return espl__fail(diag, ESPL_FORMAT, "%s: is not an .espl file", path);
    memcpy(&version, file->data + 4, 2);
    memcpy(&crc, file->data + 8, 4);
    memcpy(&length, file->data + 12, 8);
    if (version < 1 || version > CONTAINER_VERSION)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: has format version %d, this program reads 1 to %d",
                          path, version, CONTAINER_VERSION);
    if (length != file->length - CONTAINER_HEADER)
        return espl__fail(diag, ESPL_FORMAT, "%s: is damaged (its length is wrong); copy or export it again",
                          path);
    if (espl__crc32(file->data + CONTAINER_HEADER, length) != crc)
        return espl__fail(diag, ESPL_FORMAT,
                          "%s: is damaged (its checksum does not match); copy or export it again", path);
    return ESPL_OK;
}

espl_status espl_model_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__mapping file = {0};
    reader *r = NULL;
    *out = NULL;
    ESPL_TRY(espl__file_map(ctx, path, &file, diag));
    ESPL_TRY(check_header(&file, path, diag));
    r = espl__calloc(ctx, 1, sizeof *r);
    if (!r) {
        status = espl__nomem(diag, sizeof *r);
        goto done;
    }
    r->start = r->p = file.data + CONTAINER_HEADER;
    r->end = file.data + file.length;
    r->version = file.data[4];
    ESPL_TRY(espl__graph_create(ctx, &r->g, diag));
    r->g->file = espl__arena_strdup(&r->g->arena, path);
    if (!r->g->file) {
        status = espl__nomem(diag, strlen(path));
        goto done;
    }
    ESPL_TRY(get_graph(r, diag));
    if (r->bad) {
        status = espl__fail(diag, ESPL_FORMAT, "%s: is malformed at byte %" PRIu64, path,
                            (uint64_t)(r->p - file.data));
        goto done;
    }
    ESPL_TRY(espl__graph_verify(r->g, diag));
    /* Shapes are not stored; types follow from inference. */
    ESPL_TRY(espl__pass_infer(r->g, diag));
    if (r->left_in_file) {
        r->g->bytes = file;
        file = (espl__mapping){0};
    }
    *out = r->g;
    r->g = NULL;
done:
    if (status != ESPL_OK) espl__diag_name_file(diag, path);
    if (r) espl_graph_destroy(&r->g);
    espl__free(ctx, r);
    espl__file_unmap(&file);
    return status;
}
