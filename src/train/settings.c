#include "train/settings.h"

#include <stdio.h>

#include "yaml/yaml.h"

static const cyaml_strval_t loss_names[] = {
#define X(NAME, name, text) {name, ESPL__LOSS_##NAME + 1},
    ESPL__LOSS_LIST(X)
#undef X
};
static const cyaml_strval_t optim_names[] = {
#define X(NAME, name, vectors, text) {name, ESPL__OPTIM_##NAME + 1},
    ESPL__OPTIM_LIST(X)
#undef X
};
static const cyaml_strval_t schedule_names[] = {
#define X(NAME, name, text) {name, ESPL__SCHEDULE_##NAME + 1},
    ESPL__SCHEDULE_LIST(X)
#undef X
};
static const cyaml_strval_t precision_names[] = {{"f32", 1}, {"f64", ESPL__PRECISION_F64}};
static const cyaml_strval_t keep_names[] = {{"last", 1}, {"best", ESPL__KEEP_BEST}};

static const cyaml_schema_value_t number_entry = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};
static const cyaml_schema_value_t pattern_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 1000)};

#define S espl__train_settings
#define OPTIONAL CYAML_FLAG_OPTIONAL
#define NUMBER(key) CYAML_FIELD_FLOAT(#key, OPTIONAL, S, key)
#define ENUM(key, list) CYAML_FIELD_ENUM(#key, OPTIONAL, S, key, list, ESPL_COUNT(list))
#define TEXT(key) CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER | OPTIONAL, S, key, 1, 4000)

static const cyaml_schema_field_t fields[] = {
    TEXT(note),
    CYAML_FIELD_INT("epochs", CYAML_FLAG_DEFAULT, S, epochs),
    CYAML_FIELD_INT("batch", CYAML_FLAG_DEFAULT, S, batch),
    CYAML_FIELD_FLOAT("lr", CYAML_FLAG_DEFAULT, S, lr),
    ENUM(loss, loss_names),
    NUMBER(smoothing),
    TEXT(teacher),
    NUMBER(temperature),
    NUMBER(hard),
    ENUM(optimizer, optim_names),
    NUMBER(momentum),
    CYAML_FIELD_BOOL("nesterov", OPTIONAL, S, nesterov),
    NUMBER(beta1),
    NUMBER(beta2),
    NUMBER(epsilon),
    NUMBER(weight_decay),
    ENUM(schedule, schedule_names),
    CYAML_FIELD_SEQUENCE_COUNT("milestones", CYAML_FLAG_POINTER | OPTIONAL | CYAML_FLAG_FLOW, S, milestones,
                               milestone_count, &number_entry, 0, 4096),
    NUMBER(gamma),
    CYAML_FIELD_INT("patience", OPTIONAL, S, patience),
    NUMBER(lr_min),
    NUMBER(warmup),
    NUMBER(clip),
    NUMBER(ema),
    CYAML_FIELD_UINT("seed", OPTIONAL, S, seed),
    CYAML_FIELD_SEQUENCE_COUNT("freeze", CYAML_FLAG_POINTER | OPTIONAL | CYAML_FLAG_FLOW, S, freeze,
                               freeze_count, &pattern_entry, 0, 4096),
    CYAML_FIELD_BOOL("sync_batch_norm", OPTIONAL, S, sync_batch_norm),
    ENUM(precision, precision_names),
    ENUM(keep, keep_names),
    CYAML_FIELD_INT("sequence", OPTIONAL, S, sequence),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, S, fields)};

const char *espl_train_recipe_at(int index) {
    for (int i = 0; i < index; i++)
        if (!espl__train_recipe_bundle[i].name) return NULL;
    return espl__train_recipe_bundle[index].name;
}

const char *espl__train_setting_name(int index) {
    return (size_t)index < ESPL_COUNT(fields) ? fields[index].key : NULL;
}

/* --- checks --------------------------------------------------------------------------------------- */

/* X(key, least, most): of numbers. */
#define RANGE_LIST(X)                                                                                       \
    X(epochs, 1, 1000000)                                                                                   \
    X(batch, 1, 16777216)                                                                                   \
    X(lr, 1e-30, 1e6) X(smoothing, 0, 1) X(temperature, 0, 1e6) X(hard, 0, 1) X(momentum, 0, 0.99999)       \
        X(beta1, 0, 0.99999) X(beta2, 0, 0.9999999) X(epsilon, 0, 1) X(weight_decay, 0, 1e3) X(gamma, 0, 1) \
            X(patience, 0, 1000000) X(lr_min, 0, 1e6) X(warmup, 0, 1e6) X(clip, 0, 1e30)                    \
                X(ema, 0, 0.9999999) X(sequence, 0, 65536)

typedef struct source {
    const char *label, *text;
    size_t length;
} source;

static espl_status complain(const source *f, const char *key, espl_diag *diag, const char *sentence) {
    return espl__fail(diag, ESPL_INVALID, "%.300s:%u: %s: %s", f->label,
                      espl__yaml_line(f->text, f->length, key), key, sentence);
}

