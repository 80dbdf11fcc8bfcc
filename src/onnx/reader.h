/* Inside src/onnx only: the reader of a graph, read.c, and what it has of the graphs around it, body.c. */
#ifndef ESPL_ONNX_READER_H
#define ESPL_ONNX_READER_H

#include "onnx/onnx_impl.h"

/* What the bodies of one node read from outside, in the order of the node's last inputs. */
typedef struct captures {
    espl__value **values;
    int count, capacity;
} captures;

typedef struct reader {
    espl_context *ctx;
    const pb_model *model;
    const pb_graph *from;
    espl_graph *graph;
    espl__names names; /* of values */
    espl__external *external;
    espl_diag *diag;
    /* Of a body; the outermost reader has none of these. */
    struct reader *outer;
    captures *captured;
    espl__value **inputs; /* by index of `captured`: what stands for it in the body; NULL: not read */
    int input_capacity, depth;
    /* Of the outermost reader. */
    espl__names hoisted; /* names of constants of bodies */
    uint64_t hoisted_count;
} reader;

static inline const char *text(const char *s) {
    return s ? s : "";
}

/* Fills r->graph from r->from: values, nodes, inputs and outputs. */
espl_status espl__reader_build(reader *r);
reader *espl__reader_outermost(reader *r);
/* The value of that name in this graph or around it, NULL if there is none. */
espl_status espl__reader_find(reader *r, const char *name, espl__value **out);
/* A name in the outermost graph for a constant that a body calls `name`. */
void espl__reader_hoisted_name(reader *r, const char *name, char *buf, size_t size);
/* That constant becomes known in the body under its name there. */
espl_status espl__reader_hoist(reader *r, espl__value *constant, const char *name);
/* Adds what a body reads from outside to its inputs. */
espl_status espl__reader_captured(reader *r, espl__value ***inputs, int *capacity, int *count);
/* gradient.c. The last input of a Gradient node, for which there is room. */
bool espl__onnx_is_gradient(const espl__op *op);
espl_status espl__reader_gradient(reader *r, espl__node *node);
bool espl__reader_is_body(const pb_attr *a);
/* The node's bodies, and what they read from outside as its last inputs, behind the `inputs` that it names.
 */
espl_status espl__reader_bodies(reader *r, const pb_node *n, espl__node *node, int inputs);

#endif
