#include "runtime/container_store.h"

typedef struct names {
    const char **list;
    int count;
} names;

typedef struct writer {
    espl_context *ctx;
    const espl_graph *g;
    int opset; /* of the outermost graph */
    espl__buffer out;
    bool too_long;    /* a string was, for the format */
    bool body_constant; /* a body has one, which the format does not know */
    bool align;       /* the constants begin at a multiple of four */
    int version;
    espl__store (*store)[2]; /* by value->mark, as container_store.h has them */
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

/* Of a graph and the bodies in it. */
static void count_nodes(const espl_graph *g, uint64_t *nodes, uint64_t *attrs) {
    *nodes += (uint64_t)g->node_count;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->attr_count; j++, ++*attrs)
            if (g->nodes[i]->attrs[j].name && g->nodes[i]->attrs[j].kind == ESPL__ATTR_GRAPH)
                count_nodes(g->nodes[i]->attrs[j].body, nodes, attrs);
}

static void add_names(writer *w, const espl_graph *g) {
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        name_index(&w->ops, n->op->name);
        for (int j = 0; j < n->attr_count; j++) {
            if (!n->attrs[j].name) continue;
            name_index(&w->attrs, n->attrs[j].name);
            if (n->attrs[j].kind == ESPL__ATTR_GRAPH) add_names(w, n->attrs[j].body);
        }
    }
}

static bool collect_names(writer *w) {
    uint64_t nodes = 1, attrs = 1;
    count_nodes(w->g, &nodes, &attrs);
    w->ops.list = espl__calloc(w->ctx, nodes, sizeof(char *));
    w->attrs.list = espl__calloc(w->ctx, attrs, sizeof(char *));
    if (!w->ops.list || !w->attrs.list) return false;
    add_names(w, w->g);
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
        w->out.failed |= !scale;
        bool same = scale && espl__container_bias_scales(n, scale, v->quant.count) &&
                    memcmp(scale, v->quant.scale, sizeof *scale * (size_t)v->quant.count) == 0;
        espl__free(w->ctx, scale);
        return same;
    }
    return false;
}

/* Scales that f16 holds exactly are written so; those of biases follow from others as a rule. */
static bool halves(const espl__quant *q, int version) {
    return version >= 3 && q->format != ESPL_FORMAT_S32 && espl__are_halves(q->scale, q->count);
}

static unsigned quant_flags(const espl__quant *q, int version) {
    bool zeros = false;
    for (int64_t i = 0; q->zero && i < q->count; i++) zeros |= q->zero[i] != 0;
    return (zeros ? QUANT_ZEROS : 0) | (q->group > 0 ? QUANT_GROUPS : 0) | (q->offset ? QUANT_OFFSETS : 0) |
           (halves(q, version) ? QUANT_HALVES : 0);
}

static void put_scales(writer *w, const espl__quant *q, bool as_halves) {
    if (!as_halves) put_bytes(w, q->scale, sizeof(float) * (size_t)q->count);
    for (int64_t i = 0; as_halves && i < q->count; i++) {
        uint16_t half = espl__half_from_float(q->scale[i]);
        put_bytes(w, &half, 2);
    }
}

static void put_quant(writer *w, const espl__quant *q, bool derived) {
    const unsigned flags = quant_flags(q, w->version);
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

int espl__container_quant_version(const espl__value *v) {
    const espl__quant *q = &v->quant;
    const bool grid = q->format == ESPL_FORMAT_U8 || q->format == ESPL_FORMAT_S8;
    if (q->format >= ESPL_FORMAT_TF32 || q->group > 0 || q->offset || (!v->constant && !grid)) return 3;
    return q->format >= ESPL_FORMAT_F16 ? 2 : 1;
}

static const espl__store *store_of(const writer *w, const espl__value *v) {
    return &w->store[v->mark][w->version >= 3];
}

/* What nodes' attributes need: bodies, or strings in a body or outside. */
static int attr_version(const espl_graph *g) {
    int version = 1;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->attr_count; j++) {
            const espl__attr *a = &g->nodes[i]->attrs[j];
            if (!a->name) continue;
            if (a->kind == ESPL__ATTR_GRAPH) version = ESPL_MAX(version, ESPL_MAX(CONTAINER_BODIES, attr_version(a->body)));
            if (a->kind == ESPL__ATTR_TENSOR && a->tensor->dtype == ESPL_STRING) version = CONTAINER_TEXT;
        }
    return version;
}

