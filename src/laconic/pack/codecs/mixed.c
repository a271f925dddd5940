/* The mixing codec: each integer as binary decisions, whose probabilities several contexts give together.
 *
 * FORMAT.md ("Codec 3") specifies the computation and its order; mixed.py computes the same where this file was not
 * compiled. The model of a matrix is the same for reading and for writing: `decide` either reads a flag from the stream
 * or notes the flag and its probability for the writer, which codes them from the last to the first. All arithmetic is
 * on integers; `>>` of a negative number rounds down, as every compiler that builds this project has it.
 */
#include "ans.h"

#define MOST_CELLS (1 << 22)
#define MOST_LINES (1 << 16)
#define SIZE_CONTEXTS 9
#define SIGN_CONTEXTS 6
#define NODES 24
#define MOST_EXPONENT 20
#define DIRECT_EXPONENT 12 /* unary flags from this one on have no contexts */
#define PARENTS (2 + MOST_EXPONENT + 8 * (MOST_EXPONENT + 1))
#define END 3071
#define TOP 65535

enum { ZERO, SIGN, FIRST, FURTHER, MANTISSA, SETS };
enum { BOTH, ROW_COLUMN, AROUND, NEAR, COLUMN, ROW, STATES, PIXEL, ALL };

/* Initial weights of the contexts, in units of 2^-10. */
static const int16_t INITIAL[SETS][SIZE_CONTEXTS] = {
    {60, 50, 220, 60, 75, 95, 75, 145, 120},
    {450, 50, 90, 125, 405, 330},
    {120, 50, 95, 165, 65, 120, 115, 0, 195},
    {175, 100, 40, 215, 55, 135, 85, 0, 305},
    {130, 90, 80, 115, 25, 55, 20, 0, 165},
};

/* 2^16 / (1 + exp(-k / 4)), k = 0..48, rounded. */
static const int32_t LOGISTIC[49] = {
    32768, 36843, 40793, 44511, 47911, 50941, 53581, 55834, 57724, 59287, 60565, 61598, 62428, 63090, 63615,
    64030, 64357, 64614, 64816, 64974, 65097, 65194, 65269, 65328, 65374, 65410, 65438, 65459, 65476, 65489,
    65500, 65508, 65514, 65519, 65523, 65526, 65528, 65530, 65531, 65532, 65533, 65534, 65534, 65535, 65535,
    65535, 65535, 65535, 65536,
};

typedef struct {
    uint16_t p, n; /* probability of 1 in units of 2^-16, flags seen */
} Slot;

typedef struct {
    int64_t sum;
    uint32_t hits, n;
} Seen; /* magnitudes of the cells so far, how many are not zero, how many cells */

typedef struct {
    size_t rows, columns, inner, groups;
    int by_columns;
    const int64_t *column_at, *left, *above, *corner[2];
    const int32_t *known; /* [rows][columns]; NULL: reading */
    int32_t *values;      /* [rows][columns + 2], 0 where no cell was coded yet */
    Stream *stream;
    int64_t *probabilities;
    int32_t *flags;
    size_t n, room;
    Slot parents[PARENTS], *slots[SIZE_CONTEXTS], *zero_slots[SIZE_CONTEXTS], signs[SIGN_CONTEXTS][81];
    int32_t weights[SETS][SIZE_CONTEXTS];
    int16_t stretch[4096];
    int32_t rates[256];
    Seen all, *row, *column, *group, *pixel;
    int32_t *row_balance, *column_balance;
} Mixed;

/* ---- logistic mixing ---------------------------------------------------------------------------------------- */

static int32_t logistic(int k) { return k < 0 ? (1 << 16) - LOGISTIC[-k] : LOGISTIC[k]; }

/* The probability of log odds x / 256, in units of 2^-16. */
static int32_t squash(int64_t x) {
    const int32_t at = (int32_t)(x > END ? END : x < -END ? -END : x) + END + 1, k = (at >> 6) - 48, part = at & 63;
    return (logistic(k) * (64 - part) + logistic(k + 1) * part) >> 6;
}

