/* The decoder of the adaptive codec: lines, cells, signs and magnitudes from the symbol stream.
 *
 * FORMAT.md ("Symbol stream" and "Codec 2") specifies the computation and its order. lines.py, cells.py and sizes.py
 * implement the same in NumPy, for encoding, for measuring, and for decoding where this file was not compiled. They
 * take about forty NumPy calls per diagonal of cells; this code takes about thirty nanoseconds per cell.
 *
 * Each function takes the stream's words, the number of words left and the coder's state, and returns the new number
 * and state, so that any other decoder of the stream can continue. The caller must detect an exhausted stream (its
 * state is below 2^31); here an exhausted stream ends the loops early, and no word beyond the end is read.
 */
#include "ans.h"

#define MOST_CELLS (1 << 22)
#define MOST_LINES (1 << 16)
#define BATCHES 1024
#define LINE_CONTEXTS 12
#define NEAR_CONTEXTS 27
#define SIGN_CONTEXTS 9

enum { UNKNOWN, ZERO, NEGATIVE, POSITIVE };
enum { ROW, COLUMN, CHANNEL, PIXEL, NEAR, FACTORS };

/* ---- counts ----------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t hits, total;
} Count;

static uint64_t clip(uint64_t p) { return p < 1 ? 1 : p > ONE - 1 ? ONE - 1 : p; }

/* The Krichevsky-Trofimov estimate. */
static uint32_t kt(Count c) {
    return (uint32_t)clip((2 * (uint64_t)c.hits + 1) * ONE / (2 * (uint64_t)c.total + 2));
}

/* ---- lines ------------------------------------------------------------------------------------------------ */

static void read_lines(Stream *s, size_t n, const uint8_t *hints, size_t width, uint8_t *out) {
    Count counts[LINE_CONTEXTS] = {{0, 0}};
    for (size_t k = 0; k < n; k++) {
        unsigned hint = hints ? 1 + !!hints[k] : 0;
        unsigned above = width && k >= width ? out[k - width] : 0, before = k ? out[k - 1] : 0;
        Count *count = counts + 4 * hint + 2 * above + before;
        out[k] = (uint8_t)flag(s, kt(*count));
        count->hits += out[k];
        count->total++;
    }
}

/* ---- cells ------------------------------------------------------------------------------------------------ */

typedef struct {
    size_t rows, columns, inner, groups;
    const int64_t *column_at;              /* the matrix column of each kept column */
    const int64_t *left, *above, *corner[2]; /* columns of neighbours; `columns`: unknown; `columns` + 1: zero */
    uint32_t strength[FACTORS], base;
    int8_t *states; /* [rows][columns + 2] */
} Cells;

typedef struct {
    uint32_t row, column, at[FACTORS]; /* `at`: the contexts */
    uint8_t flag, sign, sign_at;
} Cell;

static size_t contexts(const Cells *m, int factor) {
    const size_t sizes[FACTORS] = {m->rows, m->columns, m->rows * m->groups, m->rows * m->inner, NEAR_CONTEXTS};
    return m->strength[factor] ? sizes[factor] : 0;
}

static uint32_t near_context(const Cells *m, const int8_t *row, size_t j) {
    int left = row[m->left[j]], above = row[m->above[j]];
    int corners = (row[m->corner[0][j]] > ZERO) + (row[m->corner[1][j]] > ZERO);
    return 3 * (left < 2 ? left : 2) + (above < 2 ? above : 2) + 9 * corners;
}

static void place(const Cells *m, Cell *cell, size_t i, size_t j) {
    cell->row = (uint32_t)i;
    cell->column = (uint32_t)j;
    cell->at[ROW] = (uint32_t)i;
    cell->at[COLUMN] = (uint32_t)j;
    cell->at[CHANNEL] = (uint32_t)(i * m->groups + m->column_at[j] / m->inner);
    cell->at[PIXEL] = (uint32_t)(i * m->inner + m->column_at[j] % m->inner);
    cell->at[NEAR] = m->strength[NEAR] ? near_context(m, m->states + i * (m->columns + 2), j) : 0;
}

