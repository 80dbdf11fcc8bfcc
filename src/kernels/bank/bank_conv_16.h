/* Units of two slots for bank_conv.inc.h, where bytes are multiplied in 16 bits: a position with its top bit
 * set picks 0, so one shuffle picks two inputs of each channel and widens them. The including file has
 * bank_conv_<width>.h. */

enum { UNIT = 2 };

typedef struct {
    vi at, w;
} unit;

/* Constants come from memory: registers hold sums, and making one takes the port of the shuffles. */
#define FOUR(a, b, c, d) a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d
#define ONE_WORD(a) FOUR(a, a, a, a)
static const _Alignas(64) uint32_t low_bits[16] = {ONE_WORD(0x0F0F0F0F)}, tops[16] = {ONE_WORD(0x80008000)};
/* Bytes u and u + 1 of each word, u = 0 and 2, to bytes 0 and 2, and to bytes 1 and 3. */
static const _Alignas(64) uint32_t to_even[2][16] = {{FOUR(0x80018000, 0x80058004, 0x80098008, 0x800D800C)},
                                                     {FOUR(0x80038002, 0x80078006, 0x800B800A, 0x800F800E)}};
static const _Alignas(64) uint32_t to_odd[2][16] = {{FOUR(0x01800080, 0x05800480, 0x09800880, 0x0D800C80)},
                                                    {FOUR(0x03800280, 0x07800680, 0x0B800A80, 0x0F800E80)}};

static INLINE vi constant(const uint32_t *at) {
    __asm__("" : "+r"(at));
    return vi_load(at);
}

static INLINE unit unit_load(const uint8_t *pair, int second, int u) {
    const vi both = vi_load(pair), w = vi_load(pair + (1 + second) * BANK_VECTOR);
    const vi at = vi_and(second ? v16_right_4(both) : both, constant(low_bits));
    return (unit){v16_add(pick(at, constant(to_even[u / 2])), constant(tops)),
                  v16_high(pick(w, constant(to_odd[u / 2])))};
}

static INLINE vi unit_dot(vi acc, vi picked, unit x) {
    return vi_madd(acc, picked, x.w);
}
