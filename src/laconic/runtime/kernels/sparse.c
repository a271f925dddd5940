/* Matrices that are mostly zero: y = W x from 16-bit column indices.
 *
 * The compact form of a matrix of `rows` rows and `lists` lists a row:
 *   counts   uint16[rows * lists]  how long each list is
 *   columns  uint16[sum(counts)]   the columns of the lists, row after row, list after list
 * and one of
 *   grouped: float[lists]        the value that all entries of list k share;
 *   coded:   float[levels]       one list a row; an entry's column is in its low `bits` bits, the number of its
 *                                value in the others;
 *   valued:  float[sum(counts)]  one list a row, and a value of each entry.
 * A ternary matrix is two lists a row: its entries cost two bytes each and no multiplication. Lists that would
 * be short cost more in loop ends than they save: those matrices are coded.
 *
 * pack() checks a form once, copies it into aligned memory of its own and returns a capsule; nothing that
 * Python still holds can change it, so multiply() needs to check no more than the sizes of x and y.
 *
 * One row of x: eight running sums of scalar loads. Compilers like to gather those into vectors, which makes
 * them 1.5 times slower; setup.py forbids it (-fno-tree-slp-vectorize). Several rows of x: the rows are the
 * lanes of the vectors. A tile of up to 32 rows is turned so that one column's values lie side by side, and
 * each entry of W is one vector load and one addition, whatever W looks like.
 *
 * Sums have a fixed order and no fused multiply-add (-ffp-contract=off), so all variants of the code give the
 * same bits on every machine.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CAPSULE "laconic.runtime.kernels.Matrix"
#define ALIGN 64
#define BLOCK 64       /* rows between two known places in `columns`; ranges of rows begin at such places */
#define MOST_LANES 32  /* rows of x in a tile */
#define WIDE_COLUMNS 2048 /* up to here a tile has 32 lanes: 256 KiB */
#define MOST_COLUMNS 65535  /* so that a full row's count fits in 16 bits */

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86 1
#endif

enum { BASELINE, AVX2, AVX512, VARIANTS };
enum { GROUPED, CODED, VALUED, FORMS };

typedef struct {
    size_t rows, cols, first, lists, entries, bytes, blocks, n_reals;
    int form, bits;     /* bits of a column; 16 but for coded matrices */
    const float *reals; /* levels or values */
    const uint16_t *counts;
    const uint16_t *columns;
    const size_t *starts; /* [blocks + 1]: where each block of rows begins in columns */
    void *memory;
} Matrix;

typedef struct {
    const float *x; /* [batch, width] */
    const float *bias; /* [rows] or NULL */
    float *y;       /* [batch, rows] */
    size_t width, batch, row0, row1;
    int relu, add; /* clip at zero; add to what y holds */
} Call;

static float finish(const Call *call, float sum, size_t row, float before) {
    if (call->add) sum += before;
    if (call->bias) sum += call->bias[row];
    return call->relu && !(sum > 0.0f) && sum == sum ? 0.0f : sum;
}

/* ---- one row of x ------------------------------------------------------------------------------------- */

static float sum_list(const float *x, const uint16_t *c, size_t n) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        s0 += x[c[i]];
        s1 += x[c[i + 1]];
        s2 += x[c[i + 2]];
        s3 += x[c[i + 3]];
        s4 += x[c[i + 4]];
        s5 += x[c[i + 5]];
        s6 += x[c[i + 6]];
        s7 += x[c[i + 7]];
    }
    for (; i < n; i++) s0 += x[c[i]];
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
}

static float sum_valued(const float *x, const uint16_t *c, const float *v, size_t n) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        s0 += v[i] * x[c[i]];
        s1 += v[i + 1] * x[c[i + 1]];
        s2 += v[i + 2] * x[c[i + 2]];
        s3 += v[i + 3] * x[c[i + 3]];
        s4 += v[i + 4] * x[c[i + 4]];
        s5 += v[i + 5] * x[c[i + 5]];
        s6 += v[i + 6] * x[c[i + 6]];
        s7 += v[i + 7] * x[c[i + 7]];
    }
    for (; i < n; i++) s0 += v[i] * x[c[i]];
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
}

