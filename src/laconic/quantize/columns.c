/* Columns of a matrix, one after the other, by error feedback or by descent (formulas: quantize/passes.py).
 *
 * Rows are independent of each other for a given price of levels, and lie side by side in memory, so that each
 * step of a column is a loop over rows. It does the operations of passes.py in the same order, without fused
 * multiply-add, and gives the same bits.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t blocks, k, rows, start, end;
    const double *by_row, *by_column, *precision; /* steps; (blocks, rows), (k,), (blocks, rows) */
    const double *zero, *other, *level;           /* prices, (blocks, k, rows) twice, (2 half + 1,); NULL: none */
    const double *matrix;                         /* U or H, (blocks, k, k) */
    double *part, *change;                        /* (blocks, end - start, rows) */
    int32_t *integers;                            /* (blocks, k, rows) */
    double half;
} Job;

/* Ties to even, as the processor rounds a sum; larger numbers are whole. */
static double nearest(double x) {
    const double whole = 6755399441055744.0;
    return fabs(x) < 2251799813685248.0 ? (x + whole) - whole : x;
}

static double sign(double x) { return (double)((x > 0) - (x < 0)); }

/* The cost of level q where it is less than the least so far; zero is not asked for. */
static void offer(double q, double w, double step, double curvature, double other, const double *middle,
                  double *best, double *least) {
    const double shift = w - q * step;
    const double cost = curvature * (shift * shift) + other + middle[(ptrdiff_t)q];
    if (q != 0 && cost < *least) {
        *least = cost;
        *best = q;
    }
}

/* The best level of one weight; `last` is one more candidate, unless it is zero. */
static double choose(const Job *job, size_t at, double w, double step, double curvature, double last) {
    double q = w / step;
    if (!job->zero) return nearest(q);
    q = nearest(q > -job->half ? (q < job->half ? q : job->half) : -job->half); /* NaN has a price, too */
    const double beside = q == 0 ? sign(w) : q - sign(q), *middle = job->level + (ptrdiff_t)job->half;
    double best = 0, least = curvature * (w * w) + job->zero[at];
    offer(beside, w, step, curvature, job->other[at], middle, &best, &least);
    offer(q, w, step, curvature, job->other[at], middle, &best, &least);
    offer(last, w, step, curvature, job->other[at], middle, &best, &least);
    return best;
}

/* part[k] += sign * weights[k * stride] * change[j] for columns from `first` on. */
static void spread(const Job *job, size_t b, size_t j, size_t first, const double *weights, size_t stride,
                   double direction) {
    const size_t rows = job->rows, width = job->end - job->start;
    const double *restrict change = job->change + (b * width + j - job->start) * rows;
    for (size_t k = first; k < job->end; k++) {
        double *restrict part = job->part + (b * width + k - job->start) * rows;
        const double weight = direction * weights[k * stride];
        for (size_t r = 0; r < rows; r++) part[r] += weight * change[r];
    }
}

static void feedback_column(const Job *job, size_t b, size_t j) {
    const size_t rows = job->rows, width = job->end - job->start, at = (b * job->k + j) * rows;
    const double *upper = job->matrix + (b * job->k + j) * job->k, scale = upper[j];
    const double *precision = job->precision + b * rows, *by_row = job->by_row + b * rows;
    const double *part = job->part + (b * width + j - job->start) * rows;
    double *change = job->change + (b * width + j - job->start) * rows;
    for (size_t r = 0; r < rows; r++) {
        const double step = by_row[r] * job->by_column[j];
        const double q = choose(job, at + r, part[r], step, 0.5 * precision[r] / (scale * scale), 0);
        job->integers[at + r] = (int32_t)q;
        change[r] = (part[r] - q * step) / scale;
    }
    spread(job, b, j, j + 1, upper, 1, -1.0);
}

static void descent_column(const Job *job, size_t b, size_t j) {
    const size_t rows = job->rows, width = job->end - job->start, at = (b * job->k + j) * rows;
    const double *column = job->matrix + b * job->k * job->k + j, power = column[j * job->k];
    const double *precision = job->precision + b * rows, *by_row = job->by_row + b * rows;
    const double *part = job->part + (b * width + j - job->start) * rows;
    double *change = job->change + (b * width + j - job->start) * rows;
    int moved = 0;
    for (size_t r = 0; r < rows; r++) {
        const double step = by_row[r] * job->by_column[j], last = (double)job->integers[at + r];
        const double value = last * step;
        const double q = choose(job, at + r, value - part[r] / power, step, 0.5 * precision[r] * power, last);
        job->integers[at + r] = (int32_t)q;
        change[r] = q * step - value;
        moved |= change[r] != 0;
    }
    if (moved) spread(job, b, j, job->start, column, job->k, 1.0);
}

