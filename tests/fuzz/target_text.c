/* Texts, plain or gzip: as words, and as characters. */
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    fuzz_dataset(ctx, "kind: text\npath: data.txt\nsequence: 4\n", "data.txt", data, size);
    fuzz_dataset(ctx, "kind: text\npath: data.txt\nunit: char\nsequence: 4\n", "data.txt", data, size);
}
