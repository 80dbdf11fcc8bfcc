/* The builder inside: what the files of layers share. Every function here does nothing, and returns NULL or
 * the value of id 0, once the builder has failed. */
#ifndef ESPL_ZOO_BUILDER_H
#define ESPL_ZOO_BUILDER_H

#include "espalier/build.h"
#include "graph/graph.h"

enum { ESPL__BUILD_NAME = 256 }; /* bytes of a name, with its end */

struct espl_builder {
    espl_context *ctx;
    espl_graph *graph;
    uint64_t seed;
    espl_diag diag;                          /* of the first call that failed */
    espl__value **inputs, **outputs, **next; /* next: outputs that come behind the others */
    int input_count, output_count, next_count;
};

bool espl__build_failed(const espl_builder *b);
/* The sentence begins with the layer's name. */
void espl__build_fail(espl_builder *b, espl_status status, const char *layer, const char *fmt, ...)
    ESPL_PRINTF(4, 5);
void espl__build_nomem(espl_builder *b);

/* "NAME.part" into buf, of ESPL__BUILD_NAME bytes; a name that is too long fails the builder. Returns buf. */
const char *espl__build_join(espl_builder *b, const char *name, const char *part, char *buf);
/* NULL for id 0; an id that is none fails the builder. */
espl__value *espl__build_get(espl_builder *b, espl_value value);
espl_value espl__build_handle(const espl__value *value);
/* The shape of a value; false, and the builder has failed, if its rank is unknown, or not from least to most.
 */
bool espl__build_ranked(espl_builder *b, const char *layer, espl_value value, int least, int most,
                        espl_shape *out);
/* The same for one dimension that has to be known; 0 after a failure. */
int64_t espl__build_known(espl_builder *b, const char *layer, const espl_shape *shape, int axis,
                          const char *what);

/* A node without attributes yet; end infers its outputs and returns the first. */
espl__node *espl__build_begin(espl_builder *b, const char *op, const char *name, const espl_value *inputs,
                              int count, int outputs);
void espl__build_int(espl_builder *b, espl__node *node, const char *attribute, int64_t value);
void espl__build_ints(espl_builder *b, espl__node *node, const char *attribute, const int64_t *values,
                      int count);
void espl__build_float(espl_builder *b, espl__node *node, const char *attribute, float value);
void espl__build_text(espl_builder *b, espl__node *node, const char *attribute, const char *value);
espl_value espl__build_end(espl_builder *b, espl__node *node);
/* A node without attributes, of one or two inputs (b's id 0: one). */
espl_value espl__build_simple(espl_builder *b, const char *op, const char *name, espl_value x, espl_value y);

/* Fixed values NAME.part: a scalar, and a list of integers. */
espl_value espl__build_scalar(espl_builder *b, const char *name, const char *part, float value);
espl_value espl__build_list(espl_builder *b, const char *name, const char *part, const int64_t *values,
                            int count);

/* --- init.c ------------------------------------------------------------------------------------------ */

/* Parameter NAME.part; `own` stands for OWN. in and out count what the initialisers count. */
espl_value espl__build_weight(espl_builder *b, const char *name, const char *part, espl_shape shape,
                              espl_init init, espl_init own, double in, double out);
/* A vector of one number. */
espl_value espl__build_vector(espl_builder *b, const char *name, const char *part, int64_t count,
                              float value);

#endif
