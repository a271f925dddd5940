/* Matrices that are mostly zero: y = W x from 16-bit column indices.
 *
 * A row of W is one list of entries, or one list per value that entries share. The rows are divided into panels of
 * 512, and the lists of a panel are sorted by value and then by length: in a run of lists of one length the end of the
 * inner loop is predicted, while lists in the order of rows cost a branch misprediction each (twice the time at 99 %
 * zeros). The compact form:
 *   panels   uint16[panels]        how many runs each panel has
 *   runs     uint16[runs, 3]       lists, length of each, number of the value that they share
 *   rows     uint16[lists]         each list's row in its panel
 *   columns  uint16[entries]       the columns of the lists, one list after the other
 * and one of
 *   grouped: float[levels]         the values that lists share;
 *   coded:   float[levels]         one list per row; an entry's column is in its low `bits` bits, the index of its
 *                                  value in the others;
 *   valued:  float[entries]        one list per row, and a value per entry.
 * A ternary matrix is grouped: its entries take two bytes each and no multiplication.
 *
 * pack() checks a form once, copies it into its own aligned memory and returns a capsule; Python code cannot change
 * the copy, so multiply() checks only the sizes of x and y.
 *
 * One row of x: running sums of scalar loads, four indices per load. Compilers tend to vectorise these loads, which
 * is 1.5 times slower; setup.py disables it (-fno-tree-slp-vectorize). Several rows of x: the rows are the lanes of
 * the vectors. A tile of up to 32 rows is transposed so that one column's values are adjacent, and each entry of W is
 * one vector load and one addition, for every sparsity pattern.
 *
 * Sums have a fixed order and no fused multiply-add (-ffp-contract=off), so all code paths give the same bits on
 * every machine.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "memory.h"

#define CAPSULE "laconic.runtime.kernels.Matrix"
#define PANEL 512      /* rows of a panel; ranges of rows begin at a panel */
#define WIDE_COLUMNS 2048 /* up to this width a tile has 32 lanes: 256 KiB */
#define MOST_COLUMNS 65535  /* so that the length of a full row's list fits in 16 bits */

enum { BASELINE, AVX2, AVX512, VARIANTS };
enum { GROUPED, CODED, VALUED, FORMS };

typedef struct {
    uint16_t lists, length, level;
} Run;

typedef struct {
    size_t run, list, entry;
} Place;

typedef struct {
    size_t rows, cols, first, panels, runs, lists, entries, n_reals, bytes;
    int form, bits;      /* bits of a column; 16 but for coded matrices */
    const float *reals;  /* levels or values */
    const Place *starts; /* [panels + 1]: the start of each panel */
    const Run *run;
    const uint16_t *row;
    const uint16_t *columns;
    Weights memory;
} Matrix;

/* ---- one row of x ------------------------------------------------------------------------------------- */

/* Four indices per load: this code is bound by loads. */
INLINE uint64_t four(const uint16_t *c) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t found;
    memcpy(&found, c, sizeof found);
    return found;
#else
    return (uint64_t)c[0] | (uint64_t)c[1] << 16 | (uint64_t)c[2] << 32 | (uint64_t)c[3] << 48;
#endif
}

/* Moves the next index to the low bits. Compilers turn two such shifts into shifts of copies, which are more
 * instructions, unless the value of p in between is hidden from them. */
#if defined(__GNUC__) || defined(__clang__)
#define SHIFT(p)                                                                                             \
    do {                                                                                                     \
        p >>= 16;                                                                                            \
        __asm__("" : "+r"(p));                                                                               \
    } while (0)
#else
#define SHIFT(p) (p >>= 16)
#endif

/* The hardware prefetcher works within a page of 4 KiB only. So the data AHEAD entries later is prefetched here, at
 * 95 % zeros 0.4 us before its use: between calls of other code a product is 1.2 to 1.3 times as fast. A distance of
 * 512 entries is too short; 1024 to 2048 are equally fast. */
