/* Blame against numpy (tests/oracle/make_blame_fixtures.py): damage alone and spared, noise inside the
 * network. */
#include "graph_build.h"

#include <math.h>
#include <unistd.h>

#include "compress/job.h"
#include "compress/probe.h"

#define FOLDER ESPL_SOURCE_DIR "/tests/fixtures/blame/"

typedef struct fixture {
    espl_context *ctx;
    espl_graph *graph;
    espl_dataset *data;
} fixture;

static fixture fixture_open(void) {
    fixture f = {.ctx = new_context(1)};
    espl_diag diag = {0};
    if (espl_graph_read(f.ctx, FOLDER "model.onnx", &f.graph, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_dataset_open(f.ctx, FOLDER "data.yaml", &f.data, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return f;
}

static void fixture_close(fixture *f) {
    espl_graph_destroy(&f->graph);
    espl_dataset_close(&f->data);
    assert_int_equal(espl_context_memory(f->ctx, NULL), empty_context(1));
    espl_context_destroy(&f->ctx);
}

static const char *recipe_file(const char *format) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/espl_blame_%ld.yaml", (long)getpid());
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fprintf(out, "layers:\n- {match: '*', format: %s, activations: f32%s}\n", format,
                        strcmp(format, "f32") ? ", fit: max" : "") > 0);
    assert_int_equal(fclose(out), 0);
    return path;
}

static void near(const char *layer, const char *what, double have, double want) {
    if (!(fabs(have - want) <= 1e-4 * fabs(want) + 1e-9))
        fail_msg("%s: %s is %.8g, not %.8g", layer, what, have, want);
}

static const espl_blame_layer *find(const espl_blame *b, const char *name) {
    for (int i = 0; i < b->count; i++)
        if (strcmp(b->layers[i].name, name) == 0) return &b->layers[i];
    fail_msg("no layer %s", name);
    return NULL;
}

static void compare_layer(const espl_blame *b, const char *name, const double *want) {
    const espl_blame_layer *l = find(b, name);
    near(name, "the noise ratio", l->sqnr_db, want[0]);
    near(name, "the divergence alone", l->alone.kl, want[1]);
    near(name, "the error alone", l->alone.error, want[2]);
    near(name, "the drop alone", l->alone.drop, want[3]);
    near(name, "the divergence spared", l->spared.kl, want[4]);
    near(name, "the error spared", l->spared.error, want[5]);
    near(name, "the drop spared", l->spared.drop, want[6]);
    assert_string_equal(l->format, "s4");
    assert_false(l->integer);
}

static espl_blame *blame_fixture(const fixture *f, const char *format, int64_t samples) {
    espl_blame *b = NULL;
    espl_diag diag = {0};
    espl_compress_options o = {.data = f->data,
                               .calib = f->data,
                               .max_drop = -1,
                               .goal = -1,
                               .flavour = -1,
                               .recipe = recipe_file(format)};
    if (espl_blame_layers(f->ctx, f->graph, &o, samples, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    remove(recipe_file(format));
    return b;
}

static void it_agrees_with_numpy(void **state) {
    (void)state;
    fixture f = fixture_open();
    espl_blame *b = blame_fixture(&f, "s4", 40);
    FILE *in = fopen(FOLDER "blame.csv", "r");
    char line[512], name[32];
    double want[7];
    int rows = 0;
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    for (; fgets(line, sizeof line, in); rows++) {
        assert_int_equal(sscanf(line, "%31[^,],%lf,%lf,%lf,%lf,%lf,%lf,%lf", name, &want[0], &want[1],
                                &want[2], &want[3], &want[4], &want[5], &want[6]),
                         8);
        compare_layer(b, name, want);
    }
    fclose(in);
    assert_int_equal(rows, 3);
    assert_int_equal(b->count, 3);
    assert_int_equal(b->samples, 40);
    assert_string_equal(b->layers[0].name, "second"); /* the one with the coarse grids */
    for (int i = 1; i < b->count; i++) assert_true(b->layers[i].alone.kl <= b->layers[i - 1].alone.kl);
    espl_blame_destroy(&b);
    fixture_close(&f);
}

/* A network that nothing is done to has no layer to blame. */
static void f32_has_none_to_blame(void **state) {
    (void)state;
    fixture f = fixture_open();
    espl_blame *b = blame_fixture(&f, "f32", 8);
    assert_int_equal(b->count, 0);
    assert_int_equal(b->samples, 8);
    assert_true(b->whole.kl == 0 && b->whole.error == 0 && b->whole.drop == 0);
    espl_blame_destroy(&b);
    fixture_close(&f);
}

/* Probabilities are taken as they are, logits are normalised; what is no number is worst of all. */
static void divergences(void **state) {
    (void)state;
    const float p[4] = {0.5f, 0.25f, 0.25f, 0}, q[4] = {0.25f, 0.25f, 0.5f, 0};
    assert_true(fabs(espl__divergence(p, q, 1, 4) - 0.25 * log(2)) < 1e-7);
    float a[4], b[4];
    for (int i = 0; i < 4; i++) {
        a[i] = p[i] > 0 ? logf(p[i]) + 40 : -200;
        b[i] = q[i] > 0 ? logf(q[i]) - 7 : -200;
    }
    assert_true(fabs(espl__divergence(a, b, 1, 4) - 0.25 * log(2)) < 1e-5);
    assert_true(espl__divergence(a, a, 1, 4) == 0);
    const float nothing[4] = {NAN, 1, 2, 3}, endless[4] = {-INFINITY, 1, 1, 1};
    espl_damage bad = {espl__relative_error(nothing, a, 4), espl__divergence(a, nothing, 1, 4), NAN};
    assert_true(espl__damage_sum(&bad) == 1000000);
    assert_true(espl__damage_sum(&(espl_damage){INFINITY, NAN, NAN}) == 1000000);
    assert_true(fabs(espl__damage_sum(&(espl_damage){0.1, NAN, NAN}) - 0.01) < 1e-12);
    assert_true(espl__divergence(endless, endless, 1, 4) == 0);
}

static void refusals_are_sentences(void **state) {
    (void)state;
    fixture f = fixture_open();
    espl_blame *b = NULL;
    espl_diag diag = {0};
    espl_compress_options o = {.max_drop = -1, .goal = -1, .flavour = -1};
    assert_int_equal(espl_blame_layers(f.ctx, f.graph, &o, 0, &b, &diag), ESPL_INVALID); /* no data */
    assert_null(b);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_numpy),
        cmocka_unit_test(f32_has_none_to_blame),
        cmocka_unit_test(divergences),
        cmocka_unit_test(refusals_are_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
