#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inputs.h"

typedef struct eval_options {
    const char *data;
    int64_t count, accumulator;
    int overflow, requant;
    text_list shapes;
} eval_options;

static const char *overflow_choice(int index) {
    static const char *const names[] = {"wrap", "saturate"};
    return index < (int)COUNT(names) ? names[index] : NULL;
}

static const char *requant_choice(int index) {
    static const char *const names[] = {"float", "fixed"};
    return index < (int)COUNT(names) ? names[index] : NULL;
}

static const option options[] = {
    {.name = "data",
     .kind = OPTION_TEXT,
     .offset = offsetof(eval_options, data),
     .argument = "DATA",
     .required = true,
     .help = "the data set: a YAML description or a built-in generator (digits)"},
    {.name = "count",
     .kind = OPTION_INT,
     .offset = offsetof(eval_options, count),
     .argument = "N",
     .least = 1,
     .most = 1e15,
     .help = "the first N samples only"},
    {.name = "accumulator",
     .kind = OPTION_INT,
     .offset = offsetof(eval_options, accumulator),
     .argument = "BITS",
     .least = 2,
     .most = 32,
     .help = "what would come of accumulators of so many bits: integer layers are emulated, slowly"},
    {.name = "overflow",
     .kind = OPTION_CHOICE,
     .offset = offsetof(eval_options, overflow),
     .choices = overflow_choice,
     .help = "what --accumulator does when a sum passes its bits, at every addition (default wrap)"},
    {.name = "requant",
     .kind = OPTION_CHOICE,
     .offset = offsetof(eval_options, requant),
     .choices = requant_choice,
     .help = "how integer layers come from sums to codes: by a float, or fixed, by an integer multiplier of 31 bits and a "
             "shift, as on chips without floating point (default float)"},
    SHAPE_OPTION(eval_options),
    {0},
};

static espl_arithmetic arithmetic_of(const eval_options *o) {
    return (espl_arithmetic){.accumulator_bits = o->accumulator ? (int)o->accumulator : o->requant ? 32 : 0,
                             .saturate = o->overflow == 1,
                             .fixed = o->requant == 1};
}

/* Emulating nothing would look as if narrow accumulators did no harm. */
static espl_status check_emulation(cli *c, const espl_session *session, int bits) {
    int layers = 0;
    for (int i = 0; bits && i < espl_session_layer_count(session); i++)
        layers += strcmp(espl_session_layer(session, i).format, "s8") == 0;
    if (!bits || layers) return ESPL_OK;
    return fail(c, ESPL_INVALID,
                "%s: has no layer that is computed in integers, so --accumulator and --requant would change nothing; give "
                "a quantized model (espalier compress)", c->operands[0]);
}

static json_t *scores_value(cli *c, const espl_dataset *data, const espl_scores *s, double seconds) {
    json_t *root = json_object();
    put(root, "file", text_value(c->operands[0]));
    put(root, "data", text_value(espl_dataset_describe(data)));
    put(root, "samples", json_integer(s->samples));
    put(root, "top1", s->has_labels ? number_value(s->top1) : json_null());
    put(root, "top5", s->has_labels ? number_value(s->top5) : json_null());
    put(root, "loss", s->has_labels ? number_value(s->loss) : json_null());
    put(root, "perplexity", s->has_perplexity ? number_value(s->perplexity) : json_null());
    put(root, "mse", s->has_mse ? number_value(s->mse) : json_null());
    put(root, "seconds", number_value(seconds));
    return root;
}

static void print_scores(const espl_dataset *data, const espl_scores *s, double seconds) {
    printf("data     %s\n", espl_dataset_describe(data));
    printf("samples  %" PRId64 " in %.2f s\n", s->samples, seconds);
    if (s->has_labels)
        printf("top1     %.2f %%\ntop5     %.2f %%\nloss     %.4f\n", 100 * s->top1, 100 * s->top5, s->loss);
    if (s->has_perplexity) printf("perplexity %.2f of %" PRId64 " tokens\n", s->perplexity, s->tokens);
    if (s->has_mse) printf("mse      %.6g\n", s->mse);
    if (!s->has_labels && !s->has_mse)
        printf("the data set has no labels: there is nothing to compare with\n");
}

static espl_status run(cli *c, const void *given) {
    const eval_options *o = given;
    espl_dataset *data = NULL;
    espl_session *session = NULL;
    espl_scores scores = {0};
    espl_session_options settings = {.arithmetic = arithmetic_of(o)};
    progress_catch_interrupt();
    espl_status status = espl_dataset_open(c->ctx, o->data, &data, &c->diag);
    if (status == ESPL_OK) status = open_session(c, c->operands[0], &o->shapes, data, settings, &session);
    if (status == ESPL_OK) status = check_emulation(c, session, settings.arithmetic.accumulator_bits);
    if (status != ESPL_OK) goto done;
    int64_t count = espl_dataset_count(data);
    if (o->count > count) {
        status = fail(c, ESPL_INVALID, "--count: %" PRId64 " samples are asked for; %s has %" PRId64,
                      o->count, o->data, count);
        goto done;
    }
    espl_evaluation evaluation = {.first = 0,
                                  .step = 1,
                                  .count = o->count ? o->count : -1,
                                  .progress = progress_update,
                                  .user = &c->progress};
    double begin = seconds_now();
    status = espl_evaluate(c->ctx, session, data, &evaluation, &scores, &c->diag);
    double seconds = seconds_now() - begin;
    progress_clear(&c->progress);
    if (status != ESPL_OK) goto done;
    if (c->common.json)
        status = json_print(c, scores_value(c, data, &scores, seconds));
    else
        print_scores(data, &scores, seconds);
done:
    espl_session_destroy(&session);
    espl_dataset_close(&data);
    return status;
}

const command command_eval = {
    .operands = "MODEL",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .size = sizeof(eval_options),
    .run = run,
    .about = "Runs a model (.onnx or .espl) on a data set, one sample at a time, and reports top-1 and top-5 "
             "accuracy and "
             "the mean cross-entropy of its first output where there are labels, and the mean squared error "
             "where its "
             "output has its input's shape (autoencoders). In JSON, top1 and top5 are fractions.\n\n"
             "On a text (kind: text) these are means over all tokens but the first, and the perplexity is told. The model "
             "takes tokens, sequence x 1, and gives scores of every token's successor; an input X with an output X.next is "
             "a state, which begins as zeros and is carried through the text.\n\n"
             "With --accumulator and --requant the integer layers of a quantized model with constant weights are computed "
             "as on a chip of that arithmetic (docs/methods.md), everything else as always.",
    .example = "espalier eval examples/digits.onnx --data digits\n"
               "espalier eval small/model.espl --data digits --accumulator 16 --overflow saturate\n"
               "espalier eval model.espl --data examples/data/cifar10-test.yaml --count 100 --json\n"
               "espalier eval lm.onnx --data examples/data/ptb-test.yaml",
};
