#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/data.h"
#include "files.h"
#include "inputs.h"

typedef struct data_options {
    const char *folder;
    int split; /* of split_choice, -1: none */
    int64_t count;
} data_options;

static const char *split_choice(int index) {
    return index == 0 ? "train" : index == 1 ? "test" : NULL;
}

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(data_options, folder),
     .argument = "DIR",
     .help = "writes images.npy (f32, samples first) and labels.npy (s64) there"},
    {.name = "count",
     .kind = OPTION_INT,
     .offset = offsetof(data_options, count),
     .argument = "N",
     .least = 1,
     .most = 1e15,
     .help = "the first N samples only"},
    {.name = "split",
     .kind = OPTION_CHOICE,
     .offset = offsetof(data_options, split),
     .choices = split_choice,
     .help = "which part, for the bare name of a built-in generator (digits:train is the same)"},
    {0},
};

/* --- writing ----------------------------------------------------------------------------------------- */

/* All samples of one array, the samples' number first. */
static espl_status read_samples(cli *c, espl_dataset *data, int input, int64_t count, espl_tensor *out) {
    espl_shape sample = espl_dataset_shape(data, input), shape = {.rank = sample.rank + 1};
    if (shape.rank > ESPL_MAX_RANK)
        return fail(c, ESPL_UNSUPPORTED, "%s: samples of rank %d have no room for one dimension more",
                    c->operands[0], sample.rank);
    shape.dim[0] = count;
    memcpy(shape.dim + 1, sample.dim, sizeof *sample.dim * (size_t)sample.rank);
    espl_status status = espl_tensor_alloc(c->ctx, ESPL_F32, &shape, out, &c->diag);
    int64_t size = espl_shape_count(&sample);
    for (int64_t i = 0; status == ESPL_OK && i < count; i++) {
        status = espl_dataset_read(data, input, i, (float *)out->data + i * size, &c->diag);
        if (status == ESPL_OK && !progress_update(&c->progress, "reading samples", i + 1, count))
            status = ESPL_CANCELLED;
    }
    return status;
}

static espl_status write_array(cli *c, const output_folder *folder, const char *name,
                               const espl_tensor *array) {
    char *file = output_path(folder, name);
    espl_status status = file ? espl_npy_write(c->ctx, file, array, &c->diag) : nomem(c);
    free(file);
    return status;
}

/* Of a text every token of a sample has a label, the token behind it: samples x sequence. */
static espl_status write_targets(cli *c, const espl_dataset *data, const output_folder *folder,
                                 int64_t count) {
    int64_t tokens, sequence = espl_dataset_shape(data, 0).dim[0];
    const int32_t *stream = espl_dataset_tokens(data, &tokens);
    espl_tensor targets = {0};
    espl_shape shape = {2, {count, sequence}};
    espl_status status = espl_tensor_alloc(c->ctx, ESPL_S64, &shape, &targets, &c->diag);
    for (int64_t i = 0; status == ESPL_OK && i < count * sequence; i++)
        ((int64_t *)targets.data)[i] = stream[i + 1];
    if (status == ESPL_OK) status = write_array(c, folder, "labels.npy", &targets);
    if (targets.data) espl_tensor_free(c->ctx, &targets);
    return status;
}

static espl_status write_labels(cli *c, espl_dataset *data, const output_folder *folder, int64_t count) {
    espl_tensor labels = {0};
    espl_shape shape = {1, {count}};
    espl_status status = espl_tensor_alloc(c->ctx, ESPL_S64, &shape, &labels, &c->diag);
    for (int64_t i = 0; status == ESPL_OK && i < count; i++)
        status = espl_dataset_label(data, i, (int64_t *)labels.data + i, &c->diag);
    if (status == ESPL_OK) status = write_array(c, folder, "labels.npy", &labels);
    if (labels.data) espl_tensor_free(c->ctx, &labels);
    return status;
}

/* images.npy, and images_1.npy, ... for further arrays. */
static espl_status write_data(cli *c, espl_dataset *data, const char *path, int64_t count) {
    output_folder folder;
    espl_status status = output_begin(c, path, &folder);
    for (int i = 0; status == ESPL_OK && i < espl_dataset_inputs(data); i++) {
        char name[32] = "images.npy";
        espl_tensor samples = {0};
        if (i > 0) snprintf(name, sizeof name, "images_%d.npy", i);
        status = read_samples(c, data, i, count, &samples);
        if (status == ESPL_OK) status = write_array(c, &folder, name, &samples);
        if (samples.data) espl_tensor_free(c->ctx, &samples);
    }
    if (status == ESPL_OK && espl_dataset_has_labels(data)) status = write_labels(c, data, &folder, count);
    if (status == ESPL_OK && espl_dataset_vocabulary(data)) status = write_targets(c, data, &folder, count);
    if (status == ESPL_OK) status = output_commit(c, &folder);
    output_end(&folder);
    progress_clear(&c->progress);
    return status;
}

/* --- summary ----------------------------------------------------------------------------------------- */

enum { MOST_CLASSES = 4096, LOOKED_AT = 256 };

/* Of the first samples and of all labels. */
typedef struct summary {
    double least, most, mean, deviation;
    int64_t looked_at, classes[MOST_CLASSES], other_labels;
    int64_t class_count;
} summary;

