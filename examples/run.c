/* Runs a model once with the runtime alone, on zeros, and prints the first numbers of each output.
 *
 *   espalier export digits.onnx -o digits.espl
 *   cc run.c -o run $(pkg-config --cflags --libs espalier-rt)
 *   ./run digits.espl
 *
 * Inputs and outputs belong to the program: dense, row-major, of the types and shapes that the session tells.
 */
#include <espalier/context.h>
#include <espalier/model.h>
#include <espalier/session.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 8, SHOWN = 10, LARGEST = 8 }; /* inputs or outputs; numbers of an output; bytes of an element */

static espl_tensor zeros(const espl_tensor *like) {
    espl_tensor t = *like;
    t.data = calloc((size_t)espl_shape_count(&like->shape) + 1, LARGEST);
    if (!t.data) exit(3);
    return t;
}

static void print(const char *name, const espl_tensor *t) {
    printf("%s:", name);
    for (int64_t i = 0; t->dtype == ESPL_F32 && i < espl_shape_count(&t->shape) && i < SHOWN; i++)
        printf(" %g", (double)((const float *)t->data)[i]);
    printf("\n");
}

/* Once; a program that has more inputs fills `in` and runs again, and nothing is allocated by that. */
static espl_status run(espl_session *session, espl_diag *diag) {
    const int inputs = espl_session_input_count(session), outputs = espl_session_output_count(session);
    espl_tensor in[MOST], out[MOST];
    if (inputs > MOST || outputs > MOST) return ESPL_LIMIT;
    for (int i = 0; i < inputs; i++) in[i] = zeros(espl_session_input_info(session, i));
    for (int i = 0; i < outputs; i++) out[i] = zeros(espl_session_output_info(session, i));
    espl_status status = espl_session_run(session, in, out, diag);
    for (int i = 0; i < outputs && status == ESPL_OK; i++)
        print(espl_session_output_name(session, i), &out[i]);
    for (int i = 0; i < inputs; i++) free(in[i].data);
    for (int i = 0; i < outputs; i++) free(out[i].data);
    return status;
}

int main(int count, char **words) {
    espl_diag diag = {0};
    espl_context *ctx = NULL;
    espl_graph *graph = NULL;
    espl_session *session = NULL;
    if (count != 2) {
        fprintf(stderr, "usage: run MODEL.espl\n");
        return 2;
    }
    espl_status status = espl_context_create(&(espl_config){.threads = 1}, &ctx, &diag);
    if (status == ESPL_OK) status = espl_model_read(ctx, words[1], &graph, &diag);
    if (status == ESPL_OK) status = espl_session_create(ctx, graph, NULL, &session, &diag);
    if (status == ESPL_OK) status = run(session, &diag);
    if (status != ESPL_OK)
        fprintf(stderr, "%s\n", diag.message[0] ? diag.message : espl_status_message(status));
    if (ctx) {
        espl_session_destroy(&session);
        espl_graph_destroy(&graph);
        espl_context_destroy(&ctx);
    }
    return espl_status_exit_code(status);
}
