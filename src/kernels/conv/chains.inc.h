/* Integer convolution by the instruction that multiplies bytes and adds two products in 16 bits with
 * saturation (vpmaddubsw), exactly. The including file has the vector words and conv.inc.h before it.
 *
 * Codes are at most 255, so a sum of products with the weights w stays within 16 bits if
 *
 *     the positive w add up to at most 128, and the negative ones to at least -128       255 * 128 = 32640
 *
 * A group is four inputs of VL channels, one vector of weights: per channel two pairs, each summed in 16
 * bits. Integer sums may be taken in any order, so when a session is created the groups of VL channels are
 * sorted into chains: groups whose pairs meet the condition together, up to CHAIN of them. A chain of L
 * groups is L products, L - 1 additions in 16 bits, and one vpmaddwd and one addition into the 32 bits: 2 L +
 * 1 instructions a vector of sums, where groups alone take 3 each and bytes that are widened to 16 bits more
 * than 4. A group that does not meet the condition by itself is written as two that do: the pairs cut to 128,
 * and what was cut off.
 *
 * Trained weights lie around 0 with the largest of a channel at 127, so the condition mostly holds for two
 * groups of 8 channels that fit each other. The fewer channels a chain has the longer it is; hence one vector
 * a tile, and as many pixels as there are registers.
 *
 * A prepared block is ESPL__NR / VL lists one after the other. A list is a `list_head`, the offsets of the
 * groups from the pixel's base, filled up to a line, and their weights; chains of CHAIN groups first, alone
 * ones last. */

enum { CHAIN = 4, OPEN = 32, CHAIN_MR = 8, LINE = 64, VECTOR = 4 * VL, LIMIT = 128 };

typedef struct list_head {
    int32_t chains[CHAIN + 1]; /* how many of 1 ... CHAIN groups */
    int32_t bytes;             /* of the list */
    int32_t rest[LINE / 4 - CHAIN - 2];
} list_head;

static INLINE size_t whole_lines(size_t bytes) {
    return (bytes + LINE - 1) / LINE * LINE;
}

/* --- one tile ----------------------------------------------------------------------------------- */

/* Where the chains of a list are: what is left of it. */
typedef struct chain_walk {
    const int32_t *offset;
    const char *w;
} chain_walk;

static INLINE void add_chains(const int L, int count, chain_walk *at, const char *in, steps step, vi *acc,
                              const int MR) {
    const vi one = v16_set1(1);
    for (; count > 0; count--) {
        const char *base[CHAIN];
        vi w[CHAIN];
        UNROLL
        for (int l = 0; l < L; l++) {
            base[l] = (const char *)opaque((ptrdiff_t)(in + at->offset[l]));
            w[l] = vi_load(at->w + l * VECTOR);
        }
        UNROLL
        for (int m = 0; m < MR; m++) {
            vi sum = v8_pairs(vi_set1(load4((const uint8_t *)base[0] + step_at(step, m))), w[0]);
            UNROLL
            for (int l = 1; l < L; l++)
                sum =
                    v16_add(sum, v8_pairs(vi_set1(load4((const uint8_t *)base[l] + step_at(step, m))), w[l]));
            acc[m] = vi_madd(acc[m], sum, one);
        }
        at->offset += L;
        at->w += L * VECTOR;
    }
}

/* MR pixels x 1 block, a list after the other; a tile_fn of up to CHAIN_MR pixels of one row. */
static INLINE void tile_chains(const espl__conv *p, const char *in, int block, int32_t *sums, const int MR) {
    const char *list = p->prepared[block];
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    const steps step = steps_of(p->in_step);
    for (int v = 0; v < VPB; v++) {
        const list_head *head = (const list_head *)list;
        const int groups = head->chains[1] + 2 * head->chains[2] + 3 * head->chains[3] + 4 * head->chains[4];
        const char *offsets = list + sizeof *head;
        chain_walk at = {(const int32_t *)offsets, offsets + whole_lines(4 * (size_t)groups)};
        vi acc[CHAIN_MR];
        UNROLL
        for (int m = 0; m < MR; m++) acc[m] = vi_load(bias + v * VL);
        add_chains(4, head->chains[4], &at, in, step, acc, MR);
        add_chains(3, head->chains[3], &at, in, step, acc, MR);
        add_chains(2, head->chains[2], &at, in, step, acc, MR);
        add_chains(1, head->chains[1], &at, in, step, acc, MR);
        UNROLL
        for (int m = 0; m < MR; m++) vi_store(sums + m * ESPL__NR + v * VL, acc[m]);
        list += head->bytes;
    }
}

