/* Language models: tokens, sequence x batch, to the logits of each one's successor. */
#include "zoo/zoo.h"

enum { VOCABULARY = 10000 };

static void recurrent_lm(espl__zoo z, espl_cell cell, const char *layer) {
    char name[ESPL__ZOO_NAME];
    espl_shape any = {2, {ESPL_DIM_UNKNOWN, ESPL_DIM_UNKNOWN}};
    espl_init init = {ESPL_INIT_UNIFORM, 0.1f}; /* of the small model of Zaremba et al. 2014 */
    int64_t hidden = espl__zoo_or(z.o->hidden, 200), vocabulary = espl__zoo_or(z.o->vocabulary, VOCABULARY);
    int layers = (int)espl__zoo_or(z.o->layers, 2);
    espl_value x = espl_build_input(z.b, "tokens", ESPL_S64, any);
    x = espl_build_embedding(z.b, "embedding", x, vocabulary, espl__zoo_or(z.o->embedding, hidden), init);
    x = espl_build_dropout(z.b, "embedding.dropout", x, z.o->dropout);
    for (int i = 0; i < layers; i++) {
        espl_recurrent r = {.cell = cell, .hidden = hidden, .state = true};
        x = espl_build_recurrent(z.b, espl__zoo_name(name, "%s%d", layer, i + 1), x, &r, NULL);
        x = espl_build_dropout(z.b, espl__zoo_name(name, "%s%d.dropout", layer, i + 1), x, z.o->dropout);
    }
    x = espl_build_linear(z.b, "out", x,
                          &(espl_linear){.features = vocabulary, .bias = true, .weight = init});
    espl_build_output(z.b, "logits", x);
}

void espl__zoo_lstm_lm(espl__zoo z) {
    recurrent_lm(z, ESPL_CELL_LSTM, "lstm");
}
void espl__zoo_gru_lm(espl__zoo z) {
    recurrent_lm(z, ESPL_CELL_GRU, "gru");
}
