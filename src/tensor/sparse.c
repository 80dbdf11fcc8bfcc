#include "tensor/sparse.h"

#include <inttypes.h>

/* Sizes stay below 2^62 bits. */
#define MOST_ELEMENTS ((int64_t)1 << 56)

static uint64_t whole_bytes(int64_t count, int bits) {
    return ((uint64_t)count * (unsigned)bits + 7) / 8;
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* --- a layout and its tensor, in either direction ---------------------------------------------------- */

typedef struct codec {
    const espl__sparse *layout;
    const espl_tensor *tensor;
    uint8_t *out; /* zeroed; NULL: `in` is decoded */
    const uint8_t *in;
    espl_diag *diag;
} codec;

static inline uint32_t element_of(const espl_tensor *t, int64_t i) {
    uint32_t four;
    uint16_t two;
    switch (t->dtype) {
        case ESPL_F32:
        case ESPL_S32:
            memcpy(&four, (const char *)t->data + 4 * i, 4);
            return four;
        case ESPL_F16:
        case ESPL_BF16:
            memcpy(&two, (const char *)t->data + 2 * i, 2);
            return two;
        default:
            return ((const uint8_t *)t->data)[i];
    }
}

static inline bool is_zero(const espl_tensor *t, int64_t i) {
    uint32_t bits = element_of(t, i);
    if (t->dtype == ESPL_F32) bits <<= 1;
    if (t->dtype == ESPL_F16 || t->dtype == ESPL_BF16) bits &= 0x7fff;
    return bits == 0;
}

bool espl__is_zero(const espl_tensor *t, int64_t i) {
    return is_zero(t, i);
}

/* The loop that most weights need is one that compilers turn into vectors. */
int64_t espl__zeros_count(const espl_tensor *t) {
    int64_t count = espl_shape_count(&t->shape), zeros = 0;
    const float *x = t->data;
    if (t->dtype == ESPL_F32)
        for (int64_t i = 0; i < count; i++) zeros += x[i] == 0;
    else
        for (int64_t i = 0; i < count; i++) zeros += is_zero(t, i);
    return zeros;
}

/* The n-th value of the layout is element i. */
static void move_value(const codec *c, int64_t n, int64_t i) {
    const int bits = c->layout->value_bits;
    const uint64_t at = (uint64_t)n * (unsigned)bits;
    char *data = c->tensor->data;
    if (c->out) {
        uint32_t mask = (uint32_t)(((uint64_t)1 << bits) - 1);
        espl__bits_put(c->out, at, element_of(c->tensor, i) & mask);
        return;
    }
    uint32_t v = espl__bits_get(c->in, at, bits);
    if (bits < 8) v = (uint32_t)((int32_t)(v << (32 - bits)) >> (32 - bits));
    uint16_t two = (uint16_t)v;
    switch (espl_dtype_bytes(c->layout->type)) {
        case 4:
            memcpy(data + 4 * i, &v, 4);
            break;
        case 2:
            memcpy(data + 2 * i, &two, 2);
            break;
        default:
            data[i] = (char)v;
    }
}

/* --- N:M and bank N:M: of each bank the same number of values ---------------------------------------- */

typedef struct banks {
    int64_t size, keep, count, last,
        last_keep;    /* of a tap: banks, the length of the last, what is kept of it */
    int64_t row, tap; /* values of a row and of a tap */
    int position_bits;
    bool together; /* CSB: the i-th value of all banks of a row */
} banks;

static banks banks_of(const espl__sparse *l) {
    const espl_sparsity *p = &l->zeros.pattern;
    banks b = {.size = p->m, .keep = p->n, .together = p->pattern == ESPL_PATTERN_BANK};
    b.count = ceil_div(l->matrix.inputs, b.size);
    b.last = l->matrix.inputs - (b.count - 1) * b.size;
    b.last_keep = ESPL_MIN(b.keep, b.last);
    b.tap = (b.count - 1) * b.keep + b.last_keep;
    b.row = l->matrix.taps * b.tap;
    b.position_bits = espl__bits_for(b.size - 1);
    return b;
}

/* Which value of its row the i-th of a bank is. */
static int64_t bank_slot(const banks *b, int64_t taps, int64_t tap, int64_t bank, int64_t i) {
    if (!b->together) return tap * b->tap + bank * b->keep + i;
    int64_t all = ESPL_MIN(i, b->last_keep), present = b->count - (i >= b->last_keep);
    return all * taps * b->count + (i - all) * taps * (b->count - 1) + tap * present + bank;
}

typedef struct one_bank {
    int64_t row, tap, bank, length, keep, begin; /* begin: the element of its position 0 */
} one_bank;

static int64_t bank_element(const codec *c, const one_bank *o, int64_t position) {
    return o->begin + position * c->layout->matrix.by_input;
}

/* Fewer than `keep` values: the first zeros are stored too. */
static void bank_encode(const codec *c, const banks *b, const one_bank *o) {
    int64_t spare = o->keep, i = 0;
    for (int64_t p = 0; p < o->length; p++) spare -= !is_zero(c->tensor, bank_element(c, o, p));
    for (int64_t p = 0; p < o->length && i < o->keep; p++) {
        if (is_zero(c->tensor, bank_element(c, o, p)) && spare-- <= 0) continue;
        int64_t n = o->row * b->row + bank_slot(b, c->layout->matrix.taps, o->tap, o->bank, i++);
        move_value(c, n, bank_element(c, o, p));
        espl__bits_put(c->out + c->layout->value_bytes, (uint64_t)n * (unsigned)b->position_bits,
                       (uint32_t)p);
    }
}

static espl_status bank_decode(const codec *c, const banks *b, const one_bank *o) {
    int64_t before = -1;
    for (int64_t i = 0; i < o->keep; i++) {
        int64_t n = o->row * b->row + bank_slot(b, c->layout->matrix.taps, o->tap, o->bank, i);
        int64_t p = espl__bits_get(c->in + c->layout->value_bytes, (uint64_t)n * (unsigned)b->position_bits,
                                   b->position_bits);
        if (p >= o->length)
            return espl__fail(c->diag, ESPL_FORMAT,
                              "row %" PRId64 ": position %" PRId64 " is beyond a bank of %" PRId64, o->row, p,
                              o->length);
        if (p <= before)
            return espl__fail(c->diag, ESPL_FORMAT,
                              "row %" PRId64 ": position %" PRId64 " of a bank follows %" PRId64
                              ", but positions must ascend",
                              o->row, p, before);
        move_value(c, n, bank_element(c, o, p));
        before = p;
    }
    return ESPL_OK;
}

static espl_status banks_code(const codec *c) {
    const espl__matrix *m = &c->layout->matrix;
    const banks b = banks_of(c->layout);
    espl_status status = ESPL_OK;
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t tap = 0; tap < m->taps; tap++)
            for (int64_t bank = 0; bank < b.count && status == ESPL_OK; bank++) {
                bool last = bank == b.count - 1;
                one_bank o = {row,
                              tap,
                              bank,
                              last ? b.last : b.size,
                              last ? b.last_keep : b.keep,
                              row * m->by_row + tap * m->by_tap + bank * b.size * m->by_input};
                if (c->out)
                    bank_encode(c, &b, &o);
                else
                    status = bank_decode(c, &b, &o);
            }
    return status;
}

