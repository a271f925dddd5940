/* Memory for weights, allocated from large pieces that Linux may back with pages of 2 MiB.
 *
 * A matrix that is read once per call is read from main memory. With pages of 4 KiB the hardware prefetcher stops at
 * the end of every page, and each page needs a TLB entry: that takes a tenth of the product's time at 95 % zeros, a
 * twentieth at 99 %. Separate pages of 2 MiB for each matrix would waste the unused part, so all matrices of a process
 * are allocated from the same pieces, one after the other; pages that are never touched take no memory, and at most
 * one page is partly filled. Freed memory is returned to the system at once, except pages that are shared with
 * neighbours. A small matrix stays in a core's cache, and the system takes up to 4 ms to clear the first large page:
 * small matrices are allocated by malloc.
 *
 * On other systems this is malloc. Call with the GIL held.
 */
#ifndef LACONIC_MEMORY_H
#define LACONIC_MEMORY_H
#include <stdint.h>
#include <stdlib.h>

#define ALIGN 64

static inline size_t rounded(size_t bytes) { return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

/* `bytes` from malloc, aligned; `memory` is the pointer to free. */
static inline void *aligned(size_t bytes, void **memory) {
    *memory = bytes > SIZE_MAX - ALIGN ? NULL : malloc(bytes + ALIGN);
    if (!*memory) return NULL;
    return (void *)(((uintptr_t)*memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
}

#ifdef __linux__
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define PIECE ((size_t)64 << 20) /* of address space; memory is used when touched */
#define LEAST ((size_t)128 << 10) /* smallest block that is allocated from a piece */
#define SMALL_PAGE ((size_t)4096)

typedef struct Piece {
    char *start, *top, *end;
    size_t users; /* blocks not yet freed */
} Piece;

typedef struct {
    char *start;
    size_t bytes;
    Piece *piece;
    void *memory; /* from malloc, if the block is in no piece */
} Weights;

static Piece *newest; /* blocks are allocated from this one */

static inline Piece *new_piece(size_t bytes) {
    size_t size = bytes > PIECE ? (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1) : PIECE;
    Piece *piece = malloc(sizeof *piece);
    char *all = piece ? mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (all == MAP_FAILED) {
        free(piece);
        return NULL;
    }
    char *start = (char *)(((uintptr_t)all + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (start > all) munmap(all, start - all);
    if (all + HUGE_PAGE > start) munmap(start + size, all + HUGE_PAGE - start);
    madvise(start, size, MADV_HUGEPAGE); /* a hint: if it fails, pages are small */
    *piece = (Piece){start, start, start + size, 0};
    return piece;
}

static inline void drop_piece(Piece *piece) {
    munmap(piece->start, piece->end - piece->start);
    free(piece);
}

/* A block for weights; `start` is NULL if there is no memory. */
static inline Weights take_weights(size_t bytes) {
    bytes = rounded(bytes ? bytes : 1);
    Weights block = {NULL, bytes, NULL, NULL};
    if (bytes > SIZE_MAX / 2) return block;
    if (bytes < LEAST) {
        block.start = aligned(bytes, &block.memory);
        return block;
    }
    if (!newest || (size_t)(newest->end - newest->top) < bytes) {
        Piece *piece = new_piece(bytes);
        if (!piece) {
            block.start = aligned(bytes, &block.memory);
            return block;
        }
        if (newest && !newest->users) drop_piece(newest);
        newest = piece;
    }
    block.piece = newest;
    block.start = newest->top;
    newest->top += bytes;
    newest->users++;
    return block;
}

static inline void free_weights(Weights block) {
    Piece *piece = block.piece;
    if (!piece) {
        free(block.memory);
        return;
    }
    if (--piece->users == 0) {
        if (piece == newest) newest = NULL;
        drop_piece(piece);
        return;
    }
    if (block.start + block.bytes == piece->top) piece->top = block.start;
    char *first = (char *)(((uintptr_t)block.start + SMALL_PAGE - 1) & ~(uintptr_t)(SMALL_PAGE - 1));
    char *last = (char *)((uintptr_t)(block.start + block.bytes) & ~(uintptr_t)(SMALL_PAGE - 1));
    if (first < last) madvise(first, last - first, MADV_DONTNEED);
}
#else
typedef struct {
    char *start;
    size_t bytes;
    void *memory;
} Weights;

static inline Weights take_weights(size_t bytes) {
    Weights block = {NULL, bytes, NULL};
    block.start = aligned(bytes ? bytes : 1, &block.memory);
    return block;
}

static inline void free_weights(Weights block) { free(block.memory); }
#endif
#endif
