#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "espalier/onnx.h"

#define EVERY_SECONDS 300.0 /* between checkpoints */
enum { PREFETCH = 3 };

espl_status espl_train_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag) {
    return espl__train_read(ctx, path, out, diag);
}

static espl_status lost(espl_status status, espl_diag *diag) {
    return status == ESPL_OK ? status : espl__fail(diag, status, "a rank of the training job is lost");
}

/* --- setting up ------------------------------------------------------------------------------------- */

static espl_status ready(void *arg, int64_t first, int64_t count) {
    espl__trainer *t = arg;
    int64_t all;
    char *gradients = espl__engine_gradients(t->engine, &all);
    return espl__ranks_start(t->ranks, t->real, gradients + (size_t)first * espl_dtype_bytes(t->real), count);
}

static espl_status open_loader(espl__trainer *t, espl_dataset *data, bool training, espl__loader **out,
                               espl_diag *diag) {
    espl__loader_options o = {.batch = t->s->batch,
                              .seed = t->s->seed,
                              .shuffle = training,
                              .augment = training,
                              .drop_last = training,
                              .prefetch = PREFETCH,
                              .rank = espl__ranks_own(t->ranks),
                              .ranks = espl__ranks_count(t->ranks),
                              .sequence = t->s->sequence};
    return espl__loader_create(t->ctx, data, &o, out, diag);
}

static espl_status open_data(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int ranks = espl__ranks_count(t->ranks);
    const espl_dataset *data = t->o->data;
    ESPL_TRY(open_loader(t, t->o->data, true, &t->data, diag));
    if (t->o->eval) ESPL_TRY(open_loader(t, t->o->eval, false, &t->eval, diag));
    t->batch = t->s->batch / ranks;
    int64_t tokens;
    if (espl_dataset_tokens(data, &tokens))
        t->sequence = t->s->sequence ? t->s->sequence : espl_dataset_shape(data, 0).dim[0];
    if (!t->sequence && !espl_dataset_has_labels(data) && t->s->loss == ESPL__LOSS_CROSS_ENTROPY + 1)
        status =
            espl__fail(diag, ESPL_INVALID,
                       "the data (%s) have no labels, which cross-entropy needs; the loss mse does without",
                       espl_dataset_describe(data));
done:
    return status;
}

static espl_status create_engines(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__engine_options o = {.real = t->real,
                              .recompute = t->o->recompute,
                              .logits = t->s->loss != ESPL__LOSS_MSE + 1,
                              .frozen = (const char *const *)t->s->freeze,
                              .frozen_count = (int)t->s->freeze_count,
                              /* Each rank drops its own. */
                              .seed = espl__mix64(t->s->seed) + (uint64_t)espl__ranks_own(t->ranks),
                              .sync = t->s->sync_batch_norm ? espl__ranks_sync(t->ranks) : NULL,
                              .ready = espl__ranks_count(t->ranks) > 1 ? ready : NULL,
                              .ready_arg = t};
    ESPL_TRY(espl__train_feed_create(t->ctx, t->graph, t->o->data, t->batch, t->sequence, t->real, &t->feed,
                                     diag));
    ESPL_TRY(espl__engine_create(t->ctx, t->graph, t->feed.shapes, &o, &t->engine, diag));
    ESPL_TRY(espl__train_feed_check(&t->feed, t->graph, t->engine, diag));
    if (t->s->teacher) {
        o = (espl__engine_options){.real = t->real, .inference_only = true, .logits = true};
        ESPL_TRY(espl__train_read(t->ctx, t->s->teacher, &t->teacher_graph, diag));
        if (t->teacher_graph->input_count != t->graph->input_count || t->feed.states) {
            status =
                espl__fail(diag, ESPL_UNSUPPORTED,
                           "%s: a teacher must have the inputs of the network, and no state", t->s->teacher);
            goto done;
        }
        ESPL_TRY(espl__engine_create(t->ctx, t->teacher_graph, t->feed.shapes, &o, &t->teacher, diag));
    }
done:
    return status;
}

