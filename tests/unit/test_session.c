/* Memory of sessions: runs take none, weights are there once, a session needs neither its graph nor the file,
 * and memory that runs out is told. */
#define _GNU_SOURCE
#include "graph_oracle.h"

#include <malloc.h>

#include "espalier/model.h"
#include "real_models.h"
#include "runtime/container.h"
#include "scratch.h"

/* --- counting ---------------------------------------------------------------------------------------- */

/* Every allocation of the process, of all threads; the sanitizers bring allocators of their own. */
static unsigned long allocated;

#if defined(__GLIBC__) && !defined(ESPL_SANITIZED)
#define COUNTS 1
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(void) {
    __atomic_fetch_add(&allocated, 1, __ATOMIC_SEQ_CST);
}
void *malloc(size_t n) {
    count();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    count();
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
    count();
    return __libc_memalign(align, n);
}
void *memalign(size_t align, size_t n) {
    count();
    return __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n) {
    count();
    return (*p = __libc_memalign(align, n)) ? 0 : 12;
}
#else
#define COUNTS 0
#endif

static unsigned long now_allocated(void) {
    return __atomic_load_n(&allocated, __ATOMIC_SEQ_CST);
}

/* An allocator that counts, and fails from the n-th allocation on. */
typedef struct failing {
    int left, live; /* allocations until the first that fails, -1: none does; those not freed */
} failing;

static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    if (f->left == 0) return NULL;
    if (f->left > 0) f->left--;
    f->live++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void failing_free(void *user, void *ptr) {
    ((failing *)user)->live--;
    free(ptr);
}

static espl_context *failing_context(failing *f) {
    espl_context *ctx = NULL;
    espl_config config = {.alloc = failing_alloc, .free = failing_free, .user = f, .threads = 1};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    return ctx;
}

/* --- runs -------------------------------------------------------------------------------------------- */

static void runs_without_memory(espl_context *ctx, const espl_graph *g, const char *what, int number) {
    espl_session *s = session_of(ctx, g);
    run_io io = io_of(s, 1);
    espl_status statuses[3];
    uint64_t before = espl_context_allocations(ctx);
    unsigned long all = now_allocated();
    for (int i = 0; i < 3; i++) statuses[i] = espl_session_run(s, io.in, io.out, NULL);
    unsigned long after = now_allocated();
    for (int i = 0; i < 3; i++) assert_int_equal(statuses[i], ESPL_OK);
    if (espl_context_allocations(ctx) != before || after != all)
        fail_msg("%s %d: %d allocations of the context, %d of the process", what, number,
                 (int)(espl_context_allocations(ctx) - before), (int)(after - all));
    io_free(&io);
    espl_session_destroy(&s);
}

static void random_runs_allocate_nothing(void **state) {
    (void)state;
    unsigned long before = now_allocated();
    void *volatile something = malloc(1); /* volatile: a compiler may drop a pair that nobody sees */
    free(something);
    if (COUNTS) assert_true(now_allocated() > before); /* the counter counts */
    for (int threads = 1; threads <= 2; threads++) {
        espl_context *ctx = new_context(threads);
        for (uint64_t seed = 0; seed < CASES(120); seed++) {
            random_graph x;
            random_graph_of(&x, ctx, 8000000 + seed, 14, seed % 2);
            espl_tensor in = {ESPL_F32, x.r.g->inputs[0]->shape, NULL};
            in.data = malloc((size_t)elements(x.r.g->inputs[0]) * 4 + 4);
            fill_random(&x.r.rng, &in);
            if (seed % 3) quantize_graph(&x, in.data, (int)(seed % 3) * 50);
            free(in.data);
            runs_without_memory(ctx, x.r.g, "seed", (int)seed);
            espl_graph_destroy(&x.r.g);
        }
        espl_context_destroy(&ctx);
    }
}