static void prepare(Mixed *m) {
    int x = -END;
    for (int i = 0; i < 4096; i++) {
        while (x < END && squash(x) < 16 * i + 8) x++;
        m->stretch[i] = (int16_t)x;
    }
    for (int s = 0; s < SETS; s++)
        for (int k = 0; k < SIZE_CONTEXTS; k++) m->weights[s][k] = INITIAL[s][k] * 64;
    for (int n = 0; n < 256; n++) m->rates[n] = (1 << 16) / (n + 3);
    for (int k = 0; k < PARENTS; k++) m->parents[k] = (Slot){1 << 15, 0};
}

static void move(Slot *s, unsigned bit, int64_t rate, unsigned most) {
    const int64_t p = s->p + (((bit ? TOP : 0) - (int64_t)s->p) * rate >> 16);
    s->p = (uint16_t)(p < 16 ? 16 : p > TOP - 15 ? TOP - 15 : p);
    if (s->n < most) s->n++;
}

static unsigned code(Mixed *m, int32_t p, unsigned known) {
    const uint32_t one = (uint32_t)(p >> 1 < 1 ? 1 : p >> 1);
    if (!m->known) return flag(m->stream, one);
    if (m->n < m->room) {
        m->probabilities[m->n] = one;
        m->flags[m->n] = (int32_t)known;
    }
    m->n++;
    return known;
}

/* One binary decision: the parent's log odds, and what the contexts add to them. */
static unsigned decide(Mixed *m, int set, Slot *parent, Slot *const *slots, int n, unsigned known) {
    int32_t added[SIZE_CONTEXTS], *weights = m->weights[set];
    const int32_t base = m->stretch[parent->p >> 4];
    int64_t sum = 0;
    for (int k = 0; k < n; k++) {
        if (!slots[k]) continue;
        if (!slots[k]->n) slots[k]->p = parent->p;
        added[k] = m->stretch[slots[k]->p >> 4] - base;
        sum += (int64_t)weights[k] * added[k];
    }
    const int32_t p = squash(base + (sum >> 16));
    const unsigned bit = code(m, p, known);
    const int64_t error = ((int64_t)bit << 16) - p;
    for (int k = 0; k < n; k++) {
        if (!slots[k]) continue;
        const int64_t w = weights[k] + (added[k] * error * 2 >> 16);
        weights[k] = (int32_t)(w < -(1 << 20) ? -(1 << 20) : w > 1 << 20 ? 1 << 20 : w);
        move(slots[k], bit, m->rates[slots[k]->n], 255);
    }
    move(parent, bit, 655360 / (10 * parent->n + 16), 1000);
    return bit;
}

/* ---- contexts ----------------------------------------------------------------------------------------------- */

static int64_t capped(int64_t x) { return x < TOP ? x : TOP; }

/* 0 for 0, else 1 + the place in a scale of 2^fine steps per octave. */
static uint32_t scale(int64_t x, int fine) {
    int b = 0;
    if (x < 1) return 0;
    while (x >> (b + 1)) b++;
    const int64_t part = b >= fine ? x >> (b - fine) : x << (fine - b);
    return 1 + ((uint32_t)b << fine) + ((uint32_t)part & ((1u << fine) - 1));
}

static int64_t mean(const Seen *s, int64_t prior, int strength) {
    return capped((s->sum * 64 + prior * strength) / (s->n + strength));
}

static int64_t density(const Seen *s, int64_t prior, int strength) {
    return (s->hits * (int64_t)1024 + prior * strength) / (s->n + strength);
}

typedef struct {
    size_t i, j, group, pixel;
    int32_t left, above, corner[2], up, up2, up_next;
    uint32_t zero[SIZE_CONTEXTS], size[SIZE_CONTEXTS];
} Cell;