/* What the loss compares must fit together. */
static espl_status check_loss(espl__trainer *t, const espl_tensor *output, espl_diag *diag) {
    int64_t rows = t->sequence ? t->sequence * t->batch : t->batch;
    char text[128];
    if (espl__loss_rows(t->loss) != rows)
        return espl__fail(diag, ESPL_SHAPE,
                          "%s: the output is %s, which is not one prediction for each of %" PRId64 " %s",
                          t->graph->file, espl_shape_text(&output->shape, text, sizeof text), rows,
                          t->sequence ? "tokens" : "samples");
    if (t->teacher) {
        espl_tensor other = espl__engine_output(t->teacher, t->feed.output);
        if (espl_shape_count(&other.shape) != espl_shape_count(&output->shape))
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: the teacher's output is %s, which is not that of the network",
                              t->s->teacher, espl_shape_text(&other.shape, text, sizeof text));
    }
    if (t->s->loss != ESPL__LOSS_MSE + 1) return ESPL_OK;
    espl_shape sample = espl_dataset_shape(t->o->data, 0);
    if (t->sequence || espl_shape_count(&sample) != espl__loss_classes(t->loss))
        return espl__fail(diag, ESPL_SHAPE,
                          "%s: the loss mse compares output and input, and the output is %s", t->graph->file,
                          espl_shape_text(&output->shape, text, sizeof text));
    t->target = espl__calloc(t->ctx, (uint64_t)espl_shape_count(&output->shape), sizeof(double));
    return t->target ? ESPL_OK : espl__nomem(diag, 0);
}

static espl_status create_loss(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_tensor output = espl__engine_output(t->engine, t->feed.output);
    espl__loss_options o = espl__train_loss_options(t->s);
    ESPL_TRY(espl__loss_create(t->ctx, &o, &output, &t->loss, diag));
    ESPL_TRY(check_loss(t, &output, diag));
    if (!espl__engine_output_gradient(t->engine, t->feed.output).data) {
        status =
            espl__fail(diag, ESPL_INVALID, "%s: has nothing that is trained: no constant, or all are frozen",
                       t->graph->file);
        goto done;
    }
    t->labels = espl__calloc(t->ctx, (uint64_t)espl__loss_rows(t->loss), sizeof *t->labels);
    if (!t->labels) status = espl__nomem(diag, 0);
done:
    return status;
}

static espl_status create_optim(espl__trainer *t, espl_diag *diag) {
    int64_t count;
    int n = 0, params = espl__engine_params(t->engine);
    const void *weights = espl__engine_weights(t->engine, &count);
    espl__optim_options o = espl__train_optim_options(t->s);
    espl__optim_range *ranges = espl__calloc(t->ctx, (uint64_t)params + 1, sizeof *ranges);
    if (!ranges) return espl__nomem(diag, 0);
    for (int i = 0; i < params; i++) {
        const espl__param *p = espl__engine_param(t->engine, i);
        if (p->trained) ranges[n++] = (espl__optim_range){p->offset, p->count, p->decays};
    }
    espl_status status = espl__optim_create(t->ctx, &o, t->real, count, ranges, n, weights, &t->optim, diag);
    espl__free(t->ctx, ranges);
    return status;
}

/* For what checkpoints need. */
static espl_status make_room(espl__trainer *t, espl_diag *diag) {
    int64_t count;
    if (t->feed.states > ESPL__CHECKPOINT_STATES)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: has %d states; checkpoints have room for %d",
                          t->graph->file, t->feed.states, ESPL__CHECKPOINT_STATES);
    (void)espl__engine_statistics(t->engine, &count);
    if (espl__ranks_count(t->ranks) == 1) return ESPL_OK;
    t->own_statistics = espl__calloc(t->ctx, (uint64_t)count + 1, espl_dtype_bytes(t->real));
    return t->own_statistics ? ESPL_OK : espl__nomem(diag, 0);
}

