/* CRC-32 of large files. The checksum is linear over bits: byte i of a block of 8 is looked up in a table of
 * its own, which says what it does to the checksum once 7 - i more bytes have gone by (Kounavis and Berry
 * 2005); and parts of the file can be taken on their own, since a part before n more bytes counts as its own
 * checksum times x^8n modulo the polynomial. Parts side by side keep the loads busy where one would wait for
 * each look-up. */
#include "base/base.h"

enum { BLOCK = 8, PARTS = 4, LEAST = 1024 };
#define POLYNOMIAL 0xEDB88320u /* bit 31 is x^0 */

typedef struct tables {
    uint32_t t[BLOCK][256];
} tables;

static uint32_t times_x(uint32_t a) {
    return a & 1 ? a >> 1 ^ POLYNOMIAL : a >> 1;
}

static uint32_t times(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (; a; a <<= 1, b = times_x(b))
        if (a >> 31) product ^= b;
    return product;
}

static uint32_t power_of_x(uint64_t n) {
    uint32_t result = 1u << 31, square = 1u << 30;
    for (; n; n >>= 1, square = times(square, square))
        if (n & 1) result = times(result, square);
    return result;
}

static void make_tables(tables *t) {
    for (uint32_t i = 0; i < 256; i++) {
        t->t[0][i] = i;
        for (int k = 0; k < 8; k++) t->t[0][i] = times_x(t->t[0][i]);
    }
    for (int n = 1; n < BLOCK; n++)
        for (uint32_t i = 0; i < 256; i++) t->t[n][i] = t->t[n - 1][i] >> 8 ^ t->t[0][t->t[n - 1][i] & 255];
}

static inline uint32_t block(const tables *k, uint32_t crc, const uint8_t *bytes) {
    uint64_t x;
    memcpy(&x, bytes, BLOCK);
    x ^= crc;
    return k->t[7][x & 255] ^ k->t[6][x >> 8 & 255] ^ k->t[5][x >> 16 & 255] ^ k->t[4][x >> 24 & 255] ^
           k->t[3][x >> 32 & 255] ^ k->t[2][x >> 40 & 255] ^ k->t[1][x >> 48 & 255] ^ k->t[0][x >> 56];
}

uint32_t espl__crc32(const uint8_t *bytes, uint64_t length) {
    tables k;
    uint32_t crc = 0xFFFFFFFFu;
    make_tables(&k);
    if (length >= LEAST) {
        uint64_t part = length / (PARTS * BLOCK) * BLOCK;
        uint32_t a = crc, b = 0, c = 0, d = 0, shift = power_of_x(8 * part);
        for (uint64_t i = 0; i < part; i += BLOCK) {
            a = block(&k, a, bytes + i);
            b = block(&k, b, bytes + part + i);
            c = block(&k, c, bytes + 2 * part + i);
            d = block(&k, d, bytes + 3 * part + i);
        }
        crc = times(shift, times(shift, times(shift, a) ^ b) ^ c) ^ d;
        bytes += PARTS * part;
        length -= PARTS * part;
    }
    for (; length > 0; length--, bytes++) crc = k.t[0][(crc ^ *bytes) & 255] ^ crc >> 8;
    return ~crc;
}
