/* The IR: a graph of values and nodes in ONNX's own semantics, f32 and NCHW, whatever the runtime does later.
 *
 * - Everything lives in the graph's arena and goes at once with it; pointers stay valid until then.
 * - A value is a graph input, a constant, or output of exactly one node. An absent optional input is a NULL
 * pointer.
 * - Nodes stand in topological order.
 * - A value may carry a quantization: it then means "this value, rounded to that grid", which is what a
 *   QuantizeLinear + DequantizeLinear pair at this place says. A quantized constant holds its codes
 *   (espl__format_dtype) in `constant`; consumers still see f32 semantics. In formats of kind FLOAT the codes are
 *   the numbers, with one scale of 1. A value that is no constant has one scale.
 * - Dimensions may be ESPL_DIM_UNKNOWN until the graph is specialised (passes/passes.h).
 * - If, Loop, Scan and SequenceMap hold graphs of their own, bodies. What a body reads from outside are inputs of the
 *   node too, its last ones, so that a node's inputs are all that it depends on; and constants stand in the outermost
 *   graph. espl__resolve (passes/resolve.h) takes bodies into the graph around them. */
#ifndef ESPL_GRAPH_H
#define ESPL_GRAPH_H

#include "tensor/tensor.h"
#include "espalier/graph.h"

typedef struct espl__node espl__node;
typedef struct espl__value espl__value;
typedef struct espl__op espl__op;

/* What a value is: a tensor, a list of tensors, or one of these that may be missing. */
typedef enum espl__kind { ESPL__TENSOR, ESPL__SEQUENCE, ESPL__OPTIONAL } espl__kind;

struct espl__value {
    char *name;       /* unique in the graph; may be "" in graphs read from .espl */
    espl__kind kind;
    espl_dtype dtype; /* of the semantics: a quantized f32 tensor says F32 here; of a sequence's elements */
    espl_shape shape;
    bool known_rank;      /* shape.rank means something */
    int id;               /* index into graph->values */
    espl__node *producer; /* NULL for inputs and constants */
    int producer_index;
    espl_tensor *constant; /* NULL unless constant; its data are in the arena, in the graph's file, or lent */
    bool lent;             /* the data are those of graph->lender */
    espl__quant quant;     /* format F32: none */
    espl__zeros zeros; /* of a constant: what is known of where its zeros are; storage and tables use it, and
                          check it */
    bool is_input;
    int origin; /* id of the value in the graph that this one was cloned from */
    /* Scratch of whoever walks the graph now; nobody relies on them across passes. */
    int uses;
    int mark;
};

/* X(NAME, type of the payload) */
typedef enum espl__attr_kind {
    ESPL__ATTR_INT,
    ESPL__ATTR_FLOAT,
    ESPL__ATTR_STRING,
    ESPL__ATTR_INTS,
    ESPL__ATTR_FLOATS,
    ESPL__ATTR_TENSOR,
    ESPL__ATTR_STRINGS, /* s holds them joined by commas ("Sigmoid,Tanh,Tanh"); espl__attr_string reads it too */
    ESPL__ATTR_GRAPH
} espl__attr_kind;

typedef struct espl__attr {
    char *name;
    espl__attr_kind kind;
    int64_t count; /* of ints or floats; length of the string */
    int64_t i;
    float f;
    char *s;
    int64_t *ints;
    float *floats;
    espl_tensor *tensor;
    espl_graph *body;
} espl__attr;

struct espl__node {
    char *name; /* "" or the name of the ONNX node; espl__node_label gives something to show */
    const espl__op *op;
    int opset; /* version of the operator set that the attributes follow */
    int input_count, output_count, attr_count;
    espl__value **inputs, **outputs; /* NULL entries: absent optional ones */
    espl__attr *attrs;
    int id;     /* index into graph->nodes */
    int origin; /* id of the node in the graph that this one was cloned from */
    int mark;
};

struct espl_graph {
    espl__arena arena;
    espl__mapping bytes;      /* the file that large constants were left in; none: no data */
    const espl_graph *lender; /* NULL: no value's data are lent */
    char *name;
    char *file; /* where it came from, for messages; "" if nowhere */
    int opset;  /* of the default domain */
    int value_count, value_capacity;
    espl__value **values;
    int node_count, node_capacity;
    espl__node **nodes;
    int input_count, output_count;
    espl__value **inputs, **outputs; /* inputs: those without an initializer */
    int formals;                     /* of a body: the operator gives so many inputs, the others are from outside */
    espl_graph *bodies, *next;       /* graphs that die with this one; the next of such a list */
};

espl_status espl__graph_create(espl_context *ctx, espl_graph **out, espl_diag *diag);
/* A deep copy with the same ids; constants' data are copied too. */
espl_status espl__graph_clone(const espl_graph *graph, espl_graph **out, espl_diag *diag);
/* The same, but the data of large constants stay where they are: `graph` lends them and must live until
 * unlend, which takes away what is still lent and lets the pages of a file leave memory. */
