#include "runtime/container.h"
#include "passes/passes.h"

typedef struct names {
    const char **list;
    int count;
} names;

/* How the elements of a constant are stored: `table` distinct ones and which each is, a sparse layout, or
 * neither. */
typedef struct storage {
    int table;
    bool sparse;
    espl__sparse layout;
} storage;

typedef struct writer {
    espl_context *ctx;
    const espl_graph *g;
    espl__buffer out;
    bool too_long;    /* a string was, for the format */
    bool align;       /* the constants begin at a multiple of four */
    storage *storage; /* by value->mark */
    names ops, attrs;
    char previous[CONTAINER_MAX_STRING +
                  1]; /* the last string: the next one names the length of the prefix they share */
} writer;

bool espl__container_bias_scales(const espl__node *node, float *scale, int64_t count) {
    const espl__value *x = node->inputs[0], *w = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!espl__is_quantized(x) || !espl__is_quantized(w) || x->quant.count != 1) return false;
    if (w->quant.count != 1 && w->quant.count != count) return false;
    for (int64_t c = 0; c < count; c++)
        scale[c] = x->quant.scale[0] * w->quant.scale[w->quant.count == 1 ? 0 : c];
    return true;
}

static void put_bytes(writer *w, const void *p, size_t n) {
    espl__buffer_append(&w->out, p, n);
}
static void put_byte(writer *w, unsigned b) {
    uint8_t byte = (uint8_t)b;
    put_bytes(w, &byte, 1);
}

static void put_uint(writer *w, uint64_t v) {
    for (; v >= 128; v >>= 7) put_byte(w, (unsigned)(v & 127) | 128);
    put_byte(w, (unsigned)v);
}

