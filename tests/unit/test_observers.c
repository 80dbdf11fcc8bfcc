/* Observers against numpy (tests/oracle/make_observer_fixtures.py), and what they promise of any elements. A row of
 * ESPL__OBSERVER_LIST has its test method_observer_NAME; without one this file does not compile. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "compress/quant/observer.h"

enum { SAMPLE = 500, GRIDS = 4 };
static const espl__grid grids[GRIDS] = {{-127, 127, true}, {0, 255, false}, {-8, 7, true}, {0, 3, false}};

static espl_context *ctx;
static espl__tally *tally;

static range range_for(espl__observer observer) {
    range r = {.observer = observer};
    if (espl__observer_counts(&observer)) r.histogram = calloc(1, sizeof *r.histogram);
    return r;
}

static void drop(range *r) {
    free(r->histogram);
    r->histogram = NULL;
}

static range observed(espl__observer observer, const float *x, int64_t count) {
    range r = range_for(observer);
    espl__range_observe(&r, x, (count + SAMPLE - 1) / SAMPLE, ESPL_MIN(count, SAMPLE), tally);
    return r;
}

static espl__observer observer_of(const char *text) {
    espl__observer o;
    if (!espl__observer_parse(text, &o)) fail_msg("'%s'", text);
    return o;
}

/* --- against numpy ----------------------------------------------------------------------------------------- */

/* One line of cases.txt: its elements, the words behind the observer's name, and how many of them. */
typedef struct test_case {
    char data[32], name[32];
    double words[5];
    int count;
    espl_tensor x;
} test_case;

static bool parse_case(const char *line, test_case *c) {
    int at = 0, n = 0;
    *c = (test_case){.count = 0};
    if (sscanf(line, "%31s %31s%n", c->data, c->name, &at) != 2) return false;
    while (c->count < 5 && sscanf(line + at, "%lf%n", &c->words[c->count], &n) == 1) {
        at += n;
        c->count++;
    }
    return true;
}

/* Calls `check` with every case of the observer; there must be some. */
static void each_case(const char *name, void (*check)(const test_case *c)) {
    char line[256], path[4096];
    int seen = 0;
    FILE *f = fopen(ESPL_SOURCE_DIR "/tests/fixtures/observers/cases.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        test_case c;
        assert_true(parse_case(line, &c));
        if (strcmp(c.name, name) != 0) continue;
        snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/observers/%s.npy", c.data);
        assert_int_equal(espl_npy_read(ctx, path, &c.x, NULL), ESPL_OK);
        check(&c);
        espl_tensor_free(ctx, &c.x);
        seen++;
    }
    fclose(f);
    assert_true(seen > 3);
}

static void check_near(const test_case *c, const char *what, double got, double want, double within) {
    if (!(fabs(got - want) <= within))
        fail_msg("%s, %s %g: %s is %.9g, must be %.9g within %g", c->data, c->name, c->words[0], what, got, want,
                 within);
}

static void check_ends(const test_case *c, const range *r, double within) {
    check_near(c, "min", r->min, c->words[c->count - 2], within);
    check_near(c, "max", r->max, c->words[c->count - 1], within);
}

static void check_plain(const test_case *c) {
    espl__observer o = observer_of(c->name);
    if (c->count == 3) o.parameter = c->words[0];
    range r = observed(o, c->x.data, espl_shape_count(&c->x.shape));
    espl__range_settle(&r, &grids[0]);
    check_ends(c, &r, 1e-6 * (fabs(c->words[c->count - 1]) + fabs(c->words[c->count - 2])));
    drop(&r);
}

static void method_observer_MINMAX(void **state) {
    (void)state;
    each_case("minmax", check_plain);
}

static void method_observer_AVERAGE(void **state) {
    (void)state;
    each_case("average", check_plain);
}

static void check_percentile(const test_case *c) {
    espl__observer o = {ESPL__OBSERVER_PERCENTILE, c->words[0]};
    range r = observed(o, c->x.data, espl_shape_count(&c->x.shape));
    double bin = ldexp(1, r.histogram->exponent);
    espl__range_settle(&r, &grids[0]);
    check_ends(c, &r, bin);
    drop(&r);
}

