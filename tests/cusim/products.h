/*
 * tests/cusim/products.h - asynchronous products of warpgroups, as kernels/wgmma.h asks for them.
 *
 * A product happens as late as it may, in the wait that asks for it, on what the registers of A and
 * the memory of B hold then; its accumulators hold NaN until then. B is read as another proxy than
 * the threads' own stores sees it: as shared memory was at the last barrier before which every
 * thread of the block had published its writes.
 *
 * Reported: a product without a fence since registers were loaded or waited for (stricter than the
 * PTX ISA, which asks for one only where they are touched); accumulators that are touched while a
 * product is under way; a B that is not what was published, or that is being overwritten;
 * descriptors that differ within a warp, that are not of the form used here, or that lead out of
 * dynamic shared memory; warps of a group that ask for different products; a thread that ends with
 * products under way.
 */
#ifndef LIPS_TESTS_CUSIM_PRODUCTS_H
#define LIPS_TESTS_CUSIM_PRODUCTS_H

namespace cusim
{

constexpr int PRODUCTS_MAX = 32; /* of one thread under way, ends of groups included */
constexpr int SUMS_MAX = 8;      /* sets of accumulators under way */
constexpr int COLUMNS_MAX = 256; /* of a product */

/* A thread's part in one product that was asked for; d == nullptr: the end of a group. */
struct GroupProduct {
    const uint32_t *a; /* (4) */
    float *d;          /* (columns / 2) */
    uint64_t b;        /* descriptor */
    int columns;
    bool bf16;  /* else tf32 */
    bool fresh; /* D = A B, whatever D was */
};

/* Accumulators of products under way: their value, which the thread may not see. */
struct Sum {
    float *d;
    int columns, under_way;
    float value[COLUMNS_MAX / 2];
};

/* Of one thread. */
struct Products {
    bool fenced;    /* since registers were loaded, or waited for */
    bool published; /* since the last barrier, and since a copy ended */
    int n, n_sums;
    uint64_t trail; /* a hash of all products of the block: equal within a warpgroup */
    GroupProduct list[PRODUCTS_MAX];
    Sum sums[SUMS_MAX];
};

/* Number of a byte of dynamic shared memory, as in a descriptor; reported if p is none. */
uint32_t shared_address(const void *p);

void product_ask(const GroupProduct &p);
void product_fence();
void product_publish();
void product_commit();
void product_wait(int keep, const Site *site);
/* Nothing under way has its accumulators at d. */
void product_settled(const float *d);
/* A copy into [to, to + bytes) is asked for. */
void product_check_copy(const void *to, size_t bytes);

/* Loads of registers by ldmatrix; ends of copies. */
inline void product_unfence()
{
    now.products->fenced = false;
}
void product_unpublish();

} // namespace cusim

#endif
