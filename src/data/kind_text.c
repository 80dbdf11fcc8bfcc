/* text: words or characters as tokens, an <eos> at the end of each line, as language models read the Penn
 * Treebank (Mikolov 2010; Zaremba 2014). */
#include "base/names.h"
#include "data/data.h"

#include <inttypes.h>
#include <stdlib.h>

enum { DEFAULT_SEQUENCE = 35 };

/* --- from bytes to tokens ---------------------------------------------------------------------------- */

/* Goes through a text token by token. The byte behind a token is NUL while the token is looked at. */
typedef struct scanner {
    const char *path;
    char *at, *end; /* *end is there and NUL */
    char behind;    /* what stood at `at`, if `cut` */
    int64_t line;
    bool characters, cut, open; /* open: tokens were seen since the last line ended */
} scanner;

static scanner scan(const char *path, uint8_t *bytes, uint64_t length, bool characters) {
    char *text = (char *)bytes;
    return (scanner){.path = path, .at = text, .end = text + length, .line = 1, .characters = characters};
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static espl_status scan_fail(const scanner *s, espl_diag *diag, const char *what) {
    return espl__fail(diag, ESPL_FORMAT, "%s:%" PRId64 ": %s", s->path, s->line, what);
}

/* The end of the token that begins at s->at; NULL if it is none. */
static char *token_end(const scanner *s, espl_diag *diag) {
    char *end = s->at;
    if (s->characters) {
        end += espl__utf8_length(s->at);
    } else {
        while (*end && *end != '\n' && !is_space(*end) && end - s->at <= ESPL__TEXT_MAX_WORD) end++;
    }
    const char *wrong = s->at[0] == 0                       ? "has a NUL byte, so it is no text"
                        : end == s->at                      ? "is not UTF-8, so it has no characters"
                        : end - s->at > ESPL__TEXT_MAX_WORD ? "has a word of more than 4096 bytes"
                                                            : NULL;
    if (!wrong) return end;
    (void)scan_fail(s, diag, wrong);
    return NULL;
}

/* The next token, valid until the next call; NULL at the end. A last line without a newline ends too. */
static espl_status next_token(scanner *s, const char **token, espl_diag *diag) {
    if (s->cut) *s->at = s->behind;
    s->cut = false;
    while (s->at < s->end && (s->characters ? *s->at == '\r' : is_space(*s->at))) s->at++;
    *token = NULL;
    if (s->at == s->end || *s->at == '\n') {
        if (s->at < s->end || s->open) *token = "<eos>";
        s->line += s->at < s->end;
        s->at += s->at < s->end;
        s->open = false;
        return ESPL_OK;
    }
    char *end = token_end(s, diag);
    if (!end) return ESPL_FORMAT;
    *token = s->at;
    s->behind = *end;
    s->at = end;
    *end = 0;
    s->cut = s->open = true;
    return ESPL_OK;
}

/* --- the vocabulary ------------------------------------------------------------------------------------ */

typedef struct word {
    const char *text;
    int64_t count, first; /* how often, and after how many other words it came up first */
    int32_t token;
} word;

typedef struct vocabulary {
    espl__names names; /* of words */
    word **words;      /* as they came up, then the most frequent first */
    int64_t count, capacity;
} vocabulary;

static espl_status add_word(espl_dataset *d, vocabulary *v, const char *text, espl_diag *diag) {
    if (v->count == ESPL__TEXT_MAX_VOCABULARY)
        return espl__fail(diag, ESPL_LIMIT, "has more than %d different tokens", ESPL__TEXT_MAX_VOCABULARY);
    if (v->count == v->capacity) {
        int64_t capacity = ESPL_MAX(2 * v->capacity, 1024);
        word **words = espl__realloc(d->ctx, v->words, (uint64_t)v->count * sizeof *words,
                                     (uint64_t)capacity * sizeof *words);
        if (!words) return espl__nomem(diag, (uint64_t)capacity * sizeof *words);
        v->words = words;
        v->capacity = capacity;
    }
    word *w = espl__arena_alloc(&d->arena, sizeof *w);
    if (!w || !(w->text = espl__arena_strdup(&d->arena, text))) return espl__nomem(diag, sizeof *w);
    w->count = 1;
    w->first = v->count;
    v->words[v->count++] = w;
    return espl__names_add(&v->names, w->text, w) == ESPL_OK ? ESPL_OK : espl__nomem(diag, sizeof *w);
}

static int most_frequent(const void *a, const void *b) {
    const word *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : (x->first > y->first) - (x->first < y->first);
}

static espl_status count_words(espl_dataset *d, scanner s, vocabulary *v, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (const char *text;;) {
        ESPL_TRY(next_token(&s, &text, diag));
        if (!text) break;
        word *w = espl__names_get(&v->names, text);
        if (w)
            w->count++;
        else
            ESPL_TRY(add_word(d, v, text, diag));
    }
    if (v->count) qsort(v->words, (size_t)v->count, sizeof *v->words, most_frequent);
    for (int64_t i = 0; i < v->count; i++) v->words[i]->token = (int32_t)i;
done:
    if (status != ESPL_OK && status != ESPL_FORMAT) espl__diag_prefix(diag, "%s", s.path);
    return status;
}

/* --- the stream ---------------------------------------------------------------------------------------- */

static espl_status count_tokens(scanner s, int64_t *count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *count = -1;
    const char *text;
    do {
        ESPL_TRY(next_token(&s, &text, diag));
        ++*count;
    } while (text);
done:
    return status;
}

static espl_status encode(scanner s, const vocabulary *v, const char *vocab_path, int32_t *tokens,
                          espl_diag *diag) {
    espl_status status = ESPL_OK;
    const word *unknown = espl__names_get(&v->names, "<unk>");
    for (const char *text;;) {
        int64_t line = s.line;
        ESPL_TRY(next_token(&s, &text, diag));
        if (!text) break;
        const word *w = espl__names_get(&v->names, text);
        if (!w) w = unknown;
        if (!w) {
            status =
                espl__fail(diag, ESPL_FORMAT,
                           "%s:%" PRId64 ": '%.64s' is not among the tokens of %s, which has no <unk> either",
                           s.path, line, text, vocab_path);
            goto done;
        }
        *tokens++ = w->token;
    }
done:
    return status;
}

/* --- the kind ---------------------------------------------------------------------------------------- */

static espl_status read_stream(espl_dataset *d, const char *path, const char *vocab_path, bool characters,
                               espl_diag *diag) {
    espl_status status = ESPL_OK;
    int32_t *tokens;
    vocabulary v = {0};
    uint8_t *bytes = NULL, *other = NULL;
    uint64_t length, other_length;
    espl__names_init(&v.names, d->ctx);
    ESPL_TRY(espl__gz_read(d->ctx, path, &bytes, &length, diag));
    scanner own = scan(path, bytes, length, characters), from = own;
    if (vocab_path) {
        ESPL_TRY(espl__gz_read(d->ctx, vocab_path, &other, &other_length, diag));
        from = scan(vocab_path, other, other_length, characters);
    }
    ESPL_TRY(count_words(d, from, &v, diag));
    ESPL_TRY(count_tokens(own, &d->token_count, diag));
    d->state = tokens = espl__calloc(d->ctx, (uint64_t)d->token_count, sizeof *tokens);
    if (!tokens) {
        status = espl__nomem(diag, (uint64_t)d->token_count * sizeof *tokens);
        goto done;
    }
    ESPL_TRY(encode(own, &v, vocab_path ? vocab_path : path, tokens, diag));
    d->tokens = tokens;
    d->vocabulary = v.count;
done:
    espl__names_free(&v.names);
    espl__free(d->ctx, v.words);
    espl__free(d->ctx, bytes);
    espl__free(d->ctx, other);
    return status;
}

static espl_status text_open(espl_dataset *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__data_desc *c = d->desc;
    const char *path, *vocab = NULL;
    if (!c->path) return espl__desc_fail(d, ESPL_INVALID, "path", diag, "is missing: give the text file");
    if (c->unit && strcmp(c->unit, "word") != 0 && strcmp(c->unit, "char") != 0)
        return espl__desc_fail(d, ESPL_INVALID, "unit", diag, "'%s' is neither word nor char", c->unit);
    ESPL_TRY(espl__desc_path(d, "path", c->path, d->folder, &path, diag));
    if (c->vocab) ESPL_TRY(espl__desc_path(d, "vocab", c->vocab, d->folder, &vocab, diag));
    ESPL_TRY(read_stream(d, path, vocab, c->unit && c->unit[0] == 'c', diag));
    int64_t sequence = c->sequence ? c->sequence : DEFAULT_SEQUENCE;
    if (d->token_count <= sequence) {
        status = espl__fail(diag, ESPL_FORMAT,
                            "%s: has %" PRId64 " tokens; a sequence of %" PRId64
                            " and the one behind it need %" PRId64,
                            path, d->token_count, sequence, sequence + 1);
        goto done;
    }
    d->source = espl__data_base_name(path);
    d->total = (d->token_count - 1) / sequence;
    d->shape[0] = (espl_shape){1, {sequence}};
done:
    return status;
}

static espl_status text_read(espl_dataset *d, int input, int64_t index, float *sample, espl_diag *diag) {
    int64_t sequence = d->shape[0].dim[0];
    (void)input;
    (void)diag;
    for (int64_t i = 0; i < sequence; i++) sample[i] = (float)d->tokens[index * sequence + i];
    return ESPL_OK;
}

static void text_close(espl_dataset *d) {
    espl__free(d->ctx, d->state);
}

const espl__data_kind espl__data_kind_text = {
    .name = "text",
    .keys = ESPL__KEY_PATH | ESPL__KEY_TEXT,
    .open = text_open,
    .read = text_read,
    .close = text_close,
};
