/* Elementwise work, softmax and layer normalisation on tensors in rows. A chain of such nodes is one step:
 * each thread takes a unit, one row or a few, after the other through all of them in a buffer of its own, so
 * that it stays in the first-level cache. A value that others read too is stored on the way; one that is
 * rounded to a grid is rounded on the way. */
#include "runtime/lower.h"
#include "ops/ops.h"

#include <math.h>

enum {
    MAX_LINKS = 12,
    MAX_STAGES = 2 * MAX_LINKS, /* each link itself, and a rounding */
    UNIT = 1024,                /* elements the kernels get at once: as many rows as fit */
    PARALLEL_ELEMENTS = 16384,  /* below this a wake costs more than it gains */
    LINE = 64
};

typedef enum stage_kind {
    STAGE_ADD,
    STAGE_MUL,
    STAGE_AFFINE,
    STAGE_CLAMP,
    STAGE_FUNCTION,
    STAGE_SOFTMAX,
    STAGE_LAYERNORM,
    STAGE_ROUND /* to a grid, and out of it again if the chain goes on */
} stage_kind;

typedef struct stage {
    stage_kind kind;
    bool vector, stored; /* the operand is the same for every unit; the result goes to `out` */
    float a, b;          /* scale and shift, or bounds; grid: inverse and scale */
    int32_t zero;
    int64_t period,
        modulus;     /* row i meets row i / period % modulus of the operand; 0: its own element each */
    size_t function; /* where in espl__kernels */
    espl__layernorm norm;
    view operand, out;
} stage;

typedef struct rows_step {
    step base;
    view in;
    int64_t rows, unit, last; /* elements of a unit, and of the last one */
    int64_t width;            /* elements of a row of the tensor */
    int scratch;              /* buffer: for each thread two units of f32 and one of codes */
    int64_t room, share;      /* elements that one has room for; bytes of one thread */
    int count;
    stage stages[MAX_STAGES];
} rows_step;

/* --- run ------------------------------------------------------------------------------------------- */

typedef struct rows_job {
    const rows_step *t;
    espl_session *s;
} rows_job;

static void *element_at(const espl_session *s, const view *v, int64_t at) {
    return buffer_at(s, v) + at * (int64_t)espl_dtype_bytes(v->type);
}

/* An operand from element `at` on as floats; codes are unpacked into `room`. */
static const float *operand_at(const stage *g, const espl_session *s, int64_t at, float *room, int64_t n) {
    const void *from = element_at(s, &g->operand, g->vector ? 0 : at);
    if (g->operand.type == ESPL_F32) return from;
    s->kernels->dequantize(g->operand.scale, g->operand.zero, from, room, n);
    return room;
}

/* A sum or product with an operand, which may have fewer rows. */
static void binary(const rows_step *t, const stage *g, const espl_session *s, const float *x, float *y,
                   int64_t at, int64_t n, float *room) {
    const espl__kernels *k = s->kernels;
    void (*f)(const float *, const float *, float *, int64_t) =
        g->kind == STAGE_ADD ? k->add_f32 : k->mul_f32;
    if (!g->period) {
        f(x, operand_at(g, s, at, room, n), y, n);
        return;
    }
    for (int64_t r = 0; r < n; r += t->width) {
        int64_t row = (at + r) / t->width / g->period % g->modulus;
        f(x + r, operand_at(g, s, row * t->width, room, t->width), y + r, t->width);
    }
}

typedef void function_fn(const float *in, float *out, int64_t n);

static function_fn *function_at(const espl__kernels *k, size_t offset) {
    function_fn *f;
    memcpy(&f, (const char *)k + offset, sizeof f);
    return f;
}

