#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/train.h"
#include "espalier/zoo.h"
#include "cli.h"
#include "files.h"
#include "text.h"

typedef struct train_options {
    const char *data, *eval, *recipe, *output, *log;
    int64_t epochs, batch, seed, steps;
    double lr, seconds;
    int precision;
    bool resume, restart, recompute;
} train_options;

static const train_options defaults = {.seed = -1};

static const char *precision_choice(int index) {
    static const char *const names[] = {"f32", "f64"};
    return index < (int)COUNT(names) ? names[index] : NULL;
}

static const option options[] = {
    {.name = "data",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_options, data),
     .argument = "DATA",
     .required = true,
     .help = "what to train on: a YAML description (docs/data.md) or digits:train"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(train_options, output),
     .argument = "FILE",
     .required = true,
     .help = "the ONNX file to write; checkpoints are in the folder FILE.ckpt"},
    {.name = "eval",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_options, eval),
     .argument = "DATA",
     .help = "what to measure on after each epoch"},
    {.name = "recipe",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_options, recipe),
     .argument = "NAME|FILE",
     .choices = espl_train_recipe_at,
     .help = "how to train: a ready recipe or a file (docs/training.md); default: the network's own, else "
             "default"},
    {.name = "epochs",
     .kind = OPTION_INT,
     .offset = offsetof(train_options, epochs),
     .argument = "N",
     .least = 1,
     .most = 1e6,
     .help = "how often to go through the data, instead of what the recipe says"},
    {.name = "batch",
     .kind = OPTION_INT,
     .offset = offsetof(train_options, batch),
     .argument = "N",
     .least = 1,
     .most = 1 << 24,
     .help = "samples of a step, or columns of a text, instead of what the recipe says"},
    {.name = "lr",
     .kind = OPTION_NUMBER,
     .offset = offsetof(train_options, lr),
     .argument = "RATE",
     .least = 1e-30,
     .most = 1e6,
     .help = "the learning rate, instead of what the recipe says"},
    {.name = "seed",
     .kind = OPTION_INT,
     .offset = offsetof(train_options, seed),
     .argument = "N",
     .least = 0,
     .most = 9e15,
     .help = "of the data's order, augmentation, dropout, and the weights of a network of the zoo"},
    {.name = "precision",
     .kind = OPTION_CHOICE,
     .offset = offsetof(train_options, precision),
     .choices = precision_choice,
     .help = "of the arithmetic; f64 is for checks"},
    {.name = "log",
     .kind = OPTION_TEXT,
     .offset = offsetof(train_options, log),
     .argument = "FILE",
     .help = "writes a line of JSON for each step and each epoch; espalier plot draws it"},
    {.name = "resume",
     .kind = OPTION_FLAG,
     .offset = offsetof(train_options, resume),
     .help = "goes on at the last checkpoint; without one begins anew"},
    {.name = "restart",
     .kind = OPTION_FLAG,
     .offset = offsetof(train_options, restart),
     .help = "begins anew even where a checkpoint of unfinished training is"},
    {.name = "checkpoint-every",
     .kind = OPTION_NUMBER,
     .offset = offsetof(train_options, seconds),
     .argument = "SECONDS",
     .least = 0.001,
     .most = 1e9,
     .help = "time between checkpoints within an epoch (default 300)"},
    {.name = "checkpoint-steps",
     .kind = OPTION_INT,
     .offset = offsetof(train_options, steps),
     .argument = "N",
     .least = 1,
     .most = 1e15,
     .help = "a checkpoint after so many steps, instead of after some time"},
    {.name = "recompute",
     .kind = OPTION_FLAG,
     .offset = offsetof(train_options, recompute),
     .help = "keeps a part of the activations and computes the others twice: less memory, a third more time"},
    {0},
};

/* What one call holds. */
typedef struct job {
    cli *c;
    espl_graph *graph;
    espl_dataset *data, *eval;
} job;

/* --- the network ---------------------------------------------------------------------------------------- */

/* A network of the zoo takes the shape and the vocabulary of the data. */
static espl_status build(job *j, const espl_zoo_network *network, int64_t seed) {
    espl_zoo_options o = {.seed = seed < 0 ? 1 : (uint64_t)seed};
    espl_shape sample = espl_dataset_shape(j->data, 0);
    if ((network->options & ESPL_ZOO_INPUT) && sample.rank == 3) o.input = sample;
    if (network->options & ESPL_ZOO_VOCABULARY) o.vocabulary = espl_dataset_vocabulary(j->data);
    return espl_zoo_build(j->c->ctx, network->name, &o, &j->graph, &j->c->diag);
}

