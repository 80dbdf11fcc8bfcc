/* One node at a time: what passes that walk a graph and change it share with the pass `infer`. */
#ifndef ESPL_INFER_H
#define ESPL_INFER_H

#include "passes/passes.h"

/* The node's inference; a sentence names file and node. */
ESPL_NODISCARD espl_status espl__infer_node(const espl_graph *g, espl__node *n, espl_diag *diag);
/* The shape that room must be made for: an output's own, or where data decide its length the largest that it
 * can have; false if that is not known. */
bool espl__room(const espl__node *n, int output, espl_shape *out);
/* What folding may still take. */
typedef struct espl__budget {
    uint64_t bytes;
    int64_t work; /* multiplications, or elements that are read */
} espl__budget;
/* All inputs are constant, no output takes more than `limit` bytes, and the budget allows it, from which it is taken. */
bool espl__foldable(const espl__node *n, uint64_t limit, espl__budget *left);
/* Bytes of text that an output needs behind its elements, `in` being the inputs (espl__op.text_bytes). */
uint64_t espl__text_made(const espl__node *n, int output, const espl_tensor *in);
/* Computes the outputs of such a node as constants in `arena`. */
ESPL_NODISCARD espl_status espl__fold(espl__node *n, espl__arena *arena, espl_diag *diag);

/* A node that stays though its inputs are constant: QuantizeLinear and DequantizeLinear, which say how constants are stored,
 * and what draws at random. */
bool espl__stays(const espl__node *n);
/* Infers and computes all that can be, whatever it takes; rounded values become numbers. The graph is left as
 * it is. */
ESPL_NODISCARD espl_status espl__infer_everything(espl_graph *g, espl_diag *diag);

/* The pass `resolve`, which also computes all that can be on its way, and leaves it so. */
ESPL_NODISCARD espl_status espl__resolve_everything(espl_graph *g, espl_diag *diag);

#endif
