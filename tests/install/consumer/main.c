/* A program that uses the installed library and nothing else of ours. RUNTIME_ONLY: the runtime alone. */
#include <stdio.h>
#include <string.h>

#include <espalier/context.h>
#include <espalier/tensor.h>
#ifdef TOOLKIT
#include <espalier/data.h>
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
