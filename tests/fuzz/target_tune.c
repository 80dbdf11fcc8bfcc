/* Choices that were measured and kept, behind the heading that this machine would write. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    espl_context *own = NULL; /* which forgets the choices */
    espl_config config = {.threads = 1};
    espl_diag diag = {0};
    uint8_t *heading;
    uint64_t length;
    fuzz_expect(espl_context_create(&config, &own, NULL) == ESPL_OK, "a context");
    uint64_t before = espl_context_memory(own, NULL);
    const char *path = fuzz_file("choices", "", 0);
    fuzz_expect(espl_tune_write(own, path, NULL) == ESPL_OK, "a heading");
    fuzz_expect(espl__file_read(ctx, path, 0, &heading, &length, NULL) == ESPL_OK, "a heading");
    uint8_t *file = malloc((size_t)length + size);
    fuzz_expect(file != NULL, "memory for the file");
    memcpy(file, heading, (size_t)length);
    memcpy(file + length, data, size);
    fuzz_judge(espl_tune_read(own, fuzz_file("choices", file, (size_t)length + size), &diag), &diag);
    fuzz_judge(espl_tune_write(own, path, &diag), &diag);
    fuzz_expect(espl_context_memory(own, NULL) == before, "memory is lost");
    espl_context_destroy(&own);
    espl__free(ctx, heading);
    free(file);
}