static bool banks_fit(const espl__sparse *l, const espl_tensor *t) {
    const espl__matrix *m = &l->matrix;
    const espl_sparsity *p = &l->zeros.pattern;
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t tap = 0; tap < m->taps; tap++) {
            int64_t begin = row * m->by_row + tap * m->by_tap, kept = 0;
            for (int64_t i = 0; i < m->inputs; i++) {
                if (i % p->m == 0) kept = 0;
                kept += !is_zero(t, begin + i * m->by_input);
                if (kept > p->n) return false;
            }
        }
    return true;
}

/* --- blocks, rows, columns and kernels: a bit for each that says whether it is stored as a whole ----- */

typedef struct blocks {
    int64_t rows, taps, inputs;        /* of a block */
    int64_t down, deep, across, count; /* blocks */
} blocks;

static blocks blocks_of(const espl__sparse *l) {
    const espl__matrix *m = &l->matrix;
    const espl_sparsity *p = &l->zeros.pattern;
    blocks b = {1, 1, 1, 0, 0, 0, 0};
    if (p->pattern == ESPL_PATTERN_BLOCK) {
        b.rows = p->rows;
        b.inputs = p->columns;
    } else if (p->pattern == ESPL_PATTERN_COLUMN) {
        b.rows = m->rows;
    } else {
        b.taps = m->taps;
        b.inputs = p->pattern == ESPL_PATTERN_ROW ? m->inputs : 1;
    }
    b.down = ceil_div(m->rows, b.rows);
    b.deep = ceil_div(m->taps, b.taps);
    b.across = ceil_div(m->inputs, b.inputs);
    b.count = b.down * b.deep * b.across;
    return b;
}

