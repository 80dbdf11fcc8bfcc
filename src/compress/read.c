#include "compress/compress.h"
#include "espalier/model.h"
#include "passes/passes.h"
#include "runtime/container.h"

espl_status espl_graph_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag) {
    bool sealed;
    *out = NULL;
    espl_status status = espl__model_probe(path, &sealed, diag);
    if (status != ESPL_OK) return status;
    if (sealed) return espl_model_read(ctx, path, out, diag);
    status = espl_onnx_read(ctx, path, out, diag);
    if (status == ESPL_OK) status = espl__passes_run(*out, diag);
    if (status != ESPL_OK) {
        espl__diag_name_file(diag, path);
        espl_graph_destroy(out);
    }
    return status;
}
