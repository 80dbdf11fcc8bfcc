/* Integer convolution by the instruction that multiplies bytes and adds two products in 16 bits with
 * saturation (vpmaddubsw), exactly. The including file has the vector words and conv.inc.h before it.
 *
 * Codes are at most 255, so a sum of products with the weights w stays within 16 bits if
 *
 *     the positive w add up to at most 128, and the negative ones to at least -128       255 * 128 = 32640
 *
 * Integer sums may be taken in any order. So vectors lie across pixels, where a vector of codes is a group of
 * four inputs and the weights of a channel are broadcast, and when a session is created the groups of each two
 * channels, which share the loads of codes, are sorted into chains of L whose pairs of weights all meet the
 * condition. A chain is L products, L - 1 additions in 16 bits, and one vpmaddwd and one addition into the 32 bits
 * for each vector: 2 L + 1 instructions, where groups alone take 3 each and bytes that are widened to 16 bits 4. Groups
 * of zeros vanish. A group that does not meet the condition by itself is cut into two that do.
 *
 * Inputs come in pieces that stay in the first-level cache beside the weights that pass by. All channels of a
 * block have chains of the same length in a piece, whichever takes the least time; chains are filled up with
 * zeros. (Loops over chains of several lengths would end in mispredicted branches.)
 *
 * A prepared block is a list for each piece: a `list_head`, then, pair of channels after pair, chain after chain,
 * group after group, the weights of either channel, s8 x 4, and behind all of them, filled up to 4 bytes, the numbers
 * of the groups in the piece, u8. */

enum { VECTORS = 3, PIECE = 2048 / VL, LONGEST = 6, LIMIT = 128, PANEL = 8, PAIRS = ESPL__NR / 2, LINE = 64 };
#include "kernels/simd/strip.inc.h"

typedef struct list_head {
    int32_t length, groups; /* of a chain; of all chains */
    uint16_t chains[PAIRS]; /* of each two channels */
} list_head;

static INLINE size_t list_bytes(const list_head *h) {
    return sizeof *h + (size_t)h->groups * 8 + ((size_t)h->groups + 3) / 4 * 4;
}

static INLINE int32_t groups_of(const espl__conv *p) {
    return p->segments * p->seg_k;
}

/* --- products --------------------------------------------------------------------------------------- */

/* Adds one list's products with NV vectors of pixels to the sums of 16 channels, [channel][VECTORS * VL]. bias: what they begin
 * with; NULL: with themselves. next: NULL, or a list of about the same length to fetch meanwhile. */
static BODY void add_list(const list_head *list, const char *codes, const int32_t *bias, int32_t *sums, const char *next,
                          const int L, const int NV) {
    const int32_t *w = (const int32_t *)(const void *)(list + 1);
    const uint8_t *at = (const uint8_t *)(w + 2 * (ptrdiff_t)list->groups);
    const vi one = v16_set1(1);
    const int lines = next ? (int)(list_bytes(list) / (PAIRS * LINE)) + 1 : 0;
    for (int c = 0; c < PAIRS; c++, sums += 2 * VECTORS * VL) {
        vi acc[2 * VECTORS];
        for (int i = 0; i < lines; i++) fetch_line(next + (c * lines + i) * LINE);
        UNROLL
        for (int i = 0; i < 2 * NV; i++)
            acc[i] = bias ? vi_set1(bias[2 * c + i / NV]) : vi_load(sums + (i / NV * VECTORS + i % NV) * VL);
        for (int left = list->chains[c]; left > 0; left--, w += 2 * L, at += L) {
            vi sum[2 * VECTORS];
            UNROLL
            for (int l = 0; l < L; l++) {
                const vi w0 = vi_set1(w[2 * l]), w1 = vi_set1(w[2 * l + 1]);
                const char *from = codes + (ptrdiff_t)at[l] * (NV * VL * 4);
                UNROLL
                for (int v = 0; v < NV; v++) {
                    const vi x = vi_load(from + v * VL * 4), a = v8_pairs(x, w0), b = v8_pairs(x, w1);
                    sum[v] = vi_opaque(l ? v16_add(sum[v], a) : a);
                    sum[NV + v] = vi_opaque(l ? v16_add(sum[NV + v], b) : b);
                }
            }
            UNROLL
            for (int i = 0; i < 2 * NV; i++) acc[i] = vi_madd(acc[i], sum[i], one);
        }
        UNROLL
        for (int i = 0; i < 2 * NV; i++) vi_store(sums + (i / NV * VECTORS + i % NV) * VL, acc[i]);
    }
}

