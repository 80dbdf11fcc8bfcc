/* Operators that move elements: output i is element map[i] of the input, or what fills (0 where the operator
 * has no value for it). The map is what the
 * operator makes of numbers 0, 1, 2, ...; the gradient of an element is the sum over where it went. */
#include "train/ops/loops.h"

typedef struct move {
    int32_t *map;  /* of each block of the output, the first element; -1: fill. NULL: depends on inputs */
    int64_t block; /* elements that stay together */
    int64_t blocks;
    bool once, all; /* no element goes to two places; each goes to one */
    bool fill_input;
    double fill;
} move;

/* Numbers that no fill has. */
static const int64_t first_number = (int64_t)1 << 40;

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static int64_t source_of(const int64_t *numbers, int64_t i) {
    return numbers[i] >= first_number ? numbers[i] - first_number : -1;
}

static int64_t block_of(const int64_t *numbers, int64_t n) {
    int64_t block = n;
    for (int64_t i = 1; i < n && block > 1; i++) {
        int64_t a = source_of(numbers, i - 1), b = source_of(numbers, i);
        if (b != (a < 0 ? -1 : a + 1)) block = common_divisor(block, i);
    }
    return ESPL_MAX(block, 1);
}

/* The operator on integers; `numbers` has room for input and output. */
static void run_on_numbers(const espl__call *c, int64_t *numbers, void *scratch) {
    static const int64_t fill = -1;
    const espl__node *n = c->node;
    int64_t count = espl_shape_count(&c->in->shape);
    espl_tensor in[ESPL__GRAD_INPUTS] = {{0}}, out = {ESPL_S64, c->out->shape, numbers + count};
    for (int64_t i = 0; i < count; i++) numbers[i] = first_number + i;
    for (int i = 1; i < c->inputs && i < ESPL__GRAD_INPUTS; i++)
        if (n->inputs[i]) in[i] = n->inputs[i]->constant ? *n->inputs[i]->constant : c->in[i];
    in[0] = (espl_tensor){ESPL_S64, c->in->shape, numbers};
    if (espl__node_is(n, "Pad") && in[2].data) in[2].data = (void *)&fill;
    n->op->eval(n, in, &out, scratch);
}

static uint64_t scratch_of(const espl__node *n) {
    return espl__scratch_bytes(n) + 64;
}

static void keep_map(move *k, const int64_t *numbers, int64_t elements, uint8_t *seen) {
    k->once = true;
    int64_t used = 0;
    for (int64_t i = 0; i < k->blocks; i++) {
        k->map[i] = (int32_t)source_of(numbers, i * k->block);
        for (int64_t j = 0; j < k->block && k->map[i] >= 0; j++, used++) {
            k->once &= !seen[k->map[i] + j];
            seen[k->map[i] + j] = 1;
        }
    }
    k->all = k->once && used == elements;
}

static espl_status make_map(espl__call *c, espl_diag *diag) {
    move *k = c->state;
    int64_t elements = espl_shape_count(&c->in->shape), n = espl_shape_count(&c->out->shape);
    if (elements > INT32_MAX || n > INT32_MAX)
        return espl__fail(diag, ESPL_LIMIT, "%s: too many elements to train", c->node->op->name);
    int64_t *numbers = espl__calloc(c->ctx, (uint64_t)(elements + n) + 1, sizeof *numbers);
    uint8_t *seen = espl__calloc(c->ctx, (uint64_t)elements + 1, 1);
    void *scratch = espl__calloc(c->ctx, scratch_of(c->node), 1);
    espl_status status = ESPL_OK;
    if (numbers && seen && scratch && n > 0) {
        run_on_numbers(c, numbers, scratch);
        k->block = block_of(numbers + elements, n);
        k->blocks = n / k->block;
        k->map = espl__calloc(c->ctx, (uint64_t)k->blocks, sizeof *k->map);
        if (k->map) keep_map(k, numbers + elements, elements, seen);
    }
    if (n > 0 && !k->map) status = espl__nomem(diag, (uint64_t)(elements + n) * sizeof *numbers);
    espl__free(c->ctx, numbers);
    espl__free(c->ctx, seen);
    espl__free(c->ctx, scratch);
    return status;
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(move), diag);
    if (status != ESPL_OK) return status;
    move *k = c->state;
    const espl__node *n = c->node;
    bool pad = espl__node_is(n, "Pad"), fixed = true;
    k->block = 1;
    for (int i = 1; i < c->inputs; i++) fixed &= !n->inputs[i] || n->inputs[i]->constant || (pad && i == 2);
    if (pad && n->opset < 11) k->fill = (double)espl__attr_float(n, "value", 0);
    k->fill_input = pad && n->opset >= 11 && espl__in(n, 2);
    if (fixed) return make_map(c, diag);
    if (!(espl__grad_find(n->op)->reads_in & 2))
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training needs its parameters constant", n->op->name);
    c->forward_bytes = scratch_of(n);
    c->backward_bytes = c->forward_bytes + 64 +
                        (uint64_t)(espl_shape_count(&c->in->shape) + espl_shape_count(&c->out->shape)) * 8;
    return ESPL_OK;
}

static void release(espl__call *c) {
    if (c->state) espl__free(c->ctx, ((move *)c->state)->map);
    espl__state_free(c);
}

#define REAL_FILE "train/ops/move.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const move *k = c->state;
    if (!k->map && espl_shape_count(&c->out->shape) > 0)
        c->node->op->eval(c->node, c->in, c->out, c->scratch);
    else
        espl__spread(c, k->blocks, k->blocks * k->block, ESPL__REAL(c, move_blocks), c);
}

static void backward(espl__call *c) {
    const move *k = c->state;
    int64_t elements = espl_shape_count(&c->in->shape), n = espl_shape_count(&c->out->shape);
    if (!k->map && n > 0) {
        int64_t *numbers = c->scratch;
        run_on_numbers(c, numbers, (char *)c->scratch + ((uint64_t)(elements + n) * 8 + 63) / 64 * 64);
        for (int64_t i = 0; i < n; i++) numbers[elements + i] -= first_number;
        ESPL__REAL(c, scatter)(c, numbers + elements);
        return;
    }
    bool whole = k->all && !(c->add & 1);
    if (!whole && !(c->add & 1)) memset(c->din->data, 0, espl__tensor_bytes(c->din));
    espl__spread(c, k->blocks, k->once ? n : 0,
                 whole ? ESPL__REAL(c, permute_blocks) : ESPL__REAL(c, spread_blocks), c);
}

/* Where several threads would add to one element (k->once is false), one thread does it all. */
#define DEFINE(Name, reads)                                     \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 1,          \
                                          .adopts = 1,          \
                                          .reads_in = reads,    \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = release};
DEFINE(Transpose, 0)
DEFINE(Slice, 0)
DEFINE(Pad, 0)
DEFINE(Expand, 0)
DEFINE(Tile, 0)
DEFINE(DepthToSpace, 0)
DEFINE(SpaceToDepth, 0)
DEFINE(Trilu, 0)
DEFINE(GatherElements, 2)
DEFINE(GatherND, 2)
DEFINE(ReverseSequence, 2)
DEFINE(MaxUnpool, 2)
DEFINE(CenterCropPad, 0)