static void one_unit(const rows_job *j, int64_t at, int64_t n, char *scratch) {
    const rows_step *t = j->t;
    const espl_session *s = j->s;
    const espl__kernels *k = s->kernels;
    float *row = (float *)(void *)scratch, *other = row + t->room;
    uint8_t *codes = (uint8_t *)(other + t->room);
    const float *x = element_at(s, &t->in, at);
    if (t->in.type == ESPL_U8) {
        k->dequantize(t->in.scale, t->in.zero, element_at(s, &t->in, at), row, n);
        x = row;
    }
    for (int i = 0; i < t->count; i++) {
        const stage *g = &t->stages[i];
        float *y = g->stored && g->kind != STAGE_ROUND ? element_at(s, &g->out, at) : row;
        uint8_t *q;
        switch (g->kind) {
            case STAGE_ADD:
            case STAGE_MUL:
                binary(t, g, s, x, y, at, n, other);
                break;
            case STAGE_AFFINE:
                k->affine_f32(g->a, g->b, x, y, n);
                break;
            case STAGE_CLAMP:
                k->clamp_f32(g->a, g->b, x, y, n);
                break;
            case STAGE_FUNCTION:
                function_at(k, g->function)(x, y, n);
                break;
            case STAGE_SOFTMAX:
                for (int64_t r = 0; r < n; r += t->width) k->softmax_f32(g->a, x + r, y + r, t->width);
                break;
            case STAGE_LAYERNORM:
                for (int64_t r = 0; r < n; r += t->width) k->layernorm_f32(&g->norm, x + r, y + r, t->width);
                break;
            case STAGE_ROUND:
                q = g->stored ? element_at(s, &g->out, at) : codes;
                k->quantize(g->a, g->zero, 0, 255, x, q, n);
                if (i + 1 < t->count) k->dequantize(g->b, g->zero, q, row, n);
                y = row;
                break;
        }
        x = y;
    }
}

static void job_units(void *arg, int64_t begin, int64_t end, int thread) {
    const rows_job *j = arg;
    const rows_step *t = j->t;
    char *scratch = (char *)j->s->buffers[t->scratch].data + thread * t->share;
    for (int64_t r = begin; r < end; r++)
        one_unit(j, r * t->unit, r == t->rows - 1 ? t->last : t->unit, scratch);
}

static void run_rows(const step *st, espl_session *s) {
    rows_job job = {(const rows_step *)st, s};
    bool large = job.t->rows * job.t->unit >= PARALLEL_ELEMENTS;
    espl__parallel_for(large ? espl__context_pool(s->ctx) : NULL, job.t->rows, job_units, &job);
}

/* --- which nodes ---------------------------------------------------------------------------------------- */

/* A node as it continues from one of its inputs. */
typedef struct link {
    espl__node *node;
    stage_kind kind;
    const espl__value *operand;      /* of ADD and MUL */
    const espl__value *scale, *bias; /* of LAYERNORM */
    int64_t period, modulus;
    bool vector, store; /* store: others read the result too */
    float a, b;
    size_t function;
    const char *kernel;
} link;

static bool is_u8(const espl__value *v) {
    return espl__plan_store_type(v) == ESPL_U8;
}

static bool is_number(const espl__value *v) {
    return v->constant && v->dtype == ESPL_F32 && !espl__is_quantized(v) && espl_shape_count(&v->shape) == 1;
}

static int64_t width_of(const espl__value *v) {
    return v->shape.rank ? v->shape.dim[v->shape.rank - 1] : 1;
}

/* One element for each of the last dimension. */
static bool is_vector(const espl__value *v, int64_t width) {
    return v && v->constant && v->dtype == ESPL_F32 && v->shape.rank >= 1 && width_of(v) == width &&
           espl_shape_count(&v->shape) == width;
}

static bool is_power_of_two(float x) {
    int exponent;
    return isfinite(x) && fabsf(frexpf(x, &exponent)) == 0.5f;
}

static bool softmax_of_rows(const espl__node *n, const espl__value *v) {
    int64_t axis = espl__attr_int(n, "axis", n->opset >= 13 ? -1 : 1);
    return espl__node_is(n, "Softmax") && v->shape.rank > 0 &&
           (axis < 0 ? axis + v->shape.rank : axis) == v->shape.rank - 1;
}

/* x / c and x * c. Where the quotient is rounded to a grid the reciprocal has to be exact. */
static bool scale_link(const espl__value *c, bool divides, link *l) {
    float x = *(const float *)c->constant->data;
    l->kind = STAGE_AFFINE;
    l->kernel = "affine_f32";
    l->a = divides ? 1.0f / x : x;
    return !divides || is_power_of_two(x) || (isnormal(l->a) && !is_u8(l->node->outputs[0]));
}

/* Whole rows of `from` repeat over `to`: dimensions of 1, then equal ones, then of 1, then the row. */
static bool repeats_rows(const espl_shape *from, const espl_shape *to, link *l) {
    int last = to->rank - 1, offset = to->rank - from->rank, phase = 0;
    if (offset < 0 || from->rank < 1 || from->dim[from->rank - 1] != to->dim[last]) return false;
    l->period = l->modulus = 1;
    for (int d = last - 1; d >= 0; d--) {
        int64_t own = d >= offset ? from->dim[d - offset] : 1;
        if (to->dim[d] == 1) continue;
        if ((own != 1) != (phase == 1)) phase++;
        if (phase > 2 || (own != 1 && own != to->dim[d])) return false;
        if (phase == 0) l->period *= to->dim[d];
        if (phase == 1) l->modulus *= to->dim[d];
    }
    return true;
}