static void real_runs_allocate_nothing(void **state) {
    static const char *const names[] = {
        "dtln-lstm",        "mlperf-tiny-kws_dscnn", "mnist-mlp",  "openwakeword-embedding",
        "resnet20-cifar10", "ultraface-rfb320",      "vit-cifar10"};
    (void)state;
    if (!models_folder()) skip();
    for (int threads = 1; threads <= 2; threads++) {
        espl_context *ctx = new_context(threads);
        for (size_t i = 0; i < ESPL_COUNT(names); i++)
            for (int quantized = 0; quantized < 2; quantized++) {
                espl_graph *g = real_model(ctx, names[i]);
                if (quantized) quantize_model(ctx, g, ESPL_FLAVOUR_ORT_X86);
                runs_without_memory(ctx, g, names[i], quantized);
                espl_graph_destroy(&g);
            }
        espl_context_destroy(&ctx);
    }
}

/* --- graphs, files, sessions ------------------------------------------------------------------------- */

static char path[SCRATCH_PATH];

static void put_file(const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static espl__value *lstm_of(rig *r, espl__value *x, int64_t size, int64_t hidden) {
    espl__value *in[] = {x, random_of(r, SHAPE(1, 4 * hidden, size), 0.05f),
                         random_of(r, SHAPE(1, 4 * hidden, hidden), 0.1f),
                         random_of(r, SHAPE(1, 8 * hidden), 0.1f)};
    espl__node *n = node_of(r, "LSTM", 4, in, 1);
    set_int(r, n, "hidden_size", hidden);
    return done_of(r, n);
}

static espl__value *conv_of(rig *r, espl__value *x, espl__value *w, int64_t group, int64_t pad) {
    espl__node *n = NODE(r, "Conv", x, w, random_of(r, SHAPE(w->shape.dim[0]), 0.1f));
    SET_INTS(r, n, "pads", pad, pad, pad, pad);
    set_int(r, n, "group", group);
    return APPLY(r, "Relu", done_of(r, n));
}

/* More than 1 MiB of weights in every order that layers have; constants that steps read as they are (a table,
 * a large addend) and one that is an output; weights of which only the codes are stored. */
static void many_layers(rig *r, espl_context *ctx) {
    rig_begin(r, ctx, 5);
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(1, 24, 20, 20)),
                *i = input_of(r, "i", ESPL_S64, SHAPE(3));
    espl__value *y = conv_of(r, x, random_of(r, SHAPE(64, 24, 3, 3), 0.07f), 1, 1);
    y = conv_of(r, y, random_of(r, SHAPE(64, 16, 3, 3), 0.08f), 4, 1);
    y = conv_of(r, y, random_of(r, SHAPE(64, 1, 5, 5), 0.2f), 64, 2);
    espl__value *codes = random_of(r, SHAPE(250, 64, 1, 1), 0.1f);
    quantize_constant_of(r, codes, 0, ESPL_FORMAT_S8);
    y = APPLY(r, "Flatten", APPLY(r, "GlobalAveragePool", conv_of(r, y, codes, 1, 0)));
    espl__node *n = NODE(r, "Gemm", y, random_of(r, SHAPE(603, 250), 0.1f), random_of(r, SHAPE(603), 0.1f));
    set_int(r, n, "transB", 1);
    y = APPLY(r, "Gemm", done_of(r, n), random_of(r, SHAPE(603, 900), 0.05f), random_of(r, SHAPE(900), 0.1f));
    y = APPLY(r, "MatMul", y, random_of(r, SHAPE(900, 404), 0.05f));
    y = APPLY(r, "Mul", y, random_of(r, SHAPE(16, 404), 1.0f));
    y = APPLY(r, "Reshape", y, ints_of(r, 3, (const int64_t[]){16, 1, 404}));
    y = lstm_of(r, y, 404, 60);
    espl__value *table = random_of(r, SHAPE(500, 16), 1.0f), *kept = random_of(r, SHAPE(3, 700), 1.0f);
    espl__value *in[] = {x, i}, *out[] = {y, APPLY(r, "Gather", table, i), kept};
    outputs_are(r, 2, in, 3, out);
}