#define AHEAD 1536
#define LINE 32 /* indices in a cache line */
INLINE void ask(const void *now, size_t bytes) { FETCH((const char *)((uintptr_t)now + bytes)); }
INLINE void ask_columns(const uint16_t *c) { ask(c, AHEAD * sizeof *c); }
INLINE void ask_values(const float *v) {
    ask(v, AHEAD * sizeof *v);
    ask(v, AHEAD * sizeof *v + LINE / 2 * sizeof *v);
}

#define ALONE(i, c)
#define BY_LEVEL(i, c) *level[(c) >> bits]
#define BY_VALUE(i, c) *v[i]
#define WHOLE(c) (c)
#define LOW_BITS(c) ((c) & mask)
#define ASK_COLUMNS(k) ask_columns(c + (k))
#define ASK_BOTH(k) (ask_columns(c + (k)), ask_values(v + (k)))

/* The next four entries, one to each of four sums; BECOMES is = or +=. */
#define FOUR(BECOMES, TIMES, a, b, d, e)                                                                     \
    do {                                                                                                     \
        uint64_t p = four(c + i);                                                                            \
        a BECOMES x[p & 0xffff] TIMES(i, p);                                                                 \
        SHIFT(p);                                                                                            \
        b BECOMES x[p & 0xffff] TIMES(i + 1, p);                                                             \
        SHIFT(p);                                                                                            \
        d BECOMES x[p & 0xffff] TIMES(i + 2, p);                                                             \
        SHIFT(p);                                                                                            \
        e BECOMES x[p] TIMES(i + 3, p);                                                                      \
        i += 4;                                                                                              \
    } while (0)
#define EIGHT(BECOMES, TIMES)                                                                                \
    do {                                                                                                     \
        FOUR(BECOMES, TIMES, s0, s1, s2, s3);                                                                \
        FOUR(BECOMES, TIMES, s4, s5, s6, s7);                                                                \
    } while (0)

/* The sum over n entries; TIMES is the factor of each. Sums that are initialised by loads save eight additions per
 * list, a tenth of the time at 99 % zeros. */
#define SCALAR_SUM(TIMES, ASK)                                                                               \
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;                                    \
    size_t i = 0;                                                                                            \
    ASK(0);                                                                                                  \
    if (n >= 8) EIGHT(=, TIMES);                                                                             \
    while (i + LINE <= n) {                                                                                  \
        ASK(i + LINE - 8);                                                                                   \
        EIGHT(+=, TIMES);                                                                                    \
        EIGHT(+=, TIMES);                                                                                    \
        EIGHT(+=, TIMES);                                                                                    \
        EIGHT(+=, TIMES);                                                                                    \
    }                                                                                                        \
    while (i + 8 <= n) EIGHT(+=, TIMES);                                                                     \
    if (n & 4) FOUR(+=, TIMES, s0, s1, s2, s3);                                                              \
    if (n & 2) {                                                                                             \
        s4 += x[c[i]] TIMES(i, c[i]);                                                                        \
        s5 += x[c[i + 1]] TIMES(i + 1, c[i + 1]);                                                            \
        i += 2;                                                                                              \
    }                                                                                                        \
    if (n & 1) s6 += x[c[i]] TIMES(i, c[i]);                                                                 \
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));

INLINE float sum_list(const float *x, const uint16_t *c, size_t n) { SCALAR_SUM(ALONE, ASK_COLUMNS) }

INLINE float sum_valued(const float *x, const uint16_t *c, const float *v, size_t n) {
    SCALAR_SUM(BY_VALUE, ASK_BOTH)
}

/* Two look-ups per entry leave no registers for more sums. */
INLINE float sum_coded(const float *x, const uint16_t *c, const float *level, int bits, size_t n) {
    const unsigned mask = (1u << bits) - 1;
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        if (i % LINE == 0) ask_columns(c + i);
        s0 += x[c[i] & mask] * level[c[i] >> bits];
        s1 += x[c[i + 1] & mask] * level[c[i + 1] >> bits];
        s2 += x[c[i + 2] & mask] * level[c[i + 2] >> bits];
        s3 += x[c[i + 3] & mask] * level[c[i + 3] >> bits];
    }
    for (; i < n; i++) s0 += x[c[i] & mask] * level[c[i] >> bits];
    return (s0 + s1) + (s2 + s3);
}