static float sum_coded(const float *x, const uint16_t *c, const float *level, int bits, size_t n) {
    const unsigned mask = (1u << bits) - 1;
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += level[c[i] >> bits] * x[c[i] & mask];
        s1 += level[c[i + 1] >> bits] * x[c[i + 1] & mask];
        s2 += level[c[i + 2] >> bits] * x[c[i + 2] & mask];
        s3 += level[c[i + 3] >> bits] * x[c[i + 3] & mask];
    }
    for (; i < n; i++) s0 += level[c[i] >> bits] * x[c[i] & mask];
    return (s0 + s1) + (s2 + s3);
}

static void one_row(const Matrix *m, const Call *call) {
    const float *x = call->x + m->first;
    size_t at = m->starts[call->row0 / BLOCK];
    for (size_t r = call->row0; r < call->row1; r++) {
        const uint16_t *counts = m->counts + r * m->lists;
        float sum = 0;
        if (m->form == GROUPED) {
            for (size_t k = 0; k < m->lists; k++) {
                if (counts[k]) sum += m->reals[k] * sum_list(x, m->columns + at, counts[k]);
                at += counts[k];
            }
        } else {
            const uint16_t *c = m->columns + at;
            sum = m->form == VALUED ? sum_valued(x, c, m->reals + at, counts[0])
                                    : sum_coded(x, c, m->reals, m->bits, counts[0]);
            at += counts[0];
        }
        call->y[r] = finish(call, sum, r, call->y[r]);
    }
}

/* ---- several rows of x --------------------------------------------------------------------------------- */

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
typedef float lanes4 __attribute__((vector_size(16), aligned(16)));
typedef float lanes8 __attribute__((vector_size(32), aligned(32)));
typedef float lanes16 __attribute__((vector_size(64), aligned(64)));
#define HAVE_LANES 1
#else
#define INLINE static inline
#define HAVE_LANES 0
#endif

#if HAVE_LANES
/* The sums of one row of W with a tile of x: `tile` is [cols][N * lanes], `out` is [N * lanes]. */
#define WHOLE(c) (c)
#define LOW_BITS(c) ((c) & mask)
#define ALONE(i)
#define BY_LEVEL(i) *reals[c[i] >> bits]
#define BY_VALUE(i) *v[i]
#define SUM_OF_LIST(N, COLUMN, TIMES)                                                                        \
    for (; i + 2 <= n; i += 2)                                                                               \
        for (int j = 0; j < N; j++) {                                                                        \
            a[j] += t[(size_t)COLUMN(c[i]) * N + j] TIMES(i);                                                \
            b[j] += t[(size_t)COLUMN(c[i + 1]) * N + j] TIMES(i + 1);                                        \
        }                                                                                                    \
    if (i < n)                                                                                               \
        for (int j = 0; j < N; j++) a[j] += t[(size_t)COLUMN(c[i]) * N + j] TIMES(i);
#define ROW_OF_TILE(NAME, VECTOR, N)                                                                         \
    INLINE size_t NAME(const Matrix *m, const float *tile, size_t r, size_t at, float *out) {                \
        const VECTOR *t = (const VECTOR *)tile;                                                              \
        const uint16_t *counts = m->counts + r * m->lists;                                                   \
        const float *reals = m->reals;                                                                       \
        const unsigned mask = (1u << m->bits) - 1;                                                           \
        const int bits = m->bits;                                                                            \
        VECTOR total[N] = {{0}};                                                                             \
        for (size_t k = 0; k < m->lists; k++) {                                                              \
            const uint16_t *c = m->columns + at;                                                             \
            const float *v = m->reals + at;                                                                  \
            size_t n = counts[k], i = 0;                                                                     \
            VECTOR a[N] = {{0}}, b[N] = {{0}};                                                               \
            if (m->form == GROUPED) {                                                                        \
                SUM_OF_LIST(N, WHOLE, ALONE)                                                                 \
                for (int j = 0; j < N; j++) total[j] += (a[j] + b[j]) * reals[k];                            \
            } else {                                                                                         \
                if (m->form == CODED) {                                                                      \
                    SUM_OF_LIST(N, LOW_BITS, BY_LEVEL)                                                       \
                } else {                                                                                     \
                    SUM_OF_LIST(N, WHOLE, BY_VALUE)                                                          \
                }                                                                                            \
                for (int j = 0; j < N; j++) total[j] += a[j] + b[j];                                         \
            }                                                                                                \
            at += n;                                                                                         \
        }                                                                                                    \
        memcpy(out, total, sizeof total);                                                                    \
        return at;                                                                                           \
    }