static void same(const run_io *a, const run_io *b) {
    for (int i = 0; i < a->outputs; i++)
        if (memcmp(a->out[i].data, b->out[i].data, bytes_of(&a->out[i])) != 0)
            fail_msg("output %d differs", i);
}

/* KiB of the file that are in the process's memory; -1: it is not mapped. */
static long mapped_kib(void) {
    char line[4400];
    long all = -1, kib = 0;
    bool ours = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        const char *dash = strchr(line, '-'), *colon = strchr(line, ':');
        if (dash && colon && dash < colon) ours = strstr(line, path) != NULL;
        if (ours && sscanf(line, "Rss: %ld", &kib) == 1) all = (all < 0 ? 0 : all) + kib;
    }
    fclose(f);
    return all;
}

static espl_graph *read_model(espl_context *ctx) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_model_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

/* The weights of a graph in a file, the graph read from there, and sessions of both give the same bytes,
 * whatever of it still exists; and an f32 graph what its references say. */
static void check_file(espl_context *ctx, const espl_graph *g, bool f32) {
    uint64_t before = espl_context_memory(ctx, NULL), workspace, weights;
    espl_session *mine = session_of(ctx, g);
    run_io a = io_of(mine, 3), b = io_of(mine, 3), c = io_of(mine, 3);
    run_session(mine, &a);
    espl_session_destroy(&mine);
    if (f32) {
        espl_tensor expected[3];
        run_reference_of(ctx, g, a.in, expected);
        for (int i = 0; i < 3; i++) assert_true(difference(&a.out[i], &expected[i]) < 1e-4);
        for (int i = 0; i < 3; i++) espl_tensor_free(ctx, &expected[i]);
    }
    assert_int_equal(espl_model_write(ctx, g, path, NULL), ESPL_OK);
    espl_graph *back = read_model(ctx);
    assert_true(back->bytes.data != NULL); /* constants were left in the file */
    espl_session *first = session_of(ctx, back), *second = session_of(ctx, back);
    assert_in_range(mapped_kib(), 0, 128); /* what was packed has left memory */
    espl_graph_destroy(&back);
    assert_int_equal(mapped_kib(), -1);
    espl_session_memory(first, &workspace, &weights);
    uint64_t each = (espl_context_memory(ctx, NULL) - before) / 2;
    /* Besides weights and workspace: the plan. */
    if (each > workspace + weights + weights / 16 + (256 << 10))
        fail_msg("a session has %d KiB: %d of weights and %d of workspace", (int)(each >> 10),
                 (int)(weights >> 10), (int)(workspace >> 10));
    char *garbage = malloc(1 << 20);
    memset(garbage, 0xa5, 1 << 20);
    put_file(garbage, 1 << 20);
    free(garbage);
    run_session(first, &b);
    same(&a, &b);
    espl_session_destroy(&first);
    run_session(second, &c);
    same(&a, &c);
    espl_session_destroy(&second);
    io_free(&a);
    io_free(&b);
    io_free(&c);
    assert_int_equal(espl_context_memory(ctx, NULL), before);
}

