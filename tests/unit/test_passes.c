/* Passes: every rewritten graph computes what the graph before it computed. The judges are the operators' references on
 * the graph as it was, Quantize- and DequantizeLinear nodes included. */
#include "../clock.h"
#include "passes_rig.h"

static int from_seed(void) { return getenv("ESPL_SEED") ? atoi(getenv("ESPL_SEED")) : 0; }
static int seeds(int usual) {
    const char *count = getenv("ESPL_COUNT");
    return getenv("ESPL_SEED") ? 1 : count ? atoi(count) : usual;
}

/* --- QuantizeLinear and DequantizeLinear --------------------------------------------------------------------- */

static espl__value *zero_of(rig *r, espl_format format, int zero) {
    uint8_t code = (uint8_t)zero;
    return constant_of(r, format == ESPL_FORMAT_U8 ? ESPL_U8 : ESPL_S8, (espl_shape){0}, &code);
}

static espl__value *quantized(rig *r, espl__value *x, espl_format format, float scale, int zero) {
    if (format == ESPL_FORMAT_U8 && zero == 0 && chance(r, 30)) return APPLY(r, "QuantizeLinear", x, scalar_of(r, scale));
    return APPLY(r, "QuantizeLinear", x, scalar_of(r, scale), zero_of(r, format, zero));
}
static espl__value *dequantized(rig *r, espl__value *codes, espl_format format, float scale, int zero) {
    if (zero == 0 && chance(r, 30))
        return APPLY(r, "DequantizeLinear", codes, scalar_of(r, scale));
    return APPLY(r, "DequantizeLinear", codes, scalar_of(r, scale), zero_of(r, format, zero));
}

typedef struct chosen {
    espl_format format;
    float scale;
    int zero;
} chosen;

static chosen choose_grid(rig *r, const espl__value *v, const float *real) {
    double lo = 0, hi = 1e-3;
    for (int64_t i = 0; i < elements(v); i++) {
        lo = fmin(lo, real[i]);
        hi = fmax(hi, real[i]);
    }
    if (chance(r, 50)) return (chosen){ESPL_FORMAT_S8, (float)(fmax(-lo, hi) / 127), chance(r, 70) ? 0 : (int)pick(r, -5, 5)};
    float scale = (float)((hi - lo) / 255);
    return (chosen){ESPL_FORMAT_U8, scale, (int)nearbyint(-lo / scale)};
}

/* Makes the readers of `v` that exist now (and perhaps the graph's output) read rounded values, through one pair or
 * through pairs of their own. */
static void round_value(rig *r, espl__value *v, const float *real, int nodes, espl__value **out, int outputs) {
    chosen c = choose_grid(r, v, real);
    espl__value *codes = quantized(r, v, c.format, c.scale, c.zero), *y = dequantized(r, codes, c.format, c.scale, c.zero);
    for (int i = 0; i < nodes; i++)
        for (int k = 0; k < r->g->nodes[i]->input_count; k++) {
            if (r->g->nodes[i]->inputs[k] != v || chance(r, 10)) continue; /* this one reads it unrounded */
            if (chance(r, 20)) y = dequantized(r, codes, c.format, c.scale, c.zero);
            if (chance(r, 10)) {
                codes = quantized(r, v, c.format, c.scale, c.zero);
                y = dequantized(r, codes, c.format, c.scale, c.zero);
            }
            if (chance(r, 8)) { /* rounded twice: the same again, or coarser */
                float coarse = chance(r, 50) ? c.scale : 1.7f * c.scale;
                y = dequantized(r, quantized(r, y, c.format, coarse, c.zero), c.format, coarse, c.zero);
            }
            r->g->nodes[i]->inputs[k] = y;
        }
    for (int i = 0; i < outputs; i++)
        if (out[i] == v && chance(r, 70)) out[i] = chance(r, 15) ? codes : y;
    espl_graph *g = r->g;
    for (int i = nodes; i < g->node_count; i++) g->nodes[i]->mark = 0;
}