static void put_int(writer *w, int64_t v) {
    put_uint(w, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static void put_string(writer *w, const char *s) {
    size_t n = ESPL_MIN(strlen(s), CONTAINER_MAX_STRING), shared = 0;
    w->too_long |= strlen(s) > CONTAINER_MAX_STRING;
    while (shared < n && w->previous[shared] && w->previous[shared] == s[shared]) shared++;
    put_uint(w, shared);
    put_uint(w, n - shared);
    put_bytes(w, s + shared, n - shared);
    memcpy(w->previous, s, n);
    w->previous[n] = 0;
}

static void put_shape(writer *w, const espl_shape *s) {
    put_byte(w, (unsigned)s->rank);
    for (int i = 0; i < s->rank; i++) put_uint(w, (uint64_t)(s->dim[i] + 1));
}

static int name_index(names *n, const char *name) {
    for (int i = 0; i < n->count; i++)
        if (strcmp(n->list[i], name) == 0) return i;
    n->list[n->count] = name;
    return n->count++;
}

static bool collect_names(writer *w) {
    uint64_t attrs = 1;
    for (int i = 0; i < w->g->node_count; i++) attrs += (uint64_t)w->g->nodes[i]->attr_count;
    w->ops.list = espl__calloc(w->ctx, (uint64_t)w->g->node_count + 1, sizeof(char *));
    w->attrs.list = espl__calloc(w->ctx, attrs, sizeof(char *));
    if (!w->ops.list || !w->attrs.list) return false;
    for (int i = 0; i < w->g->node_count; i++) {
        const espl__node *n = w->g->nodes[i];
        name_index(&w->ops, n->op->name);
        for (int j = 0; j < n->attr_count; j++)
            if (n->attrs[j].name) name_index(&w->attrs, n->attrs[j].name);
    }
    put_uint(w, (uint64_t)w->ops.count);
    for (int i = 0; i < w->ops.count; i++) put_string(w, w->ops.list[i]);
    put_uint(w, (uint64_t)w->attrs.count);
    for (int i = 0; i < w->attrs.count; i++) put_string(w, w->attrs.list[i]);
    return true;
}

/* True if the value is a bias whose scales its reader's other inputs give. */
static bool derived_scale(writer *w, const espl__value *v) {
    if (!v->constant || v->quant.format != ESPL_FORMAT_S32 || v->quant.zero) return false;
    for (int i = 0; i < w->g->node_count; i++) {
        const espl__node *n = w->g->nodes[i];
        if (n->input_count < 3 || n->inputs[2] != v) continue;
        float *scale = espl__calloc(w->ctx, (uint64_t)v->quant.count, sizeof *scale);
        bool same = scale && espl__container_bias_scales(n, scale, v->quant.count) &&
                    memcmp(scale, v->quant.scale, sizeof *scale * (size_t)v->quant.count) == 0;
        espl__free(w->ctx, scale);
        return same;
    }
    return false;
}

/* Scales of groups that f16 holds exactly are written so. */
static bool scales_are_halves(const espl__quant *q) {
    for (int64_t i = 0; i < q->count; i++)
        if (espl__half_to_float(espl__half_from_float(q->scale[i])) != q->scale[i]) return false;
    return true;
}

static unsigned quant_flags(const espl__quant *q) {
    bool zeros = false;
    for (int64_t i = 0; q->zero && i < q->count; i++) zeros |= q->zero[i] != 0;
    return (zeros ? QUANT_ZEROS : 0) | (q->group > 0 ? QUANT_GROUPS : 0) | (q->offset ? QUANT_OFFSETS : 0) |
           (q->group > 0 && scales_are_halves(q) ? QUANT_HALVES : 0);
}

static void put_scales(writer *w, const espl__quant *q, bool halves) {
    if (!halves) put_bytes(w, q->scale, sizeof(float) * (size_t)q->count);
    for (int64_t i = 0; halves && i < q->count; i++) {
        uint16_t half = espl__half_from_float(q->scale[i]);
        put_bytes(w, &half, 2);
    }
}

static void put_quant(writer *w, const espl__quant *q, bool derived) {
    const unsigned flags = quant_flags(q);
    const bool zeros = flags & QUANT_ZEROS;
    put_byte(w, (unsigned)q->format);
    put_byte(w, (unsigned)(q->axis + 1) | flags);
    put_uint(w, (uint64_t)q->count);
    if (flags & QUANT_GROUPS) {
        put_byte(w, (unsigned)q->group_axis);
        put_uint(w, (uint64_t)q->group);
    }
    if (!derived) put_scales(w, q, flags & QUANT_HALVES);
    if (flags & QUANT_OFFSETS) put_bytes(w, q->offset, sizeof(float) * (size_t)q->count);
    for (int64_t i = 0; zeros && i < q->count; i++) put_int(w, q->zero[i]);
}

/* The bits of an f32 constant's distinct elements in order of appearance and, if `index` is not NULL, which
 * of them each element is. 0 if a table does not pay. */
static int find_table(const espl__value *v, uint32_t *table, uint8_t *index) {
    if (!v->constant || v->constant->dtype != ESPL_F32 || espl__is_quantized(v)) return 0;
    const char *data = v->constant->data;
    int64_t count = espl_shape_count(&v->constant->shape);
    int distinct = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        int at = 0;
        memcpy(&bits, data + 4 * i, 4);
        while (at < distinct && table[at] != bits) at++;
        if (at == CONTAINER_MAX_TABLE) return 0;
        if (at == distinct) table[distinct++] = bits;
        if (index) index[i] = (uint8_t)at;
    }
    return 2 + 4 * distinct + count < 4 * count ? distinct : 0;
}

int espl__container_quant_version(const espl__value *v) {
    const espl__quant *q = &v->quant;
    const bool grid = q->format == ESPL_FORMAT_U8 || q->format == ESPL_FORMAT_S8;
    if (q->format >= ESPL_FORMAT_TF32 || q->group > 0 || q->offset || (!v->constant && !grid)) return 3;
    return q->format >= ESPL_FORMAT_F16 ? 2 : 1;
}

static int version_of(const writer *w) {
    int version = 1;
    for (int i = 0; i < w->g->value_count; i++) {
        const espl__value *v = w->g->values[i];
        if (w->storage[i].sparse) version = ESPL_MAX(version, 2);
        if (espl__is_quantized(v)) version = ESPL_MAX(version, espl__container_quant_version(v));
    }
    return version;
}

/* What takes the fewest bytes. */
static storage choose_storage(const espl__value *v) {
    uint32_t table[CONTAINER_MAX_TABLE];
    storage s = {.table = find_table(v, table, NULL)};
    s.sparse = espl__constant_sparse(v, &s.layout);
    if (s.sparse && s.table) {
        uint64_t tabled = 2 + 4 * (uint64_t)s.table + (uint64_t)espl_shape_count(&v->constant->shape);
        if (s.layout.bytes < tabled)
            s.table = 0;
        else
            s.sparse = false;
    }
    return s;
}

static bool choose_storages(writer *w, espl_graph *g) {
    w->storage = espl__calloc(w->ctx, (uint64_t)g->value_count + 1, sizeof *w->storage);
    for (int i = 0; w->storage && i < g->value_count; i++) {
        w->storage[i] = choose_storage(g->values[i]);
        g->values[i]->mark = i;
    }
    return w->storage != NULL;
}

/* Numbers that say where the elements that are not 0 stand. */
static void put_pattern(writer *w, const espl__sparse *l) {
    const espl_sparsity *p = &l->zeros.pattern;
    bool banks = p->pattern == ESPL_PATTERN_NM || p->pattern == ESPL_PATTERN_BANK;
    put_byte(w, p->pattern);
    put_byte(w, (unsigned)l->zeros.row_axis);
    put_byte(w, (unsigned)l->zeros.inner_axis);
    if (banks || p->pattern == ESPL_PATTERN_BLOCK) {
        put_uint(w, (uint64_t)(banks ? p->n : p->rows));
        put_uint(w, (uint64_t)(banks ? p->m : p->columns));
    }
    if (banks) return;
    put_bytes(w, &p->share, sizeof p->share);
    put_uint(w, (uint64_t)l->values);
    if (p->pattern == ESPL_PATTERN_UNSTRUCTURED) put_byte(w, (unsigned)l->gap_bits);
}

static void put_table(writer *w, const espl__value *v) {
    uint32_t table[CONTAINER_MAX_TABLE];
    int64_t count = espl_shape_count(&v->constant->shape);
    uint8_t *index = espl__alloc(w->ctx, (uint64_t)count);
    if (!index) {
        w->out.failed = true;
        return;
    }
    int distinct = find_table(v, table, index);
    put_uint(w, (uint64_t)distinct);
    put_bytes(w, table, sizeof *table * (size_t)distinct);
    put_bytes(w, index, (size_t)count);
    espl__free(w->ctx, index);
}

static void put_value(writer *w, const espl__value *v) {
    bool named = v->is_input || espl__graph_is_output(w->g, v), derived = derived_scale(w, v);
    const storage *s = &w->storage[v->mark];
    put_byte(w, (v->is_input ? VALUE_INPUT : 0) | (v->constant ? VALUE_CONSTANT : 0) |
                    (espl__is_quantized(v) ? VALUE_QUANTIZED : 0) | (named ? VALUE_NAMED : 0) |
                    (derived ? VALUE_DERIVED_SCALE : 0) | (v->known_rank ? VALUE_KNOWN_RANK : 0) |
                    (s->table ? VALUE_TABLE : 0) | (s->sparse ? VALUE_SPARSE : 0));
    if (named) put_string(w, v->name);
    if (v->is_input || v->constant) put_byte(w, v->dtype);
    if (v->is_input && v->known_rank) put_shape(w, &v->shape);
    if (v->constant) {
        put_byte(w, v->constant->dtype);
        put_shape(w, &v->constant->shape);
    }
    if (espl__is_quantized(v)) put_quant(w, &v->quant, derived);
    if (s->sparse) put_pattern(w, &s->layout);
}

/* Room for elements that are not written as they are in memory; NULL: there is none, and the writer has
 * failed. */
static uint8_t *packed_room(writer *w, uint64_t bytes) {
    uint8_t *packed = espl__alloc(w->ctx, bytes);
    w->out.failed |= !packed;
    return packed;
}

static void put_data(writer *w, const espl__value *v) {
    const espl_tensor *t = v->constant;
    const storage *s = &w->storage[v->mark];
    int64_t count = espl_shape_count(&t->shape);
    bool packs = espl__is_quantized(v) && espl__format_packs(v->quant.format);
    if (s->table) {
        put_table(w, v);
    } else if (s->sparse || packs) {
        uint64_t bytes = s->sparse ? s->layout.bytes : espl__codes_bytes(count, espl_format_bits(v->quant.format));
        uint8_t *packed = packed_room(w, bytes);
        if (!packed) return;
        if (s->sparse)
            espl__sparse_encode(&s->layout, t, packed);
        else
            espl__format_pack(v->quant.format, t->data, count, packed);
        put_bytes(w, packed, bytes);
        espl__free(w->ctx, packed);
    } else if (t->dtype == ESPL_S64) {
        for (int64_t i = 0; i < count; i++) put_int(w, ((const int64_t *)t->data)[i]);
    } else {
        put_bytes(w, t->data, espl__tensor_bytes(t));
    }
}

static void put_attr(writer *w, const espl__attr *a) {
    put_uint(w, (uint64_t)name_index(&w->attrs, a->name));
    put_byte(w, a->kind);
    switch (a->kind) {
        case ESPL__ATTR_INT:
            put_int(w, a->i);
            break;
        case ESPL__ATTR_FLOAT:
            put_bytes(w, &a->f, 4);
            break;
        case ESPL__ATTR_STRING:
        case ESPL__ATTR_STRINGS:
            put_string(w, a->s);
            break;
        case ESPL__ATTR_INTS:
            put_uint(w, (uint64_t)a->count);
            for (int64_t i = 0; i < a->count; i++) put_int(w, a->ints[i]);
            break;
        case ESPL__ATTR_FLOATS:
            put_uint(w, (uint64_t)a->count);
            put_bytes(w, a->floats, sizeof(float) * (size_t)a->count);
            break;
        case ESPL__ATTR_TENSOR:
            put_byte(w, a->tensor->dtype);
            put_shape(w, &a->tensor->shape);
            put_bytes(w, a->tensor->data, espl__tensor_bytes(a->tensor));
            break;
    }
}

static void put_ids(writer *w, espl__value *const *values, int count) {
    put_uint(w, (uint64_t)count);
    for (int i = 0; i < count; i++) put_uint(w, values[i] ? (uint64_t)values[i]->id + 1 : 0);
}

static void put_node(writer *w, const espl__node *n) {
    bool named = n->name[0] && n->op->weight_inputs;
    int attrs = 0;
    put_byte(w, (named ? NODE_NAMED : 0) | (n->opset != w->g->opset ? NODE_OPSET : 0));
    put_uint(w, (uint64_t)name_index(&w->ops, n->op->name));
    if (named) put_string(w, n->name);
    if (n->opset != w->g->opset) put_uint(w, (uint64_t)n->opset);
    put_ids(w, n->inputs, n->input_count);
    put_ids(w, n->outputs, n->output_count);
    for (int i = 0; i < n->attr_count; i++) attrs += n->attrs[i].name != NULL;
    put_uint(w, (uint64_t)attrs);
    for (int i = 0; i < n->attr_count; i++)
        if (n->attrs[i].name) put_attr(w, &n->attrs[i]);
}

/* A large constant whose elements are four bytes each in the file: a reader may use it where it stands if
 * that is a multiple of four. */
static bool wants_alignment(const writer *w, const espl__value *v) {
    const storage *s = &w->storage[v->mark];
    return v->constant && espl_dtype_bytes(v->constant->dtype) == 4 &&
           espl__tensor_bytes(v->constant) >= CONTAINER_LARGE && !s->table && !s->sparse;
}

/* Those constants become the first values, in the order they had; false: there are none, or no memory. */
static bool aligned_first(const writer *w, espl_graph *g) {
    espl__value **rest = espl__alloc(g->arena.ctx, sizeof *rest * (uint64_t)(g->value_count + 1));
    int aligned = 0, others = 0;
    for (int i = 0; rest && i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (wants_alignment(w, v))
            g->values[aligned++] = v;
        else
            rest[others++] = v;
    }
    if (others) memcpy(g->values + aligned, rest, sizeof *rest * (size_t)others);
    for (int i = 0; i < g->value_count; i++) g->values[i]->id = i;
    espl__free(g->arena.ctx, rest);
    return aligned > 0;
}

/* The outputs, their number in so many bytes that what follows begins at a multiple of four. */
static void put_outputs_aligned(writer *w) {
    const espl_graph *g = w->g;
    size_t start = w->out.length;
    put_ids(w, g->outputs, g->output_count);
    unsigned more = (unsigned)(0 - w->out.length) & 3;
    if (more == 0 || w->out.failed) return;
    w->out.length = start;
    unsigned long long v = (unsigned)g->output_count;
    for (; v >= 128; v >>= 7) put_byte(w, (unsigned)(v & 127) | 128);
    put_byte(w, (unsigned)v | 128);
    while (--more) put_byte(w, 128);
    put_byte(w, 0);
    for (int i = 0; i < g->output_count; i++) put_uint(w, (uint64_t)g->outputs[i]->id + 1);
}

static void put_graph(writer *w) {
    const espl_graph *g = w->g;
    put_uint(w, (uint64_t)g->opset);
    put_string(w, g->name);
    if (!collect_names(w)) {
        w->out.failed = true;
        return;
    }
    put_uint(w, (uint64_t)g->value_count);
    for (int i = 0; i < g->value_count; i++) put_value(w, g->values[i]);
    put_uint(w, (uint64_t)g->node_count);
    for (int i = 0; i < g->node_count; i++) put_node(w, g->nodes[i]);
    put_ids(w, g->inputs, g->input_count);
    if (w->align)
        put_outputs_aligned(w);
    else
        put_ids(w, g->outputs, g->output_count);
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->constant) put_data(w, g->values[i]);
}

