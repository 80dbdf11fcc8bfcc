/* Weights and activations of 4, 8 and 16 bits as other tools write them, against ONNX Runtime and ONNX's
 * reference (tests/oracle/make_lowbit_fixtures.py): by the operators' references, and in a session after the
 * passes. */
#define _GNU_SOURCE
#include "fixture_io.h"

#include <unistd.h>

#include "espalier/model.h"

static const struct {
    const char *name;
    espl_format format; /* of the weights or activations; F32: they stay a node */
    int64_t group;
} rows[] = {
    {"int4_channel", ESPL_FORMAT_S4, 0},
    {"int4_zeros", ESPL_FORMAT_S4, 0},
    {"int4_typed", ESPL_FORMAT_S4, 0},
    {"int4_blocks", ESPL_FORMAT_S4, 16},
    {"uint4_blocks", ESPL_FORMAT_S4, 16},
    {"int4_gemm", ESPL_FORMAT_S4, 8},
    {"int8_conv", ESPL_FORMAT_F32, 0},
    {"int16_weights", ESPL_FORMAT_S16, 0},
    {"e4m3_channel", ESPL_FORMAT_E4M3, 0},
    {"e5m2_tensor", ESPL_FORMAT_E5M2, 0},
    {"e4m3_blocks", ESPL_FORMAT_E4M3, 8},
    {"int16_activations", ESPL_FORMAT_S16, 0},
    {"uint16_activations", ESPL_FORMAT_F32, 0},
    {"uint4_activations", ESPL_FORMAT_U4, 0},
    {"int4_activations", ESPL_FORMAT_S4, 0},
    {"e4m3_activations", ESPL_FORMAT_E4M3, 0},
    {"e5m2_activations", ESPL_FORMAT_E5M2, 0},
    {"ms_int16_activations", ESPL_FORMAT_S16, 0},
    {"nbits", ESPL_FORMAT_S4, 16},
    {"nbits_zeros", ESPL_FORMAT_S4, 16},
    {"nbits_negative", ESPL_FORMAT_S4, 32},
    {"nbits_8", ESPL_FORMAT_S8, 32},
};

static void expect_output(espl_context *ctx, espl_graph *g, const char *name) {
    espl_session *s = session_of(ctx, g);
    run_io x = io_of(s, 1);
    espl_tensor in = fixture_tensor(ctx, "lowbit/%s.in.pb", name);
    espl_tensor expected = fixture_tensor(ctx, "lowbit/%s.out.pb", name);
    assert_int_equal(bytes_of(&in), bytes_of(&x.in[0]));
    memcpy(x.in[0].data, in.data, bytes_of(&in));
    run_session(s, &x);
    double error = difference(&x.out[0], &expected);
    if (!(error <= 1e-5)) fail_msg("%s is off by %g", name, error);
    espl_tensor_free(ctx, &in);
    espl_tensor_free(ctx, &expected);
    io_free(&x);
    espl_session_destroy(&s);
}

/* The only value that is rounded. */
static const espl__value *rounded(const espl_graph *g) {
    const espl__value *found = NULL;
    for (int i = 0; i < g->value_count; i++) {
        if (!espl__is_quantized(g->values[i])) continue;
        if (!found) found = g->values[i];
    }
    return found;
}

static void references_agree(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, false, "lowbit/%s.onnx", rows[i].name);
        expect_output(ctx, g, rows[i].name);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

static void grids_are_taken_up(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, true, "lowbit/%s.onnx", rows[i].name);
        const espl__value *v = rounded(g);
        if (rows[i].format == ESPL_FORMAT_F32) {
            assert_null(v);
        } else {
            if (!v) fail_msg("%s: nothing is rounded", rows[i].name);
            assert_int_equal(v->quant.format, rows[i].format);
            assert_int_equal(v->quant.group, rows[i].group);
            for (int n = 0; n < g->node_count; n++)
                assert_false(espl__node_is(g->nodes[n], "DequantizeLinear"));
        }
        expect_output(ctx, g, rows[i].name);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* Through a file of ours and through ONNX in both flavours nothing changes. */
static void files_keep_them(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    char folder[] = "/tmp/espl_test_lowbit_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < ESPL_COUNT(rows); i++)
        for (int form = 0; form < 1 + ESPL_FLAVOUR_COUNT; form++) {
            espl_graph *g = fixture_graph(ctx, true, "lowbit/%s.onnx", rows[i].name), *back = NULL;
            espl_diag diag = {0};
            snprintf(path, sizeof path, "%s/%s", folder, form ? "model.onnx" : "model.espl");
            espl_onnx_options options = {.flavour = (espl_flavour)(form - 1)};
            espl_status status =
                form ? espl_onnx_write(ctx, g, &options, path, &diag) : espl_model_write(ctx, g, path, &diag);
            if (status == ESPL_OK)
                status =
                    form ? espl_onnx_read(ctx, path, &back, &diag) : espl_model_read(ctx, path, &back, &diag);
            if (status == ESPL_OK && form) status = espl__passes_run(back, &diag);
            if (status != ESPL_OK) fail_msg("%s: %s", rows[i].name, diag.message);
            expect_output(ctx, back, rows[i].name);
            espl_graph_destroy(&back);
            espl_graph_destroy(&g);
            (void)remove(path);
        }
    (void)rmdir(folder);
    espl_context_destroy(&ctx);
}

/* Codes of 8 bits that fit in fewer, as ONNX has them before operator set 21. */
static void few_bits_are_seen(void **state) {
    (void)state;
    static const struct {
        int8_t least, most, rows;
        espl_format format;
    } cases[] = {{-2, 1, 8, ESPL_FORMAT_S2},  {-4, 3, 8, ESPL_FORMAT_S3},   {-4, 4, 8, ESPL_FORMAT_S4},
                 {-8, 7, 8, ESPL_FORMAT_S4},  {-9, 7, 8, ESPL_FORMAT_S8},   {-4, 3, 7, ESPL_FORMAT_S8},
                 {-128, 3, 8, ESPL_FORMAT_S8}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, cases[i].rows));
        espl__value *w = constant_of(&r, ESPL_S8, SHAPE(cases[i].rows, 8), NULL);
        int8_t *code = w->constant->data;
        for (int k = 0; k < 8 * cases[i].rows; k++) code[k] = k == 3 ? cases[i].least : k == 9 ? cases[i].most : k % 2;
        IO(&r, x, APPLY(&r, "MatMul", x, APPLY(&r, "DequantizeLinear", w, scalar_of(&r, 0.5f))));
        assert_int_equal(espl__passes_run(r.g, &r.diag), ESPL_OK);
        assert_int_equal(rounded(r.g)->quant.format, cases[i].format);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree),
        cmocka_unit_test(grids_are_taken_up),
        cmocka_unit_test(files_keep_them),
        cmocka_unit_test(few_bits_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
