/* The search for formats: the knapsack against all assignments, sensitivities against numpy
 * (tests/oracle/make_blame_fixtures.py), and what comes of both. */
#include "blame_fixture.h"

#include "compress/mixed/mixed.h"

/* --- the knapsack ------------------------------------------------------------------------------------ */

enum { MOST_ITEMS = 6, MOST_CHOICES = 4 };

typedef struct problem {
    int items, choices;
    double cost[MOST_ITEMS * MOST_CHOICES], damage[MOST_ITEMS * MOST_CHOICES];
} problem;

static problem random_problem(espl__rng *rng, bool whole) {
    problem p = {.items = 1 + (int)(espl__rng_u32(rng) % MOST_ITEMS),
                 .choices = 1 + (int)(espl__rng_u32(rng) % MOST_CHOICES)};
    for (int i = 0; i < p.items * p.choices; i++) {
        double x = espl__rng_float(rng);
        p.cost[i] = whole ? floor(40 * x) : 40 * x;
        p.damage[i] =
            espl__rng_u32(rng) % 8 == 0 && i % p.choices ? INFINITY : floor(10 * espl__rng_float(rng));
    }
    return p;
}

/* Sums of one assignment, which is a number in base `choices`; false if it is not possible. */
static bool sums_of(const problem *p, int assignment, double *cost, double *damage) {
    *cost = *damage = 0;
    for (int i = 0; i < p->items; i++, assignment /= p->choices) {
        int at = i * p->choices + assignment % p->choices;
        *cost += p->cost[at];
        *damage += p->damage[at];
    }
    return *damage < INFINITY;
}

static double brute_force(const problem *p, double budget) {
    int all = 1;
    double best = INFINITY, cost, damage;
    for (int i = 0; i < p->items; i++) all *= p->choices;
    for (int a = 0; a < all; a++)
        if (sums_of(p, a, &cost, &damage) && cost <= budget) best = fmin(best, damage);
    return best;
}

static void compare(const problem *p, const knapsack *k, double budget, bool whole) {
    int picks[MOST_ITEMS];
    double damage, bound, best = brute_force(p, budget), cost = 0, sum = 0;
    if (!espl__knapsack_solve(k, budget, picks, &damage, &bound)) {
        assert_true(best == INFINITY);
        return;
    }
    for (int i = 0; i < p->items; i++) {
        cost += p->cost[i * p->choices + picks[i]];
        sum += p->damage[i * p->choices + picks[i]];
    }
    assert_true(cost <= budget + 1e-9);
    assert_true(fabs(sum - damage) < 1e-9);
    assert_true(bound <= best + 1e-9);
    if (whole)
        assert_true(fabs(damage - best) < 1e-9);
    else /* as good as the best of a budget that is smaller by what is lost to rounding */
        assert_true(damage <= brute_force(p, budget - (p->items + 1) * k->unit) + 1e-9);
}

static void method_search_KNAPSACK(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(400); seed++) {
        espl__rng rng = espl__rng_seed(seed, 3);
        bool whole = seed % 2;
        problem p = random_problem(&rng, whole);
        knapsack k;
        espl_diag diag = {0};
        if (espl__knapsack_open(ctx, p.items, p.choices, p.cost, p.damage, &k, &diag) != ESPL_OK)
            fail_msg("%s", diag.message);
        if (whole) assert_true(k.unit == 1);
        for (double b = -1; b < 42 * p.items; b += 3.25) compare(&p, &k, b, whole);
        compare(&p, &k, k.least, whole);
        for (int a = 0; a < 50; a++) { /* a hair too little for some assignment */
            double cost, d;
            if (sums_of(&p, (int)(espl__rng_u32(&rng) % 4096), &cost, &d))
                compare(&p, &k, cost - 1e-5, whole);
        }
        espl__knapsack_close(&k);
    }
    /* A layer that no format is possible for. */
    const double cost[2] = {1, 2}, damage[2] = {INFINITY, INFINITY};
    knapsack k;
    espl_diag diag = {0};
    assert_int_equal(espl__knapsack_open(ctx, 1, 2, cost, damage, &k, &diag), ESPL_UNSUPPORTED);
    espl__knapsack_close(&k);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Of a hundred layers with sizes as layers have them the bound says that little is left. */