espl_status espl__model_bytes(espl_context *ctx, const espl_graph *graph, espl__buffer *out,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_graph *copy = NULL; /* ids without gaps */
    static const char header[CONTAINER_HEADER];
    writer *w = espl__calloc(ctx, 1, sizeof *w);
    espl__buffer_init(out, ctx);
    if (!w) return espl__nomem(diag, sizeof *w);
    w->ctx = ctx;
    espl__buffer_init(&w->out, ctx);
    ESPL_TRY(espl__graph_share(graph, &copy, diag));
    espl__graph_sweep(copy);
    if (!choose_storages(w, copy)) {
        status = espl__nomem(diag, (uint64_t)copy->value_count * sizeof *w->storage);
        goto done;
    }
    w->align = aligned_first(w, copy);
    w->g = copy;
    put_bytes(w, header, CONTAINER_HEADER);
    put_graph(w);
    if (w->too_long) {
        status = espl__fail(diag, ESPL_UNSUPPORTED,
                            "a name or text of more than %d bytes cannot be stored in an .espl file",
                            CONTAINER_MAX_STRING);
        goto done;
    }
    if (w->out.failed) {
        status = espl__nomem(diag, w->out.length);
        goto done;
    }
    uint64_t length = w->out.length - CONTAINER_HEADER;
    uint16_t version = (uint16_t)version_of(w);
    uint32_t crc = espl__container_crc((const uint8_t *)w->out.data + CONTAINER_HEADER, length);
    memcpy(w->out.data, CONTAINER_MAGIC, 4);
    memcpy(w->out.data + 4, &version, 2);
    memcpy(w->out.data + 8, &crc, 4);
    memcpy(w->out.data + 12, &length, 8);
    *out = w->out;
    espl__buffer_init(&w->out, ctx);
done:
    espl_graph_destroy(&copy);
    espl__free(ctx, w->storage);
    espl__free(ctx, w->ops.list);
    espl__free(ctx, w->attrs.list);
    espl__buffer_free(&w->out);
    espl__free(ctx, w);
    return status;
}

espl_status espl_model_write(espl_context *ctx, const espl_graph *graph, const char *path, espl_diag *diag) {
    espl__buffer bytes;
    espl_status status = espl__model_bytes(ctx, graph, &bytes, diag);
    if (status == ESPL_OK) status = espl__file_write(ctx, path, bytes.data, bytes.length, diag);
    espl__buffer_free(&bytes);
    return status;
}
