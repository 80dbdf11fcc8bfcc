#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Whether something could not be put where it belongs: only for want of memory. jansson frees it then. */
static bool incomplete;

void put(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) incomplete = true;
}

void push(json_t *array, json_t *value) {
    if (json_array_append_new(array, value) != 0) incomplete = true;
}

json_t *text_value(const char *text) {
    if (!text) return json_null();
    errno = 0;
    json_t *value = json_string(text);
    if (value || errno == ENOMEM) return value;
    /* Not UTF-8, as the name of a file may be: bytes beyond ASCII become question marks. */
    char *copy = malloc(strlen(text) + 1);
    if (!copy) return NULL;
    strcpy(copy, text);
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

json_t *number_value(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* Into memory taken once: where that of json_dumps cannot grow, jansson 2.14 leaves a part of a key out and
 * says nothing. */
char *json_text(const json_t *root) {
    static const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(12);
    size_t size = root && !incomplete ? json_dumpb(root, NULL, 0, flags) : 0;
    char *text = size ? calloc(size + 1, 1) : NULL;
    if (!text || json_dumpb(root, text, size, flags) == size) return text;
    free(text);
    return NULL;
}

espl_status json_print(cli *c, json_t *root) {
    char *text = json_text(root);
    json_decref(root);
    if (!text) return nomem(c);
    printf("%s\n", text);
    free(text);
    return ESPL_OK;
}