static void one_row(const Matrix *m, const Call *call) {
    const float *x = call->x + m->first;
    for (size_t r0 = call->row0; r0 < call->row1; r0 += PANEL) {
        size_t n = call->row1 - r0 < PANEL ? call->row1 - r0 : PANEL;
        const Place *at = m->starts + r0 / PANEL;
        const uint16_t *row = m->row + at->list, *c = m->columns + at->entry;
        float sums[PANEL];
        memset(sums, 0, n * sizeof(float));
        for (size_t r = 0; r < n; r += 16) FETCH(call->y + r0 + r); /* one cache line each */
        for (const Run *run = m->run + at->run; run < m->run + at[1].run; run++) {
            size_t length = run->length;
            ask(row, 256);
            ask(run, 256);
            if (m->form == GROUPED) {
                float level = m->reals[run->level];
                for (size_t k = run->lists; k > 0; k--, c += length)
                    sums[*row++] += level * sum_list(x, c, length);
            } else if (m->form == VALUED) {
                const float *v = m->reals + (c - m->columns);
                for (size_t k = run->lists; k > 0; k--, c += length, v += length)
                    sums[*row++] += sum_valued(x, c, v, length);
            } else {
                for (size_t k = run->lists; k > 0; k--, c += length)
                    sums[*row++] += sum_coded(x, c, m->reals, m->bits, length);
            }
        }
        finish(call, sums, 1, r0, n, call->y + r0);
    }
}

/* ---- several rows of x --------------------------------------------------------------------------------- */

#if defined(__GNUC__) || defined(__clang__)
typedef float lanes4 __attribute__((vector_size(16), aligned(16)));
typedef float lanes8 __attribute__((vector_size(32), aligned(32)));
typedef float lanes16 __attribute__((vector_size(64), aligned(64)));
#define HAVE_LANES 1
#else
#define HAVE_LANES 0
#endif

#if HAVE_LANES
/* The sums of one list with a tile of x: `t` is [cols][N * lanes], `out` is [N * lanes]. */
#define SUM_OF_LIST(N, COLUMN, TIMES)                                                                        \
    for (; i + 2 <= n; i += 2)                                                                               \
        for (int j = 0; j < N; j++) {                                                                        \
            a[j] += t[(size_t)COLUMN(c[i]) * N + j] TIMES(i, c[i]);                                          \
            b[j] += t[(size_t)COLUMN(c[i + 1]) * N + j] TIMES(i + 1, c[i + 1]);                              \
        }                                                                                                    \
    if (i < n)                                                                                               \
        for (int j = 0; j < N; j++) a[j] += t[(size_t)COLUMN(c[i]) * N + j] TIMES(i, c[i]);
#define LIST_OF_TILE(NAME, VECTOR, N)                                                                        \
    INLINE void NAME(const Matrix *m, const float *tile, const Run *run, const uint16_t *c, float *out) {    \
        const VECTOR *t = (const VECTOR *)tile;                                                              \
        const float *level = m->reals, *v = m->reals + (m->form == VALUED ? c - m->columns : 0);             \
        const unsigned mask = (1u << m->bits) - 1;                                                           \
        const int bits = m->bits;                                                                            \
        const size_t n = run->length;                                                                        \
        size_t i = 0;                                                                                        \
        VECTOR a[N] = {{0}}, b[N] = {{0}}, *sum = (VECTOR *)out;                                             \
        if (m->form == GROUPED) {                                                                            \
            SUM_OF_LIST(N, WHOLE, ALONE)                                                                     \
            for (int j = 0; j < N; j++) sum[j] += (a[j] + b[j]) * level[run->level];                         \
            return;                                                                                          \
        }                                                                                                    \
        if (m->form == CODED) {                                                                              \
            SUM_OF_LIST(N, LOW_BITS, BY_LEVEL)                                                               \
        } else {                                                                                             \
            SUM_OF_LIST(N, WHOLE, BY_VALUE)                                                                  \
        }                                                                                                    \
        for (int j = 0; j < N; j++) sum[j] += a[j] + b[j];                                                   \
    }