static espl_status open_all(job *j, const train_options *o) {
    cli *c = j->c;
    const char *model = c->operands[0];
    const bool file = access(model, F_OK) == 0 || strpbrk(model, "./");
    const espl_zoo_network *network = file ? NULL : espl_zoo_find(model);
    if (o->resume && o->restart) return usage_fail(c, "--resume and --restart exclude each other");
    espl_status status = check_ending(c, "--output", o->output, ".onnx");
    if (status == ESPL_OK) status = check_place(c, o->output, "");
    if (status == ESPL_OK && o->log) status = check_place(c, o->log, "");
    if (status == ESPL_OK && file) status = espl_train_read(c->ctx, model, &j->graph, &c->diag);
    if (status == ESPL_OK && !file && !network)
        status = espl_zoo_build(c->ctx, model, NULL, &j->graph, &c->diag); /* which says what there is */
    if (status == ESPL_OK) status = espl_dataset_open(c->ctx, o->data, &j->data, &c->diag);
    if (status == ESPL_OK && o->eval) status = espl_dataset_open(c->ctx, o->eval, &j->eval, &c->diag);
    if (status == ESPL_OK && network) status = build(j, network, o->seed);
    return status;
}

/* The recipe of that name, if there is one. */
static const char *own_recipe(const char *model) {
    const char *name;
    for (int i = 0; (name = espl_train_recipe_at(i)); i++)
        if (strcmp(name, model) == 0) return name;
    return NULL;
}

/* --- progress ------------------------------------------------------------------------------------------- */

/* "loss 0.1234, top-1 97.12 %"; of tokens the perplexity. */
static cell scores(double loss, double top1, bool tokens) {
    if (tokens) return cell_format("loss %.4f, perplexity %.2f", loss, exp(loss));
    return isnan(top1) ? cell_format("loss %.4g", loss)
                       : cell_format("loss %.4f, top-1 %.2f %%", loss, 100 * top1);
}

static void show_epoch(cli *c, const espl_train_progress *p) {
    char eval[80] = "";
    if (p->has_eval)
        snprintf(eval, sizeof eval, "; eval: %s", scores(p->eval_loss, p->eval_top1, p->tokens).text);
    note(c, "epoch %" PRId64 " of %" PRId64 ": %s%s (%.0f %s/s)", p->epoch, p->epochs,
         scores(p->loss, p->top1, p->tokens).text, eval, p->samples_per_s, p->tokens ? "tokens" : "samples");
}

static bool watch(void *user, const espl_train_progress *p) {
    cli *c = user;
    char line[200], left[24] = "";
    if (p->rank == 0 && p->event == ESPL_TRAIN_EPOCH) {
        show_epoch(c, p);
    } else if (p->rank == 0) {
        progress_clock(p->seconds_left, left, sizeof left);
        snprintf(line, sizeof line,
                 "epoch %" PRId64 " of %" PRId64 ", %s %" PRId64 " of %" PRId64 ": %s, %.0f %s/s, %s left",
                 p->epoch + (p->event == ESPL_TRAIN_STEP), p->epochs,
                 p->event == ESPL_TRAIN_STEP ? "step" : "evaluation", p->step, p->steps,
                 scores(p->loss, p->top1, p->tokens).text, p->samples_per_s, p->tokens ? "tokens" : "samples",
                 left);
        progress_line(&c->progress, line);
    }
    return !progress_interrupted();
}

/* --- the result -------------------------------------------------------------------------------------- */

static json_t *result_value(const cli *c, const train_options *o, const espl_train_result *r) {
    json_t *root = json_object();
    put(root, "file", text_value(o->output));
    put(root, "model", text_value(c->operands[0]));
    put(root, "parameters", json_integer(r->parameters));
    put(root, "epochs", json_integer(r->epochs));
    put(root, "steps", json_integer(r->steps));
    put(root, "resumed_step", r->resumed_step < 0 ? json_null() : json_integer(r->resumed_step));
    put(root, "loss", number_value(r->loss));
    put(root, "top1", number_value(r->top1));
    put(root, "eval_loss", r->has_eval ? number_value(r->eval_loss) : json_null());
    put(root, "eval_top1", r->has_eval ? number_value(r->eval_top1) : json_null());
    put(root, "perplexity",
        r->tokens ? number_value(exp(r->has_eval ? r->eval_loss : r->loss)) : json_null());
    put(root, "best_epoch", json_integer(r->best_epoch));
    put(root, "best_loss", number_value(r->best_loss));
    put(root, "best_top1", number_value(r->best_top1));
    put(root, "ranks", json_integer(r->ranks));
    put(root, "threads", json_integer(espl_context_threads(c->ctx)));
    put(root, "memory_bytes", json_integer((json_int_t)r->bytes));
    put(root, "samples_per_s", number_value(r->samples_per_s));
    put(root, "seconds", number_value(r->seconds));
    return root;
}