/* A weight becomes codes behind a DequantizeLinear, or numbers behind a pair. */
static void round_weight(rig *r, espl__node *n) {
    espl__value *w = n->inputs[1];
    int axis = chance(r, 60) ? n->op->weight_axis(n, 1) : -1;
    int64_t channels = axis < 0 ? 1 : dim_of(w, axis), inner = 1, count = elements(w);
    for (int d = axis + 1; axis >= 0 && d < w->shape.rank; d++) inner *= dim_of(w, d);
    bool u8 = chance(r, 25);
    float *scale = calloc((size_t)channels, 4);
    const float *x = w->constant->data;
    for (int64_t i = 0; i < count; i++) {
        float *m = &scale[axis < 0 ? 0 : i / inner % channels];
        *m = fmaxf(*m, fabsf(x[i]));
    }
    for (int64_t c = 0; c < channels; c++) scale[c] = scale[c] > 0 ? scale[c] / 127 : 1;
    espl_shape one = axis < 0 ? (espl_shape){0} : SHAPE(channels);
    espl__value *sv = constant_of(r, ESPL_F32, one, scale);
    uint8_t *zeros = calloc((size_t)channels, 1);
    if (u8) memset(zeros, 128, (size_t)channels);
    espl__value *zv = constant_of(r, u8 ? ESPL_U8 : ESPL_S8, one, zeros), *from = w;
    free(zeros);
    espl__node *q = NULL, *dq;
    if (chance(r, 30)) {
        q = NODE(r, "QuantizeLinear", w, sv, zv);
        if (axis >= 0) set_int(r, q, "axis", chance(r, 30) ? axis - w->shape.rank : axis);
        from = done_of(r, q);
    } else {
        uint8_t *codes = malloc((size_t)count);
        for (int64_t i = 0; i < count; i++)
            codes[i] = (uint8_t)((int)nearbyintf(x[i] / scale[axis < 0 ? 0 : i / inner % channels]) + (u8 ? 128 : 0));
        from = constant_of(r, u8 ? ESPL_U8 : ESPL_S8, w->shape, codes);
        free(codes);
    }
    dq = NODE(r, "DequantizeLinear", from, sv, zv);
    if (axis >= 0) set_int(r, dq, "axis", axis);
    n->inputs[1] = done_of(r, dq);
    free(scale);
}

/* A random graph with pairs sprinkled over it. */
static void random_qdq_graph(random_graph *x, espl_context *ctx, uint64_t seed) {
    random_graph_of(x, ctx, seed, 7, true);
    rig *r = &x->r;
    espl_graph *g = r->g, *wide = NULL;
    int nodes = g->node_count, values = g->value_count;
    /* What every value holds, from the references. */
    espl__value *all[MAX_LIVE * 4];
    int count = 0;
    assert_int_equal(espl__graph_clone(g, &wide, NULL), ESPL_OK);
    for (int i = 0; i < values; i++)
        if (!g->values[i]->constant) all[count++] = wide->values[i];
    assert_true(espl__graph_set_io(wide, wide->inputs, 1, all, count));
    espl_tensor in = {ESPL_F32, g->inputs[0]->shape, malloc((size_t)elements(g->inputs[0]) * 4 + 4)}, real[MAX_LIVE * 4];
    espl__rng rng = espl__rng_seed(seed, 3);
    fill_random(&rng, &in);
    run_reference_of(ctx, wide, &in, real);
    for (int i = 0; i < nodes; i++) {
        espl__node *n = g->nodes[i];
        bool layer = espl__node_is(n, "Conv") || espl__node_is(n, "Gemm") || espl__node_is(n, "MatMul");
        if (layer && n->inputs[1]->constant && chance(r, 75)) round_weight(r, n);
    }
    for (int i = 0; i < count; i++)
        if (chance(r, 75) && all[i]->dtype == ESPL_F32)
            round_value(r, g->values[all[i]->origin], real[i].data, nodes, g->outputs, g->output_count);
    for (int i = 0; i < count; i++) espl_tensor_free(ctx, &real[i]);
    free(in.data);
    espl_graph_destroy(&wide);
    /* Distinct outputs only; names that a user would know. */
    int kept = 0;
    for (int i = 0; i < g->output_count; i++) {
        bool again = g->outputs[i]->is_input;
        for (int k = 0; k < kept; k++) again |= g->outputs[k] == g->outputs[i];
        if (!again) g->outputs[kept++] = g->outputs[i];
    }
    g->output_count = kept;
    for (int i = 0; i < kept; i++) {
        char name[32];
        snprintf(name, sizeof name, "result%d", i);
        g->outputs[i]->name = espl__arena_strdup(&g->arena, name);
    }
    for (int i = 0; i < g->node_count; i++) g->nodes[i]->id = i;
    r->diag = (espl_diag){0};
    if (espl__graph_verify(g, &r->diag) != ESPL_OK) fail_msg("%s", r->diag.message);
}

