/* Reading and writing through libcyaml, with the context's allocator. */
#include "yaml/yaml.h"

#include <locale.h>

#include "yaml/check.h"

/* libcyaml's allocator does not pass old sizes, and grows a list by one entry a time: each block carries its
 * capacity, which at least doubles when it has to move. */
typedef union block {
    size_t capacity;
    _Alignas(16) char align[16];
} block;

static void *cyaml_memory(void *user, void *ptr, size_t size) {
    espl_context *ctx = user;
    block *old = ptr ? (block *)ptr - 1 : NULL;
    if (!size) {
        espl__free(ctx, old);
        return NULL;
    }
    if (old && size <= old->capacity) return ptr;
    size_t capacity = old ? ESPL_MAX(size, old->capacity * 2) : size;
    if (capacity > SIZE_MAX - sizeof(block)) return NULL;
    block *grown = espl__realloc(ctx, old, old ? sizeof(block) + old->capacity : 0, sizeof(block) + capacity);
    if (!grown) return NULL;
    grown->capacity = capacity;
    return grown + 1;
}

static cyaml_config_t config_of(espl_context *ctx) {
    return (cyaml_config_t){.mem_fn = cyaml_memory, .mem_ctx = ctx, .log_level = CYAML_LOG_ERROR,
                            .flags = CYAML_CFG_NO_ALIAS};
}

static espl_status check_and_load(espl_context *ctx, const char *label, const char *text, size_t length,
                                  const cyaml_schema_value_t *schema, void **out, espl_diag *diag) {
    espl_status status = espl__yaml_check(label, text, length, schema, diag);
    if (status != ESPL_OK) return status;
    cyaml_config_t config = config_of(ctx);
    cyaml_err_t err = cyaml_load_data((const uint8_t *)text, length, &config, schema, out, NULL);
    /* The check accepted the text, so libyaml can complain of memory only, and anything else is a schema that this wrapper
     * does not support. */
    if (err == CYAML_ERR_OOM || err == CYAML_ERR_LIBYAML_PARSER_INIT || err == CYAML_ERR_LIBYAML_EVENT_INIT ||
        err == CYAML_ERR_LIBYAML_PARSER)
        return espl__nomem(diag, length);
    if (err != CYAML_OK) return espl__fail(diag, ESPL_INTERNAL, "%s: %s (libcyaml)", label, cyaml_strerror(err));
    return ESPL_OK;
}

/* The decimal point of strtod and printf follows the locale of the program around us; that of YAML does not. */
espl_status espl__yaml_parse(espl_context *ctx, const char *label, const char *text, size_t length,
                             const cyaml_schema_value_t *schema, void **out, espl_diag *diag) {
    *out = NULL;
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) return espl__nomem(diag, 0);
    locale_t before = uselocale(c);
    espl_status status = check_and_load(ctx, label, text, length, schema, out, diag);
    uselocale(before);
    freelocale(c);
    return status;
}

espl_status espl__yaml_read(espl_context *ctx, const char *path, const cyaml_schema_value_t *schema, void **out,
                            espl_diag *diag) {
    uint8_t *text = NULL;
    uint64_t length = 0;
    *out = NULL;
    espl_status status = espl__file_read(ctx, path, ESPL__YAML_MAX, &text, &length, diag);
    if (status == ESPL_OK)
        status = espl__yaml_parse(ctx, path, (const char *)text, (size_t)length, schema, out, diag);
    espl__free(ctx, text);
    return status;
}

void espl__yaml_free(espl_context *ctx, const cyaml_schema_value_t *schema, void *data) {
    if (!data) return;
    cyaml_config_t config = config_of(ctx);
    cyaml_err_t err = cyaml_free(&config, schema, data, 0);
    (void)err; /* it fails for bad parameters only */
}