/* Decides the version, and so how constants are stored: the least that has what the file needs, or 3 where that
 * saves enough. */
static bool choose_stores(writer *w, espl_graph *g) {
    uint64_t saved = 0;
    w->version = 1;
    w->store = espl__calloc(w->ctx, (uint64_t)g->value_count + 1, sizeof *w->store);
    for (int i = 0; w->store && i < g->value_count; i++) {
        espl__value *v = g->values[i];
        v->mark = i;
        espl__store_of(v, w->store[i]);
        saved += w->store[i][0].bytes - w->store[i][1].bytes;
        if (w->store[i][0].form == ESPL__STORE_SPARSE) w->version = ESPL_MAX(w->version, 2);
        if (!espl__is_quantized(v)) continue;
        w->version = ESPL_MAX(w->version, espl__container_quant_version(v));
        if (halves(&v->quant, CONTAINER_SHORTER)) saved += 2 * (uint64_t)v->quant.count;
    }
    if (saved >= CONTAINER_WORTH) w->version = CONTAINER_SHORTER;
    w->version = ESPL_MAX(w->version, attr_version(g));
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->dtype == ESPL_STRING) w->version = CONTAINER_TEXT;
    return w->store != NULL;
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

static void put_value(writer *w, const espl__value *v) {
    bool named = v->is_input || espl__graph_is_output(w->g, v), derived = derived_scale(w, v);
    const espl__store *s = store_of(w, v);
    put_byte(w, (v->is_input ? VALUE_INPUT : 0) | (v->constant ? VALUE_CONSTANT : 0) |
                    (espl__is_quantized(v) ? VALUE_QUANTIZED : 0) | (named ? VALUE_NAMED : 0) |
                    (derived ? VALUE_DERIVED_SCALE : 0) | (v->known_rank ? VALUE_KNOWN_RANK : 0) |
                    espl__store_flags(s));
    if (named) put_string(w, v->name);
    if (v->is_input || v->constant) put_byte(w, v->dtype);
    if (v->is_input && v->known_rank) put_shape(w, &v->shape);
    if (v->constant) {
        put_byte(w, v->constant->dtype);
        put_shape(w, &v->constant->shape);
    }
    if (espl__is_quantized(v)) put_quant(w, &v->quant, derived);
    if (s->form == ESPL__STORE_SPARSE) put_pattern(w, &s->layout);
}

static void put_texts(writer *w, const espl_tensor *t) {
    const espl_text *e = t->data;
    for (int64_t i = 0, count = espl_shape_count(&t->shape); i < count; i++) {
        put_uint(w, e[i].length);
        put_bytes(w, e[i].bytes, (size_t)e[i].length);
    }
}

static void put_data(writer *w, const espl__value *v) {
    const espl_tensor *t = v->constant;
    const espl__store *s = store_of(w, v);
    if (t->dtype == ESPL_STRING) {
        put_texts(w, t);
    } else if (t->dtype == ESPL_S64) {
        for (int64_t i = 0, count = espl_shape_count(&t->shape); i < count; i++)
            put_int(w, ((const int64_t *)t->data)[i]);
    } else if (s->form == ESPL__STORE_PLAIN) {
        put_bytes(w, t->data, espl__tensor_bytes(t));
    } else {
        uint8_t *encoded = espl__alloc(w->ctx, s->bytes + 1);
        w->out.failed |= !encoded;
        if (!encoded) return;
        espl__store_encode(s, v, encoded);
        put_bytes(w, encoded, s->bytes);
        espl__free(w->ctx, encoded);
    }
}