static void random_pairs_are_absorbed(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int i = from_seed(); i < from_seed() + seeds(1500); i++) {
        random_graph x;
        random_qdq_graph(&x, ctx, 8000000 + (uint64_t)i);
        if (getenv("ESPL_TRACE")) {
            printf("seed %d\n", i);
            print_graph(x.r.g);
            fflush(stdout);
        }
        espl_graph *g = passed(&x.r, 0.03, (uint64_t)i);
        espl_graph_destroy(&g);
        espl_graph_destroy(&x.r.g);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* x -> Q -> DQ -> Conv(codes -> DQ) -> Relu -> Q -> DQ: nothing of the pairs is left, the integers are on the values. */
static void a_layer_in_pairs_becomes_integers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 3);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 3, 6, 6));
    espl__value *xq = dequantized(&r, quantized(&r, x, ESPL_FORMAT_U8, 0.02f, 120), ESPL_FORMAT_U8, 0.02f, 120);
    espl__node *n = NODE(&r, "Conv", xq, random_of(&r, SHAPE(4, 3, 3, 3), 0.2f));
    espl__value *a = APPLY(&r, "Relu", done_of(&r, n));
    round_weight(&r, n);
    espl__value *y = dequantized(&r, quantized(&r, a, ESPL_FORMAT_U8, 0.01f, 0), ESPL_FORMAT_U8, 0.01f, 0);
    IO(&r, x, y);
    espl_graph *g = passed(&r, 0.01, 1);
    assert_int_equal(count_of(g, "QuantizeLinear") + count_of(g, "DequantizeLinear"), 0);
    assert_true(espl__is_quantized(g->inputs[0]) && g->inputs[0]->quant.zero[0] == 120);
    assert_true(espl__is_quantized(g->outputs[0]));
    assert_string_equal(g->outputs[0]->name, "out0");
    espl_session *s = session_of(ctx, g);
    bool integers = false;
    for (int i = 0; i < espl_session_layer_count(s); i++) integers |= strcmp(espl_session_layer(s, i).kernel, "conv_u8") == 0;
    assert_true(integers);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* What has no grid of its own in the IR stays a node and is computed as one. */
