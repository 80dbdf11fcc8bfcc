/* Recipes of training: everything that decides the numbers, from YAML (docs/training.md says what each key
 * means). */
#ifndef ESPL_TRAIN_SETTINGS_H
#define ESPL_TRAIN_SETTINGS_H

#include "espalier/train.h"
#include "train/loss.h"
#include "train/optim.h"
#include "train/schedule.h"

/* As the file has it; absent keys are 0 or NULL. Enumerations are their value + 1. */
typedef struct espl__train_settings {
    char *note;
    int64_t epochs, batch;
    double lr;
    int loss;
    double smoothing, temperature, hard;
    char *teacher;
    int optimizer;
    double momentum;
    bool nesterov;
    double beta1, beta2, epsilon, weight_decay;
    int schedule;
    double *milestones;
    unsigned milestone_count;
    double gamma, lr_min, warmup;
    int64_t patience;
    double clip, ema;
    uint64_t seed;
    char **freeze;
    unsigned freeze_count;
    bool sync_batch_norm;
    int precision;    /* 2: f64 */
    int keep;         /* 2: the best epoch's weights are written, else the last */
    int64_t sequence; /* tokens of a batch's part of the text */
} espl__train_settings;

enum { ESPL__KEEP_BEST = 2, ESPL__PRECISION_F64 = 2 };

extern const espl__bundled espl__train_recipe_bundle[];
/* The keys of a recipe; NULL past the last one. */
const char *espl__train_setting_name(int index);

/* Reads the recipe that the options name and puts over it what they say themselves. Owned by the caller. */
ESPL_NODISCARD espl_status espl__train_settings_read(espl_context *ctx, const espl_train_options *options,
                                                     espl__train_settings **out, espl_diag *diag);
void espl__train_settings_destroy(espl_context *ctx, espl__train_settings **settings);
/* The lines that must be the same for two runs to give the same numbers, as YAML; all but epochs. */
ESPL_NODISCARD espl_status espl__train_settings_text(espl_context *ctx, const espl__train_settings *settings,
                                                     espl__buffer *out, espl_diag *diag);
espl__loss_options espl__train_loss_options(const espl__train_settings *settings);
espl__optim_options espl__train_optim_options(const espl__train_settings *settings);
espl__schedule espl__train_schedule(const espl__train_settings *settings, int64_t epoch_steps);

#endif
