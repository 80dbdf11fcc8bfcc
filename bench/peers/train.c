/* Times training steps of ours for train.py: forward, loss, backward, SGD.
 *
 *     train MODEL BATCH SEQUENCE THREADS STEPS
 *
 * prints the milliseconds of each step, then the most memory in KiB. SEQUENCE: of tokens, 0 for pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "espalier/context.h"
#include "train/engine.h"
#include "train/loss.h"
#include "train/optim.h"

static espl_diag diag;

static void need(espl_status status) {
    if (status == ESPL_OK) return;
    fprintf(stderr, "%s\n", diag.message);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Unknown dimensions are the batch, but the first of tokens. */
static espl_shape shape_of(const espl_graph *g, int i, int64_t batch, int64_t sequence) {
    espl_shape s = espl_graph_input_shape(g, i);
    bool tokens = g->inputs[i]->dtype == ESPL_S64;
    for (int k = 0; k < s.rank; k++)
        if (s.dim[k] < 0) s.dim[k] = tokens && k == 0 ? sequence : batch;
    return s;
}

static void fill(espl__engine *e, int i, const espl_shape *shape, espl_dtype dtype) {
    int64_t n = espl_shape_count(shape);
    espl__rng rng = espl__rng_seed(1, 2);
    float *x = calloc((size_t)n, sizeof *x);
    int64_t *tokens = calloc((size_t)n, sizeof *tokens);
    if (!x || !tokens) exit(1);
    for (int64_t k = 0; k < n; k++) {
        x[k] = (float)espl__rng_normal(&rng);
        tokens[k] = k * 7919 % 10000;
    }
    espl__engine_set_input(e, i, dtype == ESPL_S64 ? (void *)tokens : (void *)x, dtype);
    free(x);
    free(tokens);
}

static bool is_next(const char *output, const char *input) {
    size_t n = strlen(input);
    return strncmp(output, input, n) == 0 && strcmp(output + n, ".next") == 0;
}

/* The state goes on. */
static void carry(espl__engine *e, const espl_graph *g) {
    for (int i = 0; i < g->input_count; i++)
        for (int o = 0; o < g->output_count; o++)
            if (is_next(g->outputs[o]->name, g->inputs[i]->name)) {
                espl_tensor t = espl__engine_output(e, o);
                espl__engine_set_input(e, i, t.data, t.dtype);
            }
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    int64_t batch = atoi(argv[2]), sequence = atoi(argv[3]);
    espl_config config = {.threads = atoi(argv[4])};
    espl_context *ctx;
    espl_graph *g;
    espl__engine *e;
    espl__loss *loss;
    espl__optim *optim;
    need(espl_context_create(&config, &ctx, &diag));
    need(espl__train_read(ctx, argv[1], &g, &diag));
    espl_shape shapes[16];
    if (g->input_count > 16) return 1;
    for (int i = 0; i < g->input_count; i++) shapes[i] = shape_of(g, i, batch, sequence);
    espl__engine_options options = {.real = ESPL_F32, .logits = true};
    need(espl__engine_create(ctx, g, shapes, &options, &e, &diag));
    for (int i = 0; i < g->input_count; i++) fill(e, i, &shapes[i], g->inputs[i]->dtype);
    espl_tensor y = espl__engine_output(e, 0), dy = espl__engine_output_gradient(e, 0);
    espl__loss_options cross_entropy = {.kind = ESPL__LOSS_CROSS_ENTROPY};
    need(espl__loss_create(ctx, &cross_entropy, &y, &loss, &diag));
    int64_t rows = espl__loss_rows(loss), count;
    int64_t *labels = calloc((size_t)rows, sizeof *labels);
    if (!labels) return 1;
    for (int64_t i = 0; i < rows; i++) labels[i] = i % espl__loss_classes(loss);
    float *weights = espl__engine_weights(e, &count);
    espl__optim_options sgd = {.kind = ESPL__OPTIM_SGD, .momentum = 0.9};
    espl__optim_range all = {0, count, false};
    need(espl__optim_create(ctx, &sgd, ESPL_F32, count, &all, 1, weights, &optim, &diag));
    for (int step = 0; step < atoi(argv[5]); step++) {
        double begin = now();
        espl__loss_sums sums = {0};
        need(espl__engine_forward(e, true, (uint64_t)step, &diag));
        espl__loss_run(loss, y.data, labels, rows, NULL, 1.0 / (double)rows, dy.data, &sums);
        need(espl__engine_backward(e, &diag));
        espl__optim_step(optim, 1e-3, 1, weights, espl__engine_gradients(e, &count));
        carry(e, g);
        printf("%.3f\n", (now() - begin) * 1e3);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%ld\n", usage.ru_maxrss);
    free(labels);
    espl__optim_destroy(&optim);
    espl__loss_destroy(&loss);
    espl__engine_destroy(&e);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
    return 0;
}