static bool operand_link(const espl_session *s, const espl__value *v, const espl__value *other, link *l) {
    bool same = espl_shape_equal(&other->shape, &v->shape), codes = is_u8(v) && is_u8(l->node->outputs[0]);
    l->operand = other;
    if (other == v || other->dtype != ESPL_F32) return false;
    if (!other->constant && (!s->forms[other->id] || s->spatial[other->id])) return false;
    /* What has a kernel of its own. */
    if (l->kind == STAGE_ADD && codes && is_u8(other) && (same || other->constant)) return false;
    l->vector = is_vector(other, width_of(v)) && other->shape.rank <= v->shape.rank;
    return l->vector || same || repeats_rows(&other->shape, &v->shape, l);
}

static bool binary_link(const espl_session *s, const espl__value *v, link *l) {
    const espl__node *n = l->node;
    bool add = espl__node_is(n, "Add"), mul = espl__node_is(n, "Mul");
    int side = n->inputs[0] == v ? 0 : 1;
    const espl__value *other = n->inputs[1 - side];
    if (!other) return false;
    if (is_number(other)) {
        float x = *(const float *)other->constant->data;
        if (mul || (espl__node_is(n, "Div") && side == 0)) return scale_link(other, !mul, l);
        if (!add && !espl__node_is(n, "Sub")) return false;
        l->kind = STAGE_AFFINE;
        l->kernel = "affine_f32";
        l->a = add || side == 0 ? 1 : -1;
        l->b = add || side == 1 ? x : -x;
        return true;
    }
    l->kind = add ? STAGE_ADD : STAGE_MUL;
    l->kernel = add ? "add_f32" : "mul_f32";
    return (add || mul) && operand_link(s, v, other, l);
}

static bool layernorm_link(const espl__value *v, link *l) {
    const espl__node *n = l->node;
    int64_t axis = espl__attr_int(n, "axis", -1), width = width_of(v);
    for (int i = 1; i < n->output_count; i++)
        if (n->outputs[i]) return false;
    if (v->shape.rank < 1 || (axis < 0 ? axis + v->shape.rank : axis) != v->shape.rank - 1) return false;
    l->scale = n->inputs[1];
    l->bias = n->input_count > 2 ? n->inputs[2] : NULL;
    l->a = espl__attr_float(n, "epsilon", 1e-5f);
    l->kind = STAGE_LAYERNORM;
    l->kernel = "layernorm_f32";
    return n->inputs[0] == v && is_vector(l->scale, width) && (!l->bias || is_vector(l->bias, width));
}

static bool function_link(const espl__value *v, link *l) {
    static const struct {
        const char *op, *kernel;
        size_t at;
    } list[] = {{"Erf", "erf_f32", offsetof(espl__kernels, erf_f32)},
                {"Exp", "exp_f32", offsetof(espl__kernels, exp_f32)},
                {"Gelu", "gelu_f32", offsetof(espl__kernels, gelu_f32)},
                {"Sigmoid", "sigmoid_f32", offsetof(espl__kernels, sigmoid_f32)},
                {"Tanh", "tanh_f32", offsetof(espl__kernels, tanh_f32)}};
    const espl__node *n = l->node;
    if (n->inputs[0] != v || (is_u8(v) && is_u8(n->outputs[0]))) return false; /* that is a table */
    l->kind = STAGE_FUNCTION;
    for (size_t i = 0; i < ESPL_COUNT(list); i++)
        if (espl__node_is(n, list[i].op)) {
            bool by_tanh = i == 2 && strcmp(espl__attr_string(n, "approximate", "none"), "tanh") == 0;
            l->function = by_tanh ? offsetof(espl__kernels, gelu_tanh_f32) : list[i].at;
            l->kernel = by_tanh ? "gelu_tanh_f32" : list[i].kernel;
            return true;
        }
    l->kind = STAGE_CLAMP;
    l->kernel = "clamp_f32";
    return espl__clip_range(n, &l->a, &l->b);
}

