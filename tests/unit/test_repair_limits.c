/* Repairs where things are extreme: weights, groups, zeros that must stay, memory that runs out, threads. */
#define _GNU_SOURCE
#include "repair_rig.h"

/* Groups of inputs with scales of their own, and zeros of a pattern: codes fit the one, and stay 0 in the other. */
static void groups_and_zeros_are_kept(void **state) {
    static const char *const kinds[] = {"gptq", "gptq order", "adaround"};
    espl_context *ctx = *state;
    espl_dataset *data = data_of(ctx, FIXTURES "words.yaml");
    const decision how = {.weights = ESPL_FORMAT_S3, .group = 8};
    for (int pruned = 0; pruned < 2; pruned++)
        for (size_t k = 0; k < ESPL_COUNT(kinds); k++) {
            espl_graph *g = graph_of(ctx, "tokens"), *plain, *changed;
            decision *cut = calloc((size_t)g->node_count, sizeof *cut);
            for (int i = 0; i < g->node_count; i++) cut[i].pattern = (espl_sparsity){.pattern = ESPL_PATTERN_NM, .n = 2, .m = 4};
            if (pruned) assert_int_equal(espl__prune_apply(g, cut, NULL), ESPL_OK);
            plain = repaired(ctx, g, data, SAMPLES, how, (const char *const[]){NULL});
            changed = repaired(ctx, g, data, SAMPLES, how, (const char *const[]){kinds[k], NULL});
            int layers = 0, zeros = 0;
            for (int i = 0; i < g->node_count; i++) {
                espl__linear l;
                if (!espl__linear_of(changed, changed->nodes[i], &l)) continue;
                const float *w = g->nodes[i]->inputs[1]->constant->data;
                const int8_t *codes = l.w->constant->data;
                assert_int_equal(l.w->quant.group, 8);
                assert_memory_equal(l.w->quant.scale, plain->nodes[i]->inputs[1]->quant.scale,
                                    sizeof(float) * (size_t)l.w->quant.count);
                for (int64_t e = 0; pruned && e < espl_shape_count(&l.w->shape); e++) {
                    zeros += w[e] == 0;
                    assert_true(w[e] != 0 || codes[e] == 0);
                }
                layers++;
            }
            assert_int_equal(layers, 3);
            assert_true(!pruned || zeros >= 3 * 16 * 16 / 2);
            better(kinds[k], error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), 1);
            espl_graph_destroy(&plain);
            espl_graph_destroy(&changed);
            espl_graph_destroy(&g);
            free(cut);
        }
    espl_dataset_close(&data);
}

/* --- what may go wrong ----------------------------------------------------------------------------------------------------- */

/* Weights of the k-th layer become something extreme. */
static void spoil(espl_graph *g, int kind) {
    for (int i = 0, layer = 0; i < g->node_count; i++) {
        espl__linear l;
        if (!espl__linear_of(g, g->nodes[i], &l)) continue;
        float *w = espl__linear_own_weights(g, &l);
        assert_non_null(w);
        int64_t count = espl_shape_count(&l.w->shape), row = espl__linear_k(&l);
        for (int64_t k = 0; k < (kind == 5 ? row : count); k++) /* 5: an empty channel */
            if (kind == 0 || kind == 5)
                w[k] = 0;
            else if (kind == 1)
                w[k] = 0.25f;
            else if (kind == 4)
                w[k] = 1e-40f * (float)(k % 5);
        if (kind == 2 && layer == 1) w[3] = 1e30f;
        if (kind == 3 && layer == 1) w[3] = NAN;
        if (kind == 6 && layer == 1) w[3] = INFINITY;
        layer++;
    }
}

/* Scales are positive numbers, codes are in their range, and zeros of f32 constants that were numbers are. */
static void check_valid(const espl_graph *g, bool finite_weights) {
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        int32_t lo, hi;
        for (int64_t c = 0; espl__is_quantized(v) && c < v->quant.count; c++)
            if (!(v->quant.scale[c] > 0 && isfinite(v->quant.scale[c]))) fail_msg("scale %g", (double)v->quant.scale[c]);
        if (!v->constant || v->dtype != ESPL_F32) continue;
        int64_t n = espl_shape_count(&v->shape);
        if (v->constant->dtype == ESPL_S8 && espl__is_quantized(v)) {
            espl__format_range(v->quant.format, &lo, &hi);
            for (int64_t k = 0; k < n; k++)
                assert_in_range(((int8_t *)v->constant->data)[k] + 128, lo + 128, hi + 128);
        }
        for (int64_t k = 0; finite_weights && v->constant->dtype == ESPL_F32 && k < n; k++)
            if (!isfinite(((float *)v->constant->data)[k]) && v->uses) fail_msg("a constant is no number");
    }
}