/* ---- Python interface ---------------------------------------------------------------------------------------- */

enum { PART, CHANGE, INTEGERS, MATRIX, BY_ROW, BY_COLUMN, PRECISION, ZERO, OTHER, LEVEL, BUFFERS };

/* What is wrong with the arrays' lengths; NULL: nothing. */
static const char *fill(Job *job, const Py_buffer *given) {
    const size_t number = sizeof(double), whole = job->blocks * job->k * job->rows;
    const size_t part = job->blocks * (job->end - job->start) * job->rows, rows = job->blocks * job->rows;
    const size_t priced = given[ZERO].len ? whole : 0, levels = (size_t)given[LEVEL].len / number;
    const size_t wanted[LEVEL] = {part * number, part * number, whole * sizeof(int32_t),
                                  job->blocks * job->k * job->k * number, rows * number, job->k * number,
                                  rows * number, priced * number, priced * number};
    if (job->start > job->end || job->end > job->k) return "a range of columns that there are not";
    for (int i = 0; i < LEVEL; i++)
        if ((size_t)given[i].len != wanted[i]) return "an array of another length";
    for (int i = 0; i < BUFFERS; i++)
        if ((uintptr_t)given[i].buf % (i == INTEGERS ? sizeof(int32_t) : number)) return "an array is not aligned";
    if (priced && (levels % 2 == 0 || levels < 3)) return "prices of too few or an even number of levels";
    job->part = given[PART].buf;
    job->change = given[CHANGE].buf;
    job->integers = given[INTEGERS].buf;
    job->matrix = given[MATRIX].buf;
    job->by_row = given[BY_ROW].buf;
    job->by_column = given[BY_COLUMN].buf;
    job->precision = given[PRECISION].buf;
    job->zero = priced ? given[ZERO].buf : NULL;
    job->other = given[OTHER].buf;
    job->level = given[LEVEL].buf;
    job->half = (double)(levels / 2);
    if (priced)
        for (size_t i = 0; i < whole; i++)
            if (job->integers[i] > job->half || job->integers[i] < -job->half) return "a level without a price";
    return NULL;
}

static PyObject *sweep(PyObject *args, void (*column)(const Job *, size_t, size_t)) {
    Py_buffer given[BUFFERS];
    Py_ssize_t blocks, k, rows, start, end;
    if (!PyArg_ParseTuple(args, "w*w*w*y*y*y*y*y*y*y*nnnnn", &given[PART], &given[CHANGE], &given[INTEGERS],
                          &given[MATRIX], &given[BY_ROW], &given[BY_COLUMN], &given[PRECISION], &given[ZERO],
                          &given[OTHER], &given[LEVEL], &blocks, &k, &rows, &start, &end))
        return NULL;
    Job job = {(size_t)blocks, (size_t)k, (size_t)rows, (size_t)start, (size_t)end};
    const char *wrong = blocks < 0 || k < 0 || rows < 0 || start < 0 ? "a size below 0" : fill(&job, given);
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else {
        Py_BEGIN_ALLOW_THREADS
        for (size_t b = 0; b < job.blocks; b++)
            for (size_t j = job.start; j < job.end; j++) column(&job, b, j);
        Py_END_ALLOW_THREADS
    }
    for (int i = 0; i < BUFFERS; i++) PyBuffer_Release(&given[i]);
    return wrong ? NULL : Py_NewRef(Py_None);
}

static PyObject *feedback(PyObject *self, PyObject *args) { return sweep(args, feedback_column); }

static PyObject *descent(PyObject *self, PyObject *args) { return sweep(args, descent_column); }

static PyMethodDef METHODS[] = {
    {"feedback", feedback, METH_VARARGS,
     "feedback(weights, errors, integers, U, row steps, column steps, precision, price of zero, price of not zero, "
     "price of levels, blocks, k, rows, start, end): columns take levels, and the ones behind them make up for it"},
    {"descent", descent, METH_VARARGS,
     "descent(slope, moves, integers, H, ...): columns take their best levels, all others given"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_columns", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__columns(void) { return PyModuleDef_Init(&MODULE); }
