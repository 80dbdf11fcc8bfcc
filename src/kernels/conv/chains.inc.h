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
 * than 4. A group that does not meet the condition by itself is written as two that do, cut so that they fill
 * what two chains have left.
 *
 * Trained weights lie around 0 with the largest of a channel at 127, so the condition mostly holds for two
 * groups of 8 channels that fit each other. The fewer channels a chain has the longer it is; hence one vector
 * a tile, and as many pixels as there are registers.
 *
 * A prepared block is ESPL__NR / VL lists one after the other. A list is a `list_head`, the offsets of the
 * groups from the pixel's base, filled up to a line, and their weights; chains of CHAIN groups first, alone
 * ones last. */

enum { CHAIN = 4, OPEN = 32, CHAIN_MR = 8, LINE = 64, VECTOR = 4 * VL, LIMIT = 128, FAR = 1 << 20 };

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

static INLINE void add_chains(const int L, int count, chain_walk *at, const char *in, steps step,
                              ptrdiff_t ahead, vi *acc, const int MR) {
    const vi one = v16_set1(1);
    for (; count > 0; count--) {
        if (ahead) {
            UNROLL
            for (int l = 0; l < L; l += LINE / VECTOR) fetch_line(at->w + ahead + l * VECTOR);
        }
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
static BODY void tile_chains(const espl__conv *p, const char *in, int block, ptrdiff_t ahead, int32_t *sums,
                             const int MR) {
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
        add_chains(4, head->chains[4], &at, in, step, ahead, acc, MR);
        add_chains(3, head->chains[3], &at, in, step, ahead, acc, MR);
        add_chains(2, head->chains[2], &at, in, step, ahead, acc, MR);
        add_chains(1, head->chains[1], &at, in, step, ahead, acc, MR);
        UNROLL
        for (int m = 0; m < MR; m++) vi_store(sums + m * ESPL__NR + v * VL, acc[m]);
        list += head->bytes;
    }
}

#define DEFINE(MR, NRB)                                                                           \
    static void chains_##MR(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, \
                            ptrdiff_t ahead, void *sums) {                                        \
        (void)group_step;                                                                         \
        tile_chains(p, in, block, ahead, sums, MR);                                               \
    }
UP_TO_8(DEFINE, 1)
#undef DEFINE
#define ENTRY(MR, NRB) chains_##MR,
static tile_fn *const chain_tiles[CHAIN_MR] = {UP_TO_8(ENTRY, 1)};
#undef ENTRY

/* Where the lists of the next block are, from those of this one; 0: there is no next one near by. */
static INLINE ptrdiff_t next_list(const espl__conv *p, int block, int block1) {
    if (block + 1 >= block1) return 0;
    const ptrdiff_t step = (const char *)p->prepared[block + 1] - (const char *)p->prepared[block];
    return step > 0 && step < FAR ? step : 0;
}

