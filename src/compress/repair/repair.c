/* The list of repairs: names, parameters, order. */
#include "compress/repair/repair.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct kind_row {
    const char *name, *parameters;
    espl__repair_stage stage;
    espl_status (*apply)(const espl__repair_task *t, const espl__repair *r, espl_diag *diag);
} kind_row;

static const kind_row kinds[] = {
#define X(NAME, name, parameters, stage, text) {name, parameters, ESPL__REPAIR_##stage, espl__repair_##NAME},
    ESPL__REPAIR_LIST(X)
#undef X
};

/* What the number of each kind may be; most 0: it takes none. */
typedef struct number {
    double usual, least, most;
    bool whole;
} number;
static const number numbers[ESPL__REPAIR_COUNT] = {
    [ESPL__REPAIR_SMOOTH] = {0.5, 0, 1, false}, [ESPL__REPAIR_ADAROUND] = {2000, 1, 1e6, true},
    [ESPL__REPAIR_GPTQ] = {0.01, 0, 10, false}, [ESPL__REPAIR_BATCHNORM] = {64, 1, 1e6, true},
    [ESPL__REPAIR_BIAS] = {64, 1, 1e6, true},
};

const char *espl__repair_name(espl__repair_kind kind) {
    return kinds[kind].name;
}

espl__repair_stage espl__repair_stage_of(espl__repair_kind kind) {
    return kinds[kind].stage;
}

/* The word that a kind takes: the last of its parameters that is written small; "" if none. */
static void word_of(espl__repair_kind k, char word[16]) {
    const char *open = strrchr(kinds[k].parameters, '[');
    size_t n = open ? strcspn(open + 1, "]") : 0;
    bool small = open && open[1] >= 'a' && open[1] <= 'z';
    n = small ? ESPL_MIN(n, 15) : 0;
    if (n) memcpy(word, open + 1, n);
    word[n] = 0;
}

static bool take_number(const char *text, espl__repair *r) {
    const number *n = &numbers[r->kind];
    char *end;
    double x = strtod(text, &end);
    if (*end || n->most <= 0 || !(x >= n->least && x <= n->most) || (n->whole && x != floor(x))) return false;
    r->number = x;
    return true;
}

bool espl__repair_parse(const char *text, espl__repair *out) {
    char copy[ESPL__REPAIR_TEXT], word[16], *rest = NULL;
    if (strlen(text) >= sizeof copy) return false;
    snprintf(copy, sizeof copy, "%s", text);
    const char *part = strtok_r(copy, " ", &rest);
    int k = 0;
    while (part && k < ESPL__REPAIR_COUNT && strcmp(kinds[k].name, part)) k++;
    if (!part || k == ESPL__REPAIR_COUNT) return false;
    *out = (espl__repair){.kind = (espl__repair_kind)k, .number = numbers[k].usual};
    word_of(out->kind, word);
    bool number_given = false;
    while ((part = strtok_r(NULL, " ", &rest)))
        if (*word && !out->word && strcmp(part, word) == 0)
            out->word = true;
        else if (number_given || out->word || !take_number(part, out))
            return false;
        else
            number_given = true;
    return true;
}

const char *espl__repair_text(const espl__repair *r, char *buf, size_t size) {
    char word[16], number_text[24] = "";
    word_of(r->kind, word);
    if (r->number != numbers[r->kind].usual) snprintf(number_text, sizeof number_text, " %g", r->number);
    snprintf(buf, size, "%s%s%s%s", kinds[r->kind].name, number_text, r->word ? " " : "",
             r->word ? word : "");
    return buf;
}

const char *espl__repair_forms(char *buf, size_t size) {
    size_t at = 0;
    for (int k = 0; k < ESPL__REPAIR_COUNT && at < size; k++) {
        int n = snprintf(buf + at, size - at, "%s%s%s%s", k ? ", " : "", kinds[k].name,
                         *kinds[k].parameters ? " " : "", kinds[k].parameters);
        at += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

void espl__repairs_add(espl__repairs *repairs, const espl__repair *repair) {
    int at = 0;
    while (at < repairs->count && repairs->list[at].kind < repair->kind) at++;
    if (at == repairs->count || repairs->list[at].kind != repair->kind) {
        memmove(&repairs->list[at + 1], &repairs->list[at], sizeof *repair * (size_t)(repairs->count - at));
        repairs->count++;
    }
    repairs->list[at] = *repair;
}

espl_status espl__repairs_parse(const char *text, espl__repairs *out, espl_diag *diag) {
    for (const char *at = text; *at;) {
        char one[ESPL__REPAIR_TEXT], forms[ESPL__REPAIR_FORMS];
        espl__repair repair;
        at += strspn(at, ", ");
        size_t n = strcspn(at, ",");
        if (!n) break;
        snprintf(one, sizeof one, "%.*s", (int)ESPL_MIN(n, sizeof one - 1), at);
        if (n >= sizeof one || !espl__repair_parse(one, &repair))
            return espl__fail(diag, ESPL_INVALID, "'%s' is no repair; give some of: %s", one,
                              espl__repair_forms(forms, sizeof forms));
        espl__repairs_add(out, &repair);
        at += n;
    }
    return ESPL_OK;
}

espl_status espl__repair_apply(const espl__repair_task *t, const espl__repair *repair, espl_diag *diag) {
    return kinds[repair->kind].apply(t, repair, diag);
}