static void odd_pairs_stay_nodes(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 7; kind++) {
        rig r;
        rig_begin(&r, ctx, 3);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3)), *y = NULL;
        const float scales[3] = {0.1f, 0.2f, 0.3f};
        const uint16_t wide = 100;
        const int8_t zeros[3] = {1, 2, 3};
        espl__node *q, *d;
        switch (kind) {
            case 0: /* per axis */
                q = NODE(&r, "QuantizeLinear", x, constant_of(&r, ESPL_F32, SHAPE(3), scales), constant_of(&r, ESPL_S8, SHAPE(3), zeros));
                d = NODE(&r, "DequantizeLinear", done_of(&r, q), q->inputs[1], q->inputs[2]);
                y = done_of(&r, d);
                break;
            case 1: /* sixteen bits */
                q = NODE(&r, "QuantizeLinear", x, scalar_of(&r, 0.001f), constant_of(&r, ESPL_U16, (espl_shape){0}, &wide));
                q->opset = 21;
                d = NODE(&r, "DequantizeLinear", done_of(&r, q), q->inputs[1], q->inputs[2]);
                d->opset = 21;
                y = done_of(&r, d);
                break;
            case 2: /* other grids before and after */
                y = dequantized(&r, quantized(&r, x, ESPL_FORMAT_S8, 0.05f, 0), ESPL_FORMAT_S8, 0.07f, 0);
                break;
            case 3: /* codes are what the network gives */ y = quantized(&r, x, ESPL_FORMAT_S8, 0.05f, 3); break;
            case 4: /* codes are what somebody else reads */
                y = quantized(&r, x, ESPL_FORMAT_S8, 0.05f, 3);
                d = NODE(&r, "Cast", y);
                set_int(&r, d, "to", 1);
                y = APPLY(&r, "Add", dequantized(&r, y, ESPL_FORMAT_S8, 0.05f, 3), done_of(&r, d));
                break;
            case 5: /* codes come from outside */
                x = input_of(&r, "codes", ESPL_U8, SHAPE(2, 3));
                y = APPLY(&r, "Relu", dequantized(&r, x, ESPL_FORMAT_U8, 0.05f, 128));
                break;
            default: /* scales that are computed */
                d = NODE(&r, "ReduceMax", APPLY(&r, "Abs", x));
                set_int(&r, d, "keepdims", 0);
                q = NODE(&r, "QuantizeLinear", x, done_of(&r, d), zero_of(&r, ESPL_FORMAT_S8, 0));
                y = APPLY(&r, "DequantizeLinear", done_of(&r, q), q->inputs[1], q->inputs[2]);
        }
        IO(&r, x, y);
        espl_graph *g = passed(&r, 1e-6, (uint64_t)kind);
        assert_true(count_of(g, "QuantizeLinear") + count_of(g, "DequantizeLinear") >= 1);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* One tensor of codes read through two DequantizeLinear with other scales, and given out as it is. */
static void shared_codes_have_two_meanings(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 3);
    int8_t codes[12];
    for (int i = 0; i < 12; i++) codes[i] = (int8_t)(11 * i - 60);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3)), *w = constant_of(&r, ESPL_S8, SHAPE(3, 4), codes);
    espl__value *a = APPLY(&r, "MatMul", x, dequantized(&r, w, ESPL_FORMAT_S8, 0.1f, 0));
    espl__value *b = APPLY(&r, "MatMul", x, dequantized(&r, w, ESPL_FORMAT_S8, 0.3f, 2));
    IO(&r, x, a, b, w);
    espl_graph *g = passed(&r, 1e-5, 1);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* A file may claim anything: codes of one type with a zero point of another, constants that are no f32. */
static void types_that_do_not_fit_are_refused(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 5; kind++) {
        rig r;
        rig_begin(&r, ctx, 3);
        static const uint8_t raw[64];
        espl__value *x = input_of(&r, "x", kind == 4 ? ESPL_S32 : ESPL_F32, SHAPE(2, 3)), *y;
        espl__value *s = scalar_of(&r, 0.5f), *z = zero_of(&r, ESPL_FORMAT_U8, 3);
        espl__node *n;
        switch (kind) {
            case 0: n = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(3, 2), raw), s, z); break;
            case 1: n = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_F32, SHAPE(3, 2), raw), s, z); break;
            case 2: n = NODE(&r, "DequantizeLinear", NODE(&r, "QuantizeLinear", constant_of(&r, ESPL_F64, SHAPE(3, 2), raw), s, z)->outputs[0], s, z); break;
            case 3: n = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(3, 2), raw), s, constant_of(&r, ESPL_S32, (espl_shape){0}, raw)); break;
            default: n = NODE(&r, "DequantizeLinear", NODE(&r, "QuantizeLinear", x, s, z)->outputs[0], s, z); break;
        }
        y = kind == 4 ? NODE(&r, "Relu", n->outputs[0])->outputs[0] : NODE(&r, "MatMul", x, n->outputs[0])->outputs[0];
        outputs_are(&r, 1, &x, 1, &y);
        espl_diag diag = {0};
        espl_status status = espl__passes_run(r.g, &diag);
        if (kind < 4) {
            assert_int_not_equal(status, ESPL_OK);
            assert_true(diag.message[0]);
        } else { /* integers may be quantized */
            if (status != ESPL_OK) fail_msg("%s", diag.message);
            espl_session *session = session_of(ctx, r.g);
            run_io io = io_of(session, 1);
            ((int32_t *)io.in[0].data)[1] = 7;
            ((int32_t *)io.in[0].data)[2] = -9;
            ((int32_t *)io.in[0].data)[3] = 1000000;
            run_session(session, &io);
            const float *out = io.out[0].data;
            assert_true(out[0] == 0 && out[1] == 7 && out[2] == 0 && out[3] == 126);
            io_free(&io);
            espl_session_destroy(&session);
        }
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- batch norms and biases ----------------------------------------------------------------------------------------- */