static int64_t size_of(int32_t x) { return x < 0 ? -(int64_t)x : x; }
static uint32_t most(int64_t x, uint32_t top) { return x < top ? (uint32_t)x : top; }
static uint32_t sign(int32_t x) { return (uint32_t)((x > 0) - (x < 0) + 1); }

static void look(const Mixed *m, Cell *c, size_t i, size_t j) {
    const size_t wide = m->columns + 2;
    const int32_t *row = m->values + i * wide;
    c->i = i, c->j = j;
    c->group = (size_t)m->column_at[j] / m->inner, c->pixel = (size_t)m->column_at[j] % m->inner;
    c->left = row[m->left[j]], c->above = row[m->above[j]];
    c->corner[0] = row[m->corner[0][j]], c->corner[1] = row[m->corner[1][j]];
    c->up = i ? (row - wide)[j] : 0, c->up2 = i > 1 ? (row - 2 * wide)[j] : 0;
    c->up_next = i && j + 1 < m->columns ? (row - wide)[j + 1] : 0;
}

/* Contexts of the flag "not zero". */
static void zero_contexts(const Mixed *m, Cell *c) {
    const int64_t all = (m->all.hits * (int64_t)1024 + 512) / (m->all.n + 1), prior = all > 1 ? all : 1;
    const int64_t column = density(m->column + c->j, prior, 16), row = density(m->row + c->i, prior, 16);
    const int64_t both = capped(column * row / prior);
    const int64_t near = 2 * size_of(c->left) + 2 * size_of(c->above) + size_of(c->corner[0]) + size_of(c->corner[1]);
    const uint32_t around = (c->left != 0) + 2u * (c->above != 0) + 4u * (c->corner[0] != 0) + 8u * (c->corner[1] != 0);
    c->zero[BOTH] = scale(both, 2);
    c->zero[ROW_COLUMN] = scale(column, 1) * 64 + scale(row, 1);
    c->zero[AROUND] = scale(capped(near * 16), 1) * 64 + scale(both, 1);
    c->zero[NEAR] = around + 16u * (c->up != 0) + 32u * (c->up_next != 0);
    c->zero[COLUMN] = (uint32_t)c->j;
    c->zero[ROW] = (uint32_t)c->i;
    if (m->inner < 2) return;
    const int64_t group = density(m->group + c->i * m->groups + c->group, prior, 8);
    const int64_t pixel = density(m->pixel + c->i * m->inner + c->pixel, prior, 8);
    c->zero[PIXEL] = (uint32_t)(c->i * m->inner + c->pixel);
    c->zero[ALL] = scale(capped(both * capped(group * pixel / prior) / prior), 2);
}

/* Contexts of the magnitude; STATES serves the flag "not zero", too. */
static void size_contexts(const Mixed *m, Cell *c) {
    const int64_t all = capped((m->all.sum * 64 + 32) / (m->all.n + 1)), prior = all > 1 ? all : 1;
    const int64_t column = mean(m->column + c->j, prior, 8), row = mean(m->row + c->i, prior, 8);
    const int64_t both = capped(column * row / prior);
    const int64_t left = size_of(c->left), above = size_of(c->above);
    const int64_t near = capped((2 * left + 2 * above + size_of(c->corner[0]) + size_of(c->corner[1])) * 16);
    c->size[BOTH] = scale(both, 2);
    c->size[ROW_COLUMN] = scale(column, 1) * 64 + scale(row, 1);
    c->size[AROUND] = scale(near, 1) * 32 + scale(both, 0);
    c->size[NEAR] = scale(near, 1);
    c->size[COLUMN] = (uint32_t)c->j;
    c->size[ROW] = (uint32_t)c->i;
    if (m->inner < 2) return;
    const int64_t group = mean(m->group + c->i * m->groups + c->group, prior, 4);
    const int64_t pixel = mean(m->pixel + c->i * m->inner + c->pixel, prior, 4);
    c->size[ALL] = scale(capped(both * capped(group * pixel / prior) / prior), 2);
}

