/* Optimisers, averages, clipping and schedules against PyTorch. */
#include "train_rig.h"

#include "train/optim.h"
#include "train/schedule.h"

enum { COUNT = 40, STEPS = 20 };

static void compare(const char *name, espl_dtype real, espl__optim_options o) {
    espl_tensor weights = load_as("start", real), gradients = load_as("gradients", real), want = load(name);
    espl__optim *optim;
    o.weight_decay = 0.05;
    o.ema = 0.9;
    const espl__optim_range ranges[] = {{0, COUNT / 2, true}, {COUNT / 2, COUNT / 2, false}};
    assert_int_equal(espl__optim_create(ctx, &o, real, COUNT, ranges, 2, weights.data, &optim, NULL),
                     ESPL_OK);
    for (int s = 0; s < STEPS; s++) {
        const char *g = (const char *)gradients.data + (size_t)s * COUNT * espl_dtype_bytes(real);
        double norm = espl__optim_norm(optim, g), clip = fmin(1, 5 / (norm + 1e-6));
        espl__optim_step(optim, o.kind == ESPL__OPTIM_SGD ? 0.1 : 0.01, clip, weights.data, g);
        const double *row = (const double *)want.data + (size_t)s * 2 * COUNT;
        for (int i = 0; i < COUNT; i++) {
            double tolerance = real == ESPL_F64 ? 1e-13 : 1e-5;
            expect_near(name, s * COUNT + i, real_at(weights.data, real, i), row[i], tolerance);
            expect_near("average", s * COUNT + i, real_at(espl__optim_average(optim), real, i),
                        row[COUNT + i], tolerance);
        }
    }
    assert_int_equal(*espl__optim_steps(optim), STEPS);
    espl__optim_destroy(&optim);
    espl_tensor_free(ctx, &want);
    espl_tensor_free(ctx, &gradients);
    espl_tensor_free(ctx, &weights);
}

static void as_pytorch(void **state) {
    (void)state;
    const espl__optim_options adam = {.kind = ESPL__OPTIM_ADAM, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6};
    for (espl_dtype real = ESPL_F32; real <= ESPL_F64; real += ESPL_F64 - ESPL_F32) {
        espl__optim_options o = {.kind = ESPL__OPTIM_SGD};
        compare("sgd", real, o);
        o.momentum = 0.9;
        compare("momentum", real, o);
        o.nesterov = true;
        compare("nesterov", real, o);
        o = adam;
        compare("adam", real, o);
        o.kind = ESPL__OPTIM_ADAMW;
        compare("adamw", real, o);
    }
}

/* More than one piece, odd ends and gaps: every element once, gaps never, whatever the threads. */
static void pieces(void **state) {
    (void)state;
    enum { N = 20000 };
    static float weights[N], gradients[N];
    const espl__optim_range ranges[] = {{0, 4097, false}, {4112, 1, false}, {5000, 14999, true}};
    espl__optim_options o = {.kind = ESPL__OPTIM_SGD};
    espl__optim *optim;
    for (int i = 0; i < N; i++) gradients[i] = 1;
    assert_int_equal(espl__optim_create(ctx, &o, ESPL_F32, N, ranges, 3, weights, &optim, NULL), ESPL_OK);
    assert_true(fabs(espl__optim_norm(optim, gradients) - sqrt(4097 + 1 + 14999)) < 1e-9);
    espl__optim_step(optim, 0.5, 1, weights, gradients);
    for (int i = 0; i < N; i++) {
        bool in = i < 4097 || i == 4112 || (i >= 5000 && i < 19999);
        if (weights[i] != (in ? -0.5f : 0)) fail_msg("element %d is %g", i, (double)weights[i]);
    }
    assert_null(espl__optim_vector(optim, 0)); /* without momentum there is nothing to keep */
    espl__optim_destroy(&optim);
}

static void follow(const char *name, espl__schedule s, const double *losses) {
    espl_tensor want = load(name);
    espl__schedule_begin(&s);
    for (int64_t i = 0; i < espl_shape_count(&want.shape); i++) {
        expect_near(name, i, espl__schedule_rate(&s, i), ((const double *)want.data)[i], 1e-13);
        if (losses) espl__schedule_epoch(&s, losses[i]);
    }
    espl_tensor_free(ctx, &want);
}

static void schedules(void **state) {
    (void)state;
    const double milestones[] = {1, 2.5, 3}; /* epochs of ten steps */
    espl_tensor losses = load("plateau_losses");
    follow("cosine",
           (espl__schedule){
               .kind = ESPL__SCHEDULE_COSINE, .rate = 0.2, .least = 0.01, .epochs = 5, .epoch_steps = 10},
           NULL);
    follow("step",
           (espl__schedule){.kind = ESPL__SCHEDULE_STEP,
                            .rate = 0.2,
                            .gamma = 0.5,
                            .epochs = 5,
                            .epoch_steps = 10,
                            .milestones = milestones,
                            .milestone_count = 3},
           NULL);
    follow("plateau",
           (espl__schedule){.kind = ESPL__SCHEDULE_PLATEAU, .rate = 0.2, .gamma = 0.3, .patience = 2},
           losses.data);
    espl_tensor_free(ctx, &losses);
}

/* The warm-up rises to the rate and hands over to the cosine's start. */
static void warmup(void **state) {
    (void)state;
    espl__schedule s = {
        .kind = ESPL__SCHEDULE_COSINE, .rate = 1, .warmup = 0.5, .epochs = 2, .epoch_steps = 8};
    espl__schedule_begin(&s);
    for (int i = 0; i < 4; i++) assert_true(fabs(espl__schedule_rate(&s, i) - 0.25 * (i + 1)) < 1e-15);
    assert_true(espl__schedule_rate(&s, 4) == 1 && espl__schedule_rate(&s, 5) < 1);
    assert_true(espl__schedule_rate(&s, 15) < 0.05 && espl__schedule_rate(&s, 16) < 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_pytorch),
        cmocka_unit_test(pieces),
        cmocka_unit_test(schedules),
        cmocka_unit_test(warmup),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
