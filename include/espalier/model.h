/* The .espl container: a graph with its encodings, in canonical layouts that do not depend on the instruction set.
 * docs/format.md describes it byte by byte. */
#ifndef ESPALIER_MODEL_H
#define ESPALIER_MODEL_H

#include "espalier/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appears whole or not at all. */
ESPL_NODISCARD espl_status espl_model_write(espl_context *ctx, const espl_graph *graph, const char *path,
                                            espl_diag *diag);
/* A large file is mapped: it may be replaced or removed at any time, but must not be cut short in place while the graph
 * lives. */
ESPL_NODISCARD espl_status espl_model_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag);
/* True if the file begins like an .espl file. */
bool espl_model_probe(const char *path);

#ifdef __cplusplus
}
#endif
#endif