static espl_status set_up(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__buffer_init(&t->text, t->ctx);
    if (!t->o->data) return espl__fail(diag, ESPL_INVALID, "training needs data");
    ESPL_TRY(espl__train_settings_read(t->ctx, t->o, &t->s, diag));
    t->real = t->s->precision == ESPL__PRECISION_F64 ? ESPL_F64 : ESPL_F32;
    ESPL_TRY(espl__ranks_create(t->ctx, &t->ranks, diag));
    ESPL_TRY(espl__trainer_prepare(t, diag));
    ESPL_TRY(open_data(t, diag));
    ESPL_TRY(create_engines(t, diag));
    ESPL_TRY(make_room(t, diag));
    ESPL_TRY(create_loss(t, diag));
    ESPL_TRY(create_optim(t, diag));
    t->schedule = espl__train_schedule(t->s, espl__loader_steps(t->data));
    t->best_loss = INFINITY;
    t->epoch_loss = t->epoch_top1 = t->eval_loss = t->eval_top1 = t->best_top1 = NAN;
    ESPL_TRY(espl__trainer_resume(t, diag));
    t->begun_at = t->saved_at = espl__now();
done:
    return status;
}

static void tear_down(espl__trainer *t, bool failed) {
    espl__train_log_close(&t->log);
    espl__optim_destroy(&t->optim);
    espl__loss_destroy(&t->loss);
    espl__engine_destroy(&t->teacher);
    espl_graph_destroy(&t->teacher_graph);
    espl__engine_destroy(&t->engine);
    espl__train_feed_free(&t->feed);
    espl__loader_destroy(&t->eval);
    espl__loader_destroy(&t->data);
    espl__ranks_destroy(&t->ranks, failed);
    if (t->s) espl__train_settings_destroy(t->ctx, &t->s);
    espl__buffer_free(&t->text);
    espl__trainer_leave_folder(t);
    espl__free(t->ctx, t->labels);
    espl__free(t->ctx, t->target);
    espl__free(t->ctx, t->own_statistics);
}

/* --- telling ------------------------------------------------------------------------------------------ */

static double top1_of(const espl__trainer *t, const espl__loss_sums *s) {
    if (t->s->loss == ESPL__LOSS_MSE + 1 || s->rows == 0) return NAN;
    return (double)s->correct / (double)s->rows;
}

void espl__trainer_tell(espl__trainer *t, espl_train_event event, int64_t step, int64_t steps,
                        const espl__loss_sums *sums) {
    if (!t->o->watch) return;
    double all = (double)t->s->epochs * (double)espl__loader_steps(t->data),
           done = (double)(t->total - t->first_total);
    double left = done > 0 ? (all - (double)t->total) * (espl__now() - t->begun_at) / done : 0;
    espl_train_progress p = {.event = event,
                             .rank = espl__ranks_own(t->ranks),
                             .epoch = t->epoch,
                             .epochs = t->s->epochs,
                             .step = step,
                             .steps = steps,
                             .loss = sums->rows ? sums->loss / (double)sums->rows : NAN,
                             .top1 = top1_of(t, sums),
                             .has_eval = t->eval != NULL,
                             .eval_loss = t->eval_loss,
                             .eval_top1 = t->eval_top1,
                             .tokens = t->sequence > 0,
                             .rate = espl__schedule_rate(&t->schedule, t->total),
                             .samples_per_s = t->epoch_seconds > 0 ? t->epoch_samples / t->epoch_seconds : 0,
                             .seconds_left = left};
    if (!t->o->watch(t->o->user, &p)) t->stop = true;
}

static espl_status log_step(espl__trainer *t, double rate, const espl__loss_sums *s, double samples_per_s,
                            espl_diag *diag) {
    espl__train_log_begin(&t->log);
    espl__train_log_int(&t->log, "epoch", t->epoch + 1);
    espl__train_log_int(&t->log, "step", t->total + 1);
    espl__train_log_real(&t->log, "loss", s->loss / (double)s->rows);
    espl__train_log_real(&t->log, "top1", top1_of(t, s));
    espl__train_log_real(&t->log, "lr", rate);
    espl__train_log_real(&t->log, "samples_per_s", samples_per_s);
    return espl__train_log_end(&t->log, diag);
}

static espl_status log_epoch(espl__trainer *t, espl_diag *diag) {
    espl__train_log_begin(&t->log);
    espl__train_log_int(&t->log, "epoch", t->epoch);
    espl__train_log_int(&t->log, "step", t->total);
    espl__train_log_real(&t->log, "epoch_loss", t->epoch_loss);
    espl__train_log_real(&t->log, "epoch_top1", t->epoch_top1);
    espl__train_log_real(&t->log, "eval_loss", t->eval_loss);
    espl__train_log_real(&t->log, "eval_top1", t->eval_top1);
    if (t->sequence) espl__train_log_real(&t->log, "perplexity", exp(t->eval ? t->eval_loss : t->epoch_loss));
    espl__train_log_real(&t->log, "samples_per_s",
                         t->epoch_seconds > 0 ? t->epoch_samples / t->epoch_seconds : 0);
    return espl__train_log_end(&t->log, diag);
}