ROW_OF_TILE(row_4x2, lanes4, 2)
ROW_OF_TILE(row_4x4, lanes4, 4)
ROW_OF_TILE(row_4x8, lanes4, 8)
ROW_OF_TILE(row_8x1, lanes8, 1)
ROW_OF_TILE(row_8x2, lanes8, 2)
ROW_OF_TILE(row_8x4, lanes8, 4)
ROW_OF_TILE(row_16x1, lanes16, 1)
ROW_OF_TILE(row_16x2, lanes16, 2)

/* `variant` and `lanes` are constants wherever this is inlined: one of the eight is left. */
INLINE size_t row_of_tile(const Matrix *m, int variant, size_t lanes, const float *tile, size_t r, size_t at,
                          float *out) {
    if (lanes == 8) return variant == BASELINE ? row_4x2(m, tile, r, at, out) : row_8x1(m, tile, r, at, out);
    if (variant == BASELINE) return lanes == 16 ? row_4x4(m, tile, r, at, out) : row_4x8(m, tile, r, at, out);
    if (variant == AVX2) return lanes == 16 ? row_8x2(m, tile, r, at, out) : row_8x4(m, tile, r, at, out);
    return lanes == 16 ? row_16x1(m, tile, r, at, out) : row_16x2(m, tile, r, at, out);
}
#endif

/* A tile should leave room in a core's second-level cache, from which each entry of W reads a column. */
static size_t lanes_for(const Matrix *m, size_t batch) {
    return batch > 16 && m->cols <= WIDE_COLUMNS ? 32 : batch > 8 ? 16 : 8;
}

/* Rows b0.. of x, turned: tile[c * lanes + b]; rows that are not there are zeros. */
INLINE void turn(const Matrix *m, const Call *call, size_t b0, size_t used, size_t lanes, float *tile) {
    const float *x = call->x + b0 * call->width + m->first;
    if (used < lanes) memset(tile, 0, m->cols * lanes * sizeof(float));
    for (size_t c0 = 0; c0 < m->cols; c0 += 16) {
        size_t c1 = c0 + 16 < m->cols ? c0 + 16 : m->cols;
        for (size_t b = 0; b < used; b++)
            for (size_t c = c0; c < c1; c++) tile[c * lanes + b] = x[b * call->width + c];
    }
}

/* Sixteen rows of W at a time are kept aside, so that y is written a cache line at a time. */
INLINE void multiply_tile(const Matrix *m, const Call *call, int variant, size_t b0, size_t used, size_t lanes,
                          const float *tile) {
    _Alignas(64) float aside[16][MOST_LANES];
    size_t at = m->starts[call->row0 / BLOCK];
    for (size_t r0 = call->row0; r0 < call->row1; r0 += 16) {
        size_t n = call->row1 - r0 < 16 ? call->row1 - r0 : 16;
        for (size_t r = 0; r < n; r++) {
#if HAVE_LANES
            at = row_of_tile(m, variant, lanes, tile, r0 + r, at, aside[r]);
#endif
        }
        for (size_t b = 0; b < used; b++) {
            float *y = call->y + (b0 + b) * m->rows + r0;
            for (size_t r = 0; r < n; r++) y[r] = finish(call, aside[r][b], r0 + r, y[r]);
        }
    }
}

INLINE void all_tiles(const Matrix *m, const Call *call, int variant, float *tile) {
    for (size_t b0 = 0; b0 < call->batch;) {
        size_t left = call->batch - b0;
        size_t lanes = lanes_for(m, left);
        size_t used = left < lanes ? left : lanes;
        turn(m, call, b0, used, lanes, tile);
        if (lanes == 8) multiply_tile(m, call, variant, b0, used, 8, tile);
        else if (lanes == 16) multiply_tile(m, call, variant, b0, used, 16, tile);
        else multiply_tile(m, call, variant, b0, used, 32, tile);
        b0 += used;
    }
}

static void tiles_baseline(const Matrix *m, const Call *call, float *tile) {
    all_tiles(m, call, BASELINE, tile);
}
#ifdef X86
__attribute__((target("avx2"))) static void tiles_avx2(const Matrix *m, const Call *call, float *tile) {
    all_tiles(m, call, AVX2, tile);
}
__attribute__((target("avx512f,avx512vl"))) static void tiles_avx512(const Matrix *m, const Call *call,
                                                                     float *tile) {
    all_tiles(m, call, AVX512, tile);
}
#endif

/* ---- which code this processor runs --------------------------------------------------------------------- */

static const char *const NAMES[VARIANTS] = {"baseline", "avx2", "avx512f"};

