/* Every row of the training engine's list: gradients in double against central differences of the forward
 * pass, the forward pass in f32 against the operator's own definition, and gradients in f32 against those in
 * double; the harder ones in double against PyTorch too. */
#include "grad_case.h"

static const grad_case cases[] = {
#include "grad_cases.list"
};

static bool seen[256]; /* rows whose backward some case ran */

static espl__engine *engine_of(grad_built *b, espl_dtype real) {
    espl_shape shapes[GRAD_CASE_INPUTS];
    for (int i = 0; i < b->count; i++) shapes[i] = b->inputs[i]->shape;
    espl__engine_options options = {.real = real, .input_gradients = true, .seed = 5};
    espl__engine *e = NULL;
    espl_diag diag = {0};
    if (espl__engine_create(b->r.ctx, b->r.g, shapes, &options, &e, &diag) != ESPL_OK)
        fail_msg("%s [%s] [%s]: %s", b->from->op, b->from->inputs, b->from->attributes, diag.message);
    for (int i = 0; i < e->step_count; i++)
        for (int k = 0; espl__grad_at(k); k++)
            if (e->steps[i].grad == espl__grad_at(k) && e->steps[i].backward && e->steps[i].call.wanted)
                seen[k] = true;
    return e;
}

static void forward(grad_built *b, espl__engine *e, bool training) {
    espl_diag diag = {0};
    for (int i = 0; i < b->count; i++) espl__engine_set_input(e, i, b->data[i], ESPL_F64);
    if (espl__engine_forward(e, training, 3, &diag) != ESPL_OK) fail_msg("%s: %s", b->from->op, diag.message);
}

static double element(const espl_tensor *t, int64_t i) {
    return t->dtype == ESPL_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

/* Weight of element i of output k in the loss. */
static double weight(int k, int64_t i) {
    return sin(0.7 + 1.3 * k + 0.37 * (double)(i % 10007));
}

static double loss(grad_built *b, espl__engine *e) {
    double sum = 0;
    forward(b, e, true);
    for (int k = 0; k < b->outputs; k++) {
        espl_tensor y = espl__engine_output(e, k);
        for (int64_t i = 0; i < espl_shape_count(&y.shape); i++) sum += weight(k, i) * element(&y, i);
    }
    return sum;
}

static void backward(grad_built *b, espl__engine *e) {
    espl_diag diag = {0};
    (void)loss(b, e);
    for (int k = 0; k < b->outputs; k++) {
        espl_tensor d = espl__engine_output_gradient(e, k);
        for (int64_t i = 0; d.data && i < espl_shape_count(&d.shape); i++) {
            if (d.dtype == ESPL_F64)
                ((double *)d.data)[i] = weight(k, i);
            else
                ((float *)d.data)[i] = (float)weight(k, i);
        }
    }
    if (espl__engine_backward(e, &diag) != ESPL_OK) fail_msg("%s: %s", b->from->op, diag.message);
}

static double *copy_of(const espl_tensor *t) {
    int64_t n = espl_shape_count(&t->shape);
    double *x = calloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = element(t, i);
    return x;
}

#define WRONG(b, what, i, k, got, want)                                                       \
    fail_msg("%s [%s] [%s]: %s %d, element %d: %.10g where %.10g is expected", (b)->from->op, \
             (b)->from->inputs, (b)->from->attributes, what, i, (int)(k), got, want)

/* Central differences for at most so many elements of an input. */
enum { PROBED = 60 };

static void check_input(grad_built *b, espl__engine *e, int i, const double *gradient) {
    int64_t n = espl_shape_count(&b->inputs[i]->shape);
    double scale = 1;
    for (int64_t k = 0; k < n; k++) scale = fmax(scale, fabs(gradient[k]));
    for (int64_t p = 0; p < ESPL_MIN(n, PROBED); p++) {
        int64_t k = n <= PROBED ? p : p * (n - 1) / (PROBED - 1);
        double x = b->data[i][k], h = 1e-5 * fmax(1, fabs(x));
        b->data[i][k] = x + h;
        double above = loss(b, e);
        b->data[i][k] = x - h;
        double below = loss(b, e);
        b->data[i][k] = x;
        double want = (above - below) / (2 * h);
        if (!(fabs(gradient[k] - want) <= 3e-7 * scale))
            WRONG(b, "gradient of input", i, k, gradient[k], want);
    }
}

static void check_f32(grad_built *b, double *const *gradient) {
    espl__engine *e = engine_of(b, ESPL_F32);
    backward(b, e);
    for (int i = 0; i < b->count; i++) {
        espl_tensor g = espl__engine_input_gradient(e, i);
        double scale = 1e-3;
        for (int64_t k = 0; g.data && k < espl_shape_count(&g.shape); k++)
            scale = fmax(scale, fabs(gradient[i][k]));
        for (int64_t k = 0; g.data && k < espl_shape_count(&g.shape); k++)
            if (!(fabs(element(&g, k) - gradient[i][k]) <= 1e-4 * scale))
                WRONG(b, "f32 gradient of input", i, k, element(&g, k), gradient[i][k]);
    }
    espl__engine_destroy(&e);
}

/* The operator's own evaluation of the case's node. */
static void reference(grad_built *b, espl_tensor *out) {
    const espl__node *n = b->node;
    espl_tensor in[GRAD_CASE_INPUTS] = {{0}};
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v) continue;
        if (v->constant) {
            in[i] = *v->constant;
            continue;
        }
        int k = 0;
        const espl__value *given = v->is_input ? v : v->producer->inputs[0];
        while (b->inputs[k] != given) k++;
        int64_t count = espl_shape_count(&v->shape);
        in[i] = (espl_tensor){v->dtype, v->shape, calloc((size_t)count + 1, 8)};
        espl__store_f64(v->dtype, b->data[k], count, in[i].data);
    }
    for (int i = 0; i < n->output_count; i++)
        out[i] = (espl_tensor){n->outputs[i]->dtype, n->outputs[i]->shape,
                               calloc((size_t)espl_shape_count(&n->outputs[i]->shape) + 1, 8)};
    void *scratch =
        aligned_alloc(64, 64 + (n->op->scratch_bytes ? (n->op->scratch_bytes(n) + 63) / 64 * 64 : 0));
    n->op->eval(n, in, out, scratch);
    free(scratch);
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i] && !n->inputs[i]->constant) free(in[i].data);
}