static INLINE void run_chains(finish_fn *finish, const espl__conv *p, const char *in, char *out,
                              const char *res, int pixels, int block0, int block1) {
    const int width = p->width && p->width < pixels ? p->width : pixels;
    const int most = pixels_meet(p) ? CHAIN_MR / 2 : CHAIN_MR;
    assert(pixels >= 0 && block0 >= 0);
    for (int block = block0; block < block1; block++) {
        fetch f = {next_list(p, block, block1), 0, 0, 1, NULL};
        ptrdiff_t y = 0;
        for (int left = pixels; left > 0; y++, left -= width)
            run_row(chain_tiles, NULL, most, finish, p, in + y * p->in_row, out + y * p->out_row,
                    res ? res + y * p->res_row : NULL, left < width ? left : width, block, 1, &f);
    }
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

/* Part 2 * group is a group, or what is left of it when part 2 * group + 1 was cut off. The worst case is two
 * parts a group, all alone. */
typedef struct open_chain {
    vi left; /* what the positive and the negative weights of each pair may still add up to, bytes */
    int32_t part[CHAIN];
    int32_t length;
} open_chain;

typedef struct sorter {
    open_chain open[OPEN];
    int opened;
    int8_t (*parts)[VECTOR];
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

static int new_chain(sorter *s) {
    s->open[s->opened] = (open_chain){.left = v8_set1(LIMIT)};
    return s->opened++;
}

static void add_part(sorter *s, int i, int32_t part) {
    open_chain *c = &s->open[i];
    c->left = v8_sub(c->left, v8_pair_sums(vi_load(s->parts[part])));
    c->part[c->length++] = part;
}

/* Into the longest chain that it fits, else into one of its own. */
static void add_whole(sorter *s, vi sums, int32_t part) {
    int best = -1;
    for (int i = 0; i < s->opened; i++)
        if ((best < 0 || s->open[i].length > s->open[best].length) && v8_within(sums, s->open[i].left))
            best = i;
    if (best < 0) best = new_chain(s);
    add_part(s, best, part);
    if (s->open[best].length == CHAIN) close_chain(s, best);
}

/* The two chains that together have room for a group and are the longest, or new ones. What counts as room is
 * at most 127 a chain: sums end at 255, and where they do (-128 twice) only new chains hold them. */
static void find_pair(sorter *s, vi sums, int *one, int *other) {
    const vi most = v8_set1(LIMIT - 1);
    int best = 0;
    for (int i = 0; i < s->opened; i++) {
        const vi left = v8_min(s->open[i].left, most);
        for (int j = 0; j < i; j++) {
            const int length = s->open[i].length + s->open[j].length;
            if (length <= best || !v8_within(sums, v8_adds(left, v8_min(s->open[j].left, most)))) continue;
            best = length;
            *one = i; /* the later one: closing it leaves the other in its place */
            *other = j;
        }
    }
    for (int i = 0; best == 0 && i < s->opened; i++)
        if (v8_within(sums, v8_adds(v8_min(s->open[i].left, most), most))) {
            *other = i;
            *one = new_chain(s);
            return;
        }
    if (best) return;
    *other = new_chain(s);
    *one = new_chain(s);
}

/* What of w still has room; the room of both signs shrinks. */
static int8_t take_part(int w, int *plus, int *minus) {
    int *room = w > 0 ? plus : minus;
    const int size = abs(w) < *room ? abs(w) : *room;
    *room -= size;
    return (int8_t)(w > 0 ? size : -size);
}

/* Cuts a group into what one chain has room for and the rest, which another chain has room for. */
static void add_cut(sorter *s, vi sums, const int8_t *w, int32_t group) {
    int one, other;
    uint8_t left[VECTOR];
    int8_t *kept = s->parts[2 * group], *off = s->parts[2 * group + 1];
    find_pair(s, sums, &one, &other);
    vi_store(left, s->open[other].left);
    for (int i = 0; i < VECTOR; i += 2) {
        const int at = i / 16 * 16 + i % 16 / 2; /* as v8_pair_sums has them */
        int plus = left[at], minus = left[at + 8];
        for (int j = i; j < i + 2; j++) {
            kept[j] = take_part(w[j], &plus, &minus);
            off[j] = (int8_t)(w[j] - kept[j]);
        }
    }
    add_part(s, other, 2 * group);
    add_part(s, one, 2 * group + 1);
    if (s->open[one].length == CHAIN) close_chain(s, one);
    if (s->open[other].length == CHAIN) close_chain(s, other);
}

static void sort_groups(sorter *s, const int8_t *w, int32_t groups) {
    const vi limit = v8_set1(LIMIT), zero = vi_set1(0);
    for (int32_t g = 0; g < groups; g++, w += ESPL__NR * 4) {
        const vi sums = v8_pair_sums(vi_load(w));
        if (v8_within(sums, zero)) continue;
        while (s->opened > OPEN - 2) close_chain(s, longest(s));
        if (v8_within(sums, limit)) {
            memcpy(s->parts[2 * g], w, VECTOR);
            add_whole(s, sums, 2 * g);
        } else {
            add_cut(s, sums, w, g);
        }
    }
    while (s->opened) close_chain(s, s->opened - 1);
}

/* Writes the offsets and weights of the chains of L groups. */
static void write_chains(const espl__conv *p, const sorter *s, int L, int32_t **offset, int8_t **to) {
    for (int32_t i = 0; i < s->count; i++) {
        const int32_t *chain = s->closed[i];
        if (chain[L - 1] < 0 || (L < CHAIN && chain[L] >= 0)) continue;
        for (int l = 0; l < L; l++, *to += VECTOR) {
            const int32_t g = chain[l] / 2;
            memcpy(*to, s->parts[chain[l]], VECTOR);
            *(*offset)++ = p->seg_off[g / p->seg_k] + g % p->seg_k * 4;
        }
    }
}

static size_t list_room(size_t groups) {
    return sizeof(list_head) + whole_lines(2 * groups * sizeof(int32_t)) + 2 * groups * VECTOR;
}

/* Room for wide weights, or for the lists and, behind them, for the chains of one and its parts while it is made. */
static size_t prepare_room(const espl__conv *p) {
    const int64_t groups = (int64_t)p->segments * p->seg_k;
    for (int s = 0; s < p->segments; s++)
        if (p->seg_off[s] + 4 * (int64_t)p->seg_k > INT32_MAX) return 0;
    if (groups * 4 * VECTOR > INT32_MAX) return 0;
    if (is_wide(p)) return wide_block(p);
    return VPB * list_room((size_t)groups) + 2 * (size_t)groups * (sizeof(int32_t[CHAIN]) + VECTOR);
}

static size_t prepare(const espl__conv *p, int block, void *to) {
    const size_t groups = (size_t)p->segments * (size_t)p->seg_k;
    const int8_t *w = (const int8_t *)p->w + (size_t)block * groups * ESPL__NR * 4;
    char *list = to;
    if (is_wide(p)) return prepare_wide(p, block, to);
    for (int v = 0; v < VPB; v++, w += VECTOR) {
        char *behind = (char *)to + VPB * list_room(groups);
        sorter s = {.closed = (int32_t(*)[CHAIN])(void *)behind,
                    .parts = (int8_t(*)[VECTOR])(void *)(behind + 2 * groups * sizeof(int32_t[CHAIN]))};
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
        for (int l = CHAIN; l > 0; l--) write_chains(p, &s, l, &offset, &next);
        memset(offset, 0, (size_t)(weights - (char *)offset));
        head.bytes = (int32_t)whole_lines((size_t)((char *)next - list));
        memset(next, 0, (size_t)(list + head.bytes - (char *)next));
        memcpy(list, &head, sizeof head);
        list += head.bytes;
    }
    return (size_t)(list - (char *)to);
}