typedef struct one_block {
    int64_t row0, row1, tap0, tap1, input0, input1;
} one_block;

static one_block block_at(const espl__sparse *l, const blocks *b, int64_t n) {
    const espl__matrix *m = &l->matrix;
    int64_t across = n % b->across, deep = n / b->across % b->deep, down = n / b->across / b->deep;
    return (one_block){down * b->rows,     ESPL_MIN((down + 1) * b->rows, m->rows),
                       deep * b->taps,     ESPL_MIN((deep + 1) * b->taps, m->taps),
                       across * b->inputs, ESPL_MIN((across + 1) * b->inputs, m->inputs)};
}

static int64_t block_size(const one_block *o) {
    return (o->row1 - o->row0) * (o->tap1 - o->tap0) * (o->input1 - o->input0);
}

#define EACH_OF_BLOCK(m, o, i)                                                                 \
    for (int64_t row_ = (o).row0; row_ < (o).row1; row_++)                                     \
        for (int64_t tap_ = (o).tap0; tap_ < (o).tap1; tap_++)                                 \
            for (int64_t input_ = (o).input0,                                                  \
                         i = row_ * (m)->by_row + tap_ * (m)->by_tap + input_ * (m)->by_input; \
                 input_ < (o).input1; input_++, i += (m)->by_input)

static bool block_is_zero(const espl__sparse *l, const espl_tensor *t, const one_block *o) {
    EACH_OF_BLOCK(&l->matrix, *o, i)
    if (!is_zero(t, i)) return false;
    return true;
}

static int64_t blocks_values(const espl__sparse *l, const espl_tensor *t) {
    const blocks b = blocks_of(l);
    int64_t values = 0;
    for (int64_t n = 0; n < b.count; n++) {
        one_block o = block_at(l, &b, n);
        if (!block_is_zero(l, t, &o)) values += block_size(&o);
    }
    return values;
}

static espl_status blocks_code(const codec *c) {
    const espl__sparse *l = c->layout;
    const blocks b = blocks_of(l);
    int64_t next = 0;
    for (int64_t n = 0; n < b.count; n++) {
        one_block o = block_at(l, &b, n);
        bool kept = c->out ? !block_is_zero(l, c->tensor, &o)
                           : espl__bits_get(c->in + l->value_bytes, (uint64_t)n, 1);
        if (!kept) continue;
        if (c->out) espl__bits_put(c->out + l->value_bytes, (uint64_t)n, 1);
        if (block_size(&o) > l->values - next) {
            next = -1;
            break;
        }
        EACH_OF_BLOCK(&l->matrix, o, i)
        move_value(c, next++, i);
    }
    if (next == l->values) return ESPL_OK;
    return espl__fail(c->diag, ESPL_FORMAT,
                      "the blocks that are kept do not have the %" PRId64 " values stored", l->values);
}

/* --- unstructured: for each row how many values, for each value how many zeros stand before it ------- */

static int64_t columns_of(const espl__matrix *m) {
    return m->taps * m->inputs;
}

static int64_t column_element(const espl__matrix *m, int64_t row, int64_t column) {
    return row * m->by_row + column / m->inputs * m->by_tap + column % m->inputs * m->by_input;
}

/* Columns to the next value at or behind `from`; the end of the row if there is none. */
static int64_t zeros_from(const espl__matrix *m, const espl_tensor *t, int64_t row, int64_t from) {
    int64_t column = from, end = columns_of(m);
    while (column < end) {
        int64_t stop = (column / m->inputs + 1) * m->inputs, i = column_element(m, row, column);
        for (; column < stop; column++, i += m->by_input)
            if (!is_zero(t, i)) return column - from;
    }
    return end - from;
}

