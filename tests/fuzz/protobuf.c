#include "protobuf.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MOST_DEPTH = 12, MOST_COPY = 1 << 16, VARINT = 10, SKIP_LONG = 4096 };

/* A field and where it lies: key, length (wire type 2 only), payload. `up`: the messages around it, outermost
 * first. */
typedef struct field {
    size_t key, length, payload, end;
    unsigned number, wire;
    int depth;
    size_t up_length[MOST_DEPTH], up_payload[MOST_DEPTH], up_end[MOST_DEPTH];
} field;

uint64_t fuzz_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static bool get_varint(const uint8_t *data, size_t *at, size_t end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t b = data[(*at)++];
        *value |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return true;
    }
    return false;
}

static size_t put_varint(uint8_t *out, uint64_t value) {
    size_t n = 0;
    for (; value > 127; value >>= 7) out[n++] = (uint8_t)(value | 128);
    out[n++] = (uint8_t)value;
    return n;
}

/* The field that begins at `at`; false if none does. */
static bool get_field(const uint8_t *data, size_t at, size_t end, field *f) {
    uint64_t key, value;
    f->key = at;
    if (!get_varint(data, &at, end, &key) || key >> 3 == 0 || key >> 3 > 1u << 20) return false;
    f->number = (unsigned)(key >> 3);
    f->wire = key & 7;
    f->length = f->payload = at;
    switch (f->wire) {
        case 0:
            if (!get_varint(data, &at, end, &value)) return false;
            f->end = at;
            return true;
        case 1:
        case 5:
            f->end = at + (f->wire == 1 ? 8 : 4);
            return f->end <= end;
        case 2:
            if (!get_varint(data, &at, end, &value) || value > end - at) return false;
            f->payload = at;
            f->end = at + (size_t)value;
            return true;
        default:
            return false;
    }
}

/* Whether these bytes read as a message; long ones of one kind (weights) are not looked through. */
static bool is_message(const uint8_t *data, size_t begin, size_t end) {
    field f;
    if (begin == end) return false;
    for (int n = 0; begin < end; begin = f.end, n++)
        if (!get_field(data, begin, end, &f)) return false;
    return true;
}

/* Goes through the fields from the outermost, each with those in it: calls itself in what reads as a message.
 * Counts them in *count; the one of number `wanted` is put into *out. */
static void walk(const uint8_t *data, size_t begin, size_t end, field *f, int64_t wanted, int64_t *count,
                 field *out) {
    int depth = f->depth;
    while (begin < end && get_field(data, begin, end, f)) {
        f->depth = depth;
        if ((*count)++ == wanted) *out = *f;
        begin = f->end;
        /* Numbers of a tensor (TensorProto.float_data, raw_data, ...) may read as a message by chance. */
        bool deep = f->wire == 2 && depth + 1 < MOST_DEPTH && (depth < 2 || f->end - f->payload < SKIP_LONG);
        if (!deep || !is_message(data, f->payload, f->end)) continue;
        f->up_length[depth] = f->length;
        f->up_payload[depth] = f->payload;
        f->up_end[depth] = f->end;
        f->depth = depth + 1;
        walk(data, f->payload, f->end, f, wanted, count, out);
        f->depth = depth;
    }
}

/* Any of the fields. */
static bool choose(const uint8_t *data, size_t size, uint64_t *random, field *out) {
    field f = {0};
    int64_t count = 0, wanted;
    walk(data, 0, size, &f, -1, &count, out);
    if (count == 0) return false;
    wanted = (int64_t)(fuzz_random(random) % (uint64_t)count);
    memset(&f, 0, sizeof f);
    count = 0;
    walk(data, 0, size, &f, wanted, &count, out);
    return true;
}

/* Replaces `old` bytes at `at` by `n` others; false without room. */
static bool splice(uint8_t *data, size_t *size, size_t most, size_t at, size_t old, const uint8_t *with,
                   size_t n) {
    if (*size - old + n > most) return false;
    memmove(data + at + n, data + at + old, *size - at - old);
    memcpy(data + at, with, n);
    *size = *size - old + n;
    return true;
}

/* The same inside the messages around `f`, whose lengths follow. */
static size_t replace(uint8_t *data, size_t size, size_t most, const field *f, size_t at, size_t old,
                      const uint8_t *with, size_t n) {
    size_t room = most > VARINT * MOST_DEPTH ? most - VARINT * MOST_DEPTH : 0;
    if (size - old + n > room || !splice(data, &size, most, at, old, with, n)) return size;
    int64_t more = (int64_t)n - (int64_t)old;
    for (int i = f->depth - 1; i >= 0; i--) {
        uint8_t length[VARINT];
        size_t was = f->up_payload[i] - f->up_length[i];
        size_t now = put_varint(length, (uint64_t)((int64_t)(f->up_end[i] - f->up_payload[i]) + more));
        (void)splice(data, &size, most, f->up_length[i], was, length, now);
        more += (int64_t)now - (int64_t)was;
    }
    return size;
}