static void method_observer_PERCENTILE(void **state) {
    (void)state;
    each_case("percentile", check_percentile);
}

static espl__grid grid_of(const test_case *c) {
    return (espl__grid){(int32_t)c->words[0], (int32_t)c->words[1], c->words[2] != 0};
}

/* Mean squared error of the elements themselves on the grid that a range gives. */
static double mean_error(const float *x, int64_t count, const espl__grid *g, double min, double max) {
    double step = g->symmetric ? fmax(-min, max) / g->hi : (max - min) / (g->hi - g->lo), sum = 0;
    double zero = g->symmetric ? 0 : nearbyint(-min / step) + g->lo;
    for (int64_t i = 0; i < count; i++) {
        double q = fmin(fmax(nearbyint(x[i] / step) + zero, g->lo), g->hi);
        sum += (x[i] - (q - zero) * step) * (x[i] - (q - zero) * step);
    }
    return sum / (double)count;
}

/* Within 1 % of the best range there is, where doing nothing is often several times as far. */
static void check_mse(const test_case *c) {
    espl__grid g = grid_of(c);
    int64_t count = espl_shape_count(&c->x.shape);
    range r = observed(observer_of("mse"), c->x.data, count);
    espl__range_settle(&r, &g);
    double got = mean_error(c->x.data, count, &g, r.min, r.max);
    if (!(got <= 1.01 * c->words[3] + 1e-12))
        fail_msg("%s, codes %d to %d: %g in [%g, %g], the least is %g", c->data, g.lo, g.hi, got, r.min, r.max,
                 c->words[3]);
    drop(&r);
}

static void method_observer_MSE(void **state) {
    (void)state;
    each_case("mse", check_mse);
}

static void check_kl(const test_case *c) {
    espl__grid g = grid_of(c);
    range r = observed(observer_of("kl"), c->x.data, espl_shape_count(&c->x.shape));
    espl__range_settle(&r, &g);
    check_ends(c, &r, 1e-6 * (fabs(c->words[3]) + fabs(c->words[4])));
    drop(&r);
}

static void method_observer_KL(void **state) {
    (void)state;
    each_case("kl", check_kl);
}

/* --- of any elements ----------------------------------------------------------------------------------- */

static const char *const texts[] = {"minmax", "average 0.9", "percentile 99.9", "mse", "kl"};

static float random_element(espl__rng *rng, int kind) {
    float x = espl__rng_normal(rng);
    switch (kind) {
        case 0: /* behind a Relu */
            return x > 0 ? x : 0;
        case 1: /* all magnitudes there are */
            return ldexpf(x, (int)espl__rng_below(rng, 270) - 145);
        case 2: /* the edges of bins */
            return ldexpf(rintf(8 * x), (int)espl__rng_below(rng, 12) - 6);
        default:
            return x;
    }
}

static void shuffle(espl__rng *rng, float *x, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t k = espl__rng_below(rng, (uint32_t)i + 1);
        float keep = x[i];
        x[i] = x[k];
        x[k] = keep;
    }
}

static void same_range(const range *a, const range *b, const char *what) {
    if (a->min != b->min || a->max != b->max) fail_msg("%s: the ends differ", what);
    if (!a->histogram) return;
    if (a->histogram->exponent != b->histogram->exponent) fail_msg("%s: the bins' widths differ", what);
    assert_int_equal(espl__histogram_zeros(a->histogram), espl__histogram_zeros(b->histogram));
    assert_int_equal(a->histogram->count, b->histogram->count);
    for (int k = 0; k < ESPL__BINS; k++)
        if (a->histogram->bins[k] != b->histogram->bins[k]) fail_msg("%s: bin %d differs", what, k);
}

