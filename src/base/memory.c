/* Arena and growing buffer. */
#include "base/base.h"

#include <stdio.h>

enum { BLOCK_BYTES = 64 * 1024 };

struct espl__arena_block {
    struct espl__arena_block *next;
    uint64_t used, size;
    _Alignas(64) char data[];
};

void espl__arena_init(espl__arena *arena, espl_context *ctx) {
    *arena = (espl__arena){.ctx = ctx};
}

static struct espl__arena_block *new_block(espl__arena *arena, uint64_t bytes) {
    struct espl__arena_block *b;
    if (bytes > UINT64_MAX - sizeof *b || !(b = espl__alloc(arena->ctx, sizeof *b + bytes))) return NULL;
    *b = (struct espl__arena_block){.size = bytes};
    return b;
}

/* A block becomes the one that is filled, unless the one before has more room left. */
static void add_block(espl__arena *arena, struct espl__arena_block *b) {
    struct espl__arena_block *first = arena->blocks;
    if (first && first->size - first->used > b->size - b->used) {
        b->next = first->next;
        first->next = b;
    } else {
        b->next = first;
        arena->blocks = b;
    }
}

void espl__arena_reserve(espl__arena *arena, uint64_t bytes) {
    struct espl__arena_block *b = bytes <= espl__max_alloc(arena->ctx) ? new_block(arena, bytes) : NULL;
    if (b) add_block(arena, b);
}

void *espl__arena_raw(espl__arena *arena, uint64_t bytes) {
    uint64_t align = bytes >= 256 ? 64 : 16;
    struct espl__arena_block *b = arena->blocks;
    uint64_t start = b ? (b->used + align - 1) / align * align : 0;
    if (!b || bytes > b->size || start > b->size - bytes) {
        b = new_block(arena, ESPL_MAX(bytes, BLOCK_BYTES));
        if (!b) return NULL;
        b->used = bytes;
        add_block(arena, b);
        return b->data;
    }
    b->used = start + bytes;
    return b->data + start;
}

void *espl__arena_alloc(espl__arena *arena, uint64_t bytes) {
    void *p = espl__arena_raw(arena, bytes);
    if (p) memset(p, 0, (size_t)bytes);
    return p;
}

char *espl__arena_strndup(espl__arena *arena, const char *text, size_t length) {
    char *copy = espl__arena_alloc(arena, length + 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

char *espl__arena_strdup(espl__arena *arena, const char *text) {
    return espl__arena_strndup(arena, text, strlen(text));
}

void espl__arena_free(espl__arena *arena) {
    while (arena->blocks) {
        struct espl__arena_block *next = arena->blocks->next;
        espl__free(arena->ctx, arena->blocks);
        arena->blocks = next;
    }
}

void espl__buffer_init(espl__buffer *buffer, espl_context *ctx) {
    *buffer = (espl__buffer){.ctx = ctx};
}

static bool reserve(espl__buffer *b, size_t more) {
    if (b->failed) return false;
    if (more < b->capacity - b->length) return true;
    size_t capacity = ESPL_MAX(b->capacity * 2, b->length + more + 256);
    char *data = espl__realloc(b->ctx, b->data, b->length, capacity);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void espl__buffer_append(espl__buffer *b, const void *bytes, size_t length) {
    if (!reserve(b, length)) return;
    if (length) memcpy(b->data + b->length, bytes, length);
    b->length += length;
    b->data[b->length] = 0;
}

void espl__buffer_printf(espl__buffer *b, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !reserve(b, (size_t)n)) return;
    va_start(args, fmt);
    vsnprintf(b->data + b->length, (size_t)n + 1, fmt, args);
    va_end(args);
    b->length += (size_t)n;
}

void espl__buffer_free(espl__buffer *b) {
    espl__free(b->ctx, b->data);
    *b = (espl__buffer){.ctx = b->ctx};
}
