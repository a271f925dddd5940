/* Calls of a matrix from Python: argument checks and buffers, shared by all kernels.
 *
 * The common case runs as little Python code as possible.
 * In a network the weights and activations of other layers evict the interpreter's data from the caches between two
 * calls; each attribute look-up, tuple and small object then waits for main memory. Together they took 45 us of a call
 * of 100 us. So one C function reads x in place, gets y from NumPy and multiplies. In all other cases (strides, other
 * types, wrong shapes, many rows for several threads) it returns None; the caller then takes the general path, which
 * copies arrays where needed and raises errors.
 */
#ifndef LACONIC_CALL_H
#define LACONIC_CALL_H
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86 1
#endif
#if defined(__GNUC__) || defined(__clang__)
#define FETCH(address) __builtin_prefetch(address)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#define FETCH(address) ((void)0)
#endif

#define QUICK_CAPSULE "laconic.runtime.kernels.Quick"

typedef struct {
    const float *x;    /* [batch, width] */
    const float *bias; /* [rows] or NULL */
    float *y;          /* [batch, rows] */
    size_t width, batch, row0, row1;
    int relu, add; /* clip at zero; add to what y holds */
} Call;

typedef struct {
    size_t rows, cols, first; /* columns `first`.. of x are multiplied */
} Shape;

/* The functions and constants of a kernel. */
typedef struct {
    const char *capsule;
    size_t unit; /* ranges of rows begin at a multiple of it */
    int variants;
    const char *const *names;
    int (*runs)(int variant);
    Shape (*shape)(const void *matrix);
    int (*product)(const void *matrix, const Call *call, int variant); /* 0, or -1 with an exception */
} Kernel;

typedef struct {
    const Kernel *kernel;
    PyObject *owner, *empty, *dtype; /* the matrix's capsule, numpy.empty, float32 */
    const void *matrix;
    size_t rows, cols;
    size_t most; /* rows of x; more are shared by several threads */
    int variant;
} Quick;

/* Whether a buffer holds aligned native float32. */
static int is_float(const Py_buffer *b) {
    return b->format && !strcmp(b->format, "f") && b->itemsize == sizeof(float) &&
           (uintptr_t)b->buf % sizeof(float) == 0;
}

/* Get a contiguous float32 buffer; returns 0, and holds no buffer, if it is not one. */
static int floats_of(PyObject *object, Py_buffer *b) {
    if (PyObject_GetBuffer(object, b, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (is_float(b)) return 1;
    PyBuffer_Release(b);
    return 0;
}

/* numpy.empty((*x.shape[:-1], rows), float32) */
static PyObject *new_y(const Quick *q, const Py_buffer *x) {
    PyObject *shape = PyTuple_New(x->ndim);
    for (int k = 0; shape && k < x->ndim; k++) {
        PyObject *size = PyLong_FromSsize_t(k + 1 < x->ndim ? x->shape[k] : (Py_ssize_t)q->rows);
        if (!size || PyTuple_SetItem(shape, k, size) < 0) Py_CLEAR(shape);
    }
    PyObject *y = shape ? PyObject_CallFunctionObjArgs(q->empty, shape, q->dtype, NULL) : NULL;
    Py_XDECREF(shape);
    return y;
}

/* y for a suitable x, or None, or NULL with an exception. */
static PyObject *quick_product(const Quick *q, const Py_buffer *x, const float *bias, int relu) {
    size_t batch = 1;
    for (int k = 0; k + 1 < x->ndim; k++) batch *= x->shape[k]; /* the product of a buffer's sizes does not overflow */
    if (x->ndim < 1 || (size_t)x->shape[x->ndim - 1] != q->cols || batch > q->most || batch > INT32_MAX)
        Py_RETURN_NONE;
    if (batch == 1)
        for (size_t c = 0; c < q->cols; c += 16) FETCH((const float *)x->buf + c);
    PyObject *array = new_y(q, x);
    Py_buffer y;
    if (!array) return NULL;
    if (PyObject_GetBuffer(array, &y, PyBUF_WRITABLE) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    Call call = {.x = x->buf, .bias = bias, .y = y.buf, .width = q->cols, .batch = batch, .row1 = q->rows};
    call.relu = relu;
    int fits = (size_t)y.len == batch * q->rows * sizeof(float) && (uintptr_t)y.buf % sizeof(float) == 0;
    int done = fits ? q->kernel->product(q->matrix, &call, q->variant) : -1;
    if (!fits) PyErr_SetString(PyExc_ValueError, "y has a wrong size");
    PyBuffer_Release(&y);
    if (done < 0) Py_CLEAR(array);
    return array;
}

/* quick(x, bias, relu) -> y or None */
static PyObject *quick_call(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    const Quick *q = PyCapsule_GetPointer(self, QUICK_CAPSULE);
    Py_buffer x, bias = {.buf = NULL};
    if (!q) return NULL;
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "quick(x, bias, relu)");
        return NULL;
    }
    int relu = PyObject_IsTrue(args[2]);
    if (relu < 0) return NULL;
    if (!floats_of(args[0], &x)) Py_RETURN_NONE;
    PyObject *y = NULL;
    int fits = args[1] == Py_None || floats_of(args[1], &bias);
    if (fits && bias.buf) fits = bias.ndim == 1 && (size_t)bias.shape[0] == q->rows;
    y = fits ? quick_product(q, &x, bias.buf, relu) : Py_NewRef(Py_None);
    if (bias.obj) PyBuffer_Release(&bias);
    PyBuffer_Release(&x);
    return y;
}

static PyMethodDef QUICK = {"quick", (PyCFunction)(void (*)(void))quick_call, METH_FASTCALL, "quick(x, bias, relu) -> y, or None: go the long way"};

static void free_quick(PyObject *capsule) {
    Quick *q = PyCapsule_GetPointer(capsule, QUICK_CAPSULE);
    if (!q) return;
    Py_XDECREF(q->owner);
    Py_XDECREF(q->empty);
    Py_XDECREF(q->dtype);
    free(q);
}

static int runs_here(const Kernel *kernel, int variant) {
    return variant >= 0 && variant < kernel->variants && kernel->runs(variant);
}

/* quick(matrix, numpy.empty, dtype, most, variant): the function for a matrix; it owns references to these. */
static PyObject *new_quick(const Kernel *kernel, PyObject *args) {
    Quick asked = {.kernel = kernel};
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "OOOni", &asked.owner, &asked.empty, &asked.dtype, &most, &asked.variant))
        return NULL;
    asked.matrix = PyCapsule_GetPointer(asked.owner, kernel->capsule);
    if (!asked.matrix) return NULL;
    Shape shape = kernel->shape(asked.matrix);
    if (most < 0 || shape.first || !runs_here(kernel, asked.variant)) {
        PyErr_SetString(PyExc_ValueError, "not the whole matrix, or not on this processor");
        return NULL;
    }
    asked.rows = shape.rows, asked.cols = shape.cols, asked.most = most;
    Quick *q = malloc(sizeof *q);
    if (!q) return PyErr_NoMemory();
    *q = asked;
    PyObject *capsule = PyCapsule_New(q, QUICK_CAPSULE, free_quick);
    if (!capsule) {
        free(q);
        return NULL;
    }
    Py_INCREF(q->owner);
    Py_INCREF(q->empty);
    Py_INCREF(q->dtype);
    PyObject *function = PyCFunction_New(&QUICK, capsule);
    Py_DECREF(capsule);
    return function;
}

