/* .espl files: loaded, lowered and run. The length and the checksum are made to fit, else no mutant would be
 * looked at. */
#include <stdlib.h>
#include <string.h>

#include "espalier/model.h"
#include "fuzz.h"
#include "runtime/container.h"

static void seal(uint8_t *file, size_t size) {
    uint64_t length = size - CONTAINER_HEADER;
    uint32_t crc = espl__crc32(file + CONTAINER_HEADER, length);
    memcpy(file + 8, &crc, 4);
    memcpy(file + 12, &length, 8);
}

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    espl_graph *graph = NULL;
    espl_diag diag = {0};
    uint8_t *file = malloc(size + 1);
    fuzz_expect(file != NULL, "memory for the file");
    memcpy(file, data, size);
    if (size >= CONTAINER_HEADER) seal(file, size);
    espl_status status = espl_model_read(ctx, fuzz_file("model.espl", file, size), &graph, &diag);
    if (status == ESPL_OK) status = fuzz_session(ctx, graph, &diag);
    espl_graph_destroy(&graph);
    free(file);
    fuzz_judge(status, &diag);
}