static int runs(int variant) {
    if (variant == BASELINE) return 1;
#ifdef X86
    __builtin_cpu_init();
    if (variant == AVX2) return !!__builtin_cpu_supports("avx2");
    if (variant == AVX512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}

static PyObject *variants(PyObject *self, PyObject *none) {
    PyObject *found = PyList_New(0);
    for (int k = 0; found && k < VARIANTS; k++) {
        if (!runs(k)) continue;
        PyObject *name = PyUnicode_FromString(NAMES[k]);
        if (!name || PyList_Append(found, name) < 0) Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

static void run(const Matrix *m, const Call *call, int variant, float *tile) {
    if (!tile) {
        for (size_t b = 0; b < call->batch; b++) {
            Call one = *call;
            one.x += b * call->width;
            one.y += b * m->rows;
            one_row(m, &one);
        }
        return;
    }
#ifdef X86
    if (variant == AVX512) {
        tiles_avx512(m, call, tile);
        return;
    }
    if (variant == AVX2) {
        tiles_avx2(m, call, tile);
        return;
    }
#endif
    tiles_baseline(m, call, tile);
}

/* ---- Python's side ----------------------------------------------------------------------------------------- */

static void *aligned(size_t bytes, void **memory) {
    *memory = bytes > SIZE_MAX - ALIGN ? NULL : malloc(bytes + ALIGN);
    if (!*memory) return NULL;
    return (void *)(((uintptr_t)*memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
}

static void release(PyObject *capsule) {
    Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    if (m) free(m->memory);
    free(m);
}

/* The checks and the places of the blocks; a text that says what is wrong, or NULL. */
static const char *check(const Matrix *m, size_t *starts) {
    size_t at = 0;
    for (size_t r = 0; r < m->rows; r++) {
        if (r % BLOCK == 0) starts[r / BLOCK] = at;
        for (size_t k = 0; k < m->lists; k++) at += m->counts[r * m->lists + k];
    }
    starts[m->blocks] = at; /* for m->rows == 0 this is starts[0] */
    if (at != m->entries) return "the counts do not add up to the number of columns";
    const unsigned mask = (1u << m->bits) - 1;
    for (size_t i = 0; i < m->entries; i++) {
        if ((m->columns[i] & mask) >= m->cols) return "a column lies outside the matrix";
        if (m->form == CODED && (size_t)(m->columns[i] >> m->bits) >= m->n_reals) return "a level is not there";
    }
    return NULL;
}

static size_t rounded(size_t bytes) { return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

/* Copies of the arrays in one piece of memory, checked; NULL with an exception set. */
static Matrix *build(Matrix shape, const Py_buffer *counts, const Py_buffer *columns, const Py_buffer *reals) {
    size_t places = (shape.blocks + 1) * sizeof(size_t);
    size_t total = rounded(places) + rounded(reals->len) + rounded(counts->len) + rounded(columns->len);
    Matrix *m = malloc(sizeof *m);
    if (m) {
        *m = shape;
        char *at = aligned(total, &m->memory);
        if (at) {
            size_t *starts = (size_t *)at;
            m->starts = starts;
            m->reals = memcpy(at + rounded(places), reals->buf, reals->len);
            at += rounded(places) + rounded(reals->len);
            m->counts = memcpy(at, counts->buf, counts->len);
            m->columns = memcpy(at + rounded(counts->len), columns->buf, columns->len);
            m->bytes = total;
            const char *wrong = check(m, starts);
            if (!wrong) return m;
            PyErr_SetString(PyExc_ValueError, wrong);
        } else
            PyErr_NoMemory();
        free(m->memory);
        free(m);
    } else
        PyErr_NoMemory();
    return NULL;
}

static PyObject *pack(PyObject *self, PyObject *args) {
    Py_ssize_t rows, cols, first, lists;
    int form, bits;
    Py_buffer counts, columns, reals;
    if (!PyArg_ParseTuple(args, "nnnniiy*y*y*", &rows, &cols, &first, &lists, &form, &bits, &counts, &columns,
                          &reals))
        return NULL;
    PyObject *capsule = NULL;
    const char *wrong = NULL;
    Py_ssize_t wanted = 4 * (form == GROUPED ? lists : columns.len / 2);
    if (rows < 0 || rows > INT32_MAX || lists < 1 || lists > 65535 || first < 0) wrong = "impossible sizes";
    else if (form < 0 || form >= FORMS || bits < 1 || bits > 16) wrong = "no such form";
    else if (cols < 0 || cols > MOST_COLUMNS) wrong = "at most 65535 columns";
    else if (form != GROUPED && lists != 1) wrong = "only a grouped matrix has several lists a row";
    else if (form != CODED && bits != 16) wrong = "only a coded matrix has short columns";
    else if ((size_t)counts.len != (size_t)rows * (size_t)lists * 2) wrong = "counts have a wrong length";
    else if (columns.len % 2) wrong = "columns have a wrong length";
    else if (form == CODED ? reals.len % 4 : reals.len != wanted) wrong = "levels or values have a wrong length";
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else {
        Matrix shape = {.rows = rows, .cols = cols, .first = first, .lists = lists, .form = form, .bits = bits};
        shape.entries = columns.len / 2;
        shape.blocks = (shape.rows + BLOCK - 1) / BLOCK;
        shape.n_reals = reals.len / 4;
        Matrix *m = build(shape, &counts, &columns, &reals);
        if (m && !(capsule = PyCapsule_New(m, CAPSULE, release))) {
            free(m->memory);
            free(m);
        }
    }
    PyBuffer_Release(&counts);
    PyBuffer_Release(&columns);
    PyBuffer_Release(&reals);
    return capsule;
}

/* What is wrong with the arrays of a call, or NULL. */
static const char *misfit(const Matrix *m, const Call *call, const Py_buffer *x, const Py_buffer *y,
                          const Py_buffer *bias) {
    if (call->batch > INT32_MAX || call->width > INT32_MAX) return "x is too large";
    if (m->cols > call->width || m->first > call->width - m->cols) return "x has too few columns";
    if ((size_t)x->len != call->batch * call->width * 4) return "x has a wrong size";
    if ((size_t)y->len != call->batch * m->rows * 4) return "y has a wrong size";
    if (bias->buf && (size_t)bias->len != m->rows * 4) return "the bias has a wrong size";
    if (call->row0 % BLOCK || call->row0 > call->row1 || call->row1 > m->rows) return "a wrong range of rows";
    if (((uintptr_t)x->buf | (uintptr_t)y->buf | (uintptr_t)bias->buf) % sizeof(float)) return "not aligned";
    return NULL;
}

static PyObject *multiply(PyObject *self, PyObject *args) {
    PyObject *capsule;
    Py_ssize_t width, batch, row0, row1;
    int relu, add, variant;
    Py_buffer x, y, bias;
    if (!PyArg_ParseTuple(args, "Oy*nnw*z*ppnni", &capsule, &x, &width, &batch, &y, &bias, &relu, &add, &row0,
                          &row1, &variant))
        return NULL;
    int done = 0;
    const Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    Call call = {.x = x.buf, .bias = bias.buf, .y = y.buf, .width = width, .batch = batch};
    call.relu = relu, call.add = add, call.row0 = row0, call.row1 = row1;
    const char *wrong = NULL;
    if (m) {
        wrong = width < 0 || batch < 0 || row0 < 0 || row1 < 0 ? "negative sizes" : misfit(m, &call, &x, &y, &bias);
        if (!wrong && (variant < 0 || variant >= VARIANTS || !runs(variant))) wrong = "not on this processor";
        if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    }
    if (m && !wrong) {
        void *memory = NULL;
        float *tile = NULL;
        size_t lanes = lanes_for(m, batch);
        if (HAVE_LANES && batch > 1) tile = aligned(m->cols * lanes * sizeof(float), &memory);
        /* without room for a tile the rows of x go one by one */
        Py_BEGIN_ALLOW_THREADS
        run(m, &call, variant, tile);
        Py_END_ALLOW_THREADS
        free(memory);
        done = 1;
    }
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    if (bias.buf) PyBuffer_Release(&bias);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *nbytes(PyObject *self, PyObject *capsule) {
    const Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    return m ? PyLong_FromSize_t(m->bytes) : NULL;
}

static PyMethodDef METHODS[] = {
    {"pack", pack, METH_VARARGS, "pack(rows, cols, first, lists, form, bits, counts, columns, reals) -> matrix"},
    {"multiply", multiply, METH_VARARGS,
     "multiply(matrix, x, width, batch, y, bias, relu, add, row0, row1, variant): fills rows row0..row1 of y"},
    {"nbytes", nbytes, METH_O, "nbytes(matrix) -> bytes of memory that it holds"},
    {"variants", variants, METH_NOARGS, "variants() -> names of the code paths this processor runs, best last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_sparse", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sparse(void) { return PyModuleDef_Init(&MODULE); }
