/* .npy: an array, and the samples and labels of a data set. */
#include "espalier/tensor.h"
#include "fuzz.h"

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    espl_tensor t;
    espl_diag diag = {0};
    fuzz_judge(espl_npy_read(ctx, fuzz_file("array.npy", data, size), &t, &diag), &diag);
    espl_tensor_free(ctx, &t);
    fuzz_dataset(ctx, "kind: npy\npath: array.npy\nlabels: array.npy\n", "array.npy", data, size);
    fuzz_dataset(ctx, "kind: npy\npath: array.npy\nlayout: nhwc\n", "array.npy", data, size);
}
