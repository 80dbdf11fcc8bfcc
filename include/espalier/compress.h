/* Fitting a network to a chip. */
#ifndef ESPALIER_COMPRESS_H
#define ESPALIER_COMPRESS_H

#include "espalier/chip.h"
#include "espalier/evaluate.h"
#include "espalier/onnx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads an .onnx or .espl file by what it contains. ONNX graphs have gone through the passes. */
ESPL_NODISCARD espl_status espl_graph_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag);

/* --- what a network costs --------------------------------------------------------------------- */

typedef struct espl_layer_cost {
    const char *name, *op; /* borrowed from the graph; name "" if the model gives none */
    const char *format;    /* of its weights: "f32", "s8", ... */
    espl_sparsity pattern; /* that the zeros of its weights satisfy; of several pruned weights the largest */
    double balance;        /* mean non-zeros of a bank (a row, in patterns without banks) over the most of any */
    int64_t macs, params;
    int64_t weights, zeros;      /* elements of the weight tensors (params has biases too), and the zeros among them */
    int accumulator_bits;        /* that its sums need, whatever the input; 0: not computed in integers */
    uint64_t weight_bytes;       /* as stored in an .espl file */
    uint64_t weight_bytes_f32, weight_bytes_s8;
    uint64_t output_bytes_f32, output_bytes_s8; /* activations the layer writes */
} espl_layer_cost;
/* Costs per node for these input shapes (NULL: the graph's own, unknown dimensions 1). *layers is owned by the caller;
 * free it with espl_costs_free. Layers without parameters or MACs are listed too. */
typedef struct espl_costs {
    espl_layer_cost *layers;
    int count;
    espl_layer_cost total; /* name "total" */
    espl_graph *graph;     /* specialised copy that the names are borrowed from */
} espl_costs;
ESPL_NODISCARD espl_status espl_costs_compute(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                                              espl_costs *out, espl_diag *diag);
void espl_costs_free(espl_context *ctx, espl_costs *costs);

/* --- weights as matrices: to look at, and to see what a pattern would leave of them ---------------------------- */

typedef struct espl_weights {
    const char *layer, *op; /* borrowed from the graph; layer "" if the model gives none */
    int node, input;        /* of the graph, of the node */
    int tensors;            /* of weights, that the layer has */
    int64_t rows, taps, inputs;
    espl_sparsity pattern;
    double sparsity, balance;
    double magnitude; /* sum of |w| that is left, of that without pruning: 1 without a pattern */
    char why[128];    /* why they stay dense against the pattern, else "" */
    float *data;      /* rows x taps x inputs */
} espl_weights;
/* Weight tensors of the graph's layers. */
int espl_weights_count(const espl_graph *graph);
/* The index-th of them, pruned by `pattern` (NULL: as they are) and owned by the caller: espl_weights_free. */
ESPL_NODISCARD espl_status espl_weights_read(espl_context *ctx, const espl_graph *graph, int index,
                                             const espl_sparsity *pattern, espl_weights *out, espl_diag *diag);
void espl_weights_free(espl_context *ctx, espl_weights *weights);

/* --- what there is to choose from ------------------------------------------------------------------------------ */

/* A way to change a network: `name` stands after `key` in a recipe, with its parameters. docs/methods.md has formula and
 * source of each. */
typedef struct espl_method {
    const char *kind, *key, *name, *parameters, *text;
} espl_method;
/* The index-th of all, those of a kind together; NULL past the end. */
const espl_method *espl_method_at(int index);

/* --- methods -------------------------------------------------------------------------------------- */

/* X(NAME, name, what it minimises) */
#define ESPL_GOAL_LIST(X)                         \
    X(LATENCY, "latency", "time of one inference") \
    X(SIZE, "size", "bytes of the file")           \
    X(ENERGY, "energy", "energy of one inference")
typedef enum espl_goal {
#define X(NAME, name, text) ESPL_GOAL_##NAME,
    ESPL_GOAL_LIST(X)
#undef X
    ESPL_GOAL_COUNT
} espl_goal;
const char *espl_goal_name(espl_goal goal);
bool espl_goal_parse(const char *name, espl_goal *out);

typedef struct espl_compress_options {
    const espl_chip *chip; /* NULL, with a recipe: the recipe's, else this host */
    espl_dataset *data;    /* evaluation; NULL, with a recipe: accuracy is not measured */
    espl_dataset *calib;   /* calibration; NULL: every 5th sample of `data`, held out of the evaluation, and without
                              `data` inputs that are drawn (standard normal) */
    int64_t calib_count; /* at most; 0: 512 */
    double max_drop;     /* points (1 = 1 %) the network may lose; < 0: the recipe's, else 1 */
    const char *observer; /* of activations ("percentile 99.99"); NULL: the recipe's, else minmax, or mse
                             where activations have fewer than 8 bits */
    int goal;            /* espl_goal, or -1: the recipe's, else latency */
    int flavour;         /* espl_flavour, or -1: the chip's own */
    const char *recipe;  /* file, or NULL: found here */
    const char *repair;  /* repairs with commas between ("equalize, bias"), or NULL: the recipe's, else none */

    const char *formats; /* "s8,s4,s2": each layer gets one of these, by search, and the rest from the recipe if there
                            is one; NULL: no search */
    double size;         /* with formats: the file may have so many bytes, below 1 such a share of the f32 file, and
                            max_drop is 100 unless given; 0: as few as max_drop allows */
    bool curve;          /* with formats: score against size of uniform and of mixed networks, too */
    const espl_shape *input_shapes; /* as in espl_session_options */
    espl_progress progress;
    void *user;
} espl_compress_options;

