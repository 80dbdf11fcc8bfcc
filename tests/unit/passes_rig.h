/* A graph through the passes and a session, beside the references on the graph as it was. */
#ifndef PASSES_RIG_H
#define PASSES_RIG_H

#include "graph_oracle.h"

static inline int count_of(const espl_graph *g, const char *op) {
    int n = 0;
    for (int i = 0; i < g->node_count; i++) n += espl__node_is(g->nodes[i], op);
    return n;
}

static inline void pass_all(espl_graph *g) {
    espl_diag diag = {0};
    if (espl__passes_run(g, &diag) != ESPL_OK) fail_msg("passes: %s", diag.message);
}

static inline double error_of(const espl_tensor *a, const espl_tensor *b) {
    if (a->dtype != b->dtype || !espl_shape_equal(&a->shape, &b->shape)) return INFINITY;
    if (a->dtype != ESPL_F32) { /* codes: a step of an early value may have become a few */
        int64_t sum = 0;
        for (int64_t i = 0; i < espl_shape_count(&a->shape); i++) {
            int x = ((const uint8_t *)a->data)[i], y = ((const uint8_t *)b->data)[i];
            if (a->dtype == ESPL_S8) x = (int8_t)x, y = (int8_t)y;
            if (a->dtype != ESPL_S8 && a->dtype != ESPL_U8) return memcmp(a->data, b->data, bytes_of(a)) ? INFINITY : 0;
            if (abs(x - y) > 6) return INFINITY;
            sum += abs(x - y);
        }
        return sum > espl_shape_count(&a->shape) / 4 + 2 ? INFINITY : 0;
    }
    double d = 0, all = 1e-9;
    for (int64_t i = 0; i < espl_shape_count(&a->shape); i++) {
        double x = ((const float *)a->data)[i], y = ((const float *)b->data)[i];
        d += (x - y) * (x - y);
        all += y * y;
    }
    return sqrt(d / all);
}

/* Runs the passes over a copy and compares its session with the graph's own references; the copy is returned. */
static inline espl_graph *passed(rig *r, double tolerance, uint64_t seed) {
    espl_graph *g = NULL;
    espl_tensor expected[8] = {{0}};
    assert_int_equal(espl__graph_clone(r->g, &g, NULL), ESPL_OK);
    pass_all(g);
    espl_session *s = session_of(r->ctx, g);
    run_io io = io_of(s, seed);
    for (int i = 0; i < io.inputs; i++)
        if (io.in[i].dtype != ESPL_F32)
            for (size_t k = 0; k < bytes_of(&io.in[i]); k++) ((uint8_t *)io.in[i].data)[k] = (uint8_t)espl__rng_u32(&r->rng);
    run_reference_of(r->ctx, r->g, io.in, expected);
    run_session(s, &io);
    assert_int_equal(g->input_count, r->g->input_count);
    assert_int_equal(g->output_count, r->g->output_count);
    for (int i = 0; i < g->input_count; i++) assert_string_equal(g->inputs[i]->name, r->g->inputs[i]->name);
    for (int i = 0; i < io.outputs; i++) {
        assert_string_equal(g->outputs[i]->name, r->g->outputs[i]->name);
        double e = error_of(&io.out[i], &expected[i]);
        if (!(e <= tolerance)) {
            print_graph(r->g);
            printf("after the passes:\n");
            print_graph(g);
            fail_msg("seed %d: output %d (%s) is off by %g", (int)seed, i, g->outputs[i]->name, e);
        }
        espl_tensor_free(r->ctx, &expected[i]);
    }
    io_free(&io);
    espl_session_destroy(&s);
    return g;
}

#endif
