/* A program that uses the installed library and nothing else of ours. RUNTIME_ONLY: the runtime alone. */
#include <stdio.h>
#include <string.h>

#include <espalier/context.h>
#include <espalier/tensor.h>
#ifdef TOOLKIT
#include <espalier/data.h>
#include <espalier/zoo.h>

/* The network at the top of build.h. */
static espl_status build(espl_context *ctx, espl_graph **graph, espl_diag *diag) {
    espl_builder *b = NULL;
    espl_status status = espl_builder_create(ctx, "small", 1, &b, diag);
    if (status != ESPL_OK) return status;
    espl_value x = espl_build_input(b, "x", ESPL_F32, (espl_shape){4, {ESPL_DIM_UNKNOWN, 1, 28, 28}});
    x = espl_build_conv(b, "conv1", x, &(espl_conv){.channels = 8, .kernel = {3}, .bias = true});
    x = espl_build_activation(b, "relu1", x, ESPL_ACTIVATION_RELU);
    x = espl_build_flatten(b, "flatten", x);
    x = espl_build_linear(b, "fc", x, &(espl_linear){.features = 10, .bias = true});
    espl_build_output(b, "logits", x);
    return espl_builder_finish(&b, graph, diag);
}
#endif

static int use(espl_context *ctx, espl_diag *diag) {
    espl_shape shape;
    espl_tensor tensor;
    if (!espl_shape_parse("2x3", &shape)) return 1;
    if (espl_tensor_alloc(ctx, ESPL_F32, &shape, &tensor, diag) != ESPL_OK) return 1;
    espl_tensor_free(ctx, &tensor);
#ifdef TOOLKIT
    espl_dataset *digits;
    if (espl_dataset_open(ctx, "digits", &digits, diag) != ESPL_OK) return 1;
    printf("%s\n", espl_dataset_describe(digits));
    espl_dataset_close(&digits);
    espl_graph *graph;
    if (build(ctx, &graph, diag) != ESPL_OK) return 1;
    if (espl_graph_output_shape(graph, 0).dim[1] != 10) return 1;
    espl_graph_destroy(&graph);
    if (espl_zoo_build(ctx, "lenet5", NULL, &graph, diag) != ESPL_OK) return 1;
    espl_graph_destroy(&graph);
#endif
    return 0;
}

int main(void) {
    espl_diag diag = {0};
    espl_config config = {0};
    espl_context *ctx = NULL;
    config.threads = 2;
    if (espl_context_create(&config, &ctx, &diag) != ESPL_OK || use(ctx, &diag) != 0) {
        fprintf(stderr, "%s\n", diag.message);
        return 1;
    }
    printf("espalier %s on %s, %d threads\n", espl_version(), espl_cpu_name(), espl_context_threads(ctx));
    espl_context_destroy(&ctx);
    return 0;
}