espl_status espl__graph_share(const espl_graph *graph, espl_graph **out, espl_diag *diag);
void espl__graph_unlend(espl_graph *graph);
/* These bytes of a constant will not be read soon: if they are in a file, their pages leave memory. */
void espl__graph_drop(const espl_graph *graph, const void *bytes, uint64_t count);

/* All of these return NULL (or false) without memory. Names are copied. A value without a name gets a fresh
 * one. */
espl__value *espl__graph_value(espl_graph *graph, const char *name);
/* A constant whose data are copied from `tensor`, text included. */
espl__value *espl__graph_constant(espl_graph *graph, const char *name, const espl_tensor *tensor);
espl__node *espl__graph_node(espl_graph *graph, const espl__op *op, const char *name, int inputs, int outputs,
                             int attrs);
void espl__node_set_output(espl__node *node, int index, espl__value *value);
bool espl__graph_set_io(espl_graph *graph, espl__value *const *inputs, int input_count,
                        espl__value *const *outputs, int output_count);
espl_tensor *espl__graph_tensor(espl_graph *graph, espl_dtype dtype, const espl_shape *shape,
                                const void *data);
/* Gives `value` a quantization with its own copy of `count` scales and zero points (zero may be NULL). */
bool espl__graph_set_quant(espl_graph *graph, espl__value *value, espl_format format, int axis, int64_t count,
                           const float *scale, const int32_t *zero);
/* The same with all that a quantization has: groups, offsets. */
bool espl__graph_copy_quant(espl_graph *graph, espl__value *value, const espl__quant *quant);

espl__value *espl__graph_find(const espl_graph *graph, const char *name);
/* Makes every use of `from`, graph outputs included, a use of `to`. */
void espl__graph_replace(espl_graph *graph, espl__value *from, espl__value *to);
/* Fills value->uses: nodes' inputs plus one for being a graph output. */
void espl__graph_count_uses(espl_graph *graph);
bool espl__graph_is_output(const espl_graph *graph, const espl__value *value);
/* The only node that reads `value`, or NULL if there are none or several, or it is a graph output. */
espl__node *espl__graph_only_reader(const espl_graph *graph, const espl__value *value);
/* Drops nodes whose `mark` is -1, then values nobody reads; keeps the order; renumbers ids. */
void espl__graph_sweep(espl_graph *graph);
/* Checks the rules at the top of this file and sorts nodes topologically; names the node that breaks them. */
ESPL_NODISCARD espl_status espl__graph_verify(espl_graph *graph, espl_diag *diag);

/* "Conv 'layer1.0.conv1'" or "Conv #17": what messages and tables call a node. Returns buf. */
const char *espl__node_label(const espl__node *node, char *buf, size_t size);

/* --- attributes -------------------------------------------------------------------------- */

const espl__attr *espl__attr_find(const espl__node *node, const char *name);
int64_t espl__attr_int(const espl__node *node, const char *name, int64_t fallback);
float espl__attr_float(const espl__node *node, const char *name, float fallback);
const char *espl__attr_string(const espl__node *node, const char *name, const char *fallback);
/* Copies at most `max` ints; returns how many there are (0 if absent). */
int espl__attr_ints(const espl__node *node, const char *name, int64_t *out, int max);
/* Setters fill the next free slot of node->attrs (espl__graph_node made room) or replace one of that name. */
bool espl__attr_set_int(espl_graph *graph, espl__node *node, const char *name, int64_t value);
bool espl__attr_set_float(espl_graph *graph, espl__node *node, const char *name, float value);
bool espl__attr_set_string(espl_graph *graph, espl__node *node, const char *name, const char *value);
/* `joined` by commas. */
bool espl__attr_set_strings(espl_graph *graph, espl__node *node, const char *name, const char *joined);
bool espl__attr_set_ints(espl_graph *graph, espl__node *node, const char *name, const int64_t *values,
                         int64_t count);
bool espl__attr_set_floats(espl_graph *graph, espl__node *node, const char *name, const float *values,
                           int64_t count);
bool espl__attr_set_tensor(espl_graph *graph, espl__node *node, const char *name, const espl_tensor *value);

/* The body of that name, NULL if there is none. */
espl_graph *espl__attr_graph(const espl__node *node, const char *name);
/* The attribute is `body`, which lives as long as `owner` does. */
bool espl__attr_set_graph(espl_graph *graph, espl__node *node, const char *name, espl_graph *body);
void espl__graph_own(espl_graph *owner, espl_graph *body);
/* A copy of an attribute of another node; bodies are copied too (`own`) or borrowed. */
bool espl__attr_copy(espl_graph *to, espl__node *node, const espl__attr *attr, bool own);

/* Of a Where: it stands for an If whose condition only a run tells, and chooses a whole. */
#define ESPL__ATTR_CHOICE "espl_choice"

/* --- the operator definition ---------------------------------------------------------------
 * One file in src/ops defines one operator (or one family that differs by a function) as `const espl__op
 * espl__op_<Name>`; one row in src/ops/ops.list registers it. Everything the program knows of an operator is
 * here. */

