/* How an operator is trained: its forward pass, the gradient of its inputs, and what lies between the two.
 *
 * The IR's operators say what a network computes (ops/ops.h); a row of grads.list says how one is
 * differentiated. The rows stand here and not in src/ops so that the runtime, which ships to devices, carries
 * no gradients.
 *
 * Numbers are float or double, one of them for a whole engine ("real"); code that multiplies is written once
 * and compiled for both (real.h). Integer values keep their types.
 *
 * Layouts. A value of three or more dimensions lies in memory either as the graph says (N, C, spatial:
 * "rows") or channels-last (N, spatial, C: "last"). Tensors of a call have the shapes as they lie in memory.
 * Weights always lie as the graph says. */
#ifndef ESPL_TRAIN_GRAD_H
#define ESPL_TRAIN_GRAD_H

#include "base/pool.h"
#include "graph/graph.h"
#include "ops/ops.h"

enum { ESPL__GRAD_INPUTS = 32 }; /* inputs that masks have bits for; later ones can have no gradient */

typedef enum espl__grad_layout {
    ESPL__GRAD_ROWS, /* as the graph says */
    ESPL__GRAD_LAST, /* inputs of rank >= 3 that are not parameters, and outputs, channels-last */
    ESPL__GRAD_ANY   /* elementwise with broadcasting, by the shapes in memory: as the inputs come */
} espl__grad_layout;

/* Sums over all ranks of a data-parallel job, in place; NULL: there is one rank. */
typedef struct espl__sync {
    void *arg;
    int ranks;
    espl_status (*sum)(void *arg, double *values, int64_t count);
} espl__sync;

/* One use of an operator. Everything here is made before the first step; forward and backward allocate
 * nothing. */
typedef struct espl__call {
    const espl__node *node;
    espl_context *ctx;
    espl__pool *pool;
    espl_dtype real; /* ESPL_F32 or ESPL_F64 */
    int inputs, outputs;
    espl_tensor *in, *out; /* data NULL: absent; in backward also what reads_in and reads_out do not name */
    /* Backward. dout[i].data NULL: nobody needs output i's gradient, it counts as zero. din[i].data NULL: not
     * wanted. din[i] is written, or, where bit i of `add` is set, added to. No overlap with anything else,
     * but that din[i] and din[j] of a value that is read twice are one: go through the inputs in order. */
    espl_tensor *dout, *din;
    uint32_t add;
    uint32_t wanted; /* bit i: din[i] will be wanted; known in prepare */
    /* Set by prepare: bytes of `saved`, which forward fills and backward reads, and of scratch for either. */
    uint64_t saved_bytes, forward_bytes, backward_bytes;
    void *saved, *scratch; /* 64-byte aligned; scratch is undefined at the start */
    void *state;           /* prepare's own, freed by release */
    bool training; /* else batch norm and dropout behave as in inference; backward follows training only */
    bool again;    /* forward runs a second time for backward: running statistics stay as they are */
    uint64_t seed; /* of this step and node: for draws */
    const espl__sync *sync; /* batch statistics over all ranks; NULL: over this rank's samples */
    espl_status status;     /* of what can fail in a step (sync); ESPL_OK else */
} espl__call;

typedef struct espl__grad {
    const char *op;
    uint32_t inputs; /* inputs that have a gradient */
    uint32_t params; /* inputs that are trained if they are constants */
    uint32_t adopts; /* the same, if there are several elements and another input depends on a parameter */
    uint32_t stats;  /* inputs that are running statistics: forward changes them in place while training */
    uint32_t reads_in, reads_out;                        /* what backward reads */
    espl__grad_layout (*layout)(const espl__node *node); /* NULL: ROWS */
    /* Sizes, state, and what training does not support (ESPL_UNSUPPORTED with a sentence); shapes are there,
     * data are not. NULL: nothing to do. */
    espl_status (*prepare)(espl__call *call, espl_diag *diag);
    void (*forward)(
        espl__call *call); /* NULL: the operator's eval, which must then work on reals of either type */
    void (*backward)(espl__call *call); /* NULL: no gradient passes (rounding, comparisons) */
    void (*release)(espl__call *call);
} espl__grad;

/* NULL if the operator has no row. */
const espl__grad *espl__grad_find(const espl__op *op);
/* The i-th row, NULL past the end. */
const espl__grad *espl__grad_at(int index);

/* The float or the double version of a function: ESPL__REAL(call, forward) is forward_f32 or forward_f64. */
#define ESPL__REAL(call, fn) ((call)->real == ESPL_F64 ? fn##_f64 : fn##_f32)

static inline size_t espl__real_bytes(const espl__call *call) {
    return espl_dtype_bytes(call->real);
}

#endif