static uint32_t state_context(const Cell *c) {
    const uint32_t corners = (c->corner[0] != 0) + (c->corner[1] != 0);
    return most(size_of(c->left), 3) + 4 * most(size_of(c->above), 3) + 16 * most(size_of(c->up), 3) + 64 * corners;
}

/* ---- cells -------------------------------------------------------------------------------------------------- */

static void find(const Mixed *m, const Cell *c, size_t node, Slot **slots) {
    for (int k = 0; k < SIZE_CONTEXTS; k++) slots[k] = m->slots[k] ? m->slots[k] + c->size[k] * NODES + node : NULL;
}

static int32_t balance(int32_t x, int32_t top) { return (x > top ? top : x < -top ? -top : x) + top; }

static unsigned code_sign(Mixed *m, const Cell *c, unsigned known) {
    const uint32_t near = 3 * sign(c->left) + sign(c->above);
    const uint32_t at[SIGN_CONTEXTS] = {(uint32_t)balance(m->column_balance[c->j], 3),
                                        (uint32_t)balance(m->row_balance[c->i], 6) / 2,
                                        3 * sign(c->up) + sign(c->up2),
                                        9 * sign(c->up) + near,
                                        (3 * sign(c->corner[0]) + sign(c->corner[1])) * 9 + near,
                                        near};
    Slot *slots[SIGN_CONTEXTS];
    for (int k = 0; k < SIGN_CONTEXTS; k++) slots[k] = m->signs[k] + at[k];
    return decide(m, SIGN, m->parents + 1, slots, SIGN_CONTEXTS, known);
}

/* The magnitude's exponent in unary, then its lower bits from the top: three are modelled, the rest are even. */
static int32_t code_size(Mixed *m, Cell *c, int64_t known) {
    Slot *slots[SIZE_CONTEXTS];
    int exponent = 0, unary = 1;
    size_contexts(m, c);
    while (exponent < MOST_EXPONENT && unary) {
        const int n = exponent < DIRECT_EXPONENT ? SIZE_CONTEXTS : 0;
        if (n) find(m, c, 1 + (size_t)exponent, slots);
        unary = (int)decide(m, exponent ? FURTHER : FIRST, m->parents + 2 + exponent, slots, n,
                            known >> exponent > 1);
        exponent += unary;
    }
    int32_t size = 1;
    for (int at = exponent - 1; at >= 0; at--) {
        const unsigned bit = known >> at & 1;
        if (size > 7) {
            size = 2 * size + (int32_t)code(m, 1 << 15, bit);
            continue;
        }
        const int n = exponent < 4 ? SIZE_CONTEXTS : 0;
        if (n) find(m, c, DIRECT_EXPONENT + ((size_t)1 << exponent) - 1 - (size_t)exponent + (size_t)size, slots);
        Slot *parent = m->parents + 2 + MOST_EXPONENT + 8 * exponent + size;
        size = 2 * size + (int32_t)decide(m, MANTISSA, parent, slots, n, bit);
    }
    return size;
}

static void count(Seen *s, int64_t size) {
    s->sum += size;
    s->hits += size != 0;
    s->n++;
}