static uint32_t probability(const Cells *m, Count *const *counts, const Cell *cell) {
    const uint64_t base = m->base;
    uint64_t y = base;
    for (int f = 0; f < FACTORS; f++) {
        const uint64_t strength = m->strength[f];
        if (!strength) continue;
        Count c = counts[f][cell->at[f]];
        uint64_t u = clip((c.hits * (uint64_t)ONE + strength * base) / (c.total + strength));
        uint64_t up = y * u * (ONE - base), down = (ONE - y) * (ONE - u) * base;
        y = clip(up * ONE / (up + down));
    }
    return (uint32_t)y;
}

static void learn(const Cells *m, Count *const *counts, const Cell *cell) {
    for (int f = 0; f < FACTORS; f++)
        if (m->strength[f]) {
            counts[f][cell->at[f]].hits += cell->flag;
            counts[f][cell->at[f]].total++;
        }
}

static unsigned sign_context(const Cells *m, const Cell *cell) {
    const int8_t *row = m->states + cell->row * (m->columns + 2);
    int left = row[m->left[cell->column]], above = row[m->above[cell->column]];
    return 3 * (left > ZERO ? left - ZERO : 0) + (above > ZERO ? above - ZERO : 0);
}

/* One batch: its probabilities depend on earlier batches only, so counts and states are updated at its end. */
static void read_batch(Stream *s, const Cells *m, Count *const *counts, Count *signs, Cell *cells, size_t n) {
    for (Cell *cell = cells; cell < cells + n; cell++) cell->flag = (uint8_t)flag(s, probability(m, counts, cell));
    for (Cell *cell = cells; cell < cells + n; cell++) {
        learn(m, counts, cell);
        if (!cell->flag) continue;
        cell->sign_at = (uint8_t)sign_context(m, cell);
        cell->sign = (uint8_t)flag(s, kt(signs[cell->sign_at]));
    }
    for (Cell *cell = cells; cell < cells + n; cell++) {
        int8_t *state = m->states + cell->row * (m->columns + 2) + cell->column;
        *state = !cell->flag ? ZERO : cell->sign ? POSITIVE : NEGATIVE;
        if (!cell->flag) continue;
        signs[cell->sign_at].hits += cell->sign;
        signs[cell->sign_at].total++;
    }
}

static void read_cells(Stream *s, const Cells *m, Count *const *counts, Cell *cells) {
    const size_t shorter = m->rows < m->columns ? m->rows : m->columns;
    const size_t longer = m->rows < m->columns ? m->columns : m->rows;
    const size_t batches = longer < BATCHES ? longer : BATCHES;
    Count signs[SIGN_CONTEXTS] = {{0, 0}};
    for (size_t b = 0; b < batches && !dry(s); b++) {
        size_t n = 0;
        for (size_t d = b; d < longer; d += batches)
            for (size_t k = 0; k < shorter; k++, n++) {
                size_t other = k + d < longer ? k + d : k + d - longer;
                if (m->rows <= m->columns) place(m, cells + n, k, other);
                else place(m, cells + n, other, k);
            }
        read_batch(s, m, counts, signs, cells, n);
    }
}

/* ---- signs of a single line, and magnitudes ------------------------------------------------------------------ */

/* The end of the piece that starts at `start`: pieces grow by a sixteenth. */
static size_t piece_end(size_t start, size_t n) {
    size_t end = start + (start >> 4 ? start >> 4 : 1);
    return end < n ? end : n;
}

static void read_signs(Stream *s, size_t n, uint8_t *out) {
    Count count = {0, 0};
    for (size_t start = 0, end; start < n; start = end) {
        const uint32_t same = kt(count);
        end = piece_end(start, n);
        for (size_t k = start; k < end; k++) {
            out[k] = (uint8_t)flag(s, same);
            count.hits += out[k];
        }
        count.total = (uint32_t)end;
    }
}

static size_t draw(Stream *s, const uint32_t *starts, size_t classes) {
    const size_t drawn = search(starts, classes, s->state & (SLOTS - 1));
    drop(s, starts[drawn], starts[drawn + 1] - starts[drawn]);
    return drawn;
}

