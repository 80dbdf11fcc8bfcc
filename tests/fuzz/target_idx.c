/* IDX files, plain or gzip: as images, and as the labels of images. */
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    fuzz_dataset(ctx, "kind: idx\npath: data.idx\nlabels: data.idx\n", "data.idx", data, size);
    fuzz_dataset(ctx, "kind: idx\npath: data.idx\n", "data.idx", data, size);
}
