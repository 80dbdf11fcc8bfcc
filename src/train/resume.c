/* Where checkpoints lie, what is in them, and going on from one. */
#include "train/trainer.h"

#include "base/output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char *path_of(espl_context *ctx, const char *output, const char *name) {
    espl__buffer b;
    espl__buffer_init(&b, ctx);
    espl__buffer_printf(&b, "%s.ckpt%s", output, name);
    return b.data; /* NULL if that failed */
}

/* A number of the network's structure and of the settings' part that is not text. */
static int64_t fingerprint(const espl_graph *g) {
    uint64_t h = 0;
    for (int i = 0; i < g->node_count; i++)
        for (const char *c = g->nodes[i]->op->name; *c; c++) h = espl__mix64(h ^ (uint64_t)(unsigned char)*c);
    for (int i = 0; i < g->value_count; i++) {
        const espl_tensor *t = g->values[i]->constant;
        for (int d = 0; t && d < t->shape.rank; d++) h = espl__mix64(h ^ (uint64_t)t->shape.dim[d]);
    }
    return (int64_t)(h >> 1);
}

/* The folder of checkpoints, for this process alone. Ranks write through the first one. */
static espl_status take_folder(espl__trainer *t, const char *folder, espl_diag *diag) {
    int fd, result;
    bool taken;
    do {
        result = mkdir(folder, 0777);
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EEXIST) return espl__io_fail(diag, folder, "cannot be created");
    if (espl__ranks_own(t->ranks) != 0) return ESPL_OK;
    espl_status status = espl__folder_take(folder, &fd, &taken, diag);
    if (status != ESPL_OK) return status;
    if (!taken)
        return espl__fail(diag, ESPL_IO,
                          "%s: another training writes there; wait for its end, or give another output",
                          folder);
    t->folder_lock = fd + 1;
    espl__sweep(t->ctx, t->last); /* what a killed process was writing */
    espl__sweep(t->ctx, t->best);
    return ESPL_OK;
}

/* A checkpoint of training that did not end must not be lost to a forgotten --resume. */
static espl_status check_way(espl__trainer *t, espl_diag *diag) {
    struct stat st;
    espl__checkpoint c;
    if (t->o->resume || t->o->restart || stat(t->last, &st) != 0) return ESPL_OK;
    espl_status status = espl__checkpoint_read(t->ctx, &c, t->last, NULL);
    bool finished = status == ESPL_OK && c.finished;
    int64_t total = status == ESPL_OK ? c.total : 0;
    espl__checkpoint_free(t->ctx, &c);
    if (finished) return ESPL_OK;
    return espl__fail(diag, ESPL_INVALID,
                      "%s: is a checkpoint of training that did not end (step %" PRId64
                      "); go on from it with --resume, or begin anew with --restart",
                      t->last, total);
}

espl_status espl__trainer_prepare(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ESPL_TRY(espl__train_settings_text(t->ctx, t->s, &t->text, diag));
    espl__buffer_printf(&t->text, "data: %s\n", espl_dataset_describe(t->o->data));
    if (t->o->eval) espl__buffer_printf(&t->text, "eval: %s\n", espl_dataset_describe(t->o->eval));
    if (t->text.failed) return espl__nomem(diag, t->text.length);
    if (!t->o->output) return ESPL_OK;
    t->folder = path_of(t->ctx, t->o->output, "");
    t->last = path_of(t->ctx, t->o->output, "/last.ckpt");
    t->best = path_of(t->ctx, t->o->output, "/best.ckpt");
    if (!t->folder || !t->last || !t->best) return espl__nomem(diag, strlen(t->o->output));
    ESPL_TRY(take_folder(t, t->folder, diag));
    status = check_way(t, diag);
done:
    return status;
}

void espl__trainer_leave_folder(espl__trainer *t) {
    if (t->folder_lock) {
        (void)rmdir(t->folder); /* if nothing came into it */
        close(t->folder_lock - 1);
    }
    t->folder_lock = 0;
    espl__free(t->ctx, t->folder);
    espl__free(t->ctx, t->last);
    espl__free(t->ctx, t->best);
    t->folder = t->last = t->best = NULL;
}

/* --- what is in one ----------------------------------------------------------------------------------- */

/* The vectors, in memory: the same when writing and reading. */
static void add_parts(const espl__trainer *t, espl__checkpoint *c) {
    int64_t count;
    uint64_t size = espl_dtype_bytes(t->real);
    void *statistics = espl__engine_statistics(t->engine, &count);
    espl__checkpoint_add(c, statistics, (uint64_t)count * size);
    void *weights = espl__engine_weights(t->engine, &count);
    espl__checkpoint_add(c, weights, (uint64_t)count * size);
    for (int i = 0; espl__optim_vector(t->optim, i); i++)
        espl__checkpoint_add(c, espl__optim_vector(t->optim, i), (uint64_t)count * size);
    for (int i = 0; i < t->feed.inputs; i++)
        if (t->feed.input[i].source == ESPL__TRAIN_FEED_STATE)
            espl__checkpoint_add(c, t->feed.input[i].state, t->feed.input[i].bytes);
}