LIST_OF_TILE(list_4x2, lanes4, 2)
LIST_OF_TILE(list_4x4, lanes4, 4)
LIST_OF_TILE(list_4x8, lanes4, 8)
LIST_OF_TILE(list_8x1, lanes8, 1)
LIST_OF_TILE(list_8x2, lanes8, 2)
LIST_OF_TILE(list_8x4, lanes8, 4)
LIST_OF_TILE(list_16x1, lanes16, 1)
LIST_OF_TILE(list_16x2, lanes16, 2)

/* `variant` and `lanes` are constants where this is inlined, so that one of the eight calls remains. */
INLINE void list_of_tile(const Matrix *m, int variant, size_t lanes, const float *tile, const Run *run,
                         const uint16_t *c, float *out) {
    if (variant == BASELINE) {
        if (lanes == 8) list_4x2(m, tile, run, c, out);
        else if (lanes == 16) list_4x4(m, tile, run, c, out);
        else list_4x8(m, tile, run, c, out);
    } else if (lanes == 8) list_8x1(m, tile, run, c, out);
    else if (variant == AVX2 && lanes == 16) list_8x2(m, tile, run, c, out);
    else if (variant == AVX2) list_8x4(m, tile, run, c, out);
    else if (lanes == 16) list_16x1(m, tile, run, c, out);
    else list_16x2(m, tile, run, c, out);
}
#endif

/* A tile should fit in a core's L2 cache with room to spare, since each entry of W reads one of its columns. */
static size_t lanes_for(const Matrix *m, size_t batch) {
    return batch > 16 && m->cols <= WIDE_COLUMNS ? 32 : batch > 8 ? 16 : 8;
}

/* Rows b0.. of x, transposed: tile[c * lanes + b]; missing rows are zeros. */
INLINE void turn(const Matrix *m, const Call *call, size_t b0, size_t used, size_t lanes, float *tile) {
    const float *x = call->x + b0 * call->width + m->first;
    if (used < lanes) memset(tile, 0, m->cols * lanes * sizeof(float));
    for (size_t c0 = 0; c0 < m->cols; c0 += 16) {
        size_t c1 = c0 + 16 < m->cols ? c0 + 16 : m->cols;
        for (size_t b = 0; b < used; b++)
            for (size_t c = c0; c < c1; c++) tile[c * lanes + b] = x[b * call->width + c];
    }
}

/* A panel's sums are in a buffer, [PANEL][lanes], until all its lists are added. */
INLINE void multiply_tile(const Matrix *m, const Call *call, int variant, size_t b0, size_t used, size_t lanes,
                          const float *tile, float *sums) {
    for (size_t r0 = call->row0; r0 < call->row1; r0 += PANEL) {
        size_t n = call->row1 - r0 < PANEL ? call->row1 - r0 : PANEL;
        const Place *at = m->starts + r0 / PANEL;
        const uint16_t *row = m->row + at->list, *c = m->columns + at->entry;
        memset(sums, 0, n * lanes * sizeof(float));
#if HAVE_LANES
        for (const Run *run = m->run + at->run; run < m->run + at[1].run; run++)
            for (size_t k = run->lists; k > 0; k--, c += run->length)
                list_of_tile(m, variant, lanes, tile, run, c, sums + *row++ * lanes);
#endif
        for (size_t r = 0; r < n; r += 16) /* a cache line of y at a time */
            for (size_t b = 0; b < used; b++)
                finish(call, sums + r * lanes + b, lanes, r0 + r, n - r < 16 ? n - r : 16,
                       call->y + (b0 + b) * m->rows + r0 + r);
    }
}