/* Gaps of b bits count to 2^b - 1; a longer one stores a zero after so many, and again. The b that takes the
 * fewest bits. */
static void choose_gap(espl__sparse *l, const espl_tensor *t) {
    const espl__matrix *m = &l->matrix;
    enum { MOST = 32 };
    int64_t values = 0, fill[MOST] = {0}, end = columns_of(m);
    int widest = ESPL_MIN(espl__bits_for(end - 1), MOST - 1);
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t column = 0, gap; (gap = zeros_from(m, t, row, column)) < end - column;
             column += gap + 1) {
            for (int b = 0; b < MOST && gap >> b; b++) fill[b] += gap >> b;
            values++;
        }
    l->gap_bits = widest;
    l->values = values + fill[widest];
    for (int b = widest - 1; b >= 0; b--)
        if ((double)(values + fill[b]) * (l->value_bits + b) <=
            (double)l->values * (l->value_bits + l->gap_bits)) {
            l->gap_bits = b;
            l->values = values + fill[b];
        }
}

static int count_bits(const espl__sparse *l) {
    return espl__bits_for(columns_of(&l->matrix));
}

static void row_encode(const codec *c, int64_t row, int64_t *next) {
    const espl__sparse *l = c->layout;
    const espl__matrix *m = &l->matrix;
    const int64_t end = columns_of(m), before = *next, most = ((int64_t)1 << l->gap_bits) - 1;
    for (int64_t column = 0, gap; (gap = zeros_from(m, c->tensor, row, column)) < end - column; column++) {
        gap = ESPL_MIN(gap, most);
        column += gap;
        espl__bits_put(c->out + l->value_bytes + l->count_bytes, (uint64_t)*next * (unsigned)l->gap_bits,
                       (uint32_t)gap);
        move_value(c, (*next)++, column_element(m, row, column));
    }
    espl__bits_put(c->out + l->value_bytes, (uint64_t)row * (unsigned)count_bits(l),
                   (uint32_t)(*next - before));
}

static espl_status row_decode(const codec *c, int64_t row, int64_t *next) {
    const espl__sparse *l = c->layout;
    const int64_t end = columns_of(&l->matrix);
    int64_t count =
        espl__bits_get(c->in + l->value_bytes, (uint64_t)row * (unsigned)count_bits(l), count_bits(l));
    if (count > end || count > l->values - *next)
        return espl__fail(c->diag, ESPL_FORMAT,
                          "row %" PRId64 " counts %" PRId64 " values of %" PRId64
                          " that are left and %" PRId64 " columns",
                          row, count, l->values - *next, end);
    for (int64_t i = 0, column = -1; i < count; i++) {
        column += 1 + (int64_t)espl__bits_get(c->in + l->value_bytes + l->count_bytes,
                                              (uint64_t)*next * (unsigned)l->gap_bits, l->gap_bits);
        if (column >= end)
            return espl__fail(c->diag, ESPL_FORMAT,
                              "row %" PRId64 ": position %" PRId64 " is beyond its %" PRId64 " columns", row,
                              column, end);
        move_value(c, (*next)++, column_element(&l->matrix, row, column));
    }
    return ESPL_OK;
}

static espl_status rows_code(const codec *c) {
    espl_status status = ESPL_OK;
    int64_t next = 0;
    for (int64_t row = 0; row < c->layout->matrix.rows && status == ESPL_OK; row++) {
        if (c->out)
            row_encode(c, row, &next);
        else
            status = row_decode(c, row, &next);
    }
    if (status == ESPL_OK && next != c->layout->values)
        status = espl__fail(c->diag, ESPL_FORMAT, "its rows count %" PRId64 " values, %" PRId64 " are stored",
                            next, c->layout->values);
    return status;
}

/* --- all of them ------------------------------------------------------------------------------------- */

static bool in_banks(const espl__sparse *l) {
    return l->zeros.pattern.pattern == ESPL_PATTERN_NM || l->zeros.pattern.pattern == ESPL_PATTERN_BANK;
}