/* Whether `n` can go on from v. */
static bool make_link(const espl_session *s, espl__node *n, const espl__value *v, link *l) {
    *l = (link){.node = n};
    const espl__value *y = n->output_count > 0 ? n->outputs[0] : NULL;
    if (!y || s->done[n->id] || y->dtype != ESPL_F32 || !espl_shape_equal(&y->shape, &v->shape)) return false;
    if (softmax_of_rows(n, v)) {
        l->kind = STAGE_SOFTMAX;
        l->kernel = "softmax_f32";
        l->a = 1;
        return true;
    }
    if (espl__node_is(n, "LayerNormalization")) return layernorm_link(v, l);
    if (s->spatial[y->id] || n->output_count != 1) return false;
    if (espl__node_is(n, "Identity")) { /* a rounding */
        l->kind = STAGE_ROUND;
        l->kernel = "quantize";
        return is_u8(y);
    }
    if (is_u8(v) && is_u8(y) && espl__plan_unary_input(n) >= 0) return false; /* a table */
    bool binary = espl__node_is(n, "Add") || espl__node_is(n, "Mul") || espl__node_is(n, "Sub") ||
                  espl__node_is(n, "Div");
    return binary ? binary_link(s, v, l) : function_link(v, l);
}

/* Follows from `n` on; returns the number of links, 0 if the node is not for here. */
static int follow(const espl_session *s, espl__node *n, const espl__value *v, link links[MAX_LINKS]) {
    int count = 0;
    while (n && make_link(s, n, v, &links[count])) {
        const espl__value *y = n->outputs[0];
        link *l = &links[count++], probe;
        int readers = 0;
        n = NULL;
        for (int i = 0; i < s->graph->node_count; i++) {
            espl__node *r = s->graph->nodes[i];
            bool reads = false;
            for (int k = 0; k < r->input_count; k++) reads |= r->inputs[k] == y;
            readers += reads;
            if (reads && !n && count < MAX_LINKS && make_link(s, r, y, &probe)) n = r;
        }
        l->store = !n || readers > 1 || espl__graph_is_output(s->graph, y);
        v = y;
    }
    return count;
}

/* --- plan -------------------------------------------------------------------------------------------- */

static bool is_reduction(const link *l) {
    return l->kind == STAGE_SOFTMAX || l->kind == STAGE_LAYERNORM;
}

/* How many elements the kernels get at once: whole rows if they mean something to the work. */
static int64_t choose_unit(const link *links, int count, const espl__value *v) {
    int64_t width = width_of(v), total = espl_shape_count(&v->shape);
    bool by_rows = false;
    for (int i = 0; i < count; i++) by_rows |= is_reduction(&links[i]) || links[i].vector || links[i].period;
    return ESPL_MIN(by_rows ? ESPL_MAX(UNIT / width, 1) * width : UNIT, total);
}

/* A constant vector, as often as it fits into `unit`. */
static const float *repeated(espl_session *s, const espl__value *v, int64_t unit, espl_diag *diag) {
    view from;
    float *to = espl__plan_weights(s, sizeof *to * (uint64_t)unit);
    int64_t width = width_of(v);
    if (!to || espl__plan_require(s, NULL, v, ESPL_F32, WANT_ROWS, 1, &from, diag) != ESPL_OK) return NULL;
    for (int64_t i = 0; i < unit; i++) to[i] = ((const float *)(void *)buffer_at(s, &from))[i % width];
    return to;
}

static espl_status plan_operand(espl_session *s, const link *l, int64_t unit, stage *g, espl_diag *diag) {
    if (!l->vector) {
        espl_dtype type = espl__plan_store_type(l->operand);
        return espl__plan_require(s, l->node, l->operand, type, WANT_ROWS, 1, &g->operand, diag);
    }
    const float *data = repeated(s, l->operand, unit, diag);
    g->vector = true;
    g->operand = (view){.type = ESPL_F32, .rank = 1, .dim = {unit}, .stride = {4}};
    if (!data || (g->operand.buffer = espl__plan_constant(s, data, sizeof *data * (uint64_t)unit)) < 0)
        return espl__nomem(diag, sizeof *data * (uint64_t)unit);
    return ESPL_OK;
}

/* The stages of one link: the work, unless softmax can take the factor before it along; the rounding; the
 * store. */
