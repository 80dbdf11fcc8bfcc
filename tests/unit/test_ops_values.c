/* Numbers that integers are computed with as ONNX says, where doubles or the widest integers would give
 * others. */
#include "graph_build.h"
#include "ops/ops.h"

/* Evaluates a node of constants; what it gives as 64-bit integers. */
static void expect(rig *r, espl__node *n, int count, const int64_t *want) {
    espl_tensor in[4], out = {0};
    espl__value *y = done_of(r, n);
    int64_t got[8];
    for (int i = 0; i < n->input_count; i++) in[i] = *n->inputs[i]->constant;
    assert_int_equal(espl_tensor_alloc(r->ctx, y->dtype, &y->shape, &out, NULL), ESPL_OK);
    assert_int_equal(espl_shape_count(&y->shape), count);
    void *scratch = aligned_alloc(64, 4096);
    assert_true(!n->op->scratch_bytes || n->op->scratch_bytes(n) <= 4096);
    n->op->eval(n, in, &out, scratch);
    espl__load_s64(out.dtype, out.data, 1, count, got);
    for (int i = 0; i < count; i++)
        if (got[i] != want[i])
            fail_msg("%s, element %d: %lld, not %lld", n->op->name, i, (long long)got[i], (long long)want[i]);
    free(scratch);
    espl_tensor_free(r->ctx, &out);
}

#define EXPECT(r, n, ...) \
    expect(r, n, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static void begin(rig *r) {
    rig_begin(r, new_context(1), 1);
    r->g->opset = 18;
}

static void end(rig *r) {
    espl_graph_destroy(&r->g);
    espl_context_destroy(&r->ctx);
}

/* Out of range the upper bits go; within, every bit stays. */
static void casts_of_u64(void **state) {
    (void)state;
    rig r;
    begin(&r);
    const uint64_t x[] = {300, ((uint64_t)1 << 53) + 1, UINT64_MAX};
    const int to[] = {2, 7, 6}; /* u8, s64, s32 */
    const int64_t want[3][3] = {{44, 1, 255}, {300, ((int64_t)1 << 53) + 1, -1}, {300, 1, -1}};
    for (int i = 0; i < 3; i++) {
        espl__node *n = NODE(&r, "Cast", constant_of(&r, ESPL_U64, SHAPE(3), x));
        set_int(&r, n, "to", to[i]);
        expect(&r, n, 3, want[i]);
    }
    end(&r);
}

/* The largest of nothing is the type's least number. */
static void extremes_of_nothing(void **state) {
    (void)state;
    rig r;
    begin(&r);
    static const struct {
        espl_dtype dtype;
        int64_t least, most;
    } rows[] = {{ESPL_S8, -128, 127},
                {ESPL_U8, 0, 255},
                {ESPL_S32, INT32_MIN, INT32_MAX},
                {ESPL_U32, 0, UINT32_MAX},
                {ESPL_S64, INT64_MIN, INT64_MAX}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++)
        for (int largest = 0; largest < 2; largest++) {
            espl__value *none = constant_of(&r, rows[i].dtype, SHAPE(0, 2), "");
            espl__node *n = NODE(&r, largest ? "ReduceMax" : "ReduceMin", none, INTS(&r, 0));
            int64_t want = largest ? rows[i].least : rows[i].most;
            EXPECT(&r, n, want, want);
        }
    end(&r);
}

static void powers_of_integers(void **state) {
    (void)state;
    rig r;
    begin(&r);
    espl__value *base = constant_of(&r, ESPL_S64, SHAPE(2), (int64_t[]){3, -3});
    EXPECT(&r, NODE(&r, "Pow", base, constant_of(&r, ESPL_S32, SHAPE(1), (int32_t[]){35})), 50031545098999707,
           -50031545098999707);
    EXPECT(&r, NODE(&r, "Pow", base, constant_of(&r, ESPL_F32, SHAPE(1), (float[]){0.5f})), 1, 0);
    end(&r);
}

/* Sizes that no integer holds are refused before they are computed. */
static void sizes_beyond_counting(void **state) {
    (void)state;
    rig r;
    begin(&r);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(0, 1, (int64_t)1 << 40));
    espl__node *n = NODE(&r, "ConvTranspose", x, constant_of(&r, ESPL_F32, SHAPE(1, 1, 1), (float[]){1}));
    SET_INTS(&r, n, "strides", 1 << 30);
    assert_int_equal(n->op->infer(n, &r.diag), ESPL_LIMIT);
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_of_u64),
        cmocka_unit_test(extremes_of_nothing),
        cmocka_unit_test(powers_of_integers),
        cmocka_unit_test(sizes_beyond_counting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