typedef void list_fn(const list_head *list, const char *codes, const int32_t *bias, int32_t *sums, const char *next);
#define LENGTHS(X, NV) X(1, NV) X(2, NV) X(3, NV) X(4, NV) X(6, NV)
#define DEFINE(L, NV)                                                                                                 \
    static void add_list_##L##x##NV(const list_head *list, const char *codes, const int32_t *bias, int32_t *sums,     \
                                    const char *next) {                                                               \
        add_list(list, codes, bias, sums, next, L, NV);                                                               \
    }
LENGTHS(DEFINE, 1) LENGTHS(DEFINE, 2) LENGTHS(DEFINE, 3)
#undef DEFINE
#define ENTRY(L, NV) [L] = add_list_##L##x##NV,
static list_fn *const list_fns[VECTORS + 1][LONGEST + 1] = {
    [1] = {LENGTHS(ENTRY, 1)}, [2] = {LENGTHS(ENTRY, 2)}, [3] = {LENGTHS(ENTRY, 3)}};
#undef ENTRY

/* --- a strip ---------------------------------------------------------------------------------------- */

/* Blocks whose results lie in one line. */
typedef struct panel {
    _Alignas(64) int32_t sums[PANEL * ESPL__NR * VECTORS * VL];   /* [block][channel][pixel] */
    _Alignas(64) int32_t turned[VECTORS * VL * PANEL * ESPL__NR]; /* [pixel][block][channel] */
    int block, blocks;
    const char *list[PANEL + 1]; /* of each block, what comes next; then what follows the last one */
} panel;

static INLINE int blocks_of_panel(int blocks) {
    int n = PANEL;
    while (n > blocks) n /= 2;
    return n;
}

static void add_piece(const espl__conv *p, const strip *s, const char *codes, bool begin, panel *a) {
    for (int b = 0; b < a->blocks; b++) {
        const list_head *list = (const list_head *)(const void *)a->list[b];
        const int32_t *bias = begin ? (const int32_t *)p->bias + (a->block + b) * ESPL__NR : NULL;
        a->list[b] += list_bytes(list);
        list_fns[s->vectors][list->length](list, codes, bias, a->sums + (ptrdiff_t)b * ESPL__NR * VECTORS * VL,
                                           a->list[b + 1]);
    }
}

static INLINE void convolve_strip(const espl__conv *p, finish_fn *finish, const strip *s, int first, int block0, int block1,
                                  char *out, const char *res) {
    _Alignas(64) char codes[PIECE * VECTORS * VL * 4];
    panel a;
    const int groups = groups_of(p);
    for (a.block = block0; a.block < block1; a.block += a.blocks) {
        a.blocks = blocks_of_panel(block1 - a.block);
        for (int b = 0; b < a.blocks; b++) a.list[b] = p->prepared[a.block + b];
        for (int g = 0; g < groups; g += PIECE) {
            const bool last = groups - g <= PIECE;
            const int behind = a.block + a.blocks;
            if (groups > PIECE || a.block == block0)
                copy_elements(p, s, g, last ? groups : g + PIECE, (float *)(void *)codes);
            a.list[a.blocks] = !last ? a.list[0] + list_bytes((const list_head *)(const void *)a.list[0])
                               : behind < block1 ? p->prepared[behind]
                                                 : NULL;
            add_piece(p, s, codes, g == 0, &a);
        }
        turn(a.sums, s->vectors, a.blocks, a.turned);
        finish_pixels(p, finish, a.turned, a.block, a.blocks, first, s->pixels, out, res);
    }
}

static INLINE void run_chains(finish_fn *finish, const espl__conv *p, const char *in, char *out,
                              const char *res, int pixels, int block0, int block1) {
    strip s;
    assert(pixels >= 0 && block0 >= 0);
    for (int t = 0, first; next_strip(&s, p, t, pixels, in, NULL, NULL, &first); t++)
        convolve_strip(p, finish, &s, first, block0, block1, out, res);
}

/* Prepared weights are wide ones or chains. */
static INLINE void run_prepared(finish_fn *finish, const espl__conv *p, const char *in, char *out, const char *res, int pixels,
                                int block0, int block1) {
    if (is_wide(p))
        run_wide(finish, p, in, out, res, pixels, block0, block1);
    else
        run_chains(finish, p, in, out, res, pixels, block0, block1);
}