static void the_gap_is_small(void **state) {
    enum { ITEMS = 100, CHOICES = 7 };
    (void)state;
    espl_context *ctx = new_context(1);
    double *cost = calloc(ITEMS * CHOICES, sizeof *cost), *damage = calloc(ITEMS * CHOICES, sizeof *damage),
           d, bound;
    espl__rng rng = espl__rng_seed(9, 1);
    int picks[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        double weights = floor(exp(6 + 8 * espl__rng_float(&rng))),
               sensitivity = exp(4 * espl__rng_float(&rng));
        for (int c = 0; c < CHOICES; c++) {
            cost[i * CHOICES + c] = ceil(weights * (c + 2) / 8);
            damage[i * CHOICES + c] = sensitivity * pow(4, -c) * (0.5 + espl__rng_float(&rng));
        }
    }
    knapsack k;
    assert_int_equal(espl__knapsack_open(ctx, ITEMS, CHOICES, cost, damage, &k, NULL), ESPL_OK);
    assert_true(k.unit > 1);
    for (double share = 0.05; share < 1; share += 0.05) {
        assert_true(espl__knapsack_solve(&k, k.least + share * (k.most - k.least), picks, &d, &bound));
        assert_true(d <= 1.02 * bound);
    }
    espl__knapsack_close(&k);
    free(cost);
    free(damage);
    espl_context_destroy(&ctx);
}

/* --- sensitivities ------------------------------------------------------------------------------------- */

static int row_of(const mixed *m, const char *layer, int bits) {
    for (int l = 0; l < m->layer_count; l++)
        for (int c = 0; c < m->count; c++)
            if (strcmp(m->j->k.graph->nodes[m->layers[l]]->name, layer) == 0 &&
                espl_format_bits(m->candidates[c].row.weights) == bits)
                return l * m->count + c;
    fail_msg("no %s in %d bits", layer, bits);
    return -1;
}

