/* CIFAR-10's binary records, plain or gzip. */
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    fuzz_dataset(ctx, "kind: cifar-bin\npath: data.bin\nresize: 8\ncrop: 8\n", "data.bin", data, size);
}