/* One group of magnitudes; `counts` are carried over from group to group. */
static void read_group(Stream *s, size_t n, size_t classes, int64_t *counts, uint32_t *starts, int32_t *out) {
    for (size_t c = 0; c < classes; c++) counts[c] = 1 + (counts[c] >> 4);
    for (size_t start = 0, end; start < n && !dry(s); start = end) {
        tabulate(counts, classes, starts);
        end = piece_end(start, n);
        for (size_t k = start; k < end; k++) out[k] = (int32_t)draw(s, starts, classes);
        for (size_t k = start; k < end; k++) counts[out[k]] += 2;
    }
}

/* ---- Python interface -------------------------------------------------------------------------------------- */

static PyObject *lines(PyObject *self, PyObject *args) {
    Py_buffer words, hints, out;
    Py_ssize_t left, width;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&z*O&w*", &words, to_size, &left, to_state, &state, &hints, to_size, &width,
                          &out))
        return NULL;
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && (width < 0 || (hints.buf && hints.len != out.len))) wrong = "wrong sizes";
    if (!wrong) read_lines(&s, (size_t)out.len, hints.buf, (size_t)width, out.buf);
    PyBuffer_Release(&words);
    if (hints.buf) PyBuffer_Release(&hints);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

static PyObject *signs(PyObject *self, PyObject *args) {
    Py_buffer words, out;
    Py_ssize_t left;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&w*", &words, to_size, &left, to_state, &state, &out)) return NULL;
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && out.len > MOST_CELLS) wrong = "too many signs";
    if (!wrong) read_signs(&s, (size_t)out.len, out.buf);
    PyBuffer_Release(&words);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

static const char *read_sizes(Stream *s, const int64_t *groups, size_t n_groups, size_t classes, int32_t *out) {
    int64_t *counts = malloc(classes * sizeof *counts);
    uint32_t *starts = malloc((classes + 1) * sizeof *starts);
    if (counts && starts) {
        for (size_t c = 0; c < classes; c++) counts[c] = 1;
        for (size_t g = 0; g < n_groups; out += groups[g++])
            read_group(s, (size_t)groups[g], classes, counts, starts, out);
    }
    const char *wrong = counts && starts ? NULL : NO_MEMORY;
    free(counts);
    free(starts);
    return wrong;
}

static PyObject *sizes(PyObject *self, PyObject *args) {
    Py_buffer words, groups, out;
    Py_ssize_t left, classes;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&O&y*w*", &words, to_size, &left, to_state, &state, to_size, &classes, &groups,
                          &out))
        return NULL;
    const char *wrong = opened(&s, &words, left, state);
    int64_t sum = 0;
    const int64_t *size = groups.buf;
    const size_t n = (size_t)groups.len / 8;
    if (!wrong && (classes < 2 || classes > MOST_CLASSES || !holds(&groups, 8))) wrong = "no classes";
    for (size_t g = 0; !wrong && g < n; g++) {
        if (size[g] < 0 || size[g] > MOST_CELLS - sum) wrong = "wrong groups";
        else sum += size[g];
    }
    if (!wrong && (sum * 4 != out.len || !holds(&out, 4) || overlap(&groups, &out))) wrong = "wrong sizes";
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        wrong = read_sizes(&s, size, n, (size_t)classes, out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&words);
    PyBuffer_Release(&groups);
    PyBuffer_Release(&out);
    return told(s.left, s.state, wrong);
}