/* The operator's evaluation sums in f32, which may be 3e-6 off for recurrent layers; two such sums are twice as far apart. */
static void check_forward(grad_built *b, espl_dtype real) {
    const double bound = real == ESPL_F64 ? 3e-6 : 6e-6;
    espl_tensor want[16];
    if (!b->node) return;
    espl__engine *e = engine_of(b, real);
    forward(b, e, false);
    reference(b, want);
    for (int i = 0, k = 0; i < b->node->output_count; i++) {
        if (want[i].dtype == ESPL_F32) {
            espl_tensor got = espl__engine_output(e, k++);
            assert_true(espl_shape_equal(&got.shape, &want[i].shape));
            double scale = 1e-3;
            for (int64_t j = 0; j < espl_shape_count(&got.shape); j++)
                scale = fmax(scale, fabs(element(&want[i], j)));
            for (int64_t j = 0; j < espl_shape_count(&got.shape); j++)
                if (!(fabs(element(&got, j) - element(&want[i], j)) <= bound * scale))
                    WRONG(b, "output", i, j, element(&got, j), element(&want[i], j));
        }
        free(want[i].data);
    }
    espl__engine_destroy(&e);
}

static void check_case(espl_context *ctx, const grad_case *from, bool last) {
    grad_built b;
    build_case(&b, ctx, from, 11, last);
    double *gradient[GRAD_CASE_INPUTS] = {NULL};
    espl__engine *e = engine_of(&b, ESPL_F64);
    backward(&b, e);
    for (int i = 0; i < b.count; i++) {
        espl_tensor g = espl__engine_input_gradient(e, i);
        if (g.data) gradient[i] = copy_of(&g);
    }
    for (int i = 0; i < b.count; i++)
        if (gradient[i]) check_input(&b, e, i, gradient[i]);
    espl__engine_destroy(&e);
    check_f32(&b, gradient);
    check_forward(&b, ESPL_F32);
    check_forward(&b, ESPL_F64);
    for (int i = 0; i < b.count; i++) free(gradient[i]);
    free_case(&b);
}

