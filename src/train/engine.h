/* The training engine: a network with fixed input shapes as a list of calls, forwards and backwards.
 *
 *     engine = create(graph, shapes)
 *     each step: fill inputs, forward(training), fill output gradients, backward, change the parameters
 *
 * Memory: parameters and their gradients are two flat vectors (what optimisers and ranks walk over); all else
 * lies in one workspace, where a buffer lives from the call that writes it to the last that reads it, on the
 * time line forward 0..S-1, loss S, backward S+1..2S. Nothing is allocated by a step. */
#ifndef ESPL_TRAIN_ENGINE_H
#define ESPL_TRAIN_ENGINE_H

#include "train/grad.h"

typedef struct espl__engine espl__engine;

typedef struct espl__param {
    const char *name;
    int value;              /* id of the constant in the graph the engine was made from */
    bool trained;           /* else running statistics */
    bool decays;            /* a weight of two or more dimensions, no bias or scale of a norm */
    int64_t offset, count;  /* in the flat vectors: of the trained, or of the statistics */
    espl_tensor data, grad; /* as the graph shapes them; grad.data NULL if not trained */
} espl__param;

typedef struct espl__engine_options {
    espl_dtype real;     /* ESPL_F32 or ESPL_F64 */
    bool inference_only;  /* no gradients: less memory */
    bool input_gradients; /* also by the network's inputs, for saliency */
    /* Keeps a part of the activations and computes the others a second time for backward: about a third more
     * time, and the memory of about the square root of the layers. The gradients are the same to the bit. */
    bool recompute;
    /* Cuts a Softmax or LogSoftmax from the network's outputs: cross-entropy does better from logits. */
    bool logits;
    /* Names of values, "*" for any run of characters: constants that are not trained. May be NULL. */
    const char *const *frozen;
    int frozen_count;
    uint64_t seed;          /* of dropout */
    const espl__sync *sync; /* may be NULL; must outlive the engine */
    /* Called in backward as soon as the gradients of parameters [first, ...) of the flat vector are final,
     * from the end of the vector to its start, so that ranks can sum them meanwhile. May be NULL. */
    espl_status (*ready)(void *arg, int64_t first, int64_t count);
    void *ready_arg;
} espl__engine_options;

/* Reads a model for training: as the file says, batch norms and dropouts included; only what inference of
 * shapes needs is rewritten. */
ESPL_NODISCARD espl_status espl__train_read(espl_context *ctx, const char *path, espl_graph **out,
                                            espl_diag *diag);

/* shapes: of the graph's inputs, all dimensions known. The graph is not changed and must outlive nothing. */
ESPL_NODISCARD espl_status espl__engine_create(espl_context *ctx, const espl_graph *graph,
                                               const espl_shape *shapes, const espl__engine_options *options,
                                               espl__engine **out, espl_diag *diag);
void espl__engine_destroy(espl__engine **engine);

/* Trained parameters first, then statistics. */
int espl__engine_params(const espl__engine *engine);
espl__param *espl__engine_param(const espl__engine *engine, int index);
/* The flat vectors; counts in elements. */
void *espl__engine_weights(const espl__engine *engine, int64_t *count);
void *espl__engine_gradients(const espl__engine *engine, int64_t *count);
void *espl__engine_statistics(const espl__engine *engine, int64_t *count);
/* Other engines of the same graph (another batch size) compute with these parameters from now on; `from` must
 * outlive `to`. */
void espl__engine_share(espl__engine *to, const espl__engine *from);
/* Copies the parameters into the constants of the graph the engine was made from; those of codes are quantized again. */
void espl__engine_store(const espl__engine *engine, espl_graph *graph);

int espl__engine_inputs(const espl__engine *engine);
int espl__engine_outputs(const espl__engine *engine);
/* Of output i; valid after forward until backward. Shapes as the graph says. */
espl_tensor espl__engine_output(const espl__engine *engine, int index);
/* Where the caller writes the loss's gradient by output i before backward; data NULL for outputs that lead to
 * no parameter or were not asked for (espl__engine_options). */
espl_tensor espl__engine_output_gradient(const espl__engine *engine, int index);
/* After backward, with input_gradients: the loss's gradient by input i; data NULL if it has none. */
espl_tensor espl__engine_input_gradient(const espl__engine *engine, int index);
/* Copies input i from f32, f64 or an integer type, rows as the graph says. */
void espl__engine_set_input(espl__engine *engine, int index, const void *data, espl_dtype dtype);
ESPL_NODISCARD espl_status espl__engine_forward(espl__engine *engine, bool training, uint64_t step,
                                                espl_diag *diag);
ESPL_NODISCARD espl_status espl__engine_backward(espl__engine *engine, espl_diag *diag);
uint64_t espl__engine_bytes(const espl__engine *engine);
/* From now on forward and backward stop at the first value or gradient that holds NaN or infinity
 * (ESPL_CHECK_FAILED, a sentence with the layer and the value). Slow: for saying what broke a step. */
void espl__engine_check(espl__engine *engine, bool on);

/* --- inside: layout.c, fuse.c ------------------------------------------------------------------- */

/* Marks in value->mark which values lie channels-last, and inserts nodes that turn them where two differ. */
ESPL_NODISCARD espl_status espl__train_layout(espl_graph *graph, espl_diag *diag);
/* The shape in memory. */
espl_shape espl__train_shape(const espl__value *value, bool last);
/* Joins batch norm, residual addition and Relu into one node, and a product with its bias. */
ESPL_NODISCARD espl_status espl__train_fuse(espl_graph *graph, espl_diag *diag);
extern const espl__op espl__op_to_last, espl__op_to_rows, espl__op_norm_relu, espl__op_linear;

#endif
