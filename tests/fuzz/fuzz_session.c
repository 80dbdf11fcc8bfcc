/* Of the targets that read models: sessions within limits. */
#include <stdlib.h>

#include "arrays.h"
#include "fuzz.h"

/* One run of a target must stay short under sanitizers. */
enum { MOST_MACS = 2000000, MOST_BYTES = 4 << 20 };

static bool is_small(const espl_session *s) {
    int64_t macs = 0;
    uint64_t workspace, weights;
    espl_session_memory(s, &workspace, &weights);
    for (int i = 0; i < espl_session_layer_count(s); i++) {
        int64_t more = espl_session_layer(s, i).macs;
        if (more < 0 || more > MOST_MACS || (macs += more) > MOST_MACS) return false;
    }
    return workspace + weights <= MOST_BYTES;
}

static espl_status run(espl_session *s, espl_diag *diag) {
    int ins = espl_session_input_count(s), n = ins + espl_session_output_count(s);
    espl_tensor *t = calloc((size_t)n + 1, sizeof *t);
    espl_status status = ESPL_OK;
    fuzz_expect(t != NULL, "memory for the arrays");
    bool small = true;
    for (int i = 0; i < n && small; i++) {
        t[i] = *array_info(s, i);
        if (!array_is_ours(s, i)) continue;
        int64_t count = espl_shape_count(&t[i].shape);
        small = count >= 0 && count <= MOST_BYTES;
        t[i].data = small ? calloc((size_t)count + 1, espl_dtype_bytes(t[i].dtype)) : NULL;
    }
    if (small) status = espl_session_run(s, t, t + ins, diag);
    for (int i = 0; i < n; i++)
        if (array_is_ours(s, i)) free(t[i].data);
    free(t);
    return status;
}

espl_status fuzz_session(espl_context *ctx, const espl_graph *graph, espl_diag *diag) {
    espl_session *s = NULL;
    espl_status status = espl_session_create(ctx, graph, NULL, &s, diag);
    if (status == ESPL_OK && is_small(s)) status = run(s, diag);
    espl_session_destroy(&s);
    return status;
}
