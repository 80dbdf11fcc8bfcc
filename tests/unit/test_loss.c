/* Losses and their gradients against PyTorch. */
#include "train_rig.h"

#include "train/loss.h"

enum { ROWS = 9, CLASSES = 7 };

static espl__loss *loss_of(espl__loss_options o, const espl_tensor *output) {
    espl__loss *l;
    assert_int_equal(espl__loss_create(ctx, &o, output, &l, NULL), ESPL_OK);
    return l;
}

static void compare(const char *name, espl_dtype real, espl__loss_options o) {
    espl_tensor logits = load_as("logits", real), teacher = load_as("teacher", real), labels = load("labels");
    espl_tensor want = load(name), gradient;
    double tolerance = real == ESPL_F64 ? 1e-14 : 2e-6;
    espl__loss_sums sums = {0};
    assert_int_equal(espl_tensor_alloc(ctx, real, &logits.shape, &gradient, NULL), ESPL_OK);
    espl__loss *l = loss_of(o, &logits);
    assert_int_equal(espl__loss_rows(l), ROWS);
    assert_int_equal(espl__loss_classes(l), CLASSES);
    int64_t valid = espl__loss_valid(l, labels.data, ROWS);
    assert_int_equal(valid, o.kind == ESPL__LOSS_MSE ? ROWS : ROWS - 2);
    espl__loss_run(l, logits.data, labels.data, ROWS, teacher.data, 1 / (double)valid, gradient.data, &sums);
    assert_int_equal(sums.rows, valid);
    expect_near(name, -1, sums.loss / (double)valid, ((const double *)want.data)[0], tolerance);
    for (int64_t i = 0; i < ROWS * CLASSES; i++)
        expect_near(name, i, real_at(gradient.data, real, i), ((const double *)want.data)[1 + i], tolerance);
    /* The value alone is the same. */
    espl__loss_sums again = {0};
    espl__loss_run(l, logits.data, labels.data, ROWS, teacher.data, 1, NULL, &again);
    assert_true(again.loss == sums.loss && again.correct == sums.correct);
    espl__loss_destroy(&l);
    espl_tensor_free(ctx, &gradient);
    espl_tensor_free(ctx, &want);
    espl_tensor_free(ctx, &labels);
    espl_tensor_free(ctx, &teacher);
    espl_tensor_free(ctx, &logits);
}

static void as_pytorch(void **state) {
    (void)state;
    for (espl_dtype real = ESPL_F32; real <= ESPL_F64; real += ESPL_F64 - ESPL_F32) {
        compare("cross_entropy", real, (espl__loss_options){.kind = ESPL__LOSS_CROSS_ENTROPY});
        compare("smoothed", real, (espl__loss_options){.kind = ESPL__LOSS_CROSS_ENTROPY, .smoothing = 0.1});
        compare("mse", real, (espl__loss_options){.kind = ESPL__LOSS_MSE});
        compare("distillation", real,
                (espl__loss_options){.kind = ESPL__LOSS_DISTILLATION, .temperature = 4, .hard = 0.3});
    }
}

/* Rows behind the batch's do not count; the first of equal largest logits is the answer. */
static void rows_and_answers(void **state) {
    (void)state;
    float logits[4][2] = {{1, 1}, {1, 1}, {0, 3}, {9, 0}}, gradient[4][2];
    int64_t labels[4] = {0, 1, 1, 1};
    espl_tensor output = {ESPL_F32, {4, {4, 2, 1, 1}}, NULL};
    espl__loss *l = loss_of((espl__loss_options){.kind = ESPL__LOSS_CROSS_ENTROPY}, &output);
    espl__loss_sums sums = {0};
    espl__loss_run(l, logits, labels, 3, NULL, 1, gradient, &sums);
    assert_int_equal(sums.rows, 3);
    assert_int_equal(sums.correct, 2);
    assert_true(gradient[3][0] == 0 && gradient[3][1] == 0 && gradient[2][0] > 0);
    espl__loss_destroy(&l);
}

/* Huge logits neither overflow nor lose the loss. */
static void large_logits(void **state) {
    (void)state;
    float logits[1][3] = {{1e30f, -1e30f, 0}}, gradient[1][3];
    int64_t label = 2;
    espl_tensor output = {ESPL_F32, {2, {1, 3}}, NULL};
    espl__loss *l = loss_of((espl__loss_options){.kind = ESPL__LOSS_CROSS_ENTROPY}, &output);
    espl__loss_sums sums = {0};
    espl__loss_run(l, logits, &label, 1, NULL, 1, gradient, &sums);
    assert_true(sums.loss == (double)1e30f && gradient[0][0] == 1 && gradient[0][2] == -1);
    espl__loss_destroy(&l);
    espl_tensor scalar = {ESPL_F32, {1, {3}}, NULL};
    espl__loss_options o = {.kind = ESPL__LOSS_CROSS_ENTROPY};
    assert_int_equal(espl__loss_create(ctx, &o, &scalar, &l, NULL), ESPL_SHAPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_pytorch),
        cmocka_unit_test(rows_and_answers),
        cmocka_unit_test(large_logits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