static void code_cell(Mixed *m, size_t i, size_t j) {
    int32_t *value = m->values + i * (m->columns + 2) + j;
    Slot *slots[SIZE_CONTEXTS];
    Cell c = {0};
    look(m, &c, i, j);
    c.zero[STATES] = c.size[STATES] = state_context(&c);
    zero_contexts(m, &c);
    for (int k = 0; k < SIZE_CONTEXTS; k++) slots[k] = m->zero_slots[k] ? m->zero_slots[k] + c.zero[k] : NULL;
    const int32_t known = m->known ? m->known[i * m->columns + j] : 0;
    int32_t x = 0;
    if (decide(m, ZERO, m->parents, slots, SIZE_CONTEXTS, known != 0)) {
        const unsigned positive = code_sign(m, &c, known > 0);
        x = code_size(m, &c, size_of(known));
        m->column_balance[j] += positive ? 1 : -1;
        m->row_balance[i] += positive ? 1 : -1;
        x = positive ? x : -x;
    }
    *value = x;
    const int64_t size = size_of(x);
    count(&m->all, size), count(m->row + i, size), count(m->column + j, size);
    if (m->inner > 1) count(m->group + i * m->groups + c.group, size), count(m->pixel + i * m->inner + c.pixel, size);
}

static void code_cells(Mixed *m) {
    const size_t outer = m->by_columns ? m->columns : m->rows, inner = m->by_columns ? m->rows : m->columns;
    for (size_t a = 0; a < outer; a++) {
        if (!m->known && dry(m->stream)) return;
        for (size_t b = 0; b < inner; b++) code_cell(m, m->by_columns ? b : a, m->by_columns ? a : b);
    }
}

/* ---- memory and the Python interface -------------------------------------------------------------------------- */

/* The error message for the description of the cells, or NULL; `tables`: column_at and the four neighbours. */
static const char *misfit(Mixed *m, const Py_buffer *tables, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t inner) {
    if (rows < 1 || columns < 1 || rows > MOST_LINES || columns > MOST_LINES || rows * columns > MOST_CELLS)
        return "wrong sizes";
    if (inner < 1 || inner > MOST_LINES) return "wrong settings";
    const int64_t *at = tables->buf, c = columns;
    if (tables->len != 5 * c * 8 || (uintptr_t)at % 8) return "wrong tables";
    for (int64_t j = 0; j < c; j++)
        if (at[j] < 0 || at[j] >= MOST_CELLS || (j && at[j] <= at[j - 1])) return "columns must rise";
    for (int64_t k = c; k < 5 * c; k++)
        if (at[k] < 0 || at[k] > c + 1) return "a neighbour is not there";
    m->rows = (size_t)rows, m->columns = (size_t)columns, m->inner = (size_t)inner;
    m->groups = (size_t)(at[c - 1] / inner) + 1;
    if (inner > 1 && m->rows * (m->inner + m->groups) > 2 * (size_t)MOST_CELLS) return "too many contexts";
    m->column_at = at, m->left = at + c, m->above = at + 2 * c, m->corner[0] = at + 3 * c, m->corner[1] = at + 4 * c;
    return NULL;
}

/* One block of zeros for all tables, handed out in pieces; the first pass (block NULL) adds up the sizes. */
static void *piece(char *block, size_t *used, size_t n, size_t size) {
    void *start = block && n ? block + *used : NULL;
    *used += (n * size + 7) / 8 * 8;
    return start;
}

static size_t lay_out(Mixed *m, char *block) {
    const size_t inner = m->inner > 1 ? m->inner : 0, whole = inner ? 128 : 0;
    const size_t sizes[SIZE_CONTEXTS] = {128, 4096, 4096, 64, m->columns, m->rows, 192, 0, whole};
    size_t used = 0;
    m->row = piece(block, &used, m->rows, sizeof(Seen));
    m->column = piece(block, &used, m->columns, sizeof(Seen));
    m->group = piece(block, &used, inner ? m->rows * m->groups : 0, sizeof(Seen));
    m->pixel = piece(block, &used, m->rows * inner, sizeof(Seen));
    m->row_balance = piece(block, &used, m->rows, sizeof(int32_t));
    m->column_balance = piece(block, &used, m->columns, sizeof(int32_t));
    for (int k = 0; k < SIZE_CONTEXTS; k++) {
        m->slots[k] = piece(block, &used, sizes[k] * NODES, sizeof(Slot));
        m->zero_slots[k] = piece(block, &used, k == PIXEL ? m->rows * inner : sizes[k], sizeof(Slot));
    }
    return used;
}