static espl__value *norm_of(rig *r, espl__value *x, int64_t channels) {
    espl__value *p[5] = {x};
    for (int i = 1; i < 5; i++) p[i] = random_of(r, SHAPE(channels), 0.5f);
    float *var = p[4]->constant->data;
    for (int64_t c = 0; c < channels; c++) var[c] = 0.5f + fabsf(var[c]);
    return done_of(r, node_of(r, "BatchNormalization", 5, p, 1));
}

static void batch_norms_go_into_layers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 10; kind++) {
        rig r;
        rig_begin(&r, ctx, (uint64_t)kind + 20);
        bool matrix = kind >= 5 && kind <= 7;
        espl__value *x = input_of(&r, "x", ESPL_F32, matrix ? SHAPE(6, 5) : SHAPE(2, 4, 5, 6)), *y, *w, *extra = NULL;
        espl__node *n;
        int left = 0; /* batch norms that must stay */
        switch (kind) {
            case 0: n = NODE(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 3, 3), 0.2f)); break;
            case 1: n = NODE(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 3, 3), 0.2f), random_of(&r, SHAPE(6), 1)); break;
            case 2:
                n = NODE(&r, "Conv", x, random_of(&r, SHAPE(6, 2, 3, 3), 0.2f), random_of(&r, SHAPE(6), 1));
                set_int(&r, n, "group", 2);
                break;
            case 3: n = NODE(&r, "ConvTranspose", x, random_of(&r, SHAPE(4, 6, 2, 2), 0.2f)); break;
            case 4:
                n = NODE(&r, "ConvTranspose", x, random_of(&r, SHAPE(4, 3, 2, 2), 0.2f));
                set_int(&r, n, "group", 2);
                left = -1; /* either is right */
                break;
            case 5: n = NODE(&r, "MatMul", x, random_of(&r, SHAPE(5, 6), 0.2f)); break;
            case 6:
                n = NODE(&r, "Gemm", x, random_of(&r, SHAPE(6, 5), 0.2f), random_of(&r, SHAPE(6), 1));
                set_int(&r, n, "transB", 1);
                break;
            case 7: /* a bias per row, which has as many elements as there are channels */
                n = NODE(&r, "Gemm", x, random_of(&r, SHAPE(5, 6), 0.2f), random_of(&r, SHAPE(6, 1), 1));
                left = -1;
                break;
            case 8: /* somebody else sees the layer's own output */
                n = NODE(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 3, 3), 0.2f));
                extra = n->outputs[0];
                left = 1;
                break;
            default: /* another layer has the same weights */
                w = random_of(&r, SHAPE(6, 4, 3, 3), 0.2f);
                n = NODE(&r, "Conv", x, w);
                extra = APPLY(&r, "Conv", x, w);
        }
        y = norm_of(&r, done_of(&r, n), 6);
        if (extra)
            IO(&r, x, y, extra);
        else
            IO(&r, x, y);
        espl_graph *g = passed(&r, 1e-5, (uint64_t)kind);
        if (left >= 0) assert_int_equal(count_of(g, "BatchNormalization"), left);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void additions_become_biases(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 9; kind++) {
        rig r;
        rig_begin(&r, ctx, (uint64_t)kind + 40);
        bool matrix = kind >= 5;
        espl__value *x = input_of(&r, "x", ESPL_F32, matrix ? SHAPE(6, 5) : SHAPE(2, 4, 5, 8)), *y, *c;
        int left = 0;
        y = matrix ? APPLY(&r, "MatMul", x, random_of(&r, SHAPE(5, 6), 0.2f)) : APPLY(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 3, 3), 0.2f));
        switch (kind) {
            case 0: c = random_of(&r, SHAPE(6, 1, 1), 1); break;
            case 1: c = random_of(&r, SHAPE(1, 6, 1, 1), 1); break;
            case 2: /* along the rows, which are six too */ c = random_of(&r, SHAPE(6), 1), left = 1; break;
            case 3: c = random_of(&r, SHAPE(2, 1, 1, 1), 1), left = 1; break;
            case 4: c = random_of(&r, SHAPE(6, 3, 1), 1), left = 1; break;
            case 5: c = random_of(&r, SHAPE(6), 1); break;
            case 6: c = random_of(&r, SHAPE(1, 6), 1); break;
            case 7: c = random_of(&r, SHAPE(6, 1), 1), left = 1; break;
            default: /* makes the result larger */ c = random_of(&r, SHAPE(2, 1, 6), 1), left = 1; break;
        }
        if (kind == 2) { /* six columns */
            espl_graph_destroy(&r.g);
            rig_begin(&r, ctx, 50);
            x = input_of(&r, "x", ESPL_F32, SHAPE(2, 4, 5, 6));
            y = APPLY(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 1, 1), 0.2f));
            c = random_of(&r, SHAPE(6), 1);
        }
        if (kind == 4) {
            espl_graph_destroy(&r.g);
            rig_begin(&r, ctx, 50);
            x = input_of(&r, "x", ESPL_F32, SHAPE(2, 4, 5, 6));
            y = APPLY(&r, "Conv", x, random_of(&r, SHAPE(6, 4, 3, 3), 0.2f));
            c = random_of(&r, SHAPE(6, 3, 1), 1);
        }
        y = kind % 2 ? APPLY(&r, "Add", c, y) : APPLY(&r, "Add", y, c);
        IO(&r, x, y);
        espl_graph *g = passed(&r, 1e-5, (uint64_t)kind);
        assert_int_equal(count_of(g, "Add"), left);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- shapes --------------------------------------------------------------------------------------------------------------- */