espl_status espl__trainer_save(espl__trainer *t, bool best, espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (!t->last || espl__ranks_own(t->ranks) != 0) return ESPL_OK;
    espl__checkpoint c = {.network = fingerprint(t->graph),
                          .epoch = t->epoch,
                          .step = t->step,
                          .total = t->total,
                          .finished = t->finished,
                          .rows = t->sums.rows,
                          .correct = t->sums.correct,
                          .loss = t->sums.loss,
                          .waited = t->schedule.waited,
                          .factor = t->schedule.factor,
                          .schedule_best = t->schedule.best,
                          .best_epoch = t->best_epoch,
                          .best_loss = t->best_loss,
                          .best_top1 = t->best_top1,
                          .epoch_loss = t->epoch_loss,
                          .epoch_top1 = t->epoch_top1,
                          .eval_loss = t->eval_loss,
                          .eval_top1 = t->eval_top1,
                          .epoch_seconds = t->epoch_seconds,
                          .epoch_samples = t->epoch_samples,
                          .optim_steps = *espl__optim_steps(t->optim),
                          .settings = t->text.data,
                          .settings_length = t->text.length};
    add_parts(t, &c);
    ESPL_TRY(espl__train_log_sync(&t->log, &c.log_bytes, diag));
    ESPL_TRY(espl__checkpoint_write(t->ctx, &c, best ? t->best : t->last, diag));
    if (!best) t->saved_at = espl__now();
done:
    return status;
}

static void take_numbers(espl__trainer *t, const espl__checkpoint *c) {
    t->epoch = c->epoch;
    t->step = c->step;
    t->total = t->first_total = t->resumed_step = c->total;
    t->sums = (espl__loss_sums){c->loss, c->rows, c->correct};
    t->schedule.waited = c->waited;
    t->schedule.factor = c->factor;
    t->schedule.best = c->schedule_best;
    t->best_epoch = c->best_epoch;
    t->best_loss = c->best_loss;
    t->best_top1 = c->best_top1;
    t->epoch_loss = c->epoch_loss;
    t->epoch_top1 = c->epoch_top1;
    t->eval_loss = c->eval_loss;
    t->eval_top1 = c->eval_top1;
    t->epoch_seconds = c->epoch_seconds;
    t->epoch_samples = c->epoch_samples;
    *espl__optim_steps(t->optim) = c->optim_steps;
}

/* --- going on ------------------------------------------------------------------------------------------- */

/* The first line that differs, for the sentence. */
static espl_status check_settings(const espl__trainer *t, const espl__checkpoint *c, espl_diag *diag) {
    const char *was = c->settings, *was_end = was + c->settings_length, *is = t->text.data;
    if (c->settings_length == t->text.length && memcmp(was, is, t->text.length) == 0) return ESPL_OK;
    while (was < was_end && *is) {
        const char *was_line = memchr(was, '\n', (size_t)(was_end - was));
        size_t n = (size_t)((was_line ? was_line : was_end) - was), m = strcspn(is, "\n");
        if (n != m || memcmp(was, is, n) != 0)
            return espl__fail(
                diag, ESPL_CHECK_FAILED,
                "%s: was made with '%.*s', and now it is '%.*s'; give the same settings, or begin anew "
                "with --restart",
                t->last, (int)ESPL_MIN(n, 200), was, (int)ESPL_MIN(m, 200), is);
        was += n + (was_line != NULL);
        is += m + (is[m] != 0);
    }
    return espl__fail(diag, ESPL_CHECK_FAILED,
                      "%s: was made with other settings; give the same ones, or begin anew with --restart",
                      t->last);
}

static espl_status go_on(espl__trainer *t, espl__checkpoint *c, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__checkpoint mine = {0};
    if (c->network != fingerprint(t->graph))
        return espl__fail(
            diag, ESPL_CHECK_FAILED,
            "%s: was made by training another network; give that one, or begin anew with --restart", t->last);
    ESPL_TRY(check_settings(t, c, diag));
    add_parts(t, &mine);
    ESPL_TRY(espl__checkpoint_take(c, &mine, t->last, diag));
    take_numbers(t, c);
    ESPL_TRY(espl__loader_seek(t->data, t->epoch, t->step, diag));
done:
    return status;
}

espl_status espl__trainer_resume(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__checkpoint c = {0};
    struct stat st;
    t->resumed_step = -1;
    if (t->o->resume && t->last && stat(t->last, &st) == 0) {
        ESPL_TRY(espl__checkpoint_read(t->ctx, &c, t->last, diag));
        ESPL_TRY(go_on(t, &c, diag));
    }
    bool writes = espl__ranks_own(t->ranks) == 0;
    ESPL_TRY(espl__train_log_open(t->ctx, writes ? t->o->log : NULL, c.log_bytes, &t->log, diag));
done:
    espl__checkpoint_free(t->ctx, &c);
    return status;
}

espl_status espl__trainer_load_best(espl__trainer *t, espl_diag *diag) {
    espl__checkpoint c, mine = {0};
    if (!t->best || t->best_epoch == 0) return ESPL_OK;
    espl_status status = espl__checkpoint_read(t->ctx, &c, t->best, diag);
    if (status != ESPL_OK) return status;
    add_parts(t, &mine);
    status = espl__checkpoint_take(&c, &mine, t->best, diag);
    espl__checkpoint_free(t->ctx, &c);
    return status;
}