static const char *run(Mixed *m) {
    char *block = calloc(lay_out(m, NULL), 1);
    if (!block) return NO_MEMORY;
    lay_out(m, block);
    prepare(m);
    code_cells(m);
    free(block);
    return NULL;
}

static PyObject *cells(PyObject *self, PyObject *args) {
    Py_buffer words, tables, out;
    Py_ssize_t left, rows, columns, inner;
    uint64_t state;
    int by_columns;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&O&O&O&py*w*", &words, to_size, &left, to_state, &state, to_size, &rows, to_size,
                          &columns, to_size, &inner, &by_columns, &tables, &out))
        return NULL;
    Mixed *m = calloc(1, sizeof *m);
    const char *wrong = m ? opened(&s, &words, left, state) : NO_MEMORY;
    if (!wrong) wrong = misfit(m, &tables, rows, columns, inner);
    if (!wrong && ((size_t)out.len != m->rows * (m->columns + 2) * 4 || !holds(&out, 4) || overlap(&tables, &out)))
        wrong = "wrong values";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        m->stream = &s, m->by_columns = by_columns, m->values = out.buf;
        memset(m->values, 0, (size_t)out.len);
        wrong = run(m);
        Py_END_ALLOW_THREADS
    }
    free(m);
    PyBuffer_Release(&words);
    PyBuffer_Release(&tables);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

static const char *write_cells(Mixed *m) {
    m->values = calloc(m->rows * (m->columns + 2), 4);
    const char *wrong = m->values ? run(m) : NO_MEMORY;
    free(m->values);
    return wrong || m->n <= m->room ? wrong : "too little room";
}

static PyObject *put_cells(PyObject *self, PyObject *args) {
    Py_buffer known, tables, probabilities, flags;
    Py_ssize_t rows, columns, inner;
    int by_columns;
    if (!PyArg_ParseTuple(args, "y*O&O&O&py*w*w*", &known, to_size, &rows, to_size, &columns, to_size, &inner,
                          &by_columns, &tables, &probabilities, &flags))
        return NULL;
    Mixed *m = calloc(1, sizeof *m);
    const char *wrong = m ? misfit(m, &tables, rows, columns, inner) : NO_MEMORY;
    if (!wrong && ((size_t)known.len != m->rows * m->columns * 4 || !holds(&known, 4))) wrong = "wrong values";
    if (!wrong && (!holds(&probabilities, 8) || !holds(&flags, 4) || probabilities.len / 8 != flags.len / 4 ||
                   overlap(&probabilities, &flags)))
        wrong = "wrong room";
    for (Py_ssize_t k = 0; !wrong && k < known.len / 4; k++)
        if (size_of(((const int32_t *)known.buf)[k]) >> (MOST_EXPONENT + 1)) wrong = "too large a magnitude";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        m->by_columns = by_columns, m->known = known.buf, m->probabilities = probabilities.buf, m->flags = flags.buf;
        m->room = (size_t)flags.len / 4;
        wrong = write_cells(m);
        Py_END_ALLOW_THREADS
    }
    const size_t n = m ? m->n : 0;
    free(m);
    PyBuffer_Release(&known);
    PyBuffer_Release(&tables);
    PyBuffer_Release(&probabilities);
    PyBuffer_Release(&flags);
    return told(n, 0, wrong);
}

static PyMethodDef methods[] = {
    {"cells", cells, METH_VARARGS,
     "cells(words, left, state, rows, columns, inner, by_columns, tables, out): reads all cells' integers."},
    {"put_cells", put_cells, METH_VARARGS,
     "put_cells(known, rows, columns, inner, by_columns, tables, probabilities, flags): the flags of all cells."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_mixed", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__mixed(void) { return PyModuleDef_Init(&module); }
