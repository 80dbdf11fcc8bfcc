/* Data sets: samples as f32 in the layout and normalisation the network wants, and their labels. */
#ifndef ESPALIER_DATA_H
#define ESPALIER_DATA_H

#include "espalier/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_dataset espl_dataset;

/* `spec` is the path of a YAML description or the name of a built-in generator ("digits", "digits:train").
 * docs/data.md lists the keys. */
ESPL_NODISCARD espl_status espl_dataset_open(espl_context *ctx, const char *spec, espl_dataset **out, espl_diag *diag);
void espl_dataset_close(espl_dataset **dataset);

int64_t espl_dataset_count(const espl_dataset *dataset);
bool espl_dataset_has_labels(const espl_dataset *dataset);
/* Arrays a sample consists of: 1, or more for kind npy with several files. Their names ("" if the description gives
 * none: then they follow the order of the model's inputs) and shapes without the batch dimension. */
int espl_dataset_inputs(const espl_dataset *dataset);
const char *espl_dataset_input_name(const espl_dataset *dataset, int input);
espl_shape espl_dataset_shape(const espl_dataset *dataset, int input);
/* One line for reports: "cifar-bin test_first1000.bin.gz, 1000 samples of 3x32x32". Borrowed. */
const char *espl_dataset_describe(const espl_dataset *dataset);
/* Reads array `input` of sample `index` into `sample` (room for the shape's elements). The same index always gives the
 * same values. */
ESPL_NODISCARD espl_status espl_dataset_read(espl_dataset *dataset, int input, int64_t index, float *sample,
                                             espl_diag *diag);
/* A text (kind text) as tokens from 0 to vocabulary - 1, borrowed, and how many there are; NULL and 0 for other kinds.
 * Sample i is `sequence` of them (its shape), from token i * sequence on; what a network should say of each is the token
 * behind it. */
const int32_t *espl_dataset_tokens(const espl_dataset *dataset, int64_t *count);
/* Different tokens that there are; 0 for other kinds. */
int64_t espl_dataset_vocabulary(const espl_dataset *dataset);
/* The label of sample `index`, label_offset added; -1 without labels. */
ESPL_NODISCARD espl_status espl_dataset_label(espl_dataset *dataset, int64_t index, int64_t *label, espl_diag *diag);

#ifdef __cplusplus
}
#endif
#endif