/* The error message for the description of the cells, or NULL; `tables`: column_at and the four neighbours. */
static const char *misfit(Cells *m, const Py_buffer *tables, const Py_buffer *strengths, const Py_buffer *states) {
    const size_t r = m->rows, c = m->columns;
    if (r < 2 || c < 2 || r + c > MOST_LINES || r * c > MOST_CELLS) return "wrong sizes";
    if (m->inner < 1 || m->inner > MOST_LINES || m->base < 1 || m->base >= ONE) return "wrong settings";
    if ((size_t)tables->len != 5 * c * sizeof(int64_t) || (uintptr_t)tables->buf % 8) return "wrong tables";
    if (strengths->len != FACTORS * sizeof(int64_t) || (uintptr_t)strengths->buf % 8) return "wrong strengths";
    if ((size_t)states->len != r * (c + 2) || overlap(tables, states)) return "wrong states";
    const int64_t *at = m->column_at = tables->buf;
    for (size_t j = 0; j < c; j++)
        if (at[j] < 0 || at[j] >= MOST_LINES || (j && at[j] <= at[j - 1])) return "columns must rise";
    for (size_t k = c; k < 5 * c; k++)
        if (at[k] < 0 || (size_t)at[k] > c + 1) return "a neighbour is not there";
    m->left = at + c, m->above = at + 2 * c, m->corner[0] = at + 3 * c, m->corner[1] = at + 4 * c;
    m->groups = (size_t)at[c - 1] / m->inner + 1;
    for (int f = 0; f < FACTORS; f++) {
        int64_t strength = ((const int64_t *)strengths->buf)[f];
        if (strength < 0 || strength > 1000) return "wrong strengths";
        m->strength[f] = (uint32_t)strength;
        if (contexts(m, f) > 8 * (size_t)MOST_CELLS) return "too many contexts";
    }
    m->states = states->buf;
    return NULL;
}

static const char *run_cells(Stream *s, Cells *m) {
    const size_t longer = m->rows < m->columns ? m->columns : m->rows, shorter = m->rows + m->columns - longer;
    Count *counts[FACTORS] = {NULL};
    Cell *cells = malloc(shorter * ((longer + BATCHES - 1) / BATCHES) * sizeof *cells);
    int ready = cells != NULL;
    for (int f = 0; f < FACTORS; f++) {
        size_t n = contexts(m, f);
        if (n && !(counts[f] = calloc(n, sizeof(Count)))) ready = 0;
    }
    for (size_t i = 0; i < m->rows; i++) { /* the two columns after the kept ones */
        int8_t *row = m->states + i * (m->columns + 2);
        memset(row, UNKNOWN, m->columns + 1);
        row[m->columns + 1] = ZERO;
    }
    if (ready) read_cells(s, m, counts, cells);
    for (int f = 0; f < FACTORS; f++) free(counts[f]);
    free(cells);
    return ready ? NULL : NO_MEMORY;
}

static PyObject *cells(PyObject *self, PyObject *args) {
    Py_buffer words, tables, strengths, states;
    Py_ssize_t left, rows, columns, inner, base;
    uint64_t state;
    Stream s = {0};
    if (!PyArg_ParseTuple(args, "y*O&O&O&O&O&O&y*y*w*", &words, to_size, &left, to_state, &state, to_size, &rows,
                          to_size, &columns, to_size, &inner, to_size, &base, &strengths, &tables, &states))
        return NULL;
    Cells m = {.rows = (size_t)rows, .columns = (size_t)columns, .inner = (size_t)inner};
    const char *wrong = opened(&s, &words, left, state);
    if (!wrong && (rows < 0 || columns < 0 || rows > MOST_LINES || columns > MOST_LINES)) wrong = "wrong sizes";
    if (!wrong && (inner < 1 || base < 1 || base >= (Py_ssize_t)ONE)) wrong = "wrong settings";
    m.base = wrong ? 0 : (uint32_t)base;
    if (!wrong) wrong = misfit(&m, &tables, &strengths, &states);
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        wrong = run_cells(&s, &m);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&words);
    PyBuffer_Release(&tables);
    PyBuffer_Release(&strengths);
    PyBuffer_Release(&states);
    return told(s.left, s.state, wrong);
}

static PyMethodDef methods[] = {
    {"lines", lines, METH_VARARGS, "lines(words, left, state, hints, width, out): flags of rows or columns."},
    {"cells", cells, METH_VARARGS,
     "cells(words, left, state, rows, columns, inner, base, strengths, tables, states): states of all cells."},
    {"signs", signs, METH_VARARGS, "signs(words, left, state, out): signs of a single line."},
    {"sizes", sizes, METH_VARARGS, "sizes(words, left, state, classes, groups, out): classes of magnitudes."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_adaptive", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__adaptive(void) { return PyModuleDef_Init(&module); }