#define DEFINE(MR, NRB)                                                                           \
    static void chains_##MR(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, \
                            ptrdiff_t ahead, void *sums) {                                        \
        (void)group_step;                                                                         \
        (void)ahead;                                                                              \
        tile_chains(p, in, block, sums, MR);                                                      \
    }
UP_TO_8(DEFINE, 1)
#undef DEFINE
#define ENTRY(MR, NRB) chains_##MR,
static tile_fn *const chain_tiles[CHAIN_MR] = {UP_TO_8(ENTRY, 1)};
#undef ENTRY

static INLINE void run_chains(finish_fn *finish, const espl__conv *p, const char *in, char *out,
                              const char *res, int pixels, int block0, int block1) {
    const int width = p->width && p->width < pixels ? p->width : pixels;
    fetch none = {0, 0, 0, 0};
    assert(pixels >= 0 && block0 >= 0);
    for (int block = block0; block < block1; block++) {
        ptrdiff_t y = 0;
        for (int left = pixels; left > 0; y++, left -= width)
            run_row(chain_tiles, CHAIN_MR, finish, p, in + y * p->in_row, out + y * p->out_row,
                    res ? res + y * p->res_row : NULL, left < width ? left : width, block, 1, &none);
    }
}

static void conv_chains(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                        int block0, int block1) {
    if (p->prepared)
        run_chains(finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
    else
        conv_u8(p, in, out, res, pixels, block0, block1);
}

static void conv_chains_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                            int block1) {
    if (p->prepared)
        run_chains(finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
    else
        conv_u8_f32(p, in, out, pixels, block0, block1);
}

/* --- sorting groups into chains -------------------------------------------------------------------- */

/* A part of a group: 2 * group, + 1 for what was cut off. The worst case is two parts a group, all alone. */
typedef struct open_chain {
    vi sums; /* of the positive and of the negative weights of each pair, bytes */
    int32_t part[CHAIN];
    int32_t length;
} open_chain;

typedef struct sorter {
    open_chain open[OPEN];
    int opened;
    int32_t (*closed)[CHAIN]; /* -1 behind the last part */
    int32_t count, chains[CHAIN + 1];
} sorter;

static void close_chain(sorter *s, int i) {
    open_chain *c = &s->open[i];
    for (int l = 0; l < CHAIN; l++) s->closed[s->count][l] = l < c->length ? c->part[l] : -1;
    s->count++;
    s->chains[c->length]++;
    *c = s->open[--s->opened];
}

static int longest(const sorter *s) {
    int best = 0;
    for (int i = 1; i < s->opened; i++)
        if (s->open[i].length > s->open[best].length) best = i;
    return best;
}

/* Into the longest chain that it fits, else into one of its own. */
static void add_part(sorter *s, vi sums, int32_t part) {
    int best = -1;
    for (int i = 0; i < s->opened; i++)
        if ((best < 0 || s->open[i].length > s->open[best].length) &&
            v8_within(v8_adds(s->open[i].sums, sums), v8_set1(LIMIT)))
            best = i;
    if (best < 0) {
        if (s->opened == OPEN) close_chain(s, longest(s));
        best = s->opened++;
        s->open[best] = (open_chain){.sums = vi_set1(0)};
    }
    open_chain *c = &s->open[best];
    c->sums = v8_adds(c->sums, sums);
    c->part[c->length++] = part;
    if (c->length == CHAIN) close_chain(s, best);
}

/* Cuts the pairs of a group that pass the limit: the group is the sum of both. A pair of unlike signs cannot.
 */
static void cut(const int8_t *w, int8_t *kept, int8_t *off) {
    for (int i = 0; i < VECTOR; i += 2) {
        const int a = w[i], sum = a + w[i + 1];
        const int over = sum > LIMIT ? sum - LIMIT : sum < -LIMIT ? sum + LIMIT : 0;
        const int first = over > 0 ? (over < a ? over : a) : (over > a ? over : a);
        off[i] = (int8_t)(over ? first : 0);
        off[i + 1] = (int8_t)(over ? over - first : 0);
        kept[i] = (int8_t)(w[i] - off[i]);
        kept[i + 1] = (int8_t)(w[i + 1] - off[i + 1]);
    }
}

static void sort_groups(sorter *s, const int8_t *w, int32_t groups) {
    const vi limit = v8_set1(LIMIT), zero = vi_set1(0);
    for (int32_t g = 0; g < groups; g++, w += ESPL__NR * 4) {
        const vi sums = v8_pair_sums(vi_load(w));
        if (v8_within(sums, zero)) continue;
        if (v8_within(sums, limit)) {
            add_part(s, sums, 2 * g);
            continue;
        }
        int8_t part[2][VECTOR];
        cut(w, part[0], part[1]);
        for (int i = 0; i < 2; i++) add_part(s, v8_pair_sums(vi_load(part[i])), 2 * g + i);
    }
    while (s->opened) close_chain(s, s->opened - 1);
}

/* Writes the offsets and weights of the chains of L groups. */
static void write_chains(const espl__conv *p, const sorter *s, int L, const int8_t *w, int32_t **offset,
                         int8_t **to) {
    for (int32_t i = 0; i < s->count; i++) {
        const int32_t *chain = s->closed[i];
        if (chain[L - 1] < 0 || (L < CHAIN && chain[L] >= 0)) continue;
        for (int l = 0; l < L; l++, *to += VECTOR) {
            const int32_t g = chain[l] / 2;
            int8_t part[2][VECTOR];
            cut(w + (ptrdiff_t)g * ESPL__NR * 4, part[0], part[1]);
            memcpy(*to, part[chain[l] % 2], VECTOR);
            *(*offset)++ = p->seg_off[g / p->seg_k] + g % p->seg_k * 4;
        }
    }
}

static size_t list_room(size_t groups) {
    return sizeof(list_head) + whole_lines(2 * groups * sizeof(int32_t)) + 2 * groups * VECTOR;
}

/* Room for the lists and, behind them, for the chains of one while it is made. */
static size_t prepare_room(const espl__conv *p) {
    const int64_t groups = (int64_t)p->segments * p->seg_k;
    for (int s = 0; s < p->segments; s++)
        if (p->seg_off[s] + 4 * (int64_t)p->seg_k > INT32_MAX) return 0;
    if (groups * 4 * VECTOR > INT32_MAX) return 0;
    return VPB * list_room((size_t)groups) + 2 * (size_t)groups * sizeof(int32_t[CHAIN]);
}

static size_t prepare(const espl__conv *p, int block, void *to) {
    const size_t groups = (size_t)p->segments * (size_t)p->seg_k;
    const int8_t *w = (const int8_t *)p->w + (size_t)block * groups * ESPL__NR * 4;
    char *list = to;
    for (int v = 0; v < VPB; v++, w += VECTOR) {
        sorter s = {.closed = (int32_t(*)[CHAIN])(void *)((char *)to + VPB * list_room(groups))};
        sort_groups(&s, w, (int32_t)groups);
        list_head head = {{0}, 0, {0}};
        int32_t parts = 0;
        for (int l = 1; l <= CHAIN; l++) {
            head.chains[l] = s.chains[l];
            parts += l * s.chains[l];
        }
        char *offsets = list + sizeof head, *weights = offsets + whole_lines(4 * (size_t)parts);
        int32_t *offset = (int32_t *)(void *)offsets;
        int8_t *next = (int8_t *)weights;
        for (int l = CHAIN; l > 0; l--) write_chains(p, &s, l, w, &offset, &next);
        memset(offset, 0, (size_t)(weights - (char *)offset));
        head.bytes = (int32_t)whole_lines((size_t)((char *)next - list));
        memset(next, 0, (size_t)(list + head.bytes - (char *)next));
        memcpy(list, &head, sizeof head);
        list += head.bytes;
    }
    return (size_t)(list - (char *)to);
}