static void extremes_are_survived(void **state) {
    static const char *const kinds[] = {"equalize absorb", "smooth", "adaround 20", "gptq", "batchnorm", "bias"};
    espl_context *ctx = *state;
    assert_int_equal(ESPL_COUNT(kinds), ESPL__REPAIR_COUNT);
    for (int network = 0; network < 2; network++)
        for (int kind = 0; kind < 7; kind++)
            for (int k = 0; k < ESPL__REPAIR_COUNT; k++) {
                espl_graph *g = graph_of(ctx, network ? "tokens" : "network"), *q;
                espl_dataset *data = data_of(ctx, network ? FIXTURES "words.yaml" : FIXTURES "images.yaml");
                spoil(g, kind);
                q = copy_of(g);
                bool before = espl__repair_stage_of((espl__repair_kind)k) == ESPL__REPAIR_BEFORE;
                if (!before) quantize(ctx, q, data, 1, kind % 2 ? s8 : s3);
                repair(ctx, q, before ? NULL : g, kind % 3 ? data : NULL, 1, kinds[k]); /* one sample, perhaps drawn */
                espl__graph_count_uses(q);
                check_valid(q, kind != 3 && kind != 6);
                espl_graph_destroy(&q);
                espl_graph_destroy(&g);
                espl_dataset_close(&data);
            }
}

/* The same bytes with one thread of plain C and with three on what the machine has. */
static void threads_and_instruction_sets_change_nothing(void **state) {
    static const char *const kinds[] = {"adaround 100", "gptq", "batchnorm", NULL};
    (void)state;
    espl_graph *done[2];
    espl_context *ctx[2];
    const espl__cpu own = espl__cpu_level();
    for (int i = 0; i < 2; i++) {
        espl__cpu_use(i ? own : ESPL__CPU_REF);
        ctx[i] = new_context(i ? 3 : 1);
        espl_graph *g = graph_of(ctx[i], "network");
        espl_dataset *data = data_of(ctx[i], FIXTURES "images.yaml");
        done[i] = repaired(ctx[i], g, data, SAMPLES, s3, kinds);
        espl_graph_destroy(&g);
        espl_dataset_close(&data);
    }
    assert_int_equal(done[0]->value_count, done[1]->value_count);
    for (int i = 0; i < done[0]->value_count; i++) {
        const espl__value *a = done[0]->values[i], *b = done[1]->values[i];
        if (a->constant)
            assert_memory_equal(a->constant->data, b->constant->data, espl__tensor_bytes(a->constant));
        if (espl__is_quantized(a))
            assert_memory_equal(a->quant.scale, b->quant.scale, sizeof(float) * (size_t)a->quant.count);
    }
    for (int i = 0; i < 2; i++) {
        espl_graph_destroy(&done[i]);
        espl_context_destroy(&ctx[i]);
    }
}

static int64_t allocations_left;

static void *some_memory(void *user, size_t bytes) {
    (void)user;
    return allocations_left-- > 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

static void give_back(void *user, void *memory) {
    (void)user;
    free(memory);
}

/* Whichever allocation fails, the repair says so and nothing is lost. */
static void memory_may_run_out(void **state) {
    static const char *const kinds[] = {"equalize absorb", "smooth", "adaround 2", "gptq", "batchnorm", "bias"};
    espl_config config = {.threads = 1, .alloc = some_memory, .free = give_back};
    espl_context *ctx = NULL;
    (void)state;
    allocations_left = INT64_MAX;
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    for (int k = 0; k < ESPL__REPAIR_COUNT; k++) {
        espl__repair r = repair_of(kinds[k]);
        espl_graph *g = graph_of(ctx, k == ESPL__REPAIR_SMOOTH ? "tokens" : "network"), *q = copy_of(g);
        espl_dataset *data = data_of(ctx, k == ESPL__REPAIR_SMOOTH ? FIXTURES "words.yaml" : FIXTURES "images.yaml");
        bool before = espl__repair_stage_of(r.kind) == ESPL__REPAIR_BEFORE, done = false;
        int failed = 0;
        if (!before) quantize(ctx, q, data, 2, s3);
        for (int64_t n = 0; !done; n += 1 + n / 16) {
            espl_graph *copy = copy_of(q);
            uint64_t held = espl_context_memory(ctx, NULL);
            espl__repair_task t = {ctx, copy, before ? NULL : g, NULL, NULL, data, 1, 2, NULL, NULL};
            espl_diag diag = {0};
            allocations_left = n;
            espl_status status = espl__repair_apply(&t, &r, &diag);
            done = allocations_left >= 0;
            allocations_left = INT64_MAX;
            if (status != (done ? ESPL_OK : ESPL_NOMEM)) fail_msg("%s, %d: %s", kinds[k], (int)n, diag.message);
            failed += !done;
            assert_true(espl_context_memory(ctx, NULL) - held < 1 << 20); /* the graph's own arena may have grown */
            espl_graph_destroy(&copy);
        }
        assert_true(failed > 20);
        espl_graph_destroy(&q);
        espl_graph_destroy(&g);
        espl_dataset_close(&data);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_and_zeros_are_kept),
        cmocka_unit_test(extremes_are_survived),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(threads_and_instruction_sets_change_nothing),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
