/* Running a network: a session is a graph lowered to this machine, with packed weights and one planned
 * workspace. */
#ifndef ESPALIER_SESSION_H
#define ESPALIER_SESSION_H

#include "espalier/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_session espl_session;

/* Sees every activation of a run as f32, before any rounding; `name` and `value` identify it in the graph. */
typedef void (*espl_observer)(void *user, int value, const char *name, const float *data, int64_t count);

/* The arithmetic of another chip, emulated in plain C to see what would come of it: for the integer layers with constant
 * weights (Conv, Gemm, MatMul). All zero: this machine's, which is that of 32 bits and one rounding of a float. */
typedef struct espl_arithmetic {
    int accumulator_bits; /* 2 to 32; 0: not emulated */
    bool saturate;        /* accumulators saturate at every addition; else they wrap */
    bool fixed;           /* outputs by an integer multiplier of 31 bits and a shift instead of a float */
} espl_arithmetic;

typedef struct espl_session_options {
    /* One shape per graph input, or NULL: unknown dimensions become 1. An entry of rank -1 keeps the graph's
     * own. */
    const espl_shape *input_shapes;
    /* Measure the time of every layer while running. */
    bool profile;
    /* Called for every value of every run: those that fusion would leave out are made for it. */
    espl_observer observer;
    void *observer_user;
    /* By value of the graph: the observer is called for these only, and others may be fused away. NULL: all. */
    const bool *observed;
    /* The observer does not mind in which order elements come, which saves work. */
    bool unordered;
    espl_arithmetic arithmetic;
    /* Leaves out what follows results whose shapes depend on data (espl_session_output_info): what that reads are outputs
     * instead. */
    bool without_late;
} espl_session_options;

/* The graph is copied; it may be destroyed afterwards. `options` may be NULL. */
ESPL_NODISCARD espl_status espl_session_create(espl_context *ctx, const espl_graph *graph,
                                               const espl_session_options *options, espl_session **out,
                                               espl_diag *diag);
void espl_session_destroy(espl_session **session);

int espl_session_input_count(const espl_session *session);
int espl_session_output_count(const espl_session *session);
const char *espl_session_input_name(const espl_session *session, int index);
const char *espl_session_output_name(const espl_session *session, int index);
/* dtype and shape, data NULL. Borrowed. Of an output whose shape depends on the inputs' data (what NonMaxSuppression or
 * NonZero leave) the dimensions that a run tells are ESPL_DIM_UNKNOWN, and its rank is -1 if even that is not known. */
const espl_tensor *espl_session_input_info(const espl_session *session, int index);
const espl_tensor *espl_session_output_info(const espl_session *session, int index);

/* Runs once. inputs[i].data and outputs[i].data are the caller's, dense row-major, of the shapes and types of
 * *_info, in the graph's order. Allocates nothing.
 *
 * An output whose shape is not known before is not the caller's: outputs[i] becomes a tensor of the session, with the shape
 * of this run, valid until the next run begins. Only networks with such outputs, or with such values inside, allocate; so
 * do networks with strings. The text of outputs that are strings is the session's until then, whoever has the elements. */
ESPL_NODISCARD espl_status espl_session_run(espl_session *session, const espl_tensor *inputs,
                                            espl_tensor *outputs, espl_diag *diag);

/* Bytes of the workspace and of packed weights. */
void espl_session_memory(const espl_session *session, uint64_t *workspace, uint64_t *weights);

/* What ran, layer by layer (a layer is a node of the graph with what was fused into it). */
typedef struct espl_layer {
    const char *name;   /* of the node; borrowed */
    const char *op;     /* "Conv" */
    const char *kernel; /* what runs it: "conv_u8", "reference", ... */
    const char *isa;    /* the instruction set of that kernel: "avx2", ...; "" if it is none of the kernels */
    const char *format; /* of the arithmetic: "s8" or "f32" */
    int node;           /* its place in the graph */
    int64_t macs;
    uint64_t weight_bytes;     /* that a run reads: recurrent weights count once for every step */
    uint64_t activation_bytes; /* of the buffers that it reads and writes */
    double seconds;            /* sum over profiled runs, conversions before it included */
    double best_seconds;       /* of one run, undisturbed: the sum of its steps' shortest times */
    int64_t runs;
    bool sparse; /* weights that are 0 are left out */
    const char
        *slower; /* the kernel that could do the same, but was not taken: "conv_u8"; "" if there is none */
    double gain; /* its time as a multiple of this one's, as measured; 0: a rule decided */
} espl_layer;
int espl_session_layer_count(const espl_session *session);
espl_layer espl_session_layer(const espl_session *session, int index);
void espl_session_profile_reset(espl_session *session);

#ifdef __cplusplus
}
#endif
#endif
