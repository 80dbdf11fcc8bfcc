/* Repairs after training: what wins back accuracy without gradients of the loss and without labels.
 *
 * A repair changes a graph in place. Those of the first stage change an f32 graph and leave its function as
 * it is; those of the other two change a quantized graph, layer after layer in topological order, towards the
 * f32 one: the inputs of a layer are those that it really gets, made by the layers before it as they are by
 * then. Nothing here keeps more than one sample's values and what a layer needs of them, however many samples
 * there are. */
#ifndef ESPL_REPAIR_H
#define ESPL_REPAIR_H

#include "compress/compress.h"

/* X(NAME, name, parameters, stage, what it is). The order of the list is the order of work, whatever a user
 * writes. Parameters: a number, then a word, both optional. */
#define ESPL__REPAIR_LIST(X)                                                                                \
    X(EQUALIZE, "equalize", "[absorb]", BEFORE,                                                             \
      "cross-layer equalization: equal ranges for the channels between two layers (Nagel 2019, arXiv "      \
      "1906.04721)")                                                                                        \
    X(SMOOTH, "smooth", "[ALPHA]", BEFORE,                                                                  \
      "SmoothQuant: scale goes from the channels of a matrix product's input into its weights (Xiao 2022, " \
      "arXiv 2211.10438)")                                                                                  \
    X(ADAROUND, "adaround", "[STEPS]", ROUNDING,                                                            \
      "learned rounding of weights, layer by layer (Nagel 2020, arXiv 2004.10568)")                         \
    X(GPTQ, "gptq", "[DAMPENING] [order]", ROUNDING,                                                        \
      "rounding weight after weight, the rest of the row makes up for the error (Frantar 2022, arXiv "      \
      "2210.17323)")                                                                                        \
    X(BATCHNORM, "batchnorm", "[SAMPLES]", AFTER,                                                           \
      "batch-norm re-estimation: mean and variance of each layer's channels are those of the f32 network")  \
    X(BIAS, "bias", "[SAMPLES]", AFTER,                                                                     \
      "bias correction: the mean of each layer's channels is that of the f32 network (Nagel 2019)")

typedef enum espl__repair_kind {
#define X(NAME, name, parameters, stage, text) ESPL__REPAIR_##NAME,
    ESPL__REPAIR_LIST(X)
#undef X
        ESPL__REPAIR_COUNT
} espl__repair_kind;

typedef enum espl__repair_stage {
    ESPL__REPAIR_BEFORE,   /* quantization: on the f32 graph */
    ESPL__REPAIR_ROUNDING, /* chooses the codes of weights */
    ESPL__REPAIR_AFTER,
    ESPL__REPAIR_STAGES
} espl__repair_stage;

/* One repair with its parameters. */
typedef struct espl__repair {
    espl__repair_kind kind;
    double number; /* the one given, else the kind's usual one */
    bool word;     /* the word was given */
} espl__repair;

enum { ESPL__REPAIR_TEXT = 48, ESPL__REPAIR_FORMS = 256 };
const char *espl__repair_name(espl__repair_kind kind);
espl__repair_stage espl__repair_stage_of(espl__repair_kind kind);
/* "smooth 0.5"; false if the text is no repair or a number is out of its range. */
bool espl__repair_parse(const char *text, espl__repair *out);
/* Writes "smooth 0.5", without a number that is the usual one, to buf and returns buf. */
const char *espl__repair_text(const espl__repair *repair, char *buf, size_t size);
/* The forms that parse takes, for messages; writes them to buf and returns buf. */
const char *espl__repair_forms(char *buf, size_t size);
/* A list: each kind at most once, in the order of work. */
typedef struct espl__repairs {
    espl__repair list[ESPL__REPAIR_COUNT];
    int count;
} espl__repairs;
/* Adds one in its place, instead of another of its kind. */
void espl__repairs_add(espl__repairs *repairs, const espl__repair *repair);
/* Adds those of a text with commas between; an error names the one that is none. */
ESPL_NODISCARD espl_status espl__repairs_parse(const char *text, espl__repairs *out, espl_diag *diag);

/* What a repair works on. */
typedef struct espl__repair_task {
    espl_context *ctx;
    espl_graph *graph;           /* changed in place; nodes of the later stages have the ids of reference's */
    const espl_graph *reference; /* f32; of the first stage NULL */
    const decision *decisions;   /* by node; of the first stage NULL */
    const espl_shape *shapes;    /* of the inputs, as in espl_session_options */
    espl_dataset *data;          /* calibration; NULL: inputs that are drawn */
    int64_t step, count;         /* samples 0, step, 2 step, ...: so many */
    espl_progress progress;
    void *user;
} espl__repair_task;

/* Does it. What a repair cannot be done to is left as it is. */
ESPL_NODISCARD espl_status espl__repair_apply(const espl__repair_task *t, const espl__repair *repair,
                                              espl_diag *diag);
#define X(NAME, name, parameters, stage, text)                                                        \
    ESPL_NODISCARD espl_status espl__repair_##NAME(const espl__repair_task *t, const espl__repair *r, \
                                                   espl_diag *diag);
ESPL__REPAIR_LIST(X)
#undef X

#endif
