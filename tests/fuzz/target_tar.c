/* Archives of images, plain or gzip: classes by folder, and by a list inside. */
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    fuzz_dataset(ctx, "kind: images\npath: data.tar\nresize: 8\ncrop: 8\n", "data.tar", data, size);
    fuzz_dataset(ctx, "kind: images\npath: data.tar\nlabels: labels.txt\nresize: 8\ncrop: 8\n", "data.tar",
                 data, size);
}
