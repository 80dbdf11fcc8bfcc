/* A map from names to pointers: open addressing, SipHash-2-4 (Aumasson, Bernstein 2012) with a key of its own
 * for each map, because the names come from files that may be made to collide. */
#include "base/names.h"

#include <time.h>

struct espl__names_slot {
    const char *name;
    void *value;
};

static uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static void round_sip(uint64_t v[4]) {
    v[0] += v[1], v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1], v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static uint64_t hash(const uint64_t key[2], const char *text) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    size_t length = strlen(text), left = length;
    for (bool last = false; !last;) {
        uint64_t m = 0;
        last = left < 8;
        memcpy(&m, text, last ? left : 8);
        if (last) m |= (uint64_t)length << 56;
        v[3] ^= m;
        round_sip(v), round_sip(v);
        v[0] ^= m;
        if (!last) text += 8, left -= 8;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) round_sip(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void espl__names_init(espl__names *names, espl_context *ctx) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    *names = (espl__names){.ctx = ctx};
    names->key[0] = (uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec;
    names->key[1] = (uint64_t)(uintptr_t)names * 0x9e3779b97f4a7c15u ^ (uint64_t)(uintptr_t)ctx;
}

void espl__names_free(espl__names *names) {
    espl__free(names->ctx, names->slots);
    names->slots = NULL;
    names->count = names->capacity = 0;
}

/* The slot of that name, or the empty one where it belongs. */
static struct espl__names_slot *find(const espl__names *n, const char *name) {
    size_t i = (size_t)hash(n->key, name) & (n->capacity - 1);
    while (n->slots[i].name && strcmp(n->slots[i].name, name) != 0) i = (i + 1) & (n->capacity - 1);
    return &n->slots[i];
}

static bool grow(espl__names *n) {
    espl__names bigger = *n;
    bigger.capacity = n->capacity ? n->capacity * 2 : 256;
    bigger.slots = espl__calloc(n->ctx, bigger.capacity, sizeof *bigger.slots);
    if (!bigger.slots) return false;
    for (size_t i = 0; i < n->capacity; i++)
        if (n->slots[i].name) *find(&bigger, n->slots[i].name) = n->slots[i];
    espl__free(n->ctx, n->slots);
    *n = bigger;
    return true;
}

espl_status espl__names_add(espl__names *names, const char *name, void *value) {
    if (names->count * 2 >= names->capacity && !grow(names)) return ESPL_NOMEM;
    struct espl__names_slot *slot = find(names, name);
    if (slot->name) return ESPL_INVALID;
    *slot = (struct espl__names_slot){name, value};
    names->count++;
    return ESPL_OK;
}

void *espl__names_get(const espl__names *names, const char *name) {
    return names->capacity ? find(names, name)->value : NULL;
}

bool espl__names_has(const espl__names *names, const char *name) {
    return names->capacity && find(names, name)->name;
}

/* RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF. */
int espl__utf8_length(const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    if (*p > 0 && *p < 0x80) return 1;
    int more = *p >= 0xc2 && *p <= 0xdf ? 1 : *p >= 0xe0 && *p <= 0xef ? 2 : *p >= 0xf0 && *p <= 0xf4 ? 3 : 0;
    unsigned char lo = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;
    unsigned char hi = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
    if (!more || p[1] < lo || p[1] > hi) return 0;
    for (int i = 2; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return more + 1;
}

bool espl__utf8(const char *text) {
    for (int length; *text; text += length)
        if ((length = espl__utf8_length(text)) == 0) return false;
    return true;
}