/* x.view(x.shape[0], -1) and x.view(-1, 2, x.shape[0] * ...), as exporters write them. */
static void batch_arithmetic_becomes_a_constant(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 4, 3, 2));
    espl__value *n = APPLY(&r, "Unsqueeze", APPLY(&r, "Gather", APPLY(&r, "Shape", x), constant_of(&r, ESPL_S64, (espl_shape){0}, &(int64_t){0})), INTS(&r, 0));
    espl__value *target[2] = {n, INTS(&r, 24)};
    espl__node *cat = node_of(&r, "Concat", 2, target, 1);
    set_int(&r, cat, "axis", 0);
    espl__value *y = APPLY(&r, "Reshape", x, done_of(&r, cat));
    IO(&r, x, APPLY(&r, "Relu", y));
    for (int64_t batch = 1; batch <= 5; batch += 2) {
        espl_graph *g = NULL;
        assert_int_equal(espl__graph_clone(r.g, &g, NULL), ESPL_OK);
        pass_all(g);
        assert_int_equal(count_of(g, "Shape") + count_of(g, "Gather") + count_of(g, "Concat"), 0);
        espl_shape shape = SHAPE(batch, 4, 3, 2);
        espl_session_options options = {.input_shapes = &shape};
        espl_session *s = NULL;
        espl_tensor expected;
        assert_int_equal(espl_session_create(ctx, g, &options, &s, NULL), ESPL_OK);
        run_io io = io_of(s, 1);
        run_reference_of(ctx, r.g, io.in, &expected);
        run_session(s, &io);
        assert_true(difference(&io.out[0], &expected) == 0);
        assert_int_equal(io.out[0].shape.dim[0], batch);
        espl_tensor_free(ctx, &expected);
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void what_does_nothing_goes(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3, 4)), *y = x;
    y = APPLY(&r, "Identity", y);
    y = APPLY(&r, "Dropout", y);
    espl__node *n = NODE(&r, "Transpose", y);
    SET_INTS(&r, n, "perm", 0, 1, 2);
    y = done_of(&r, n);
    n = NODE(&r, "Cast", y);
    set_int(&r, n, "to", 1);
    y = done_of(&r, n);
    n = NODE(&r, "Concat", y);
    set_int(&r, n, "axis", 1);
    y = APPLY(&r, "Reshape", done_of(&r, n), INTS(&r, 6, 4));
    y = APPLY(&r, "Reshape", y, INTS(&r, 4, -1));
    y = APPLY(&r, "Reshape", y, INTS(&r, 4, 6));
    y = APPLY(&r, "Relu", y);
    y = APPLY(&r, "Identity", y); /* an output keeps its name */
    IO(&r, x, y);
    espl_graph *g = passed(&r, 0, 1);
    assert_int_equal(count_of(g, "Reshape"), 1);
    assert_int_equal(count_of(g, "Dropout") + count_of(g, "Transpose") + count_of(g, "Cast") + count_of(g, "Concat"), 0);
    assert_true(g->node_count <= 3);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    /* A view that copies a dimension of its input may not skip the view before it. */
    rig_begin(&r, ctx, 1);
    x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3, 4));
    y = APPLY(&r, "Reshape", APPLY(&r, "Reshape", x, INTS(&r, 12, 2)), INTS(&r, 0, 1, -1));
    IO(&r, x, APPLY(&r, "Relu", y));
    g = passed(&r, 0, 1);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Files of a megabyte can hold a hundred thousand nodes that do nothing. */