static void all_cases(void **state) {
    (void)state;
    const char *only = getenv("GRAD_CASE");
    for (int threads = 1; threads <= 2; threads++) {
        espl_context *ctx = new_context(threads);
        for (size_t i = 0; i < ESPL_COUNT(cases); i++)
            for (int last = 0; last < 2; last++)
                if (!only || strcmp(only, cases[i].op) == 0) check_case(ctx, &cases[i], last);
        espl_context_destroy(&ctx);
    }
}

/* --- against PyTorch ----------------------------------------------------------------------------- */

typedef struct torch_case {
    const char *file;
    grad_case as;
} torch_case;

static const torch_case torch_cases[] = {
#include "grad_torch.list"
};

/* The n numbers that come next in the file; returns where those behind them lie. */
static const double *compare(const torch_case *t, const char *what, const espl_tensor *got,
                             const double *want) {
    int64_t n = espl_shape_count(&got->shape);
    double scale = 1;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(element(got, i) - want[i]) <= 1e-11 * scale))
            fail_msg("%s: %s, element %d: %.15g, PyTorch has %.15g", t->file, what, (int)i, element(got, i),
                     want[i]);
    return want + n;
}

static void check_torch(espl_context *ctx, const torch_case *t) {
    grad_built b;
    char path[512];
    espl_tensor file;
    espl_diag diag = {0};
    build_case(&b, ctx, &t->as, 11, false);
    snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/gradients/%s.npy", t->file);
    if (espl_npy_read(ctx, path, &file, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    const double *want = file.data;
    for (int i = 0; i < b.count; i++) {
        int64_t n = espl_shape_count(&b.inputs[i]->shape);
        memcpy(b.data[i], want, (size_t)n * sizeof *want);
        want += n;
    }
    espl__engine *e = engine_of(&b, ESPL_F64);
    forward(&b, e, true);
    for (int k = 0; k < b.outputs / 2; k++) {
        espl_tensor y = espl__engine_output(e, k);
        want = compare(t, "output", &y, want);
    }
    backward(&b, e);
    for (int i = 0; i < b.count; i++) {
        espl_tensor g = espl__engine_input_gradient(e, i);
        if (g.data) want = compare(t, "gradient", &g, want);
    }
    assert_int_equal(want - (const double *)file.data, espl_shape_count(&file.shape));
    espl__engine_destroy(&e);
    espl_tensor_free(ctx, &file);
    free_case(&b);
}

static void pytorch_agrees(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    for (size_t i = 0; i < ESPL_COUNT(torch_cases); i++) check_torch(ctx, &torch_cases[i]);
    espl_context_destroy(&ctx);
}

/* Runs after the cases: a row that none of them trains has none. */
static void every_row_has_a_case(void **state) {
    (void)state;
    for (int i = 0; espl__grad_at(i) && !getenv("GRAD_CASE"); i++)
        if (!seen[i] &&
            strcmp(espl__grad_at(i)->op, "BatchNormalization") != 0 && /* always becomes a NormRelu */
            strcmp(espl__grad_at(i)->op, "FakeQuantize") != 0)         /* steps: test_fake_quantize.c */
            fail_msg("no case in grad_cases.list trains %s", espl__grad_at(i)->op);
}

static void every_operator_is_in_one_list(void **state) {
    (void)state;
    static const struct {
        const char *name, *why;
    } without[] = {
#define X(name, why) {#name, why},
#include "train/no_gradient.list"
#undef X
    };
    for (size_t k = 0; k < ESPL_COUNT(without); k++) {
        int i = 0;
        while (espl__op_at(i) && strcmp(espl__op_at(i)->name, without[k].name) != 0) i++;
        if (!espl__op_at(i)) fail_msg("%s of no_gradient.list is no operator", without[k].name);
    }
    for (int i = 0; espl__op_at(i); i++) {
        const espl__op *op = espl__op_at(i);
        int lists = espl__grad_find(op) || op->is_view;
        for (size_t k = 0; k < ESPL_COUNT(without); k++) lists += strcmp(without[k].name, op->name) == 0;
        if (lists != 1) fail_msg("%s is in %d of grads.list and no_gradient.list", op->name, lists);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_cases),
        cmocka_unit_test(pytorch_agrees),
        cmocka_unit_test(every_row_has_a_case),
        cmocka_unit_test(every_operator_is_in_one_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
