/* ONNX models: read, rewritten, lowered, run. Mutants are damaged messages as well as damaged bytes. */
#include "espalier/compress.h"
#include "fuzz.h"
#include "protobuf.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    espl_graph *graph = NULL;
    espl_diag diag = {0};
    espl_status status = espl_graph_read(ctx, fuzz_file("model.onnx", data, size), &graph, &diag);
    if (status == ESPL_OK) status = fuzz_session(ctx, graph, &diag);
    espl_graph_destroy(&graph);
    fuzz_judge(status, &diag);
}

#ifdef ESPL_FUZZ
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
    uint64_t random = seed * 0x9E3779B97F4A7C15u + 1;
    if (seed % 4 == 0) return LLVMFuzzerMutate(data, size, most);
    return protobuf_mutate(data, size, most, &random, NULL, 0);
}
#endif