static void long_chains_take_linear_time(void **state) {
    enum { N = 40000 };
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2)), *y = x;
    for (int i = 0; i < N; i++) {
        char name[32];
        espl__node *n = espl__graph_node(r.g, espl__op_find("", i % 100 ? "Identity" : "Neg"), "", 1, 1, 0);
        snprintf(name, sizeof name, "value %d", i);
        n->inputs[0] = y;
        y = espl__graph_value(r.g, name);
        espl__node_set_output(n, 0, y);
    }
    IO(&r, x, y);
    double begin = seconds_worked();
    pass_all(r.g);
    if (seconds_worked() - begin > 5 * ESPL_SLOWNESS) fail_msg("the passes took %g s", seconds_worked() - begin);
    assert_int_equal(r.g->node_count, N / 100 + 1); /* the last Identity is the output */
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* An input that is an output, an output that is given out twice, a constant output. */
static void outputs_stay_what_they_were(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3));
    espl__value *a = APPLY(&r, "Relu", x), *b = APPLY(&r, "Identity", a), *c = APPLY(&r, "Identity", x);
    espl__value *d = APPLY(&r, "Neg", scalar_of(&r, 3)), *out[6] = {x, a, b, c, d, a};
    outputs_are(&r, 1, &x, 6, out);
    espl_graph *g = passed(&r, 0, 1);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Shape arithmetic is computed; what would be enormous is not. */