static espl_status plan_link(espl_session *s, const link *l, int64_t unit, rows_step *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *y = l->node->outputs[0];
    stage *g = t->count ? &t->stages[t->count - 1] : NULL;
    float scale;
    bool scaled = g && l->kind == STAGE_SOFTMAX && g->kind == STAGE_AFFINE && !g->stored && g->b == 0 &&
                  g->a > 0 && isfinite(g->a);
    if (scaled)
        *g = (stage){.kind = STAGE_SOFTMAX, .a = g->a};
    else if (l->kind != STAGE_ROUND) {
        g = &t->stages[t->count++];
        *g = (stage){.kind = l->kind,
                     .a = l->a,
                     .b = l->b,
                     .period = l->period,
                     .modulus = l->modulus,
                     .function = l->function};
    }
    if (l->operand) ESPL_TRY(plan_operand(s, l, unit, g, diag));
    if (l->kind == STAGE_LAYERNORM) {
        g->norm = (espl__layernorm){repeated(s, l->scale, t->width, diag), NULL, l->a};
        if (l->bias) g->norm.bias = repeated(s, l->bias, t->width, diag);
        if (!g->norm.scale || (l->bias && !g->norm.bias))
            return espl__nomem(diag, sizeof(float) * (uint64_t)t->width);
    }
    if (is_u8(y)) {
        g = &t->stages[t->count++];
        *g = (stage){.kind = STAGE_ROUND};
        espl__plan_grid(y, &scale, &g->zero);
        g->a = 1.0f / scale;
        g->b = scale;
    }
    if (!l->store) return ESPL_OK;
    s->spatial[y->id] = 0; /* rows, whatever its neighbours would like */
    ESPL_TRY(espl__plan_output(s, y, espl__plan_store_type(y), &g->out, diag));
    g->stored = true;
done:
    return status;
}

static void use_buffers(espl_session *s, const rows_step *t) {
    espl__plan_use(s, t->in.buffer);
    espl__plan_use(s, t->scratch);
    for (int i = 0; i < t->count; i++) {
        const stage *g = &t->stages[i];
        if (g->kind == STAGE_ADD || g->kind == STAGE_MUL) espl__plan_use(s, g->operand.buffer);
        if (g->stored) espl__plan_use(s, g->out.buffer);
    }
}

/* The step goes by the most expensive of its nodes. */
static const link *principal(const link *links, int count) {
    const link *best = links;
    for (int i = 0; i < count; i++) {
        bool better = links[i].kind == STAGE_FUNCTION ? !is_reduction(best) && best->kind != STAGE_FUNCTION
                                                      : is_reduction(&links[i]) && !is_reduction(best);
        if (better) best = &links[i];
    }
    return best;
}

static espl_status plan_rows(espl_session *s, const espl__value *v, const link *links, int count,
                             espl_diag *diag) {
    espl_status status = ESPL_OK;
    rows_step plan = {.unit = choose_unit(links, count, v), .width = width_of(v)}, *t;
    int64_t total = espl_shape_count(&v->shape);
    bool integer = is_u8(v);
    plan.rows = (total + plan.unit - 1) / plan.unit;
    plan.last = total - (plan.rows - 1) * plan.unit;
    ESPL_TRY(espl__plan_require(s, links->node, v, espl__plan_store_type(v), WANT_ROWS, 1, &plan.in, diag));
    for (int i = 0; i < count; i++) ESPL_TRY(plan_link(s, &links[i], plan.unit, &plan, diag));
    plan.room = (plan.unit + LINE - 1) / LINE * LINE;
    plan.share = plan.room * (2 * (int64_t)sizeof(float) + 1);
    plan.scratch = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(plan.share * s->threads));
    if (plan.scratch < 0) return espl__nomem(diag, (uint64_t)plan.share);
    const link *main = principal(links, count);
    if (!(t = espl__plan_step(s, sizeof *t, main->node, main->kernel, run_rows)))
        return espl__nomem(diag, sizeof *t);
    plan.base = t->base;
    *t = plan;
    use_buffers(s, t);
    for (int i = 0, g = 0; i < count; i++) {
        const espl__value *y = links[i].node->outputs[0];
        s->done[links[i].node->id] = true;
        integer |= is_u8(y);
        if (!links[i].store) continue;
        while (!t->stages[g].stored) g++;
        ESPL_TRY(espl__plan_produce(s, y, &t->stages[g++].out, diag));
    }
    t->base.format = integer ? "s8" : "f32";
done:
    return status;
}

espl_status espl__lower_rows(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    link links[MAX_LINKS];
    if (s->observer || n->output_count < 1 || !n->outputs[0] || espl_shape_count(&n->outputs[0]->shape) == 0)
        return ESPL_OK;
    for (int side = 0; side < 2 && side < n->input_count; side++) {
        const espl__value *v = n->inputs[side];
        if (!v || v->constant || v->dtype != ESPL_F32 || !s->forms[v->id]) continue;
        if (s->spatial[v->id] && !espl__node_is(n, "Softmax") && !espl__node_is(n, "LayerNormalization"))
            continue;
        int count = follow(s, n, v, links);
        if (count == 0) continue;
        *taken = true;
        return plan_rows(s, v, links, count, diag);
    }
    return ESPL_OK;
}
