/* Graphs: read from ONNX, inspected, specialised, written. Opaque; made by espl_onnx_read or espl_model_read. */
#ifndef ESPALIER_GRAPH_H
#define ESPALIER_GRAPH_H

#include "espalier/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_graph espl_graph;

void espl_graph_destroy(espl_graph **graph);

int espl_graph_input_count(const espl_graph *graph);
int espl_graph_output_count(const espl_graph *graph);
/* Borrowed; valid while the graph lives. */
const char *espl_graph_input_name(const espl_graph *graph, int index);
const char *espl_graph_output_name(const espl_graph *graph, int index);
/* Unknown dimensions are ESPL_DIM_UNKNOWN. */
espl_shape espl_graph_input_shape(const espl_graph *graph, int index);
espl_dtype espl_graph_input_dtype(const espl_graph *graph, int index);
espl_shape espl_graph_output_shape(const espl_graph *graph, int index);
espl_dtype espl_graph_output_dtype(const espl_graph *graph, int index);

#ifdef __cplusplus
}
#endif
#endif
