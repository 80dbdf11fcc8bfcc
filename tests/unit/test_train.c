/* Training as a whole: recipes, checkpoints, going on, what is trained and what is not. */
#include "train_rig.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/train.h"
#include "espalier/zoo.h"
#include "graph/graph.h"
#include "train/checkpoint.h"
#include "train/settings.h"

static char folder[] = "/tmp/espl_train_XXXXXX";

static const char *in_folder(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void write_text(const char *name, const char *text) {
    assert_int_equal(espl__file_write(ctx, in_folder(name), text, strlen(text), NULL), ESPL_OK);
}

/* --- recipes ----------------------------------------------------------------------------------------- */

static void every_network_has_a_recipe(void **state) {
    (void)state;
    const espl_zoo_network *network;
    for (int i = 0; (network = espl_zoo_at(i)); i++) {
        bool found = false;
        for (int k = 0; espl_train_recipe_at(k); k++)
            found |= strcmp(espl_train_recipe_at(k), network->name) == 0;
        if (!found) fail_msg("recipes/train has no %s.yaml", network->name);
    }
    for (int k = 0; espl_train_recipe_at(k); k++) {
        espl__train_settings *s;
        espl_diag diag = {0};
        espl_train_options o = {.recipe = espl_train_recipe_at(k), .epochs = 7};
        if (espl__train_settings_read(ctx, &o, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        assert_int_equal(s->epochs, 7);
        espl__train_settings_destroy(ctx, &s);
    }
}

/* --- checkpoints ------------------------------------------------------------------------------------- */

/* Whatever byte is wrong or missing, a checkpoint is refused. */
static void damaged_checkpoints(void **state) {
    (void)state;
    double weights[5] = {1, 2, 3, 4, 5}, read[5] = {0};
    espl__checkpoint c = {.network = 9, .epoch = 3, .loss = 0.1, .settings = "lr: 1\n", .settings_length = 6},
                     back, mine = {0};
    char path[256];
    uint8_t *bytes;
    uint64_t length;
    snprintf(path, sizeof path, "%s", in_folder("x.ckpt"));
    espl__checkpoint_add(&c, weights, sizeof weights);
    assert_int_equal(espl__checkpoint_write(ctx, &c, path, NULL), ESPL_OK);
    assert_int_equal(espl__checkpoint_read(ctx, &back, path, NULL), ESPL_OK);
    assert_true(back.epoch == 3 && back.loss == 0.1 && back.settings_length == 6 && back.parts == 1);
    espl__checkpoint_add(&mine, read, sizeof read - 8);
    assert_int_equal(espl__checkpoint_take(&back, &mine, path, NULL), ESPL_CHECK_FAILED);
    mine.part[0].bytes = sizeof read;
    assert_int_equal(espl__checkpoint_take(&back, &mine, path, NULL), ESPL_OK);
    assert_memory_equal(read, weights, sizeof read);
    espl__checkpoint_free(ctx, &back);
    assert_int_equal(espl__file_read(ctx, path, 0, &bytes, &length, NULL), ESPL_OK);
    for (uint64_t i = 0; i < length; i++) {
        bytes[i] ^= 0x55;
        assert_int_equal(espl__file_write(ctx, path, bytes, length, NULL), ESPL_OK);
        assert_int_equal(espl__checkpoint_read(ctx, &back, path, NULL), ESPL_FORMAT);
        bytes[i] ^= 0x55;
        assert_int_equal(espl__file_write(ctx, path, bytes, i, NULL), ESPL_OK);
        assert_int_equal(espl__checkpoint_read(ctx, &back, path, NULL), ESPL_FORMAT);
        i += 6;
    }
    /* Lengths that lie under a good checksum. */
    for (uint64_t i = 16; i + 8 <= length; i += 8) {
        uint8_t saved[8], crc[4];
        memcpy(saved, bytes + i, 8);
        memset(bytes + i, 0x7f, 8);
        uint32_t sum = espl__crc32(bytes + 16, length - 16);
        for (int k = 0; k < 4; k++) crc[k] = (uint8_t)(sum >> (8 * k));
        memcpy(bytes + 12, crc, 4);
        assert_int_equal(espl__file_write(ctx, path, bytes, length, NULL), ESPL_OK);
        espl_status status = espl__checkpoint_read(ctx, &back, path, NULL);
        assert_true(status == ESPL_OK || status == ESPL_FORMAT);
        espl__checkpoint_free(ctx, &back);
        memcpy(bytes + i, saved, 8);
    }
    espl__free(ctx, bytes);
}

/* --- training ---------------------------------------------------------------------------------------- */

typedef struct job {
    espl_train_options o;
    espl_graph *graph;
    espl_train_result result;
    espl_diag diag;
    int stop_after; /* steps; 0: never */
    int steps, epochs;
    uint64_t allocations; /* after the third step */
} job;

static bool watch(void *user, const espl_train_progress *p) {
    job *j = user;
    if (p->event == ESPL_TRAIN_EPOCH) j->epochs++;
    if (p->event != ESPL_TRAIN_STEP) return true;
    j->steps++;
    if (j->steps == 3) j->allocations = espl_context_allocations(ctx);
    /* Nothing is allocated by a step. */
    if (j->steps > 3 && p->step < p->steps && p->epoch == 0)
        assert_int_equal(espl_context_allocations(ctx), j->allocations);
    return j->steps != j->stop_after;
}

static espl_dataset *open_data(const char *name, const char *text) {
    espl_dataset *d;
    espl_diag diag = {0};
    write_text(name, text);
    if (espl_dataset_open(ctx, in_folder(name), &d, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return d;
}

static espl_status train(job *j, const char *network, const char *data, const char *recipe) {
    espl_zoo_options zoo = {.seed = 3, .input = {3, {1, 28, 28}}, .classes = 10};
    j->o.data = open_data("data.yaml", data);
    write_text("recipe.yaml", recipe);
    char path[256];
    snprintf(path, sizeof path, "%s", in_folder("recipe.yaml"));
    j->o.recipe = path;
    j->o.watch = watch;
    j->o.user = j;
    assert_int_equal(espl_zoo_build(ctx, network, &zoo, &j->graph, NULL), ESPL_OK);
    espl_status status = espl_train(ctx, j->graph, &j->o, &j->result, &j->diag);
    espl_dataset_close(&j->o.data);
    j->o.recipe = NULL;
    return status;
}

#define FEW "kind: digits\nsplit: train\ncount: 320\n"
#define SHORT "epochs: 2\nbatch: 32\nlr: 0.05\nmomentum: 0.9\nema: 0.9\n"

static bool same_weights(const espl_graph *a, const espl_graph *b) {
    assert_int_equal(a->value_count, b->value_count);
    for (int i = 0; i < a->value_count; i++) {
        const espl_tensor *x = a->values[i]->constant, *y = b->values[i]->constant;
        if (x && memcmp(x->data, y->data, espl__tensor_bytes(x)) != 0) return false;
    }
    return true;
}

static void stopped_and_gone_on(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", in_folder("out.onnx"));
    job calm = {0}, first = {.o.output = path, .stop_after = 7},
        second = {.o.output = path, .o.resume = true};
    assert_int_equal(train(&calm, "lenet5", FEW, SHORT), ESPL_OK);
    assert_true(calm.steps == 20 && calm.epochs == 2 && calm.result.steps == 20);
    assert_int_equal(train(&first, "lenet5", FEW, SHORT), ESPL_CANCELLED);
    assert_int_equal(first.steps, 7);
    assert_non_null(strstr(first.diag.message, "--resume"));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(train(&second, "lenet5", FEW, SHORT), ESPL_OK);
    assert_true(second.steps == 13 && second.result.resumed_step == 7 && second.result.steps == 20);
    assert_true(second.result.loss == calm.result.loss && same_weights(calm.graph, second.graph));
    assert_int_equal(access(path, F_OK), 0);
    espl_graph_destroy(&calm.graph);
    espl_graph_destroy(&first.graph);
    espl_graph_destroy(&second.graph);
}

/* Of a network only the last layer: all other weights keep their bytes. */
static void frozen(void **state) {
    (void)state;
    espl_graph *before;
    espl_zoo_options zoo = {.seed = 3, .input = {3, {1, 28, 28}}, .classes = 10};
    assert_int_equal(espl_zoo_build(ctx, "lenet5", &zoo, &before, NULL), ESPL_OK);
    job j = {0};
    assert_int_equal(
        train(&j, "lenet5", FEW, "epochs: 1\nbatch: 32\nlr: 0.1\nfreeze: ['conv*', 'fc1*', 'fc2*']\n"),
        ESPL_OK);
    int changed = 0, kept = 0;
    for (int i = 0; i < before->value_count; i++) {
        const espl_tensor *x = before->values[i]->constant, *y = j.graph->values[i]->constant;
        if (!x || x->dtype != ESPL_F32) continue;
        bool same = memcmp(x->data, y->data, espl__tensor_bytes(x)) == 0;
        changed += !same;
        kept += same;
    }
    assert_true(changed == 2 && kept >= 8); /* weight and bias of the last layer */
    espl_graph_destroy(&before);
    espl_graph_destroy(&j.graph);
}

static void mistakes(void **state) {
    (void)state;
    static const struct {
        const char *network, *data, *recipe, *sentence;
    } cases[] = {
        {"lenet5", "kind: digits\nlabel_offset: 5\n", SHORT, "the network tells 10 classes apart"},
        {"lenet5", FEW, "epochs: 1\nbatch: 32\nlr: 0.1\nloss: mse\n", "compares output and input"},
        {"lenet5", FEW, "epochs: 1\nbatch: 32\nlr: 0.1\nloss: distillation\n", "needs a teacher"},
        {"lenet5", FEW, "epochs: 1\nbatch: 32\nlr: 0.1\nschedule: step\n", "step needs milestones"},
        {"lenet5", FEW, "epochs: 1\nbatch: 32\nlr: 0.1\nnesterov: true\n", "is for sgd with momentum"},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        job j = {0};
        assert_int_not_equal(train(&j, cases[i].network, cases[i].data, cases[i].recipe), ESPL_OK);
        if (!strstr(j.diag.message, cases[i].sentence))
            fail_msg("'%s' lacks '%s'", j.diag.message, cases[i].sentence);
        espl_graph_destroy(&j.graph);
    }
}

static int set_folder(void **state) {
    return mkdtemp(folder) ? setup(state) : -1;
}

static int remove_folder(void **state) {
    espl__dir_abort(ctx, in_folder("out.onnx.ckpt"));
    espl__dir_abort(ctx, folder);
    return teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_has_a_recipe),
        cmocka_unit_test(damaged_checkpoints),
        cmocka_unit_test(stopped_and_gone_on),
        cmocka_unit_test(frozen),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, set_folder, remove_folder);
}