/* ---- the general path ----------------------------------------------------------------------------------- */

/* The error message for the arrays of a call, or NULL. */
static const char *misfit(const Kernel *kernel, Shape m, const Call *call, const Py_buffer *x, const Py_buffer *y,
                          const Py_buffer *bias) {
    if (call->batch > INT32_MAX || call->width > INT32_MAX) return "x is too large";
    if (m.cols > call->width || m.first > call->width - m.cols) return "x has too few columns";
    if ((size_t)x->len != call->batch * call->width * 4) return "x has a wrong size";
    if ((size_t)y->len != call->batch * m.rows * 4) return "y has a wrong size";
    if (bias->buf && (size_t)bias->len != m.rows * 4) return "the bias has a wrong size";
    if (call->row0 % kernel->unit || (call->row1 % kernel->unit && call->row1 != m.rows)) return "a wrong range of rows";
    if (call->row0 > call->row1 || call->row1 > m.rows) return "a wrong range of rows";
    if (((uintptr_t)x->buf | (uintptr_t)y->buf | (uintptr_t)bias->buf) % sizeof(float)) return "not aligned";
    return NULL;
}

/* multiply(matrix, x, width, batch, y, bias, relu, add, row0, row1, variant) */
static PyObject *multiply_by(const Kernel *kernel, PyObject *args) {
    PyObject *capsule;
    Py_ssize_t width, batch, row0, row1;
    int relu, add, variant;
    Py_buffer x, y, bias;
    if (!PyArg_ParseTuple(args, "Oy*nnw*z*ppnni", &capsule, &x, &width, &batch, &y, &bias, &relu, &add, &row0,
                          &row1, &variant))
        return NULL;
    int done = -1;
    const void *m = PyCapsule_GetPointer(capsule, kernel->capsule);
    if (m) {
        Call call = {.x = x.buf, .bias = bias.buf, .y = y.buf, .width = width, .batch = batch};
        call.relu = relu, call.add = add, call.row0 = row0, call.row1 = row1;
        const char *wrong = "negative sizes";
        if (width >= 0 && batch >= 0 && row0 >= 0 && row1 >= 0)
            wrong = misfit(kernel, kernel->shape(m), &call, &x, &y, &bias);
        if (!wrong && !runs_here(kernel, variant)) wrong = "not on this processor";
        if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
        else done = kernel->product(m, &call, variant);
    }
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    if (bias.buf) PyBuffer_Release(&bias);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *variants_of(const Kernel *kernel) {
    PyObject *found = PyList_New(0);
    for (int k = 0; found && k < kernel->variants; k++) {
        if (!kernel->runs(k)) continue;
        PyObject *name = PyUnicode_FromString(kernel->names[k]);
        if (!name || PyList_Append(found, name) < 0) Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

/* One sample's rows r0 .. r0 + n of y, from sums at a distance of `stride`. */
INLINE void finish(const Call *call, const float *sum, size_t stride, size_t r0, size_t n, float *y) {
    for (size_t r = 0; r < n; r++) {
        float total = sum[r * stride];
        if (call->add) total += y[r];
        if (call->bias) total += call->bias[r0 + r];
        y[r] = call->relu && total <= 0.0f ? 0.0f : total; /* NaN is kept */
    }
}
#endif
