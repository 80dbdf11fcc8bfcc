/* Every text is read as a description of data, a recipe, a chip, and a recipe of training. What could be read
 * is written and must read again. */
#include "compress/recipe.h"
#include "data/data.h"
#include "espalier/chip.h"
#include "fuzz.h"
#include "train/settings.h"

static void read_description(espl_context *ctx, const char *path) {
    espl_dataset d = {.ctx = ctx};
    espl_diag diag = {0};
    espl__arena_init(&d.arena, ctx);
    fuzz_judge(espl__desc_read(&d, path, &diag), &diag);
    espl__desc_free(&d);
    espl__arena_free(&d.arena);
}

static void read_chip(espl_context *ctx, const char *text, size_t size) {
    espl_chip *chip = NULL;
    espl_diag diag = {0};
    fuzz_judge(espl_chip_parse(ctx, "chip.yaml", text, size, &chip, &diag), &diag);
    espl_chip_destroy(&chip);
}

static void read_recipe(espl_context *ctx, const char *text, size_t size) {
    espl__recipe *recipe = NULL, *again = NULL;
    espl_diag diag = {0};
    espl__buffer b;
    espl__buffer_init(&b, ctx);
    espl_status status = espl__recipe_parse(ctx, "recipe.yaml", text, size, &recipe, &diag);
    fuzz_judge(status, &diag);
    if (status == ESPL_OK) {
        fuzz_expect(espl__recipe_emit(ctx, recipe, &b, &diag) == ESPL_OK,
                    "a recipe that was read cannot be written");
        fuzz_expect(espl__recipe_parse(ctx, "again.yaml", b.data, b.length, &again, &diag) == ESPL_OK,
                    "a recipe that was written cannot be read");
    }
    espl__buffer_free(&b);
    espl__recipe_destroy(ctx, &recipe);
    espl__recipe_destroy(ctx, &again);
}

static void read_settings(espl_context *ctx, const char *path) {
    espl__train_settings *settings = NULL;
    espl_diag diag = {0};
    espl_train_options options = {.recipe = path};
    fuzz_judge(espl__train_settings_read(ctx, &options, &settings, &diag), &diag);
    espl__train_settings_destroy(ctx, &settings);
}

void fuzz_target(espl_context *ctx, const uint8_t *data, size_t size) {
    const char *path = fuzz_file("text.yaml", data, size);
    read_description(ctx, path);
    read_chip(ctx, (const char *)data, size);
    read_recipe(ctx, (const char *)data, size);
    read_settings(ctx, path);
}