static void folding_has_a_limit(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1)), *y = x;
    for (int i = 0; i < 200; i++) /* 60 MB each */
        y = APPLY(&r, "Add", y, APPLY(&r, "ReduceMax", APPLY(&r, "ConstantOfShape", INTS(&r, 5, 3000, 1000 + i))));
    IO(&r, x, y);
    uint64_t peak;
    espl_diag diag = {0};
    espl_status status = espl__passes_run(r.g, &diag);
    assert_true(status == ESPL_OK || diag.message[0]);
    (void)espl_context_memory(ctx, &peak);
    if (peak > (uint64_t)2 << 30) fail_msg("%d MB were taken for constants", (int)(peak >> 20));
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void wrong_shapes_are_named(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 3)), *y = input_of(&r, "y", ESPL_F32, (espl_shape){0});
    y->known_rank = false;
    espl__value *in[2] = {x, y}, *out = NODE(&r, "Add", x, y)->outputs[0];
    outputs_are(&r, 2, in, 1, &out);
    espl_diag diag = {0};
    espl_shape shapes[2] = {SHAPE(4, 2), SHAPE(4, 3)};
    assert_int_equal(espl__specialise(r.g, shapes, &diag), ESPL_SHAPE);
    assert_non_null(strstr(diag.message, "'x'"));
    diag = (espl_diag){0};
    shapes[0] = (espl_shape){.rank = -1};
    shapes[1] = (espl_shape){.rank = -1};
    assert_int_equal(espl__specialise(r.g, shapes, &diag), ESPL_SHAPE);
    assert_non_null(strstr(diag.message, "'y'"));
    diag = (espl_diag){0};
    shapes[1] = SHAPE(5, 2); /* does not go with 1x3 */
    assert_int_not_equal(espl__specialise(r.g, shapes, &diag), ESPL_OK);
    assert_non_null(strstr(diag.message, "Add"));
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* A classifier written as a convolution: its weights stay what they were, quantized or not, and only where the image is
 * one pixel, whole, and laid flat. */
static void point_convolutions_become_gemm(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 9; kind++) {
        rig r;
        rig_begin(&r, ctx, (uint64_t)kind + 70);
        espl__value *x = input_of(&r, "x", ESPL_F32, kind == 4 ? SHAPE(2, 5, 1, 2) : SHAPE(2, kind == 5 ? 6 : 5, 1, 1));
        espl__value *in = x, *y, *extra = NULL;
        int gemms = kind < 4;
        if (kind == 2) in = dequantized(&r, quantized(&r, x, ESPL_FORMAT_U8, 0.02f, 120), ESPL_FORMAT_U8, 0.02f, 120);
        espl__node *n;
        if (kind == 5)
            n = NODE(&r, "Conv", in, random_of(&r, SHAPE(6, 3, 1, 1), 0.2f)), set_int(&r, n, "group", 2);
        else if (kind == 6) /* the pixel and its surroundings */
            n = NODE(&r, "Conv", in, random_of(&r, SHAPE(7, 5, 3, 3), 0.2f)), espl__attr_set_ints(r.g, n, "pads", (int64_t[]){1, 1, 1, 1}, 4);
        else if (kind & 1)
            n = NODE(&r, "Conv", in, random_of(&r, SHAPE(7, 5, 1, 1), 0.2f));
        else
            n = NODE(&r, "Conv", in, random_of(&r, SHAPE(7, 5, 1, 1), 0.2f), random_of(&r, SHAPE(7), 1));
        y = done_of(&r, n);
        if (kind == 1 || kind == 2) round_weight(&r, n);
        if (kind == 7) extra = y;
        y = kind == 8 ? APPLY(&r, "Relu", y) : APPLY(&r, "Flatten", y);
        if (extra)
            IO(&r, x, y, extra);
        else
            IO(&r, x, y);
        espl_graph *g = passed(&r, kind == 2 ? 0.01 : 1e-5, (uint64_t)kind);
        assert_int_equal(count_of(g, "Gemm"), gemms);
        assert_int_equal(count_of(g, "Conv"), !gemms);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_pairs_are_absorbed),
        cmocka_unit_test(a_layer_in_pairs_becomes_integers),
        cmocka_unit_test(odd_pairs_stay_nodes),
        cmocka_unit_test(shared_codes_have_two_meanings),
        cmocka_unit_test(types_that_do_not_fit_are_refused),
        cmocka_unit_test(batch_norms_go_into_layers),
        cmocka_unit_test(additions_become_biases),
        cmocka_unit_test(point_convolutions_become_gemm),
        cmocka_unit_test(batch_arithmetic_becomes_a_constant),
        cmocka_unit_test(what_does_nothing_goes),
        cmocka_unit_test(outputs_stay_what_they_were),
        cmocka_unit_test(long_chains_take_linear_time),
        cmocka_unit_test(folding_has_a_limit),
        cmocka_unit_test(wrong_shapes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