static void sensitivities_agree_with_numpy(void **state) {
    (void)state;
    fixture f =
        fixture_open("s3", 1); /* its scales are not fitted in the usual way, and so no candidate's are */
    espl_diag diag = {0};
    espl_compress_options o = fixture_options(&f);
    job j = {.fallback_chip = "x86-avx512-vnni"};
    mixed m = {.j = &j};
    int layers[3], count = 0, rows = 0;
    espl__arena_init(&m.arena, f.ctx);
    assert_int_equal(espl__job_open(&j, f.ctx, f.graph, &o, &diag), ESPL_OK);
    if (espl__mixed_candidates(&m, "s8,s7, s6,s5,s4,s3,s2", &diag) != ESPL_OK) fail_msg("%s", diag.message);
    for (int i = 0; i < f.graph->node_count; i++)
        if (espl__is_layer(f.graph->nodes[i])) layers[count++] = i;
    m.layers = layers;
    m.layer_count = count;
    if (espl__sensitivity(&m, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(m.samples, 40);
    FILE *in = fopen(FOLDER "sensitivity.csv", "r");
    char line[256], name[32];
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    for (; fgets(line, sizeof line, in); rows++) {
        int bits;
        double kl, soft, error;
        assert_int_equal(sscanf(line, "%31[^,],%d,%lf,%lf,%lf", name, &bits, &kl, &soft, &error), 5);
        int at = row_of(&m, name, bits);
        near(name, "the divergence", m.damage[at].kl, kl);
        near(name, "the softened divergence", m.damage[at].soft, soft);
        near(name, "the error", m.damage[at].error, error);
        assert_true(m.sum[at] == m.damage[at].soft);
    }
    fclose(in);
    assert_int_equal(rows, 21);
    espl__arena_free(&m.arena);
    espl__job_close(&j);
    fixture_close(&f, 1);
}

/* --- the whole ------------------------------------------------------------------------------------------ */

static espl_result *search(const fixture *f, espl_compress_options o) {
    espl_result *r = NULL;
    espl_diag diag = {0};
    if (espl_compress(f->ctx, f->graph, &o, &r, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return r;
}

/* The file is no larger than asked, what it costs is said, and no uniform network of its size does less
 * damage. */
static void a_size_is_kept(void **state) {
    (void)state;
    fixture f = fixture_open("s8", 1);
    uint64_t last = 0;
    for (int bytes = 1500; bytes < 2200; bytes += 100) {
        espl_compress_options o = fixture_options(&f);
        o.formats = "s8,s4,s2";
        o.size = bytes;
        o.curve = true;
        espl_result *r = search(&f, o);
        assert_true(r->bytes_after <= (uint64_t)bytes && r->bytes_after >= last);
        last = r->bytes_after;
        assert_true(r->within_budget && r->max_drop == 100);
        assert_true(r->search_bound <= r->search_damage + 1e-12);
        assert_int_equal(r->curve_count, 3 + 5);
        assert_int_equal(r->search_samples, 40);
        for (int i = 0; i < 3; i++) {
            assert_false(r->curve[i].mixed);
            if (r->curve[i].bytes <= (uint64_t)bytes)
                assert_true(r->search_damage <= r->curve[i].damage + 1e-12);
        }
        assert_non_null(strstr(r->recipe, "alone: divergence"));
        assert_non_null(strstr(r->recipe, "activations: f32"));
        espl_result_destroy(&r);
    }
    fixture_close(&f, 1);
}

/* The smallest network within the drop; what its recipe says gives the same network; threads change nothing.
 */
static void a_drop_is_kept(void **state) {
    (void)state;
    char *recipe = NULL;
    for (int threads = 1; threads <= 2; threads++) {
        fixture f = fixture_open("s8", threads);
        espl_compress_options o = fixture_options(&f);
        o.formats = "s8,s7,s6,s5,s4,s3,s2";
        o.goal = ESPL_GOAL_SIZE;
        o.max_drop = 6;
        espl_result *r = search(&f, o);
        assert_true(r->within_budget && r->drop <= 6);
        assert_int_equal(r->curve_count, 0);
        o.formats = "s8";
        espl_result *s8 = search(&f, o);
        assert_true(r->bytes_after < s8->bytes_after);
        if (recipe) assert_string_equal(recipe, r->recipe);
        free(recipe);
        recipe = strdup(r->recipe);
        FILE *out = fopen(f.recipe, "w");
        assert_true(out && fputs(recipe, out) >= 0 && fclose(out) == 0);
        o.formats = NULL;
        espl_result *again = search(&f, o);
        assert_int_equal(again->bytes_after, r->bytes_after);
        assert_true(again->score_after == r->score_after && again->drop == r->drop);
        for (int i = 0; i < r->layer_count; i++)
            assert_string_equal(again->layers[i].format_after, r->layers[i].format_after);
        espl_result_destroy(&again);
        espl_result_destroy(&s8);
        espl_result_destroy(&r);
        fixture_close(&f, threads);
    }
    free(recipe);
}

/* Each goal's own figure falls, and formats that are computed in different ways stand side by side. */
static void goals_and_formats(void **state) {
    (void)state;
    for (int goal = 0; goal < ESPL_GOAL_COUNT; goal++) {
        fixture f = fixture_open("s8", 1);
        espl_chip *chip = NULL;
        assert_int_equal(espl_chip_load(f.ctx, "cortex-a76", &chip, NULL), ESPL_OK);
        espl_compress_options o = fixture_options(&f);
        o.chip = chip;
        o.recipe = NULL;
        o.goal = goal;
        o.max_drop = 30;
        o.formats = "s8,f16,f32,s4/s8,log4";
        o.curve = true;
        espl_result *r = search(&f, o);
        assert_true(r->within_budget);
        assert_int_equal(r->curve_count, 5 + 9);
        assert_string_equal(r->curve[3].name, "s4/s8");
        if (goal == ESPL_GOAL_SIZE) assert_true(3 * r->bytes_after < r->bytes_before);
        if (goal == ESPL_GOAL_LATENCY) assert_true(r->ms_after < r->ms_before);
        if (goal == ESPL_GOAL_ENERGY) assert_true(r->joules_after < r->joules_before);
        espl_result_destroy(&r);
        espl_chip_destroy(&chip);
        fixture_close(&f, 1);
    }
}

static bool stop(void *user, const char *what, int64_t done, int64_t total) {
    (void)done, (void)total;
    return strcmp(what, user) != 0;
}

static void refuse(const fixture *f, espl_compress_options o, const char *sentence) {
    espl_result *r = NULL;
    espl_diag diag = {0};
    if (espl_compress(f->ctx, f->graph, &o, &r, &diag) == ESPL_OK) fail_msg("no refusal: %s", sentence);
    if (!strstr(diag.message, sentence)) fail_msg("'%s' lacks '%s'", diag.message, sentence);
    assert_null(r);
}

static void refusals_are_sentences(void **state) {
    static const char *const work[] = {"layers in each format", "networks in one format", "budgets",
                                       "points of the curve"};
    (void)state;
    fixture f = fixture_open("s8", 1);
    espl_compress_options o = fixture_options(&f);
    o.size = 0.5;
    refuse(&f, o, "needs formats");
    o.formats = "s8,s4";
    o.size = 300;
    refuse(&f, o, "the smallest network of these formats takes ");
    o.size = 0;
    o.data = NULL;
    refuse(&f, o, "give the size");
    o = fixture_options(&f);
    o.formats = "s8,s9";
    refuse(&f, o, "formats: 's9' is none");
    o.formats = "s8,s4,s8";
    refuse(&f, o, "'s8' is there twice");
    o.formats = ", ";
    refuse(&f, o, "there must be one");
    o.formats = "s8, match: x}";
    refuse(&f, o, "is none");
    o.formats = "s8,s4";
    o.curve = true;
    o.max_drop = 50;
    o.goal = ESPL_GOAL_SIZE;
    o.progress = stop;
    for (size_t i = 0; i < ESPL_COUNT(work); i++) {
        char sentence[64];
        o.user = (void *)work[i];
        snprintf(sentence, sizeof sentence, " %s", work[i]);
        refuse(&f, o, sentence);
    }
    fixture_close(&f, 1);
    f = fixture_open("f32", 1);
    o = fixture_options(&f);
    o.formats = "s8,s4";
    refuse(&f, o, "no layer that a format could be chosen for");
    fixture_close(&f, 1);
}

/* --- memory that runs out ------------------------------------------------------------------------------ */

typedef struct meter {
    long calls, fail_at, held;
} meter;

static void *metered_alloc(void *user, size_t bytes) {
    meter *m = user;
    if (++m->calls == m->fail_at) return NULL;
    m->held++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void metered_free(void *user, void *p) {
    ((meter *)user)->held--;
    free(p);
}

/* A search and a blame; some allocation of theirs fails. */
static espl_status both(espl_context *ctx, const espl_graph *graph, const espl_compress_options *o,
                        espl_diag *diag) {
    espl_result *r = NULL;
    espl_blame *b = NULL;
    espl_status status = espl_compress(ctx, graph, o, &r, diag);
    espl_compress_options plain = *o;
    plain.formats = NULL;
    plain.curve = false;
    if (status == ESPL_OK) status = espl_blame_layers(ctx, graph, &plain, 2, &b, diag);
    espl_result_destroy(&r);
    espl_blame_destroy(&b);
    return status;
}

static void memory_may_run_out_anywhere(void **state) {
    (void)state;
    meter m = {0};
    fixture f = fixture_open("s8", 1);
    espl_context *ctx = NULL;
    espl_graph *graph = NULL;
    espl_dataset *data = NULL;
    espl_chip *chip = NULL;
    espl_config config = {.alloc = metered_alloc, .free = metered_free, .user = &m, .threads = 1};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    assert_int_equal(espl_graph_read(ctx, FOLDER "model.onnx", &graph, NULL), ESPL_OK);
    assert_int_equal(espl_dataset_open(ctx, FOLDER "data.yaml", &data, NULL), ESPL_OK);
    assert_int_equal(espl_chip_load(ctx, "x86-avx512-vnni", &chip, NULL), ESPL_OK);
    espl_compress_options o = fixture_options(&f);
    o.chip = chip;
    o.data = data;
    o.calib = NULL;
    o.goal = ESPL_GOAL_SIZE;
    o.max_drop = 20;
    o.formats = "s8,s4";
    o.curve = true;
    long held = m.held, first = m.calls;
    espl_diag diag = {0};
    if (both(ctx, graph, &o, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    long calls = m.calls - first, step = ESPL_MAX(calls / 80, 1);
    assert_int_equal(m.held, held);
    for (long n = 1; n <= calls; n += n < 60 ? 1 : step) {
        diag = (espl_diag){0};
        m.fail_at = m.calls + n;
        espl_status status = both(ctx, graph, &o, &diag);
        if (m.held != held)
            fail_msg("allocation %ld of %ld fails: %ld blocks are lost", n, calls, m.held - held);
        if (status != ESPL_OK && (status != ESPL_NOMEM || !diag.message[0]))
            fail_msg("allocation %ld of %ld fails: %s, '%s'", n, calls, espl_status_name(status),
                     diag.message);
    }
    m.fail_at = 0;
    espl_graph_destroy(&graph);
    espl_dataset_close(&data);
    espl_chip_destroy(&chip);
    espl_context_destroy(&ctx);
    assert_int_equal(m.held, 0);
    fixture_close(&f, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, parameters, text) cmocka_unit_test(method_search_##NAME),
        ESPL__SEARCH_LIST(X)
#undef X
            cmocka_unit_test(the_gap_is_small),
        cmocka_unit_test(sensitivities_agree_with_numpy),
        cmocka_unit_test(a_size_is_kept),
        cmocka_unit_test(a_drop_is_kept),
        cmocka_unit_test(goals_and_formats),
        cmocka_unit_test(refusals_are_sentences),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