static void put_body(writer *w, espl_graph *body);

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
            if (a->tensor->dtype == ESPL_STRING)
                put_texts(w, a->tensor);
            else
                put_bytes(w, a->tensor->data, espl__tensor_bytes(a->tensor));
            break;
        case ESPL__ATTR_GRAPH:
            put_body(w, a->body);
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
    put_byte(w, (named ? NODE_NAMED : 0) | (n->opset != w->opset ? NODE_OPSET : 0));
    put_uint(w, (uint64_t)name_index(&w->ops, n->op->name));
    if (named) put_string(w, n->name);
    if (n->opset != w->opset) put_uint(w, (uint64_t)n->opset);
    put_ids(w, n->inputs, n->input_count);
    put_ids(w, n->outputs, n->output_count);
    for (int i = 0; i < n->attr_count; i++) attrs += n->attrs[i].name != NULL;
    put_uint(w, (uint64_t)attrs);
    for (int i = 0; i < n->attr_count; i++)
        if (n->attrs[i].name) put_attr(w, &n->attrs[i]);
}

/* Types are inferred from what the node gives; constants stand in the outermost graph. */
static void put_body(writer *w, espl_graph *body) {
    const espl_graph *outer = w->g;
    for (int i = 0; i < body->value_count; i++) {
        body->values[i]->id = i;
        w->body_constant |= body->values[i]->constant != NULL;
    }
    w->g = body;
    put_uint(w, (uint64_t)body->formals);
    put_uint(w, (uint64_t)body->value_count);
    put_uint(w, (uint64_t)body->node_count);
    for (int i = 0; i < body->node_count; i++) put_node(w, body->nodes[i]);
    put_ids(w, body->inputs, body->input_count);
    put_ids(w, body->outputs, body->output_count);
    w->g = outer;
}

/* A large constant whose elements are four bytes each in the file: a reader may use it where it stands if
 * that is a multiple of four. */
static bool wants_alignment(const writer *w, const espl__value *v) {
    return v->constant && espl_dtype_bytes(v->constant->dtype) == 4 &&
           espl__tensor_bytes(v->constant) >= CONTAINER_LARGE && store_of(w, v)->form == ESPL__STORE_PLAIN;
}

/* Those constants, if there are some, become the first values, in the order they had; false without memory. */
static bool aligned_first(writer *w, espl_graph *g) {
    espl__value **rest = espl__alloc(g->arena.ctx, sizeof *rest * (uint64_t)(g->value_count + 1));
    int aligned = 0, others = 0;
    if (!rest) return false;
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (wants_alignment(w, v))
            g->values[aligned++] = v;
        else
            rest[others++] = v;
    }
    if (others) memcpy(g->values + aligned, rest, sizeof *rest * (size_t)others);
    for (int i = 0; i < g->value_count; i++) g->values[i]->id = i;
    espl__free(g->arena.ctx, rest);
    w->align = aligned > 0;
    return true;
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
    if (!espl__store_once(copy) || !choose_stores(w, copy) || !aligned_first(w, copy)) {
        status = espl__nomem(diag, (uint64_t)copy->value_count * sizeof *w->store);
        goto done;
    }
    w->g = copy;
    w->opset = copy->opset;
    put_bytes(w, header, CONTAINER_HEADER);
    put_graph(w);
    if (w->too_long) {
        status = espl__fail(diag, ESPL_UNSUPPORTED,
                            "a name or text of more than %d bytes cannot be stored in an .espl file",
                            CONTAINER_MAX_STRING);
        goto done;
    }
    if (w->body_constant) {
        status = espl__fail(diag, ESPL_UNSUPPORTED, "a subgraph with constants of its own cannot be stored in an .espl file");
        goto done;
    }
    if (w->out.failed) {
        status = espl__nomem(diag, w->out.length);
        goto done;
    }
    uint64_t length = w->out.length - CONTAINER_HEADER;
    uint16_t version = (uint16_t)w->version;
    uint32_t crc = espl__crc32((const uint8_t *)w->out.data + CONTAINER_HEADER, length);
    memcpy(w->out.data, CONTAINER_MAGIC, 4);
    memcpy(w->out.data + 4, &version, 2);
    memcpy(w->out.data + 8, &crc, 4);
    memcpy(w->out.data + 12, &length, 8);
    *out = w->out;
    espl__buffer_init(&w->out, ctx);
done:
    espl_graph_destroy(&copy);
    espl__free(ctx, w->store);
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
