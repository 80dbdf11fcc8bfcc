/* LSTM, GRU and RNN: what lower_rnn.c plans and rnn.c runs.
 *
 * Gates stand in unit blocks: 16 units of the first gate, the same 16 of the second, and so on, so that
 * whoever multiplies some blocks of a matrix has all that the cells of these units need and finishes them;
 * the steps meet only at the new state. A GRU's candidate gate, which is multiplied apart, stands behind all
 * others:
 *
 *   row of gates   [unit blocks][fed gates][16] [unit blocks][16]
 *
 * In integers (x has a grid of 8 bits, the weights are s8) x and the state are u8 codes, and the products
 * return to f32 at once: gates and cells are the same code in both arithmetics. The state's grid is that of
 * the layer's own output if it has one; else it is made anew at every step, symmetric, max|h| / 127 (a
 * maximum does not depend on who looks first), and the multipliers are scaled with it. A fixed 1 / 127 would
 * hold every state of a tanh too, but spends two bits on what states never reach: |h| seldom passes 0.25. */
#ifndef ESPL_RNN_H
#define ESPL_RNN_H

#include "runtime/lower.h"

typedef enum rnn_kind { RNN_LSTM, RNN_GRU, RNN_RNN } rnn_kind;
enum { RNN_Y, RNN_Y_H, RNN_Y_C, RNN_OUTPUTS };

/* The matrices of one direction. */
typedef struct rnn_direction {
    bool backwards;
    espl__conv input;     /* X to all gates */
    espl__conv recurrent; /* H to the gates it feeds, added to the input's part */
    espl__conv candidate; /* GRU: to the third gate */
} rnn_direction;

typedef struct rnn_step {
    step base;
    rnn_kind kind;
    int directions, fed; /* gates whose recurrent part the state itself feeds */
    bool batch_first, linear_before_reset, integer;
    bool sparse; /* matrices that have banks are packed so */
    bool moving; /* the state's grid is made at every step; the matrices have multipliers for the scale 1 */
    int64_t seq, batch, size, hidden;
    int64_t units, padded, gates; /* unit blocks; units with padding; elements of a row of gates */
    int64_t chunk;                /* unit blocks that are multiplied and then finished together */
    int64_t steps;                /* whose input parts are made at once */
    float h_scale;                /* the state's grid */
    int32_t h_zero;
    rnn_direction dir[2];
    view x, h0, c0;        /* buffer -1: absent */
    view out[RNN_OUTPUTS]; /* likewise */
    int work;              /* buffer; bytes from its start: */
    int64_t gates_at, state_at[2], c_at, part_at, codes_at, mult_at, bytes;
} rnn_step;

void espl__rnn_run(const step *st, espl_session *s);

#endif