INLINE void all_tiles(const Matrix *m, const Call *call, int variant, float *tile) {
    for (size_t b0 = 0; b0 < call->batch;) {
        size_t left = call->batch - b0;
        size_t lanes = lanes_for(m, left);
        size_t used = left < lanes ? left : lanes;
        float *sums = tile + m->cols * lanes;
        turn(m, call, b0, used, lanes, tile);
        if (lanes == 8) multiply_tile(m, call, variant, b0, used, 8, tile, sums);
        else if (lanes == 16) multiply_tile(m, call, variant, b0, used, 16, tile, sums);
        else multiply_tile(m, call, variant, b0, used, 32, tile, sums);
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

/* ---- code path for this processor ----------------------------------------------------------------------- */

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

/* ---- Python interface -------------------------------------------------------------------------------------- */

static void release(PyObject *capsule) {
    Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    if (m) free_weights(m->memory);
    free(m);
}

/* Checks the form and computes the starts of the panels; returns an error message, or NULL. */
static const char *check(const Matrix *m, const uint16_t *panels, Place *starts) {
    Place at = {0, 0, 0};
    for (size_t p = 0; p < m->panels; p++) {
        size_t high = m->rows - p * PANEL < PANEL ? m->rows - p * PANEL : PANEL;
        starts[p] = at;
        if (panels[p] > m->runs - at.run) return "the panels have more runs than there are";
        for (size_t k = 0; k < panels[p]; k++, at.run++) {
            Run run = m->run[at.run];
            if (run.lists > m->lists - at.list) return "the runs have more lists than there are";
            if ((size_t)run.lists * run.length > m->entries - at.entry) return "more entries than columns";
            if (m->form == GROUPED && run.level >= m->n_reals) return "a level is not there";
            for (size_t i = 0; i < run.lists; i++)
                if (m->row[at.list + i] >= high) return "a row lies outside its panel";
            at.list += run.lists;
            at.entry += (size_t)run.lists * run.length;
        }
    }
    starts[m->panels] = at;
    if (at.run != m->runs || at.list != m->lists || at.entry != m->entries) return "the lengths do not add up";
    const unsigned mask = (1u << m->bits) - 1;
    for (size_t i = 0; i < m->entries; i++) {
        if ((m->columns[i] & mask) >= m->cols) return "a column lies outside the matrix";
        if (m->form == CODED && (size_t)(m->columns[i] >> m->bits) >= m->n_reals) return "a level is not there";
    }
    return NULL;
}

enum { PANELS, RUNS, ROWS, COLUMNS, REALS, ARRAYS };

/* Copies the arrays into one block of memory and checks them; NULL with an exception set. */
static Matrix *build(Matrix shape, const Py_buffer *arrays) {
    size_t offset[ARRAYS], total = rounded((shape.panels + 1) * sizeof(Place));
    for (int k = RUNS; k < ARRAYS; k++) {
        offset[k] = total;
        total += rounded(arrays[k].len);
    }
    Matrix *m = malloc(sizeof *m);
    char *start = NULL;
    if (m) {
        *m = shape;
        m->memory = take_weights(total);
        start = m->memory.start;
    }
    if (!start) {
        free(m);
        PyErr_NoMemory();
        return NULL;
    }
    for (int k = RUNS; k < ARRAYS; k++) memcpy(start + offset[k], arrays[k].buf, arrays[k].len);
    m->starts = (Place *)start;
    m->run = (Run *)(start + offset[RUNS]);
    m->row = (uint16_t *)(start + offset[ROWS]);
    m->columns = (uint16_t *)(start + offset[COLUMNS]);
    m->reals = (float *)(start + offset[REALS]);
    m->bytes = total;
    const char *wrong = check(m, arrays[PANELS].buf, (Place *)start);
    if (!wrong) return m;
    PyErr_SetString(PyExc_ValueError, wrong);
    free_weights(m->memory);
    free(m);
    return NULL;
}

/* The error message for the sizes of a form, or NULL. */
static const char *missized(const Matrix *m, const Py_buffer *arrays) {
    if (m->rows > INT32_MAX || m->first > INT32_MAX) return "impossible sizes";
    if (m->cols > MOST_COLUMNS) return "at most 65535 columns";
    if (m->form < 0 || m->form >= FORMS || m->bits < 1 || m->bits > 16) return "no such form";
    if (m->form != CODED && m->bits != 16) return "only a coded matrix has short columns";
    if ((size_t)arrays[PANELS].len != 2 * m->panels || (uintptr_t)arrays[PANELS].buf % 2) return "wrong panels";
    if (arrays[RUNS].len % sizeof(Run) || arrays[ROWS].len % 2 || arrays[COLUMNS].len % 2) return "wrong lengths";
    if (arrays[REALS].len % 4 || (m->form == VALUED && m->n_reals != m->entries)) return "wrong number of values";
    return NULL;
}

static PyObject *pack(PyObject *self, PyObject *args) {
    Py_ssize_t rows, cols, first;
    int form, bits;
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "nnniiy*y*y*y*y*", &rows, &cols, &first, &form, &bits, a, a + 1, a + 2, a + 3, a + 4))
        return NULL;
    PyObject *capsule = NULL;
    Matrix shape = {.rows = rows, .cols = cols, .first = first, .form = form, .bits = bits};
    shape.panels = (shape.rows + PANEL - 1) / PANEL;
    shape.runs = a[RUNS].len / sizeof(Run);
    shape.lists = a[ROWS].len / 2;
    shape.entries = a[COLUMNS].len / 2;
    shape.n_reals = a[REALS].len / 4;
    const char *wrong = rows < 0 || cols < 0 || first < 0 ? "negative sizes" : missized(&shape, a);
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else {
        Matrix *m = build(shape, a);
        if (m && !(capsule = PyCapsule_New(m, CAPSULE, release))) {
            free_weights(m->memory);
            free(m);
        }
    }
    for (int k = 0; k < ARRAYS; k++) PyBuffer_Release(a + k);
    return capsule;
}