static uint64_t odd_number(uint64_t *random, uint64_t was) {
    static const uint64_t numbers[] = {0,
                                       1,
                                       2,
                                       3,
                                       7,
                                       8,
                                       16,
                                       127,
                                       255,
                                       65536,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       (uint64_t)1 << 40,
                                       INT64_MAX,
                                       (uint64_t)INT64_MIN,
                                       (uint64_t)-1,
                                       (uint64_t)-2};
    uint64_t r = fuzz_random(random) >> 8;
    switch (r % 6) {
        case 0:
            return was + 1;
        case 1:
            return was - 1;
        case 2:
            return was * 2;
        case 3:
            return was ^ (uint64_t)1 << (r >> 8) % 16;
        default:
            return numbers[(r >> 8) % (sizeof numbers / sizeof *numbers)];
    }
}

/* A varint's value becomes another. */
static size_t change_number(uint8_t *data, size_t size, size_t most, const field *f, uint64_t *random) {
    uint8_t bytes[VARINT];
    uint64_t was;
    size_t at = f->payload;
    (void)get_varint(data, &at, f->end, &was);
    size_t n = put_varint(bytes, odd_number(random, was));
    return replace(data, size, most, f, f->payload, f->end - f->payload, bytes, n);
}

/* Some bytes of the payload, or its length by cutting the end off or repeating it. */
static size_t change_payload(uint8_t *data, size_t size, size_t most, const field *f, uint64_t *random) {
    uint64_t r = fuzz_random(random) >> 8;
    size_t n = f->end - f->payload;
    if (n == 0) return size;
    if (f->wire != 2 || r % 4) {
        data[f->payload + (r >> 8) % n] ^= (uint8_t)(1 + (r >> 40) % 255);
        return size;
    }
    static uint8_t copy[MOST_COPY + VARINT];
    size_t keep = (r >> 8) % (n + 1), twice = r % 8 == 0 && 2 * n <= MOST_COPY ? n : 0;
    if (keep + twice > MOST_COPY) return size;
    if (twice) keep = n;
    size_t head = put_varint(copy, keep + twice);
    memcpy(copy + head, data + f->payload, keep);
    memcpy(copy + head + keep, data + f->payload, twice);
    return replace(data, size, most, f, f->length, f->end - f->length, copy, head + keep + twice);
}

/* The field becomes, or is followed by, a copy of another: of one with the same number and wire type if there
 * is one among a few, such as a node's input of another node's. */
static size_t copy_field(uint8_t *data, size_t size, size_t most, const field *f, uint64_t *random,
                         bool instead) {
    static uint8_t copy[MOST_COPY];
    field from;
    for (int i = 0; i < 40; i++) {
        if (!choose(data, size, random, &from)) return size;
        if (from.number == f->number && from.wire == f->wire && from.depth == f->depth && from.key != f->key)
            break;
    }
    size_t n = from.end - from.key;
    if (n > MOST_COPY) return size;
    memcpy(copy, data + from.key, n);
    return instead ? replace(data, size, most, f, f->key, f->end - f->key, copy, n)
                   : replace(data, size, most, f, f->end, 0, copy, n);
}

static size_t change_key(uint8_t *data, size_t size, size_t most, const field *f, uint64_t *random) {
    uint8_t bytes[VARINT];
    size_t n = put_varint(bytes, (uint64_t)(1 + fuzz_random(random) % 32) << 3 | f->wire);
    return replace(data, size, most, f, f->key, f->length - f->key, bytes, n);
}

size_t protobuf_mutate(uint8_t *data, size_t size, size_t most, uint64_t *random, char *what, size_t room) {
    static const char *const names[] = {"left out", "repeated", "another", "a copy behind",
                                        "number",   "payload",  "key"};
    field f;
    if (what && room) *what = 0;
    if (size == 0) return size;
    if (!choose(data, size, random, &f)) {
        uint64_t r = fuzz_random(random);
        data[(r >> 16) % size] = (uint8_t)r;
        if (what) snprintf(what, room, "byte %zu", (size_t)((r >> 16) % size));
        return size;
    }
    int how = (int)((fuzz_random(random) >> 8) % 10);
    if (how >= 7) how = f.wire == 0 ? 4 : 5;
    if (how == 4 && f.wire != 0) how = 5;
    if (what)
        snprintf(what, room, "field %u at byte %zu, depth %d: %s", f.number, f.key, f.depth, names[how]);
    switch (how) {
        case 0:
            return replace(data, size, most, &f, f.key, f.end - f.key, data, 0);
        case 1: {
            static uint8_t copy[MOST_COPY];
            size_t n = f.end - f.key;
            if (n > MOST_COPY) return size;
            memcpy(copy, data + f.key, n);
            return replace(data, size, most, &f, f.end, 0, copy, n);
        }
        case 2:
            return copy_field(data, size, most, &f, random, true);
        case 3:
            return copy_field(data, size, most, &f, random, false);
        case 4:
            return change_number(data, size, most, &f, random);
        case 5:
            return change_payload(data, size, most, &f, random);
        default:
            return change_key(data, size, most, &f, random);
    }
}