/* The order of elements, and how they are cut into samples, pieces and ranges that are merged, is all one. */
static void order_and_grouping_do_not_matter(void **state) {
    enum { COUNT = 60000 };
    float *x = malloc(COUNT * sizeof *x);
    (void)state;
    for (int seed = 0; seed < 24; seed++) {
        espl__rng rng = espl__rng_seed((uint64_t)seed, 1);
        espl__observer o = observer_of(seed % 5 ? "mse" : "minmax");
        int64_t count = seed % 3 ? COUNT : 1 + espl__rng_below(&rng, COUNT);
        for (int64_t i = 0; i < count; i++) x[i] = random_element(&rng, seed % 4);
        range whole = range_for(o), parts = range_for(o), merged = {.seen = 0};
        espl__range_observe(&whole, x, 1, count, tally);
        shuffle(&rng, x, count);
        for (int64_t i = 0, n; i < count; i += n) {
            n = 1 + espl__rng_below(&rng, 30000);
            n = ESPL_MIN(n, count - i);
            espl__range_observe(&parts, x + i, 1, n, tally);
            range one = range_for(o);
            espl__range_observe(&one, x + i, 1, n, tally);
            assert_int_equal(espl__range_merge(ctx, &merged, &one, NULL), ESPL_OK);
            drop(&one);
        }
        same_range(&whole, &parts, "samples");
        same_range(&whole, &merged, "merged");
        assert_true(whole.seen == 1 && parts.seen == merged.seen);
        espl__range_free(ctx, &merged);
        drop(&whole);
        drop(&parts);
    }
    free(x);
}

/* Every element is in the bin that its value says. */
static void bins_hold_what_they_say(void **state) {
    enum { COUNT = 20000 };
    float *x = malloc(COUNT * sizeof *x);
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        espl__rng rng = espl__rng_seed(7, (uint64_t)kind);
        int64_t want[ESPL__BINS] = {0}, zeros = 0;
        for (int64_t i = 0; i < COUNT; i++) x[i] = random_element(&rng, kind);
        range r = range_for(observer_of("kl"));
        espl__range_observe(&r, x, 1, COUNT, tally);
        double width = ldexp(1, r.histogram->exponent);
        assert_true(floor(r.max / width) - floor(r.min / width) < ESPL__BINS);
        assert_true(floor(2 * r.max / width) - floor(2 * r.min / width) >= ESPL__BINS);
        for (int64_t i = 0; i < COUNT; i++)
            if (x[i] == 0)
                zeros++;
            else
                want[(int64_t)floor(x[i] / width) & (ESPL__BINS - 1)]++;
        assert_int_equal(zeros, espl__histogram_zeros(r.histogram));
        for (int k = 0; k < ESPL__BINS; k++) assert_int_equal(want[k], r.histogram->bins[k]);
        drop(&r);
    }
    free(x);
}

static void check_valid(const char *text, const char *what, const range *seen) {
    for (int g = 0; g < GRIDS; g++) {
        range r = {0}, again;
        assert_int_equal(espl__range_merge(ctx, &r, seen, NULL), ESPL_OK);
        espl__range_settle(&r, &grids[g]);
        if (!(isfinite(r.min) && isfinite(r.max) && r.min <= 0 && r.max >= 0))
            fail_msg("%s of %s: [%g, %g]", text, what, r.min, r.max);
        if (seen->observer.kind != ESPL__OBSERVER_AVERAGE && (r.min < seen->min || r.max > seen->max))
            fail_msg("%s of %s: [%g, %g] is more than there was", text, what, r.min, r.max);
        if (seen->max > FLT_MIN && r.max == 0 && -r.min < seen->max) fail_msg("%s of %s: nothing is left", text, what);
        again = r;
        espl__range_settle(&again, &grids[g]);
        same_range(&r, &again, "settled twice");
        espl__range_free(ctx, &r);
    }
}