static void conv_prepared(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                          int block0, int block1) {
    if (p->prepared)
        run_prepared(finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
    else
        conv_u8(p, in, out, res, pixels, block0, block1);
}

static void conv_prepared_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                              int block1) {
    if (p->prepared)
        run_prepared(finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
    else
        conv_u8_f32(p, in, out, pixels, block0, block1);
}

/* --- sorting groups into chains -------------------------------------------------------------------- */

/* What is left of a chain, or what a group takes of it: bytes of the positive weights of the four pairs, then of the negative. */
typedef union room {
    uint8_t of[8];
    uint64_t all;
} room;

/* The groups of two channels in a piece, or the parts of those that were cut, in descending order of what they take most of. */
typedef struct items {
    int count;
    room need[2 * PIECE];
    int8_t w[2 * PIECE][8];
    uint8_t group[2 * PIECE];
} items;

/* Chains that have room for more, and which chain each is. */
typedef struct open_chains {
    _Alignas(64) uint64_t left[2 * PIECE + VL];
    int16_t chain[2 * PIECE + VL], length[2 * PIECE + VL];
    int count;
} open_chains;

/* What the eight weights of a group take, sums up to 255, from 16 that lie side by side. */
static INLINE room room_of(const int8_t *w16, int half) {
    const __m128i w = _mm_loadu_si128((const __m128i *)(const void *)w16), zero = _mm_setzero_si128(), one = _mm_set1_epi8(1);
    const __m128i plus = _mm_maddubs_epi16(_mm_max_epi8(w, zero), one),
                  minus = _mm_maddubs_epi16(_mm_sub_epi8(zero, _mm_min_epi8(w, zero)), one);
    uint8_t sums[16];
    room r;
    _mm_storeu_si128((__m128i *)(void *)sums, _mm_packus_epi16(plus, minus));
    memcpy(r.of, sums + half * 4, 4);
    memcpy(r.of + 4, sums + 8 + half * 4, 4);
    return r;
}

static int largest(room r) {
    int most = 0;
    for (int i = 0; i < 8; i++) most = r.of[i] > most ? r.of[i] : most;
    return most;
}

/* Keeps of w what a chain has room for, and gives the rest. */
static void cut(int8_t w[8], int8_t rest[8], room *kept_room, room *rest_room) {
    memset(kept_room, 0, sizeof *kept_room);
    memset(rest_room, 0, sizeof *rest_room);
    for (int i = 0; i < 8; i++) {
        const int at = i / 2 + (w[i] < 0 ? 4 : 0), left = LIMIT - kept_room->of[at];
        const int size = abs(w[i]) < left ? abs(w[i]) : left, kept = w[i] < 0 ? -size : size;
        kept_room->of[at] = (uint8_t)(kept_room->of[at] + size);
        rest_room->of[at] = (uint8_t)(rest_room->of[at] + abs(w[i]) - size);
        rest[i] = (int8_t)(w[i] - kept);
        w[i] = (int8_t)kept;
    }
}

/* w: the weights of the piece's first group and 16 channels; those of the next group lie ESPL__NR * 4 bytes behind. */
static void sort_items(const int8_t *w, int pair, int groups, items *to) {
    int8_t parts[2 * PIECE][8];
    room need[2 * PIECE];
    int16_t next[2 * PIECE], first[LIMIT + 1];
    memset(first, -1, sizeof first);
    for (int g = 0; g < groups; g++, w += ESPL__NR * 4) {
        memcpy(parts[2 * g], w + pair * 8, 8);
        need[2 * g] = room_of(w + pair / 2 * 16, pair % 2);
        need[2 * g + 1].all = 0;
        if (largest(need[2 * g]) > LIMIT) cut(parts[2 * g], parts[2 * g + 1], &need[2 * g], &need[2 * g + 1]);
        for (int i = 2 * g; i < 2 * g + 2 && need[i].all; i++) {
            const int most = largest(need[i]);
            next[i] = first[most];
            first[most] = (int16_t)i;
        }
    }
    to->count = 0;
    for (int most = LIMIT; most > 0; most--)
        for (int i = first[most]; i >= 0; i = next[i]) {
            to->need[to->count] = need[i];
            memcpy(to->w[to->count], parts[i], 8);
            to->group[to->count++] = (uint8_t)(i / 2);
        }
}

static int chain_with_room(const open_chains *o, room need) {
    const vi item = v64_set1((int64_t)need.all);
    for (int i = 0; i < o->count; i += VL / 2) {
        const unsigned fits = v64_within(item, vi_load(o->left + i));
        if (fits) return i + __builtin_ctz(fits);
    }
    return o->count;
}

/* Each item, the largest first, into the first chain with room; gives the number of chains. places: NULL, or for each item its
 * place among all, L a chain. */
static int fill_chains(const items *x, int L, int32_t *places) {
    open_chains o;
    int chains = 0;
    o.count = 0;
    memset(o.left, 0, VL * sizeof *o.left);
    for (int i = 0; i < x->count; i++) {
        const int at = chain_with_room(&o, x->need[i]);
        if (at >= o.count) {
            memset(&o.left[at], LIMIT, sizeof *o.left);
            if ((at + 1) % VL == 0) memset(&o.left[at + 1], 0, VL * sizeof *o.left);
            o.chain[at] = (int16_t)chains++;
            o.length[at] = 0;
            o.count++;
        }
        if (places) places[i] = o.chain[at] * L + o.length[at];
        o.left[at] -= x->need[i].all; /* no byte borrows */
        if (++o.length[at] < L) continue;
        o.count--;
        o.left[at] = o.left[o.count];
        o.chain[at] = o.chain[o.count];
        o.length[at] = o.length[o.count];
        o.left[o.count] = 0;
    }
    return chains;
}

/* What a product, an addition and what ends a chain take of four units, in quarters of a cycle (Zen 4). */
static INLINE int64_t cost_of_chains(int64_t chains, int L) {
    return chains * (5 * L + 2);
}

/* Longer chains save more and find less that fits: from three on to either side as long as it gets better for some channels. */
static int best_length(const items *pairs) {
    static const int8_t lengths[] = {1, 2, 3, 4, 6};
    enum { SAMPLE = 3, BEGIN = 2, ALL = sizeof lengths };
    int64_t cost[ALL] = {0};
    int best = BEGIN;
    for (int at = BEGIN, step = 1; at >= 0 && at < ALL; at += step) {
        for (int c = 0; c < PAIRS; c += SAMPLE)
            cost[at] += cost_of_chains(fill_chains(&pairs[c], lengths[at], NULL), lengths[at]);
        if (cost[at] < cost[best] || at == BEGIN)
            best = at;
        else if (step > 0 && best == BEGIN)
            at = BEGIN, step = -1;
        else
            break;
    }
    return lengths[best];
}

static size_t write_list(const int8_t *w, int groups, items *pairs, char *to) {
    for (int c = 0; c < PAIRS; c++) sort_items(w, c, groups, &pairs[c]);
    list_head head = {.length = best_length(pairs)};
    int32_t places[PAIRS][2 * PIECE];
    for (int c = 0; c < PAIRS; c++) {
        head.chains[c] = (uint16_t)fill_chains(&pairs[c], head.length, places[c]);
        head.groups += head.length * head.chains[c];
    }
    char *weights = to + sizeof head;
    uint8_t *at = (uint8_t *)weights + 8 * (size_t)head.groups;
    memcpy(to, &head, sizeof head);
    memset(weights, 0, list_bytes(&head) - sizeof head);
    for (int c = 0; c < PAIRS; c++) {
        for (int i = 0; i < pairs[c].count; i++) {
            memcpy(weights + 8 * places[c][i], pairs[c].w[i], 8);
            at[places[c][i]] = pairs[c].group[i];
        }
        weights += 8 * head.length * head.chains[c];
        at += head.length * head.chains[c];
    }
    return list_bytes(&head);
}

/* At most two items a group, each in a chain of its own. */
static size_t prepare_room(const espl__conv *p) {
    if (groups_of(p) == 0) return 0; /* nothing would write the sums */
    if (is_wide(p)) return wide_block(p);
    const size_t pieces = ((size_t)groups_of(p) + PIECE - 1) / PIECE;
    return pieces * (sizeof(list_head) + 4) + 2 * (size_t)groups_of(p) * LONGEST * PAIRS * (8 + 1) + PAIRS * sizeof(items) +
           sizeof(int64_t);
}

static size_t prepare(const espl__conv *p, int block, void *to) {
    const int groups = groups_of(p);
    if (is_wide(p)) return prepare_wide(p, block, to);
    const int8_t *w = (const int8_t *)p->w + (ptrdiff_t)block * groups * ESPL__NR * 4;
    const uintptr_t behind = (uintptr_t)to + prepare_room(p) - PAIRS * sizeof(items); /* and aligned */
    items *pairs = (items *)(behind / sizeof(int64_t) * sizeof(int64_t));
    size_t used = 0;
    for (int g = 0; g < groups; g += PIECE, w += PIECE * ESPL__NR * 4)
        used += write_list(w, groups - g < PIECE ? groups - g : PIECE, pairs, (char *)to + used);
    return used;
}