/* --- a step ------------------------------------------------------------------------------------------ */

static bool vector_is_finite(espl__trainer *t, const void *vector) {
    return isfinite(espl__optim_norm(t->optim, vector));
}

/* The step is done again, and stopped where the first NaN or infinity appears. */
static espl_status explain(espl__trainer *t, const espl__batch *b, espl_diag *diag) {
    espl_diag why = {0};
    int64_t count;
    espl__train_feed_batch(&t->feed, t->engine, b);
    espl__engine_check(t->engine, true);
    espl_status status = espl__engine_forward(t->engine, true, (uint64_t)t->total, &why);
    if (status == ESPL_OK) {
        espl__loss_sums sums = {0};
        espl_tensor output = espl__engine_output(t->engine, t->feed.output);
        espl_tensor gradient = espl__train_feed_gradient(&t->feed, t->engine);
        espl__loss_run(t->loss, output.data, t->labels, espl__loss_rows(t->loss), t->target, 1, gradient.data,
                       &sums);
        status = espl__engine_backward(t->engine, &why);
    }
    if (status == ESPL_OK)
        espl__fail(&why, ESPL_CHECK_FAILED, "%s",
                   vector_is_finite(t, espl__engine_gradients(t->engine, &count))
                       ? "the loss is not finite"
                       : "the gradient's norm is not finite");
    return espl__fail(diag, ESPL_CHECK_FAILED,
                      "%s: step %" PRId64 " of epoch %" PRId64 " (%" PRId64
                      " in all): %s; a smaller lr, a warmup or clip may help%s%s",
                      t->graph->file, t->step + 1, t->epoch + 1, t->total + 1, why.message,
                      t->last ? "; the last checkpoint is " : "", t->last ? t->last : "");
}

static double clip_scale(const espl__trainer *t, double norm) {
    return t->s->clip > 0 ? fmin(1, t->s->clip / (norm + 1e-6)) : 1;
}

static espl_status compute(espl__trainer *t, const espl__batch *b, espl__loss_sums *sums, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t rows;
    const void *target;
    ESPL_TRY(espl__trainer_labels(t, b, &rows, diag));
    double all = (double)espl__loss_valid(t->loss, t->labels, rows);
    ESPL_TRY(lost(espl__ranks_sum(t->ranks, &all, 1), diag));
    ESPL_TRY(espl__trainer_target(t, b, &target, diag));
    espl__train_feed_batch(&t->feed, t->engine, b);
    ESPL_TRY(espl__engine_forward(t->engine, true, (uint64_t)t->total, diag));
    espl_tensor output = espl__engine_output(t->engine, t->feed.output);
    espl_tensor gradient = espl__train_feed_gradient(&t->feed, t->engine);
    espl__loss_run(t->loss, output.data, t->labels, rows, target, all > 0 ? 1 / all : 0, gradient.data, sums);
    ESPL_TRY(espl__engine_backward(t->engine, diag));
    ESPL_TRY(lost(espl__ranks_wait(t->ranks), diag));
    double parts[3] = {sums->loss, (double)sums->rows, (double)sums->correct};
    ESPL_TRY(lost(espl__ranks_sum(t->ranks, parts, 3), diag));
    *sums = (espl__loss_sums){parts[0], (int64_t)parts[1], (int64_t)parts[2]};
done:
    return status;
}