static bool parameters_are_good(const espl_sparsity *p) {
    switch (p->pattern) {
        case ESPL_PATTERN_NM:
        case ESPL_PATTERN_BANK:
            return p->n >= 1 && p->n < p->m && p->m <= ESPL_BANK_MAX;
        case ESPL_PATTERN_BLOCK:
            if (p->rows < 1 || p->rows > ESPL_BANK_MAX || p->columns < 1 || p->columns > ESPL_BANK_MAX)
                return false;
            return p->share >= 0 && p->share <= 1;
        case ESPL_PATTERN_UNSTRUCTURED:
        case ESPL_PATTERN_ROW:
        case ESPL_PATTERN_COLUMN:
        case ESPL_PATTERN_KERNEL:
            return p->share >= 0 && p->share <= 1;
        default:
            return false;
    }
}

static bool values_are_good(espl_dtype type, int bits) {
    if (type == ESPL_S8) return bits >= 2 && bits <= 8;
    return (type == ESPL_F32 || type == ESPL_F16 || type == ESPL_BF16) &&
           bits == 8 * (int)espl_dtype_bytes(type);
}

bool espl__sparse_complete(espl__sparse *l, const espl_shape *shape) {
    const espl__zeros *z = &l->zeros;
    uint64_t positions = 0;
    int64_t elements = espl_shape_count(shape);
    if (!parameters_are_good(&z->pattern) || !values_are_good(l->type, l->value_bits) ||
        elements > MOST_ELEMENTS || !espl__matrix_of(shape, z->row_axis, z->inner_axis, &l->matrix) ||
        columns_of(&l->matrix) > UINT32_MAX)
        return false;
    if (in_banks(l)) l->values = l->matrix.rows * banks_of(l).row;
    if (l->values < 0 || l->values > elements) return false;
    l->count_bytes = 0;
    if (z->pattern.pattern == ESPL_PATTERN_UNSTRUCTURED) {
        if (l->gap_bits < 0 || l->gap_bits > 31) return false;
        l->count_bytes = whole_bytes(l->matrix.rows, count_bits(l));
        positions = whole_bytes(l->values, l->gap_bits);
    } else {
        positions = in_banks(l) ? whole_bytes(l->values, banks_of(l).position_bits)
                                : whole_bytes(blocks_of(l).count, 1);
    }
    l->value_bytes = whole_bytes(l->values, l->value_bits);
    l->bytes = l->value_bytes + l->count_bytes + positions;
    l->bytes = ESPL_MAX(l->bytes, (uint64_t)ceil_div(elements, ESPL__SPARSE_ELEMENTS_A_BYTE));
    return true;
}

bool espl__sparse_of(const espl_tensor *t, int value_bits, const espl__zeros *zeros, espl__sparse *out) {
    espl__sparse *l = out;
    *l = (espl__sparse){.zeros = *zeros, .type = t->dtype, .value_bits = value_bits};
    if (!espl__sparse_complete(l, &t->shape)) return false;
    if (in_banks(l)) {
        if (banks_fit(l, t)) return true;
        l->zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_UNSTRUCTURED};
    }
    if (l->zeros.pattern.pattern == ESPL_PATTERN_UNSTRUCTURED)
        choose_gap(l, t);
    else
        l->values = blocks_values(l, t);
    return espl__sparse_complete(l, &t->shape);
}

static espl_status code(const codec *c) {
    if (in_banks(c->layout)) return banks_code(c);
    return c->layout->zeros.pattern.pattern == ESPL_PATTERN_UNSTRUCTURED ? rows_code(c) : blocks_code(c);
}

void espl__sparse_encode(const espl__sparse *layout, const espl_tensor *tensor, uint8_t *out) {
    memset(out, 0, (size_t)layout->bytes);
    (void)code(&(codec){.layout = layout, .tensor = tensor, .out = out});
}

espl_status espl__sparse_decode(const espl__sparse *layout, const uint8_t *in, espl_tensor *tensor,
                                espl_diag *diag) {
    memset(tensor->data, 0, espl__tensor_bytes(tensor));
    return code(&(codec){.layout = layout, .tensor = tensor, .in = in, .diag = diag});
}