/* How quantization treats an operator. */
typedef enum espl__quant_role {
    ESPL__QUANT_FLOAT,   /* computed in f32: a float island between dequantize and quantize */
    ESPL__QUANT_COMPUTE, /* has integer arithmetic of its own: Conv, Gemm, MatMul, LSTM, Add, pooling, ... */
    ESPL__QUANT_MOVE,    /* only moves elements (Reshape, Transpose, MaxPool, ...): input and output share one
                            grid */
    ESPL__QUANT_UNARY, /* elementwise function of one input: a 256-entry table when both sides have 8 bits */
    ESPL__QUANT_JOIN,  /* moves elements of several inputs (Concat): all share one grid or are rescaled */
} espl__quant_role;

struct espl__op {
    const char *name;
    const char *domain;         /* "" for ONNX's own */
    int min_inputs, max_inputs; /* max -1: any number */
    int min_outputs, max_outputs;
    int since,
        until; /* opsets whose semantics this file implements, inclusive; since 1, until 21 as a rule */

    /* Sets dtype, shape and known_rank of every present output from the inputs' and the attributes. Inputs'
     * shapes may be partly unknown: then say what can be said. A contradiction fails with a reason (the
     * caller adds file and node). A constant input may be read through inputs[i]->constant (never quantized
     * here). */
    espl_status (*infer)(const espl__node *node, espl_diag *diag);

    /* The reference: computes the outputs (allocated, with the inferred dtypes and static shapes) from the
     * inputs. in[i].data is NULL for an absent input, out[i].data for an absent output. `scratch` has
     * espl__scratch_bytes(node) bytes, 64-byte aligned. Must not allocate and cannot fail: infer has checked
     * everything. No alias of in and out. NULL: control flow or sequences, which passes/resolve.h takes away. */
    void (*eval)(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch);
    uint64_t (*scratch_bytes)(const espl__node *node); /* NULL: none */
    /* Inputs that may be strings: bit i for input i, bit 31 for all from 31 on. 0: the operator knows none, and gives
     * none. Where there is no eval they may be anywhere. */
    uint32_t text_inputs;
    /* Of an operator that makes text, where output 0 is strings: the bytes that it takes at most, which eval finds behind
     * the elements that out[0].shape says at first. NULL: the elements of outputs are some of the inputs'. */
    uint64_t (*text_bytes)(const espl__node *node, const espl_tensor *in);
    /* Where the data decide how long a result is, which infer leaves open: the largest shapes, by output, that inputs of
     * known shapes can give. eval gets outputs with room for these, and sets out[i].shape to what they are. NULL: infer
     * says all. */
    void (*bound)(const espl__node *node, espl_shape *most);

    /* Multiply-accumulates of one evaluation with static shapes. NULL: none. */
    int64_t (*macs)(const espl__node *node);

    espl__quant_role quant;
    /* Inputs that hold trained weights: bit i for input i; and the axis of weight i's output channels
     * (-1: one scale for the tensor). Bias inputs have a bit of their own mask. NULL: no weights. */
    uint32_t weight_inputs, bias_inputs;
    int (*weight_axis)(const espl__node *node, int input);
    /* The axis of weight i along which products are summed and patterns run; NULL: 1 - weight_axis of a
     * matrix, and else axis 1. What other axes there are count as taps. */
    int (*weight_inner_axis)(const espl__node *node, int input);
    /* A pure view of its first input's data: only shape changes (Reshape, Flatten, Squeeze, Unsqueeze,
     * Identity). */
    bool is_view;
    /* Reads only the shape of its input (Shape, Size): can be computed as soon as that is known. */
    bool reads_shape_only;
    /* Gives random numbers, which attribute `seed` says: stays a node though its inputs are constant. */
    bool draws;
};

/* Its outputs, whose shapes are known, have no elements: nothing is to be computed, however many rows of nothing there are. */
static inline bool espl__makes_nothing(const espl__node *node) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && espl_shape_count(&node->outputs[i]->shape) != 0) return false;
    return node->op->eval && !node->op->bound;
}

/* Bytes that eval needs beside inputs and outputs. Never 0 of an operator that may need some, so that eval may step in
 * `scratch`, which then is not NULL, even over no elements. */
static inline uint64_t espl__scratch_bytes(const espl__node *node) {
    const uint64_t bytes = node->op->scratch_bytes ? node->op->scratch_bytes(node) : 0;
    return bytes || !node->op->scratch_bytes ? bytes : 1;
}

static inline bool espl__node_is(const espl__node *node, const char *op) {
    return node && strcmp(node->op->name, op) == 0;
}
static inline bool espl__is_quantized(const espl__value *v) {
    return v && v->quant.format != ESPL_FORMAT_F32;
}

/* A constant weight input as matrices; false if it has no axis of outputs. */
bool espl__weight_matrix(const espl__node *node, int input, espl__zeros *axes, espl__matrix *out);

/* NULL if there is none of that name and domain. */
const espl__op *espl__op_find(const char *domain, const char *name);
/* The i-th operator of the registry, NULL past the end. */
const espl__op *espl__op_at(int index);

#endif