static void sessions_need_no_file(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    for (int flavour = -1; flavour < ESPL_FLAVOUR_COUNT; flavour++) {
        rig r;
        many_layers(&r, ctx);
        if (flavour >= 0) quantize_model(ctx, r.g, (espl_flavour)flavour);
        check_file(ctx, r.g, flavour < 0);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* A graph whose pages a session has let go of is as good as before. */
static void graphs_outlive_sessions(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    many_layers(&r, ctx);
    assert_int_equal(espl_model_write(ctx, r.g, path, NULL), ESPL_OK);
    espl_graph *g = read_model(ctx);
    espl_session *s = session_of(ctx, g);
    espl_session_destroy(&s);
    espl__buffer a, b;
    assert_int_equal(espl__model_bytes(ctx, r.g, &a, NULL), ESPL_OK);
    assert_int_equal(espl__model_bytes(ctx, g, &b, NULL), ESPL_OK);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
    espl__buffer_free(&a);
    espl__buffer_free(&b);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* The header that belongs to the contents. */
static void seal(uint8_t *bytes, size_t n) {
    uint64_t rest = n - CONTAINER_HEADER;
    uint32_t crc = espl__crc32(bytes + CONTAINER_HEADER, rest);
    memcpy(bytes + 8, &crc, 4);
    memcpy(bytes + 12, &rest, 8);
}

/* Files whose constants do not begin at a multiple of four, as other writers may make them, are read all the
 * same. */
static void constants_may_lie_askew(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    int askew = 0;
    char name[9] = "";
    for (int length = 0; length < 8; length++) {
        rig r;
        many_layers(&r, ctx);
        name[length] = 'n';
        r.g->name = name;
        espl_session *s = session_of(ctx, r.g);
        run_io a = io_of(s, 3), b = io_of(s, 3);
        run_session(s, &a);
        espl_session_destroy(&s);
        espl__buffer bytes;
        assert_int_equal(espl__model_bytes(ctx, r.g, &bytes, NULL), ESPL_OK);
        size_t data = bytes.length;
        for (int i = 0; i < r.g->value_count; i++)
            if (r.g->values[i]->constant && r.g->values[i]->dtype == ESPL_F32)
                data -= espl__tensor_bytes(r.g->values[i]->constant);
        data -= 4; /* the one constant of s64: 16, 1 and 404 take 1, 1 and 2 bytes */
        assert_int_equal(data % 4, 0);
        /* Before the data stand the number of outputs, with zero groups behind it, and 3 ids of a byte each.
         */
        size_t end = data - 3, start = end - 1;
        if (bytes.data[start] == 0) {
            while (bytes.data[start - 1] & 128 && (bytes.data[start - 1] & 127) != 3) start--;
            start--;
            assert_int_equal((uint8_t)bytes.data[start], 3 | 128);
            bytes.data[start++] = 3;
            memmove(bytes.data + start, bytes.data + end, bytes.length - end);
            bytes.length -= end - start;
            askew++;
        }
        seal((uint8_t *)bytes.data, bytes.length);
        put_file(bytes.data, bytes.length);
        espl_graph *g = read_model(ctx);
        s = session_of(ctx, g);
        espl_graph_destroy(&g);
        run_session(s, &b);
        same(&a, &b);
        espl_session_destroy(&s);
        espl__buffer_free(&bytes);
        io_free(&a);
        io_free(&b);
        espl_graph_destroy(&r.g);
    }
    assert_true(askew >= 4);
    espl_context_destroy(&ctx);
}

/* Codes of u8 with zero point 128 mean what those of s8 mean. */
static void u8_weights_are_s8_weights(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    int changed = 0;
    rig r;
    many_layers(&r, ctx);
    quantize_model(ctx, r.g, ESPL_FLAVOUR_PORTABLE);
    espl_session *s = session_of(ctx, r.g);
    run_io a = io_of(s, 3), b = io_of(s, 3);
    run_session(s, &a);
    espl_session_destroy(&s);
    for (int i = 0; i < r.g->value_count; i++) {
        espl__value *v = r.g->values[i];
        if (!v->constant || !espl__is_quantized(v) || v->constant->dtype != ESPL_S8) continue;
        int32_t *zero = espl__arena_alloc(&r.g->arena, sizeof *zero * (uint64_t)v->quant.count);
        for (int64_t c = 0; c < v->quant.count; c++) zero[c] = 128;
        for (int64_t k = 0; k < elements(v); k++) ((uint8_t *)v->constant->data)[k] ^= 0x80;
        v->constant->dtype = ESPL_U8;
        v->quant.format = ESPL_FORMAT_U8;
        v->quant.zero = zero;
        changed++;
    }
    assert_true(changed >= 6);
    s = session_of(ctx, r.g);
    run_session(s, &b);
    same(&a, &b);
    espl_session_destroy(&s);
    io_free(&a);
    io_free(&b);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- damage ------------------------------------------------------------------------------------------ */

/* Large files, whose constants stay where they are: bytes of the structure changed or the end cut off, with a
 * checksum that fits. They are refused in a sentence, or run. */
static void forged_large_files_do_no_harm(void **state) {
    enum { TRIES = CASES(300) };
    (void)state;
    int refused = 0, ran = 0;
    espl_context *ctx = NULL;
    espl_config config = {.threads = 1, .max_alloc = 64 << 20};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    rig r;
    espl__buffer b;
    many_layers(&r, ctx);
    assert_int_equal(espl__model_bytes(ctx, r.g, &b, NULL), ESPL_OK);
    espl_graph_destroy(&r.g);
    uint8_t *copy = malloc(b.length);
    espl__rng rng = espl__rng_seed(9, 9);
    for (int i = 0; i < TRIES; i++) {
        espl_graph *g = NULL;
        espl_session *s = NULL;
        espl_diag diag = {0};
        size_t length = b.length - (i % 4 == 0 ? espl__rng_below(&rng, 5000) : 0);
        memcpy(copy, b.data, b.length);
        for (int k = 0; k < i % 4; k++)
            copy[CONTAINER_HEADER + espl__rng_below(&rng, 600)] ^= (uint8_t)(1 + espl__rng_below(&rng, 255));
        seal(copy, length);
        unlink(path);
        put_file(copy, length);
        espl_status status = espl_model_read(ctx, path, &g, &diag);
        if (status == ESPL_OK) status = espl_session_create(ctx, g, NULL, &s, &diag);
        espl_graph_destroy(&g);
        if (status == ESPL_OK) {
            run_io io = io_of(s, 1);
            run_session(s, &io);
            io_free(&io);
            ran++;
        } else {
            if (espl_status_exit_code(status) != 2 || !diag.message[0])
                fail_msg("try %d: '%s'", i, diag.message);
            refused++;
        }
        espl_session_destroy(&s);
    }
    free(copy);
    espl__buffer_free(&b);
    assert_true(refused > TRIES / 4 && ran > 0);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* --- memory that runs out ---------------------------------------------------------------------------- */

/* Reading and planning with the n-th allocation failing, for every n. */
static void memory_runs_out_cleanly(void **state) {
    (void)state;
    for (int quantized = 0; quantized < 2; quantized++) {
        espl_context *ctx = new_context(1);
        rig r;
        int failures = 0;
        many_layers(&r, ctx);
        if (quantized) quantize_model(ctx, r.g, ESPL_FLAVOUR_ORT_X86);
        assert_int_equal(espl_model_write(ctx, r.g, path, NULL), ESPL_OK);
        espl_graph_destroy(&r.g);
        espl_context_destroy(&ctx);
        for (bool done = false; !done; failures++) {
            failing f = {.left = -1};
            ctx = failing_context(&f);
            espl_graph *g = NULL;
            espl_session *s = NULL;
            espl_diag diag = {0};
            f.left = failures;
            espl_status status = espl_model_read(ctx, path, &g, &diag);
            if (status == ESPL_OK) {
                status = espl_session_create(ctx, g, NULL, &s, &diag);
                assert_true(mapped_kib() >= 0);
            }
            done = status == ESPL_OK;
            if (!done) {
                assert_int_equal(status, ESPL_NOMEM);
                assert_null(s);
                assert_true(diag.message[0]);
            }
            espl_session_destroy(&s);
            espl_graph_destroy(&g);
            espl_context_destroy(&ctx);
            assert_int_equal(f.live, 0);
            assert_int_equal(mapped_kib(), -1);
        }
        assert_true(failures > 20);
    }
}

static int setup(void **state) {
    (void)state;
    return scratch_begin(path, "session.espl") ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    scratch_end(path);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_allocate_nothing),  cmocka_unit_test(real_runs_allocate_nothing),
        cmocka_unit_test(sessions_need_no_file),         cmocka_unit_test(graphs_outlive_sessions),
        cmocka_unit_test(constants_may_lie_askew),       cmocka_unit_test(u8_weights_are_s8_weights),
        cmocka_unit_test(forged_large_files_do_no_harm), cmocka_unit_test(memory_runs_out_cleanly),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