static espl_status train_step(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__batch b;
    espl__loss_sums sums = {0};
    int64_t count;
    double begin = espl__now(), rate = espl__schedule_rate(&t->schedule, t->total);
    ESPL_TRY(espl__loader_next(t->data, &b, diag));
    ESPL_TRY(compute(t, &b, &sums, diag));
    void *weights = espl__engine_weights(t->engine, &count);
    const void *gradients = espl__engine_gradients(t->engine, &count);
    double norm = espl__optim_norm(t->optim, gradients);
    if (!isfinite(sums.loss) || !isfinite(norm)) {
        status = explain(t, &b, diag);
        goto done;
    }
    espl__optim_step(t->optim, rate, clip_scale(t, norm), weights, gradients);
    espl__train_feed_carry(&t->feed, t->engine);
    double seconds = espl__now() - begin, samples = (double)(b.tokens ? b.total * b.sequence : b.total);
    t->epoch_seconds += seconds;
    t->epoch_samples += samples;
    t->train_seconds += seconds;
    t->train_samples += samples;
    t->sums.loss += sums.loss;
    t->sums.rows += sums.rows;
    t->sums.correct += sums.correct;
    ESPL_TRY(log_step(t, rate, &sums, samples / seconds, diag));
    t->step++;
    t->total++;
    espl__trainer_tell(t, ESPL_TRAIN_STEP, t->step, espl__loader_steps(t->data), &t->sums);
done:
    return status;
}

/* --- epochs ------------------------------------------------------------------------------------------ */

/* Ranks have seen different samples: the mean of what batch norm has learned of them. */
static espl_status join_statistics(espl__trainer *t, espl_diag *diag) {
    int64_t count;
    int ranks = espl__ranks_count(t->ranks);
    void *statistics = espl__engine_statistics(t->engine, &count);
    if (ranks == 1) return ESPL_OK;
    espl_status status = espl__ranks_start(t->ranks, t->real, statistics, count);
    if (status == ESPL_OK) status = espl__ranks_wait(t->ranks);
    for (int64_t i = 0; status == ESPL_OK && i < count; i++)
        if (t->real == ESPL_F64)
            ((double *)statistics)[i] /= ranks;
        else
            ((float *)statistics)[i] /= (float)ranks;
    return lost(status, diag);
}

/* A checkpoint within an epoch, made when a clock says so: the ranks go on with their own statistics, so that
 * when it was made changes nothing. */
static espl_status save_midway(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t count;
    void *statistics = espl__engine_statistics(t->engine, &count);
    size_t bytes = (size_t)count * espl_dtype_bytes(t->real);
    if (t->own_statistics) memcpy(t->own_statistics, statistics, bytes);
    ESPL_TRY(join_statistics(t, diag));
    ESPL_TRY(espl__trainer_save(t, false, diag));
    if (t->own_statistics) memcpy(statistics, t->own_statistics, bytes);
done:
    return status;
}

static espl_status end_epoch(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ESPL_TRY(join_statistics(t, diag));
    t->epoch_loss = t->sums.rows ? t->sums.loss / (double)t->sums.rows : NAN;
    t->epoch_top1 = top1_of(t, &t->sums);
    t->epoch++;
    t->step = 0;
    espl__train_feed_reset(&t->feed);
    if (t->eval) ESPL_TRY(espl__trainer_evaluate(t, diag));
    double loss = t->eval ? t->eval_loss : t->epoch_loss;
    espl__schedule_epoch(&t->schedule, loss);
    bool best = loss < t->best_loss;
    if (best) {
        t->best_loss = loss;
        t->best_top1 = t->eval ? t->eval_top1 : t->epoch_top1;
        t->best_epoch = t->epoch;
    }
    ESPL_TRY(log_epoch(t, diag));
    espl__trainer_tell(t, ESPL_TRAIN_EPOCH, espl__loader_steps(t->data), espl__loader_steps(t->data),
                       &t->sums);
    t->sums = (espl__loss_sums){0};
    t->epoch_seconds = t->epoch_samples = 0;
    t->finished = t->epoch >= t->s->epochs;
    if (best) ESPL_TRY(espl__trainer_save(t, true, diag));
    ESPL_TRY(espl__trainer_save(t, false, diag));
done:
    return status;
}

/* All ranks must agree on when to save and to stop. */
static espl_status agree(espl__trainer *t, bool *save, bool *stop, espl_diag *diag) {
    double every = t->o->every_seconds > 0 ? t->o->every_seconds : EVERY_SECONDS;
    bool due = t->o->every_steps ? t->total % t->o->every_steps == 0 : espl__now() - t->saved_at >= every;
    /* A state of several ranks lies in their memories: such networks are saved where it is zero. */
    if (espl__ranks_count(t->ranks) > 1 && t->feed.states) due = false;
    double wants[2] = {due && espl__ranks_own(t->ranks) == 0, t->stop};
    espl_status status = lost(espl__ranks_sum(t->ranks, wants, 2), diag);
    *save = wants[0] > 0;
    *stop = wants[1] > 0;
    return status;
}