static void extreme_elements_give_valid_ranges(void **state) {
    (void)state;
    static const struct {
        const char *name;
        float usual, first, second;
    } kinds[] = {{"zeros", 0, 0, 0},
                 {"a constant", 3, 3, 3},
                 {"a negative constant", -1e-3f, -1e-3f, -1e-3f},
                 {"an outlier of 1e30", 1, 1e30f, -2},
                 {"an outlier of -1e30", 0, -1e30f, 1},
                 {"NaN", 2, NAN, -1},
                 {"nothing but NaN", NAN, NAN, NAN},
                 {"infinities", 1, INFINITY, -INFINITY},
                 {"nothing but infinities", INFINITY, -INFINITY, INFINITY},
                 {"denormals", 1e-41f, -1e-44f, 1e-45f},
                 {"the largest numbers", FLT_MAX, -FLT_MAX, FLT_MAX},
                 {"the largest and the least", 1e-45f, FLT_MAX, -1e-45f}};
    float *x = malloc(40000 * sizeof *x);
    for (size_t t = 0; t < ESPL_COUNT(texts); t++)
        for (size_t k = 0; k < ESPL_COUNT(kinds); k++)
            for (int64_t count = 1; count <= 40000; count = count * 200 + 3 * (count > 1)) {
                for (int64_t i = 0; i < count; i++) x[i] = kinds[k].usual;
                x[0] = kinds[k].first;
                if (count > 1) x[count / 2] = kinds[k].second;
                range r = range_for(observer_of(texts[t]));
                espl__range_observe(&r, x, 1, count, tally);
                assert_true(isfinite(r.min) && isfinite(r.max));
                check_valid(texts[t], kinds[k].name, &r);
                drop(&r);
            }
    range none = range_for(observer_of("mse"));
    espl__range_observe(&none, x, 1, 0, tally); /* a sample without elements */
    check_valid("mse", "nothing", &none);
    drop(&none);
    free(x);
}

/* What is not finite is as if it were not there, however much of it there is. */
static void only_finite_elements_count(void **state) {
    enum { COUNT = 5000 };
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    float x[COUNT], mixed[3 * COUNT];
    espl__rng rng = espl__rng_seed(3, 3);
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        x[i] = mixed[3 * i + i % 3] = espl__rng_normal(&rng);
        mixed[3 * i + (i + 1) % 3] = odd[i % 3];
        mixed[3 * i + (i + 2) % 3] = odd[i / 3 % 3];
    }
    range plain = range_for(observer_of("kl")), other = range_for(observer_of("kl"));
    espl__range_observe(&plain, x, 1, COUNT, tally);
    espl__range_observe(&other, mixed, 1, 3 * (int64_t)COUNT, tally);
    same_range(&plain, &other, "mixed");
    drop(&plain);
    drop(&other);
}

static void texts_are_read_and_written(void **state) {
    (void)state;
    static const char *const good[][2] = {{"minmax", "minmax"},
                                          {"average", "average 0.9"},
                                          {"average 0", "average 0"},
                                          {"percentile 99.999", "percentile 99.999"},
                                          {"percentile", "percentile 99.99"},
                                          {"kl", "kl"}};
    static const char *const bad[] = {"",           "min",           "minmax 3",       "percentile 49", "percentile 100.1",
                                      "percentile ", "percentile 99x", "percentile nan", "average -0.1",  "average 2",
                                      "mse 8",      "klx",           "percentile99",   "percentile  99"};
    char text[ESPL__OBSERVER_TEXT], forms[ESPL__OBSERVER_FORMS];
    espl__observer o;
    for (size_t i = 0; i < ESPL_COUNT(good); i++) {
        assert_true(espl__observer_parse(good[i][0], &o));
        assert_string_equal(espl__observer_text(&o, text, sizeof text), good[i][1]);
    }
    for (size_t i = 0; i < ESPL_COUNT(bad); i++)
        if (espl__observer_parse(bad[i], &o)) fail_msg("'%s' is none", bad[i]);
    assert_string_equal(espl__observer_forms(forms, sizeof forms),
                        "minmax, average [momentum, 0 to 1], percentile [per cent, 50 to 100], mse, kl");
}

static int set_up(void **state) {
    (void)state;
    tally = calloc(1, sizeof *tally);
    return !tally || espl_context_create(NULL, &ctx, NULL) != ESPL_OK;
}

static int tear_down(void **state) {
    (void)state;
    free(tally);
    espl_context_destroy(&ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, parameter, least, most, usual, text) cmocka_unit_test(method_observer_##NAME),
        ESPL__OBSERVER_LIST(X)
#undef X
            cmocka_unit_test(order_and_grouping_do_not_matter),
        cmocka_unit_test(bins_hold_what_they_say),
        cmocka_unit_test(extreme_elements_give_valid_ranges),
        cmocka_unit_test(only_finite_elements_count),
        cmocka_unit_test(texts_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