static espl_status look(cli *c, espl_dataset *data, int64_t count, summary *s) {
    espl_shape shape = espl_dataset_shape(data, 0);
    int64_t size = espl_shape_count(&shape);
    double sum = 0, squares = 0;
    float *sample = malloc(sizeof *sample * (size_t)(size + 1));
    if (!sample) return nomem(c);
    espl_status status = ESPL_OK;
    s->looked_at = count < LOOKED_AT ? count : LOOKED_AT;
    for (int64_t i = 0; status == ESPL_OK && i < s->looked_at; i++) {
        status = espl_dataset_read(data, 0, i, sample, &c->diag);
        for (int64_t k = 0; status == ESPL_OK && k < size; k++) {
            double x = (double)sample[k];
            if ((i == 0 && k == 0) || x < s->least) s->least = x;
            if ((i == 0 && k == 0) || x > s->most) s->most = x;
            sum += x;
            squares += x * x;
        }
    }
    double n = (double)s->looked_at * (double)size;
    s->mean = n > 0 ? sum / n : 0;
    double variance = n > 0 ? squares / n - s->mean * s->mean : 0;
    s->deviation = variance > 0 ? sqrt(variance) : 0;
    free(sample);
    for (int64_t i = 0; status == ESPL_OK && espl_dataset_has_labels(data) && i < count; i++) {
        int64_t label;
        status = espl_dataset_label(data, i, &label, &c->diag);
        if (status != ESPL_OK) break;
        if (label < 0 || label >= MOST_CLASSES)
            s->other_labels++;
        else if (s->classes[label]++ == 0)
            s->class_count++;
    }
    return status;
}

static json_t *summary_value(const espl_dataset *data, int64_t count, const summary *s) {
    json_t *root = json_object(), *arrays = json_array(), *classes = json_object();
    for (int i = 0; i < espl_dataset_inputs(data); i++) {
        espl_shape shape = espl_dataset_shape(data, i);
        push(arrays, array_value(espl_dataset_input_name(data, i), ESPL_F32, &shape));
    }
    for (int i = 0; i < MOST_CLASSES; i++) {
        char name[24];
        snprintf(name, sizeof name, "%d", i);
        if (s->classes[i]) put(classes, name, json_integer(s->classes[i]));
    }
    put(root, "data", text_value(espl_dataset_describe(data)));
    put(root, "samples", json_integer(count));
    put(root, "arrays", arrays);
    put(root, "labels", json_boolean(espl_dataset_has_labels(data)));
    put(root, "classes", classes);
    put(root, "min", number_value(s->least));
    put(root, "max", number_value(s->most));
    put(root, "mean", number_value(s->mean));
    put(root, "std", number_value(s->deviation));
    return root;
}

static void print_summary(const espl_dataset *data, int64_t count, const summary *s) {
    printf("data     %s\nsamples  %" PRId64 "\n", espl_dataset_describe(data), count);
    printf("values   %.4g to %.4g, mean %.4g, standard deviation %.4g (first %" PRId64 " samples)\n",
           s->least, s->most, s->mean, s->deviation, s->looked_at);
    if (!espl_dataset_has_labels(data)) {
        printf("labels   %s\n", espl_dataset_vocabulary(data) ? "the token behind each" : "none");
        return;
    }
    int64_t least = 0, most = 0;
    for (int i = 0; i < MOST_CLASSES; i++) {
        if (s->classes[i] && (least == 0 || s->classes[i] < least)) least = s->classes[i];
        if (s->classes[i] > most) most = s->classes[i];
    }
    printf("labels   %" PRId64 " classes of %" PRId64 " to %" PRId64 " samples\n", s->class_count, least,
           most);
    if (s->other_labels)
        printf("         and %" PRId64 " labels outside 0 to %d\n", s->other_labels, MOST_CLASSES - 1);
}

static espl_status open_data(cli *c, const data_options *o, espl_dataset **out) {
    const char *spec = c->operands[0];
    char split[512];
    if (o->split >= 0) {
        const char *part = split_choice(o->split);
        if (strchr(spec, '/') || strchr(spec, '.') || strchr(spec, ':'))
            return usage_fail(c, "--split: goes with the bare name of a generator; in a file, write split: %s",
                              part);
        int n = snprintf(split, sizeof split, "%s:%s", spec, part);
        if (n < 0 || (size_t)n >= sizeof split) return usage_fail(c, "%.64s...: no such generator", spec);
        spec = split;
    }
    return espl_dataset_open(c->ctx, spec, out, &c->diag);
}

static espl_status run(cli *c, const void *given) {
    const data_options *o = given;
    espl_dataset *data = NULL;
    summary *s = calloc(1, sizeof *s);
    if (!s) return nomem(c);
    progress_catch_interrupt();
    espl_status status = open_data(c, o, &data);
    int64_t count = data ? espl_dataset_count(data) : 0;
    if (status == ESPL_OK && o->count > count)
        status = fail(c, ESPL_INVALID, "--count: %" PRId64 " samples are asked for; there are %" PRId64,
                      o->count, count);
    if (o->count) count = o->count;
    if (status == ESPL_OK && o->folder) status = write_data(c, data, o->folder, count);
    if (status == ESPL_OK) status = look(c, data, count, s);
    if (status == ESPL_OK && c->common.json)
        status = json_print(c, summary_value(data, count, s));
    else if (status == ESPL_OK)
        print_summary(data, count, s);
    free(s);
    espl_dataset_close(&data);
    return status;
}

const command command_data = {
    .operands = "DATA",
    .least_operands = 1,
    .most_operands = 1,
    .options = options,
    .defaults = &(const data_options){.split = -1},
    .size = sizeof(data_options),
    .run = run,
    .about = "Opens a data set and says what is in it: samples, shapes, range of the values, classes. With "
             "-o it writes "
             "the samples, as a network would get them, and the labels as NumPy arrays. DATA is a YAML "
             "description "
             "(docs/data.md) or the built-in generator, digits.",
    .example = "espalier data digits\nespalier data digits --split train --count 100 -o arrays",
};
