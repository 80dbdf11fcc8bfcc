/* Blame against numpy (tests/oracle/make_blame_fixtures.py): damage alone and spared, noise inside the
 * network. */
#include "blame_fixture.h"

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
    near(name, "the softened divergence alone", l->alone.soft, want[2]);
    near(name, "the error alone", l->alone.error, want[3]);
    near(name, "the drop alone", l->alone.drop, want[4]);
    near(name, "the divergence spared", l->spared.kl, want[5]);
    near(name, "the softened divergence spared", l->spared.soft, want[6]);
    near(name, "the error spared", l->spared.error, want[7]);
    near(name, "the drop spared", l->spared.drop, want[8]);
    assert_string_equal(l->format, "s4");
    assert_false(l->integer);
}

static espl_blame *blame_fixture(const fixture *f, int64_t samples) {
    espl_blame *b = NULL;
    espl_diag diag = {0};
    espl_compress_options o = fixture_options(f);
    if (espl_blame_layers(f->ctx, f->graph, &o, samples, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return b;
}

static void it_agrees_with_numpy(void **state) {
    (void)state;
    fixture f = fixture_open("s4", 1);
    espl_blame *b = blame_fixture(&f, 40);
    FILE *in = fopen(FOLDER "blame.csv", "r");
    char line[512], name[32];
    double want[9];
    int rows = 0;
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    for (; fgets(line, sizeof line, in); rows++) {
        char *at = strchr(line, ',');
        snprintf(name, sizeof name, "%.*s", (int)(at - line), line);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(*at, ',');
            want[i] = strtod(at + 1, &at);
        }
        compare_layer(b, name, want);
    }
    fclose(in);
    assert_int_equal(rows, 3);
    assert_int_equal(b->count, 3);
    assert_int_equal(b->samples, 40);
    assert_string_equal(b->layers[0].name, "second"); /* the one with the coarse grids */
    for (int i = 1; i < b->count; i++) assert_true(b->layers[i].alone.soft <= b->layers[i - 1].alone.soft);
    espl_blame_destroy(&b);
    fixture_close(&f, 1);
}

/* A network that nothing is done to has no layer to blame. */
static void f32_has_none_to_blame(void **state) {
    (void)state;
    fixture f = fixture_open("f32", 1);
    espl_blame *b = blame_fixture(&f, 8);
    assert_int_equal(b->count, 0);
    assert_int_equal(b->samples, 8);
    assert_true(b->whole.kl == 0 && b->whole.error == 0 && b->whole.drop == 0);
    espl_blame_destroy(&b);
    fixture_close(&f, 1);
}

/* Probabilities are taken as they are, logits are normalised; what is no number is worst of all. */
static void divergences(void **state) {
    (void)state;
    const float p[4] = {0.5f, 0.25f, 0.25f, 0}, q[4] = {0.25f, 0.25f, 0.5f, 0};
    assert_true(fabs(espl__divergence(p, q, 1, 4, 1) - 0.25 * log(2)) < 1e-7);
    float a[4], b[4];
    for (int i = 0; i < 4; i++) {
        a[i] = p[i] > 0 ? logf(p[i]) + 40 : -200;
        b[i] = q[i] > 0 ? logf(q[i]) - 7 : -200;
    }
    assert_true(fabs(espl__divergence(a, b, 1, 4, 1) - 0.25 * log(2)) < 1e-5);
    assert_true(espl__divergence(a, a, 1, 4, 1) == 0);
    /* At a temperature of 2 the probabilities are as their square roots. */
    assert_true(fabs(espl__divergence(p, q, 1, 3, 2) - espl__divergence(a, b, 1, 3, 2)) < 1e-6);
    const double r = sqrt(0.5) + 1, root[3] = {sqrt(0.5) / r, 0.5 / r, 0.5 / r};
    assert_true(fabs(espl__divergence(p, q, 1, 3, 2) - (root[0] - root[2]) * log(root[0] / root[2])) < 1e-7);
    const float nothing[4] = {NAN, 1, 2, 3}, endless[4] = {-INFINITY, 1, 1, 1};
    espl_damage bad = {espl__relative_error(nothing, a, 4), INFINITY, espl__divergence(a, nothing, 1, 4, 4),
                       NAN};
    assert_true(espl__damage_sum(&bad) == 1000000);
    assert_true(espl__damage_sum(&(espl_damage){INFINITY, NAN, NAN, NAN}) == 1000000);
    assert_true(fabs(espl__damage_sum(&(espl_damage){0.1, NAN, NAN, NAN}) - 0.01) < 1e-12);
    assert_true(espl__divergence(endless, endless, 1, 4, 1) == 0);
}

static void refusals_are_sentences(void **state) {
    (void)state;
    fixture f = fixture_open("s4", 1);
    espl_blame *b = NULL;
    espl_diag diag = {0};
    espl_compress_options o = {.max_drop = -1, .goal = -1, .flavour = -1};
    assert_int_equal(espl_blame_layers(f.ctx, f.graph, &o, 0, &b, &diag), ESPL_INVALID); /* no data */
    assert_null(b);
    fixture_close(&f, 1);
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