static void print_result(const train_options *o, const espl_train_result *r) {
    printf("%s: %s parameters, %" PRId64 " epochs, %" PRId64 " steps\n", o->output,
           cell_count(r->parameters, false).text, r->epochs, r->steps);
    printf("training   %s\n", scores(r->loss, r->top1, r->tokens).text);
    if (r->has_eval) printf("eval       %s\n", scores(r->eval_loss, r->eval_top1, r->tokens).text);
    if (r->has_eval && r->best_epoch != r->epochs)
        printf("best       %s (epoch %" PRId64 ")\n", scores(r->best_loss, r->best_top1, r->tokens).text,
               r->best_epoch);
    if (r->samples_per_s > 0)
        printf("speed      %.0f %s/s, %s of memory\n", r->samples_per_s, r->tokens ? "tokens" : "samples",
               cell_bytes(r->bytes).text);
}

static espl_status run(cli *c, const void *given) {
    const train_options *o = given;
    job j = {.c = c};
    espl_train_result result;
    uint64_t seed = o->seed < 0 ? 0 : (uint64_t)o->seed;
    progress_catch_interrupt();
    espl_status status = open_all(&j, o);
    espl_train_options settings = {.data = j.data,
                                   .eval = j.eval,
                                   .recipe = o->recipe ? o->recipe : own_recipe(c->operands[0]),
                                   .output = o->output,
                                   .log = o->log,
                                   .epochs = o->epochs,
                                   .batch = o->batch,
                                   .lr = o->lr,
                                   .seed = o->seed < 0 ? NULL : &seed,
                                   .f64 = o->precision == 1,
                                   .recompute = o->recompute,
                                   .resume = o->resume,
                                   .restart = o->restart,
                                   .every_seconds = o->seconds,
                                   .every_steps = o->steps,
                                   .watch = watch,
                                   .user = c};
    if (status == ESPL_OK) {
        status = espl_train(c->ctx, j.graph, &settings, &result, &c->diag);
        progress_clear(&c->progress);
        c->kept = status == ESPL_CANCELLED;
        if (c->kept && result.rank > 0) c->diag.message[0] = 0;
    }
    if (status == ESPL_OK && result.rank == 0) {
        if (c->common.json)
            status = json_print(c, result_value(c, o, &result));
        else
            print_result(o, &result);
    }
    espl_graph_destroy(&j.graph);
    espl_dataset_close(&j.eval);
    espl_dataset_close(&j.data);
    return status;
}

const command command_train = {
    .operands = "MODEL|NETWORK",
    .words = network_word,
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &defaults,
    .size = sizeof(train_options),
    .run = run,
    .about = "Trains a model (.onnx), or a new network of the zoo (espalier new lists them), and writes it "
             "as ONNX. "
             "What decides the result is the recipe: epochs, batch, rate, optimiser, schedule, loss. "
             "docs/training.md lists "
             "its keys; the networks of the zoo bring recipes of their own.\n\n"
             "Checkpoints are in the folder FILE.ckpt: last.ckpt after each epoch and every five minutes, "
             "best.ckpt after the "
             "epoch of the least loss. They appear whole or not at all. --resume goes on at the last one, "
             "and with the same "
             "threads ends with the same weights to the bit. Ctrl-C, SIGTERM and SIGHUP finish the step and save (exit "
             "code 130, 143 or 129); "
             "a second one ends at once. A loss that is no number stops training, and the layer where it "
             "began is named.\n\n"
             "Under mpirun the processes share each batch, and the first one writes (if the program was "
             "built with MPI).",
    .example =
        "espalier train lenet5 --data digits:train --eval digits -o digits.onnx\n"
        "espalier train lenet5 --data examples/data/mnist-train.yaml --eval examples/data/mnist-test.yaml -o "
        "lenet5.onnx\n"
        "espalier train model.onnx --data train.yaml --eval test.yaml --epochs 5 --lr 0.001 --log l.jsonl -o tuned.onnx\n"
        "espalier train resnet20 --data examples/data/cifar10-jpeg-train.yaml -o resnet20.onnx --resume",
};