static espl_status check(const S *s, const source *f, espl_diag *diag) {
    char sentence[128];
#define X(key, least, most)                                                                           \
    if (!((double)s->key >= (double)(least) && (double)s->key <= (double)(most))) {                   \
        snprintf(sentence, sizeof sentence, "%g is not in %g to %g", (double)s->key, (double)(least), \
                 (double)(most));                                                                     \
        return complain(f, #key, diag, sentence);                                                     \
    }
    RANGE_LIST(X)
#undef X
    if (s->schedule == ESPL__SCHEDULE_STEP + 1 && !s->milestone_count)
        return complain(f, "schedule", diag,
                        "step needs milestones: epochs at which the rate is multiplied by gamma");
    bool distils = s->loss == ESPL__LOSS_DISTILLATION + 1;
    if (distils != (s->teacher != NULL))
        return complain(f, distils ? "loss" : "teacher", diag,
                        distils ? "distillation needs a teacher: the path of a model"
                                : "is for loss: distillation");
    if (s->nesterov && (s->momentum == 0 || s->optimizer > ESPL__OPTIM_SGD + 1))
        return complain(f, "nesterov", diag, "is for sgd with momentum");
    return ESPL_OK;
}

/* --- reading ---------------------------------------------------------------------------------------- */

static void override(S *s, const espl_train_options *o) {
    if (o->epochs) s->epochs = o->epochs;
    if (o->batch) s->batch = o->batch;
    if (o->lr > 0) s->lr = o->lr;
    if (o->seed) s->seed = *o->seed;
    if (o->f64) s->precision = ESPL__PRECISION_F64;
}

/* What stands for an absent key. */
static void complete(S *s) {
    if (!s->loss) s->loss = ESPL__LOSS_CROSS_ENTROPY + 1;
    if (!s->optimizer) s->optimizer = ESPL__OPTIM_SGD + 1;
    if (!s->schedule) s->schedule = ESPL__SCHEDULE_CONSTANT + 1;
    if (s->beta1 == 0) s->beta1 = 0.9;
    if (s->beta2 == 0) s->beta2 = 0.999;
    if (s->epsilon == 0) s->epsilon = 1e-8;
    if (s->gamma == 0) s->gamma = 0.1;
    if (s->temperature == 0) s->temperature = 1;
}

static espl_status parse(espl_context *ctx, const source *f, const espl_train_options *o, S **out,
                         espl_diag *diag) {
    void *data = NULL;
    espl_status status = espl__yaml_parse(ctx, f->label, f->text, f->length, &schema, &data, diag);
    if (status == ESPL_OK) {
        override(data, o);
        status = check(data, f, diag);
    }
    if (status == ESPL_OK) {
        complete(data);
        *out = data;
    } else {
        espl__yaml_free(ctx, &schema, data);
    }
    return status;
}

espl_status espl__train_settings_read(espl_context *ctx, const espl_train_options *o, S **out,
                                      espl_diag *diag) {
    const char *path = o->recipe ? o->recipe : "default";
    const espl__bundled *ready = espl__bundled_find(espl__train_recipe_bundle, path);
    uint8_t *text = NULL;
    uint64_t length = 0;
    char known[512];
    *out = NULL;
    if (ready) return parse(ctx, &(source){path, ready->text, ready->length}, o, out, diag);
    if (!strpbrk(path, "/."))
        return espl__fail(
            diag, ESPL_IO,
            "there is no recipe of training '%.80s'; ready ones are %s; or give the path of a .yaml file",
            path, espl__bundled_names(espl__train_recipe_bundle, known, sizeof known));
    espl_status status = espl__file_read(ctx, path, ESPL__YAML_MAX, &text, &length, diag);
    if (status == ESPL_OK)
        status = parse(ctx, &(source){path, (const char *)text, (size_t)length}, o, out, diag);
    espl__free(ctx, text);
    return status;
}

void espl__train_settings_destroy(espl_context *ctx, S **settings) {
    espl__yaml_free(ctx, &schema, *settings);
    *settings = NULL;
}

espl_status espl__train_settings_text(espl_context *ctx, const S *settings, espl__buffer *out,
                                      espl_diag *diag) {
    S same = *settings;
    same.note = NULL;
    same.epochs = 0;
    same.keep = 0;
    return espl__yaml_emit(ctx, &schema, &same, out, diag);
}

/* --- as the parts of training take it ------------------------------------------------------------------- */

espl__loss_options espl__train_loss_options(const S *s) {
    return (espl__loss_options){.kind = (espl__loss_kind)(s->loss - 1),
                                .smoothing = s->smoothing,
                                .temperature = s->temperature,
                                .hard = s->hard};
}

espl__optim_options espl__train_optim_options(const S *s) {
    return (espl__optim_options){.kind = (espl__optim_kind)(s->optimizer - 1),
                                 .momentum = s->momentum,
                                 .nesterov = s->nesterov,
                                 .beta1 = s->beta1,
                                 .beta2 = s->beta2,
                                 .epsilon = s->epsilon,
                                 .weight_decay = s->weight_decay,
                                 .ema = s->ema};
}

espl__schedule espl__train_schedule(const S *s, int64_t epoch_steps) {
    espl__schedule schedule = {.kind = (espl__schedule_kind)(s->schedule - 1),
                               .rate = s->lr,
                               .least = s->lr_min,
                               .gamma = s->gamma,
                               .warmup = s->warmup,
                               .milestones = s->milestones,
                               .milestone_count = s->milestone_count,
                               .patience = s->patience,
                               .epochs = s->epochs,
                               .epoch_steps = epoch_steps};
    espl__schedule_begin(&schedule);
    return schedule;
}