static espl_status stop_here(espl__trainer *t, espl_diag *diag) {
    bool lost_state = espl__ranks_count(t->ranks) > 1 && t->feed.states && t->step > 0;
    espl_status status = join_statistics(t, diag);
    if (status == ESPL_OK && !lost_state) status = espl__trainer_save(t, false, diag);
    if (status != ESPL_OK) return status;
    return espl__fail(diag, ESPL_CANCELLED,
                      "stopped after %" PRId64 " steps (epoch %" PRId64 " of %" PRId64 ")%s%s%s", t->total,
                      t->epoch + 1, t->s->epochs, t->last ? "; all of it is saved in " : "",
                      t->last ? t->last : "", t->last ? ": the same command with --resume goes on" : "");
}

static espl_status train_epoch(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t steps = espl__loader_steps(t->data);
    while (t->step < steps) {
        bool save, stop;
        ESPL_TRY(train_step(t, diag));
        ESPL_TRY(agree(t, &save, &stop, diag));
        if (stop) {
            status = stop_here(t, diag);
            goto done;
        }
        if (save && t->step < steps) ESPL_TRY(save_midway(t, diag));
    }
    status = end_epoch(t, diag);
done:
    return status;
}

static espl_status finish(espl__trainer *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (t->s->keep == ESPL__KEEP_BEST && espl__ranks_own(t->ranks) == 0)
        ESPL_TRY(espl__trainer_load_best(t, diag));
    espl__trainer_swap(t);
    espl__engine_store(t->engine, t->graph);
    espl__trainer_swap(t);
    if (t->o->output && espl__ranks_own(t->ranks) == 0)
        status = espl_onnx_write(t->ctx, t->graph, NULL, t->o->output, diag);
done:
    return status;
}

static void fill_result(const espl__trainer *t, espl_train_result *r) {
    int64_t parameters = 0;
    for (int i = 0; i < espl__engine_params(t->engine); i++) {
        const espl__param *p = espl__engine_param(t->engine, i);
        if (p->trained) parameters += p->count;
    }
    *r = (espl_train_result){.epochs = t->epoch,
                             .steps = t->total,
                             .samples =
                                 espl__loader_steps(t->data) * t->s->batch * (t->sequence ? t->sequence : 1),
                             .resumed_step = t->resumed_step,
                             .loss = t->epoch_loss,
                             .top1 = t->epoch_top1,
                             .has_eval = t->eval != NULL,
                             .tokens = t->sequence > 0,
                             .eval_loss = t->eval_loss,
                             .eval_top1 = t->eval_top1,
                             .best_loss = t->best_loss,
                             .best_top1 = t->best_top1,
                             .best_epoch = t->best_epoch,
                             .seconds = espl__now() - t->begun_at,
                             .samples_per_s = t->train_seconds > 0 ? t->train_samples / t->train_seconds : 0,
                             .bytes = espl__engine_bytes(t->engine),
                             .parameters = parameters,
                             .ranks = espl__ranks_count(t->ranks),
                             .rank = espl__ranks_own(t->ranks)};
}

espl_status espl_train(espl_context *ctx, espl_graph *graph, const espl_train_options *options,
                       espl_train_result *result, espl_diag *diag) {
    espl__trainer t = {.ctx = ctx, .graph = graph, .o = options};
    espl_status status = ESPL_OK;
    *result = (espl_train_result){.resumed_step = -1, .ranks = 1};
    t.log.file = -1;
    ESPL_TRY(set_up(&t, diag));
    while (t.epoch < t.s->epochs) ESPL_TRY(train_epoch(&t, diag));
    ESPL_TRY(finish(&t, diag));
    fill_result(&t, result);
done:
    result->rank = t.ranks ? espl__ranks_own(t.ranks) : 0;
    /* All ranks stop together when they are asked to. */
    tear_down(&t, status != ESPL_OK && status != ESPL_CANCELLED);
    return status;
}