static int product(const void *matrix, const Call *call, int variant) {
    const Matrix *m = matrix;
    void *memory = NULL;
    float *tile = NULL;
    size_t lanes = lanes_for(m, call->batch);
    if (HAVE_LANES && call->batch > 1) tile = aligned((m->cols + PANEL) * lanes * sizeof(float), &memory);
    /* without memory for a tile the rows of x are multiplied one by one */
    Py_BEGIN_ALLOW_THREADS
    run(m, call, variant, tile);
    Py_END_ALLOW_THREADS
    free(memory);
    return 0;
}

static Shape shape_of(const void *matrix) {
    const Matrix *m = matrix;
    return (Shape){m->rows, m->cols, m->first};
}

static const Kernel KERNEL = {CAPSULE, PANEL, VARIANTS, NAMES, runs, shape_of, product};

static PyObject *multiply(PyObject *self, PyObject *args) { return multiply_by(&KERNEL, args); }

static PyObject *quick(PyObject *self, PyObject *args) { return new_quick(&KERNEL, args); }

static PyObject *variants(PyObject *self, PyObject *none) { return variants_of(&KERNEL); }

static PyObject *nbytes(PyObject *self, PyObject *capsule) {
    const Matrix *m = PyCapsule_GetPointer(capsule, CAPSULE);
    return m ? PyLong_FromSize_t(m->bytes) : NULL;
}

static PyMethodDef METHODS[] = {
    {"pack", pack, METH_VARARGS, "pack(rows, cols, first, form, bits, panels, runs, rows, columns, reals) -> matrix"},
    {"multiply", multiply, METH_VARARGS,
     "multiply(matrix, x, width, batch, y, bias, relu, add, row0, row1, variant): fills rows row0..row1 of y"},
    {"quick", quick, METH_VARARGS, "quick(matrix, numpy.empty, dtype, most rows of x, variant) -> function"},
    {"nbytes", nbytes, METH_O, "nbytes(matrix) -> bytes of memory that it holds"},
    {"variants", variants, METH_NOARGS, "variants() -> names of the code paths this processor runs, best last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_sparse", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sparse(void) { return PyModuleDef_Init(&MODULE); }
