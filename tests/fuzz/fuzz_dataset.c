/* Of the targets that read data: the samples that a description names. */
#include <stdlib.h>
#include <string.h>

#include "espalier/data.h"
#include "fuzz.h"

enum { SAMPLES = 4, MOST_ELEMENTS = 1 << 22 };

static void read_sample(espl_dataset *d, int64_t index) {
    int64_t label;
    for (int input = 0; input < espl_dataset_inputs(d); input++) {
        espl_diag diag = {0};
        espl_shape shape = espl_dataset_shape(d, input);
        int64_t count = espl_shape_count(&shape);
        if (count < 0 || count > MOST_ELEMENTS) continue;
        float *sample = malloc(((size_t)count + 1) * sizeof *sample);
        fuzz_expect(sample != NULL, "memory for a sample");
        fuzz_judge(espl_dataset_read(d, input, index, sample, &diag), &diag);
        free(sample);
    }
    espl_diag diag = {0};
    fuzz_judge(espl_dataset_label(d, index, &label, &diag), &diag);
}

void fuzz_dataset(espl_context *ctx, const char *description, const char *name, const uint8_t *data,
                  size_t size) {
    espl_dataset *d = NULL;
    espl_diag diag = {0};
    (void)fuzz_file(name, data, size);
    espl_status status =
        espl_dataset_open(ctx, fuzz_file("set.yaml", description, strlen(description)), &d, &diag);
    fuzz_judge(status, &diag);
    if (status != ESPL_OK) return;
    int64_t count = espl_dataset_count(d), tokens;
    for (int64_t i = 0; i < SAMPLES && i < count; i++) read_sample(d, i * (count - 1) / SAMPLES);
    if (count > 0) read_sample(d, count - 1);
    const int32_t *token = espl_dataset_tokens(d, &tokens);
    for (int64_t i = 0; i < tokens; i++)
        fuzz_expect(token[i] >= 0 && token[i] < espl_dataset_vocabulary(d), "a token that is none");
    espl_dataset_close(&d);
}