/* What a network's first output loses against f32. */
typedef struct espl_damage {
    double error; /* relative L2 error */
    double kl;    /* mean Kullback-Leibler divergence of the classes' probabilities, in nats; NaN: no classes */
    double soft;  /* the same of probabilities at a temperature of 4: on few samples it ranks layers as kl does on many */
    double drop;  /* points of top-1 lost; NaN: no labels */
} espl_damage;

/* One layer before and after. Strings are owned by the result. */
typedef struct espl_layer_choice {
    const char *name, *op;
    const char *format_before, *format_after;
    espl_sparsity pattern; /* after */
    uint64_t bytes_before, bytes_after;
    double ms_before, ms_after; /* on the chip: measured if it is this host, else modelled; 0 if not known */
    int64_t macs, params;
    int64_t weights, zeros; /* elements of the weight tensors (params has biases too), and the zeros among them, after */
    espl_damage alone; /* with only this layer quantized, on 16 calibration samples; NaN if not computed */
    int accumulator_bits; /* that its sums need, whatever the input; 0: not computed in integers */
    const char *why;
} espl_layer_choice;

/* A repair and the score without and with it; NaN without data. */
typedef struct espl_repair_effect {
    const char *repair; /* "smooth 0.5" */
    double score_before, score_after;
    double seconds; /* that it took */
} espl_repair_effect;

/* A network on the way: all layers in one format, or each in its own. */
typedef struct espl_curve_point {
    const char *name; /* of the format, or "mixed" */
    bool mixed;
    uint64_t bytes;
    double ms, joules;  /* 0 with goal size */
    double score, drop; /* as in espl_result */
    double loss;        /* mean cross-entropy of the labels; NaN: none */
    double damage;      /* sum of what each layer's format does alone */
} espl_curve_point;

typedef struct espl_result {
    espl_graph *graph; /* compressed */
    espl_layer_choice *layers;
    int layer_count;
    espl_repair_effect *repairs; /* in the order in which they were done */
    int repair_count;
    const char *metric;  /* "top1", "agreement" (top-1 agreement with f32, no labels), "similarity" (1 - relative L2), or
                          "none" (no data: scores and drop are NaN, and there is no budget to keep) */
    double score_before, score_after; /* fractions */
    double drop;                      /* points */
    double max_drop;                  /* that were allowed */
    bool within_budget;
    espl_goal goal;
    espl_scores before, after;
    int64_t eval_samples, calib_samples; /* calib_samples 0: no layer needed ranges */
    const char *calib_data; /* the data set, or "drawn"; NULL: none */
    uint64_t bytes_before, bytes_after; /* of the f32 network as ONNX, and of model.espl */
    uint64_t onnx_bytes;                /* of the written model.onnx, 0 until written */
    double ms_before, ms_after;         /* whole network on the chip */
    double joules_before, joules_after; /* modelled; 0 if the profile has no energies */
    bool measured;                      /* latencies were measured here, not modelled */
    int64_t macs, params, weights, zeros;
    espl_flavour flavour;
    const char *chip, *data, *recipe; /* recipe: YAML text */
    espl_curve_point *curve;
    int curve_count;
    int64_t search_samples;             /* that layers were measured on in each format; 0: no search */
    double search_damage, search_bound; /* sum over the layers, and what no choice at this cost can go below */
    struct espl__result_private *own;
} espl_result;

ESPL_NODISCARD espl_status espl_compress(espl_context *ctx, const espl_graph *graph, const espl_compress_options *options,
                                         espl_result **out, espl_diag *diag);
void espl_result_destroy(espl_result **result);
/* Whether espl_result_write could write into `folder`, which is worth asking before long work. Leaves nothing behind. */
ESPL_NODISCARD espl_status espl_result_check_folder(espl_context *ctx, const char *folder, espl_diag *diag);
/* Writes model.espl, model.onnx, recipe.yaml and report.json (`report`: its text) into `folder`, all or nothing. */
ESPL_NODISCARD espl_status espl_result_write(espl_context *ctx, espl_result *result, const char *folder, const char *report,
                                             espl_diag *diag);

/* --- which layer does the damage ------------------------------------------------------------------ */

typedef struct espl_blame_layer {
    const char *name, *op, *format; /* of its weights; borrowed from the blame */
    int node;                       /* its place in the graph */
    bool integer;                   /* computed in integers, its input rounded too */
    double sqnr_db; /* of its output inside the quantized network: signal power over that of the error; INFINITY: exact */
    espl_damage alone;  /* only this layer quantized */
    espl_damage spared; /* all others quantized, this one f32 */
} espl_blame_layer;

typedef struct espl_blame {
    espl_blame_layer *layers; /* quantized ones, the most damage alone first: by soft, without classes by error */
    int count;
    espl_damage whole; /* all layers quantized */
    int64_t samples;
    const char *data; /* the data set that the samples are from */
    struct espl__blame_private *own;
} espl_blame;

/* Quantizes as espl_compress would at first (`options->recipe`, or s8 wherever the chip computes it; without a chip
 * with the grids of x86) and measures on at most `samples` (0: 32) of the calibration samples. Freed with
 * espl_blame_destroy. */
ESPL_NODISCARD espl_status espl_blame_layers(espl_context *ctx, const espl_graph *graph,
                                             const espl_compress_options *options, int64_t samples,
                                             espl_blame **out, espl_diag *diag);
void espl_blame_destroy(espl_blame **blame);

#ifdef __cplusplus
}
#endif
#endif
